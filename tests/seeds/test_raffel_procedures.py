"""The procedures of the seed `raffel-streams.md`: each code block that they cover, in our own code.

Handlers wait for events in place of the seed's seconds. Every test runs over real sockets on the loopback interface.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final, Self

import attrs
import h11
import pytest
import trio

from trio_streams import Context, Router, RpcError, StreamStopped, connect, serve

TCP: Final = "tcp://127.0.0.1:0"
WS: Final = "ws://127.0.0.1:0"
HTTP: Final = "http://127.0.0.1:0"

over_every_connection: Final = pytest.mark.parametrize("url", [TCP, WS])


@attrs.frozen
class Metrics:
    """What `metrics.live` yields."""

    cpu: float
    memory: int


@attrs.frozen
class Watch:
    """What `prices.watch` is asked for."""

    symbols: list[str]


@attrs.frozen
class Saved:
    """What `files.upload` answers."""

    size: int
    success: bool


@attrs.frozen
class Message:
    """What one says in `chat.conversation`."""

    content: str


@attrs.frozen
class Tail:
    """What `logs.tail` is asked for."""

    level: str | None = None
    limit: int = 100


@attrs.frozen
class LogEntry:
    """What `logs.tail` yields."""

    timestamp: dt.datetime
    message: str
    level: str


@contextlib.asynccontextmanager
async def serving(router: Router, url: str) -> AsyncIterator[str]:
    """A server for the block: gives its bound URL."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            [bound] = await nursery.start(serve, router, url)
            yield bound
            nursery.cancel_scope.cancel()


async def curl(url: str, *, method: str = "GET") -> tuple[int, str, str]:
    """What `curl -N URL` prints, with the status and the content type: one HTTP/1.1 request over a plain socket."""
    authority, _, target = url.removeprefix("http://").partition("/")
    host, _, port = authority.partition(":")
    machine = h11.Connection(h11.CLIENT)
    headers = [("Host", authority), ("User-Agent", "curl/8.5.0"), ("Accept", "*/*")]
    status, kind, body = 0, "", b""
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(machine.send(h11.Request(method=method, target=f"/{target}", headers=headers)) or b"")
        await stream.send_all(machine.send(h11.EndOfMessage()) or b"")
        while not isinstance(event := machine.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                machine.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                status, kind = event.status_code, dict(event.headers)[b"content-type"].decode()
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                raise AssertionError(f"{event!r} in the middle of an answer")
    return status, kind, body.decode()


@over_every_connection
async def test_block_1_metrics_live(url: str) -> None:
    """An endless generator is a stream: its reader takes what it wants and leaves, and the generator is closed."""
    router, closed = Router(), trio.Event()

    @router.stream("metrics.live")
    async def metrics_live() -> AsyncIterator[Metrics]:
        try:
            for memory in range(10**9):
                yield Metrics(cpu=0.5, memory=memory)
        finally:
            closed.set()

    taken: list[Metrics] = []
    async with serving(router, url) as bound, connect(bound) as client:
        async with client.stream("metrics.live", returns=Metrics) as items:
            async for item in items:
                taken.append(item)
                if len(taken) == 3:
                    break
        await closed.wait()
    assert taken == [Metrics(0.5, 0), Metrics(0.5, 1), Metrics(0.5, 2)]


@over_every_connection
async def test_block_5_prices_watch(url: str) -> None:
    """A handler gets its typed input, and `direction="server"` says what is so without saying it."""
    router = Router()

    async def prices_watch(query: Watch) -> AsyncIterator[dict[str, float]]:
        for price in (1.5, 2.5):
            yield dict.fromkeys(query.symbols, price)

    router.stream("prices.watch", direction="server")(prices_watch)
    router.stream("prices.default")(prices_watch)
    async with serving(router, url) as bound, connect(bound) as client:
        for name in ("prices.watch", "prices.default"):
            async with client.stream(name, Watch(["A", "B"]), returns=dict[str, float]) as items:
                assert [item async for item in items] == [{"A": 1.5, "B": 1.5}, {"A": 2.5, "B": 2.5}]


@over_every_connection
async def test_block_6_files_upload(url: str) -> None:
    """A client stream's handler reads chunks until they end, and answers once."""
    router, files = Router(), list[bytes]()

    @router.stream("files.upload", direction="client")
    async def files_upload(chunks: AsyncIterable[bytes]) -> Saved:
        files.append(b"".join([chunk async for chunk in chunks]))
        return Saved(size=len(files[0]), success=True)

    async with serving(router, url) as bound, connect(bound) as client:
        saved = await client.upload("files.upload", [b"\x00\xff", b"", b"three"], returns=Saved)
    assert saved == Saved(size=7, success=True)
    assert files == [b"\x00\xffthree"]


@over_every_connection
async def test_block_7_chat_conversation(url: str) -> None:
    """In a conversation each side sends when it likes: an echo comes back before the next message, and more unasked."""
    router = Router()

    @router.stream("chat.conversation", direction="bidi")
    async def chat_conversation(messages: AsyncIterable[Message]) -> AsyncIterator[dict[str, object]]:
        async for message in messages:
            yield {"echo": message.content, "processed": True}
            if message.content == "status":
                yield {"type": "status", "online": True}

    async with (
        serving(router, url) as bound,
        connect(bound) as client,
        client.bidi("chat.conversation", returns=dict[str, object]) as chat,
    ):
        await chat.send(Message("hello"))
        assert await chat.receive() == {"echo": "hello", "processed": True}
        await chat.send(Message("status"))
        chat.end()
        assert [item async for item in chat] == [
            {"echo": "status", "processed": True},
            {"type": "status", "online": True},
        ]


def _three_directions() -> Router:
    router = Router()

    @router.stream("count")
    async def count(limit: int) -> AsyncIterator[int]:
        for number in range(limit):
            yield number

    @router.stream("total", direction="client")
    async def total(numbers: AsyncIterable[int]) -> int:
        return sum([number async for number in numbers])

    @router.stream("double", direction="bidirectional")
    async def double(numbers: AsyncIterable[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    return router


@over_every_connection
async def test_every_direction_over_every_connection(url: str) -> None:
    """Server, client and bidirectional streams all work over TCP and over WebSocket."""
    async with serving(_three_directions(), url) as bound, connect(bound) as client:
        async with client.stream("count", 3, returns=int) as numbers:
            assert [number async for number in numbers] == [0, 1, 2]
        assert await client.upload("total", [1, 2, 3], returns=int) == 6
        async with client.bidi("double", returns=int) as pair:
            await pair.send(21)
            assert await pair.receive() == 42
            pair.end()


def test_builder_declares_what_the_decorator_does() -> None:
    """The fluent form sets input, output, description and direction, and enters the same procedure."""
    router = Router()

    async def logs_tail(query: Tail) -> AsyncIterator[LogEntry]:
        """Stream log entries in real-time."""
        for _ in range(query.limit):
            yield LogEntry(dt.datetime.now(dt.UTC), "entry", query.level or "info")

    router.stream("decorated")(logs_tail)
    fluent = router.stream("fluent").input(Tail).output(LogEntry).description("Stream log entries in real-time.")
    assert fluent.direction("server").handler(logs_tail) is logs_tail
    decorated, built = router.get("decorated"), router.get("fluent")
    assert decorated is not None
    assert built is not None
    for field in ("kind", "handler", "input_type", "output_type", "description"):
        assert getattr(built, field) == getattr(decorated, field)
    assert built.decode_input(b"{}") == Tail(level=None, limit=100)


def test_an_unknown_direction_is_refused_where_it_is_written() -> None:
    """A misspelt direction fails at its declaration, with the word in the message."""
    with pytest.raises(ValueError, match="sideways"):
        Router().stream("x", direction="sideways")


@pytest.mark.parametrize("name", ["total", "double"])
async def test_http_refuses_what_it_cannot_carry(name: str) -> None:
    """Over HTTP, a client or bidirectional stream is refused in words, before anything is streamed."""
    async with serving(_three_directions(), HTTP) as bound:
        status, kind, body = await curl(f"{bound}/streams/{name}")
    assert status >= 400
    assert kind.startswith("application/json")
    assert name in body


@pytest.mark.parametrize("url", [TCP, WS, HTTP])
async def test_a_server_stream_works_on_every_protocol(url: str) -> None:
    """One client line reads a server stream over TCP, WebSocket and HTTP, with the same items."""
    router = Router()

    @router.stream("numbers")
    async def numbers(query: Tail) -> AsyncIterator[int]:
        for number in range(query.limit):
            yield number

    async with (
        serving(router, url) as bound,
        connect(bound) as client,
        client.stream("numbers", Tail(limit=3), returns=int) as items,
    ):
        assert [item async for item in items] == [0, 1, 2]


@over_every_connection
async def test_block_10_long_running_sees_its_cancellation(url: str) -> None:
    """A reader that leaves cancels a handler that is blocked in an await, and its context says so."""
    router, seen, done = Router(), list[tuple[bool, Exception | None]](), trio.Event()

    @router.stream("long.running")
    async def long_running(ctx: Context) -> AsyncIterator[str]:
        try:
            yield "data"
            await trio.sleep_forever()
        finally:
            seen.append((ctx.cancelled, ctx.cancel_reason))
            done.set()

    async with serving(router, url) as bound, connect(bound) as client:
        async with client.stream("long.running", returns=str) as items:
            assert await items.receive() == "data"
        await done.wait()
    [(cancelled, reason)] = seen
    assert cancelled
    assert isinstance(reason, StreamStopped)


async def test_blocks_14_and_15_curl_reads_server_sent_events() -> None:
    """`curl -N` prints a bare data event for each item and then the end; the query is the typed input."""
    router, asked = Router(), list[Tail]()

    @router.stream("logs.tail")
    async def logs_tail(query: Tail) -> AsyncIterator[LogEntry]:
        asked.append(query)
        for second, message in enumerate(("Error occurred", "Another error")):
            yield LogEntry(dt.datetime(2024, 1, 1, 0, 0, second, tzinfo=dt.UTC), message, str(query.level))

    async with serving(router, HTTP) as bound:
        status, kind, body = await curl(f"{bound}/streams/logs.tail?level=error")
        await curl(f"{bound}/streams/logs.tail?level=404")
    assert (status, kind.partition(";")[0]) == (200, "text/event-stream")
    assert body == (
        'data: {"timestamp":"2024-01-01T00:00:00Z","message":"Error occurred","level":"error"}\n\n'
        'data: {"timestamp":"2024-01-01T00:00:01Z","message":"Another error","level":"error"}\n\n'
        "event: end\ndata: {}\n\n"
    )
    assert asked == [Tail("error", 100), Tail("404", 100)]


async def test_sse_delivers_the_items_and_then_the_error() -> None:
    """A handler that yields two items and raises gives two data events and an error event with its code."""
    router = Router()

    @router.stream("failing")
    async def failing() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise RpcError("NOT_FOUND", "no more")

    async with serving(router, HTTP) as bound:
        status, _, body = await curl(f"{bound}/streams/failing")
    items, _, error = body.partition("event: error\ndata: ")
    assert (status, items) == (200, "data: 1\n\ndata: 2\n\n")
    assert json.loads(error) == {"code": "NOT_FOUND", "status": 404, "message": "no more"}


@over_every_connection
async def test_block_18_a_loop_that_never_waits_checks_for_cancellation(url: str) -> None:
    """A handler that awaits nothing is still told that its reader has left, by its context."""
    router, seen, done = Router(), list[bool](), trio.Event()

    @router.stream("busy")
    async def busy(ctx: Context) -> AsyncIterator[int]:
        try:
            while not ctx.cancelled:
                yield 1
        finally:
            seen.append(ctx.cancelled)
            done.set()

    async with serving(router, url) as bound, connect(bound) as client:
        async with client.stream("busy", returns=int) as items:
            assert await items.receive() == 1
        await done.wait()
    assert seen == [True]


class Source:
    """A connection whose end the test can see."""

    def __init__(self) -> None:
        self.closed = trio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed.set()


@pytest.mark.parametrize("ending", ["end", "error", "leave"])
@over_every_connection
async def test_block_19_resources_are_cleaned_up_when_the_stream_ends(url: str, ending: str) -> None:
    """What a handler opened is closed however the stream ends: by its end, its error, or a reader that leaves."""
    router, source = Router(), Source()

    @router.stream("rows")
    async def rows() -> AsyncIterator[int]:
        async with source:
            yield 1
            if ending == "error":
                raise RpcError("ABORTED", "broken")
            if ending == "leave":
                await trio.sleep_forever()

    async with serving(router, url) as bound, connect(bound) as client:
        async with client.stream("rows", returns=int) as items:
            assert await items.receive() == 1
            if ending == "end":
                with pytest.raises(trio.EndOfChannel):
                    await items.receive()
            if ending == "error":
                with pytest.raises(RpcError, match="broken"):
                    await items.receive()
        await source.closed.wait()
    assert source.closed.is_set()


@over_every_connection
async def test_block_20_output_schema(url: str) -> None:
    """An item that does not have the declared output type ends the stream after the good ones, and is not delivered."""
    router = Router()

    async def readings() -> AsyncIterator[object]:
        yield LogEntry(dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "good", "info")
        yield {"timestamp": "never"}

    router.stream("readings").output(LogEntry).handler(readings)
    async with (
        serving(router, url) as bound,
        connect(bound) as client,
        client.stream("readings", returns=LogEntry) as items,
    ):
        assert (await items.receive()).message == "good"
        with pytest.raises(RpcError):
            await items.receive()

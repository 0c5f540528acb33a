"""Reading with I/O: retries and waits in virtual time, silence, and each await cancelled without a loss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.durable.client.scripted_http import Asked, Chunk, Reply, ScriptedHttp
from tests.durable.protocol.model_server import ModelStream
from trio_streams.durable import (
    AsyncStreamRequest,
    DurableStreamError,
    Endpoint,
    FetchError,
    LiveMode,
    ReaderConfig,
    RetryOptions,
    StreamNotFoundError,
)
from trio_streams.errors import ConnectionLost

URL = "http://127.0.0.1:9/v1/stream/a"
TAIL = {"stream-next-offset": "7", "stream-up-to-date": "true"}
EVENTS = {"content-type": "text/event-stream"}


def control(offset: str, **more: object) -> bytes:
    fields = "".join(f',"{name}":{str(value).lower()}' for name, value in more.items())
    return f'event: control\ndata: {{"streamNextOffset":"{offset}"{fields}}}\n\n'.encode()


def scripted(*replies: Reply | Exception) -> ScriptedHttp:
    """Gives one answer after the other; then waits for ever."""
    left = list(replies)

    async def script(_: Asked) -> Reply:
        if not left:
            await trio.sleep_forever()
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return ScriptedHttp(script)


def ask(http: ScriptedHttp, live: LiveMode = False, **options: Any) -> AsyncStreamRequest:
    retry = options.pop("retry", RetryOptions(initial_delay=1.0))
    on_error = options.pop("on_error", None)
    endpoint = Endpoint(URL, http=http, retry=retry, on_error=on_error, random=lambda: 1.0)
    return AsyncStreamRequest(endpoint, live=live, owns_endpoint=True, **options)


async def test_a_read_is_tried_again(autojump_clock: MockClock) -> None:
    """No answer, a fault of the server's, and a body that breaks off are tried again, after growing waits."""
    http = scripted(
        ConnectionLost("no"),
        Reply(500),
        Reply(200, TAIL, (b"ab", ConnectionLost("cut"))),
        Reply(200, TAIL, (b"abc",)),
    )
    async with ask(http) as res:
        assert await res.read_bytes() == b"abc"
    assert [each.at - http.asked[0].at for each in http.asked] == pytest.approx([0.0, 1.0, 3.0, 7.0])
    assert http.open_replies == 0


async def test_a_body_that_always_breaks_off_is_given_up(autojump_clock: MockClock) -> None:
    """A head alone is no progress: the failures are counted until it is enough."""
    http = scripted(*(Reply(200, TAIL, (b"ab", ConnectionLost("cut"))) for _ in range(9)))
    async with ask(http, retry=RetryOptions(max_retries=3)) as res:
        with pytest.raises(FetchError, match="cut"):
            await res.read_bytes()
        with pytest.raises(FetchError, match="cut"):
            await res.read_bytes()
    assert len(http.asked) == 4


async def test_a_long_outage_is_survived_by_who_asks_for_it(autojump_clock: MockClock) -> None:
    """With any number of retries a follower goes on where it was, hours later."""
    http = scripted(
        Reply(200, TAIL, (b"a",)),
        *(ConnectionLost("away") for _ in range(1_000)),
        Reply(200, {"stream-next-offset": "8", "stream-closed": "true"}, (b"b",)),
    )
    async with ask(http, "long-poll", retry=RetryOptions(max_retries=None)) as res:
        assert b"".join([chunk async for chunk in res]) == b"ab"
    assert http.asked[-1].params["offset"] == "7"
    assert http.asked[-1].at > 9_000


async def test_a_refusal_is_raised_at_once(autojump_clock: MockClock) -> None:
    """A stream that is not there fails when the block is entered, and nothing stays open."""
    http = scripted(Reply(404, {}, (b"no",)))
    with pytest.raises(StreamNotFoundError):
        async with ask(http):
            pass
    assert (len(http.asked), http.open_replies) == (1, 0)


async def test_a_stream_that_is_deleted_ends_a_follower(autojump_clock: MockClock) -> None:
    """Also where it is found out at the tail."""
    http = scripted(Reply(200, TAIL), Reply(404))
    async with ask(http, "sse") as res:
        with pytest.raises(StreamNotFoundError):
            await anext(aiter(res))


async def test_on_error_recovers_a_reader(autojump_clock: MockClock) -> None:
    """A token that expires in the middle is replaced, and reading goes on where it was."""
    http = scripted(
        Reply(200, TAIL, (b"a",)),
        Reply(401),
        Reply(200, {"stream-next-offset": "8", "stream-closed": "true"}, (b"b",)),
    )
    async with ask(http, "auto", on_error=lambda _: {"headers": {"authorization": "new"}}) as res:
        assert b"".join([chunk async for chunk in res]) == b"ab"
    assert [each.headers.get("authorization") for each in http.asked] == [None, None, "new"]


async def test_an_answer_without_an_offset_is_raised(autojump_clock: MockClock) -> None:
    """Something that is no server of durable streams is found out by the first answer."""
    with pytest.raises(DurableStreamError, match="Stream-Next-Offset"):
        await ask(scripted(Reply(200, {}, (b"<html>",))))


@pytest.mark.parametrize("silent", ["head", "body", "events"])
async def test_silence_counts_as_a_loss(silent: str, autojump_clock: MockClock) -> None:
    """An answer that does not come, or stops, is asked for again after `idle_timeout`."""
    last = Reply(200, {"stream-next-offset": "8", "stream-closed": "true"}, (b"ab",))
    if silent == "events":
        first = [Reply(200, TAIL | {"content-type": "text/plain"}), Reply(200, EVENTS, (control("7"), math.inf))]
        last = Reply(200, EVENTS, (b"event: data\ndata: ab\n\n", control("8", streamClosed=True)))
    else:
        first = [Reply(200, TAIL, (b"a", math.inf))]
    replies = [*first, last]

    async def script(_: Asked) -> Reply:
        if silent == "head" and len(http.asked) == 1:
            await trio.sleep_forever()
        return replies.pop(0) if silent != "head" else last

    http = ScriptedHttp(script)
    async with ask(http, "sse", config=ReaderConfig(idle_timeout=30.0)) as res:
        assert b"".join([chunk async for chunk in res]) == b"ab"
    assert http.asked[-1].at - http.asked[0].at == pytest.approx(31.0)
    assert http.open_replies == 0


def broken(data: bytes, size: int, wait: float) -> tuple[Chunk, ...]:
    """A body in chunks with a wait before each."""
    chunks: list[Chunk] = []
    for start in range(0, len(data), size):
        chunks += [wait, data[start : start + size]]
    return tuple(chunks)


@pytest.mark.parametrize("live", [False, "long-poll", "sse"])
@pytest.mark.parametrize("json", [False, True])
async def test_a_cancelled_iteration_loses_nothing(live: LiveMode, json: bool, autojump_clock: MockClock) -> None:
    """Cancelled at any moment, while connecting, in an answer, in events, in a wait, the iterator goes on: each item once."""
    messages = [str(number).encode() + b"," * (not json) for number in range(20)]
    stream = ModelStream(messages, "application/json" if json else "text/plain")

    async def script(asked: Asked) -> Reply:
        await trio.sleep(0.3)
        if len(http.asked) % 5 == 4:
            return Reply(503)
        if "live" not in asked.params and asked.params["offset"] != "-1":
            stream.is_closed = True
        answer = stream.answer(asked.params, 7)
        if "live" in asked.params:
            stream.is_closed = True
        return Reply(answer.status, dict(answer.headers), broken(answer.body, 3, 0.2))

    http = ScriptedHttp(script)
    found: list[object] = []
    cancelled = 0
    config = ReaderConfig(max_piece_bytes=4, short_stream_seconds=0.01)
    async with ask(http, live, config=config, retry=RetryOptions(max_retries=None)) as res:
        items: Any = res.iter_json() if json else aiter(res)
        patience = 0.05
        while True:
            with trio.move_on_after(patience) as scope:
                try:
                    found.append(await anext(items))
                except StopAsyncIteration:
                    break
            cancelled += scope.cancelled_caught
            patience = patience * 1.5 if scope.cancelled_caught else 0.05
    assert found == list(range(20)) if json else b"".join(found) == stream.data  # type: ignore[arg-type]
    assert cancelled > 3
    assert http.open_replies == 0


@pytest.mark.parametrize("how", ["read_bytes", "read_json"])
async def test_a_cancelled_read_goes_on(how: str, autojump_clock: MockClock) -> None:
    """A `read_…` that was cancelled keeps what it has, and goes on where it is called again."""
    stream = ModelStream([str(number).encode() for number in range(30)], "application/json")

    async def script(asked: Asked) -> Reply:
        await trio.sleep(0.3)
        answer = stream.answer(asked.params, 10)
        return Reply(answer.status, dict(answer.headers), broken(answer.body, 8, 0.2))

    http = ScriptedHttp(script)
    async with ask(http) as res:
        cancelled = 0
        found: Any = None
        while found is None:
            with trio.move_on_after(1.0 + cancelled) as scope:
                found = await getattr(res, how)()
            cancelled += scope.cancelled_caught
    assert cancelled > 0
    if how == "read_json":
        assert found == list(range(30))
    else:
        assert found == b"".join(stream.answer({"offset": str(at)}, 10).body for at in (0, 10, 20))


async def test_opening_can_be_cancelled(autojump_clock: MockClock) -> None:
    """A cancelled opening leaves nothing open."""
    http = scripted()
    request = ask(http)
    with trio.move_on_after(1.0) as scope:
        await request
    assert scope.cancelled_caught
    assert http.open_replies == 0


@pytest.mark.parametrize("moment", ["waiting", "reading"])
async def test_cancel_ends_an_iteration_in_another_task(moment: str, autojump_clock: MockClock) -> None:
    """`cancel` makes an iteration that waits come to its end; nobody gets an error."""
    reply = Reply(500) if moment == "waiting" else Reply(200, EVENTS, (control("7"), math.inf))
    http = scripted(Reply(200, TAIL | {"content-type": "text/plain"}, (b"a",)), reply)
    found: list[bytes] = []

    async def read() -> None:
        found.extend([chunk async for chunk in res])

    async with ask(http, "sse", retry=RetryOptions(initial_delay=100.0, max_delay=100.0)) as res:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(10.0)
            res.cancel()
        assert found == [b"a"]
        assert trio.current_time() - http.asked[0].at == pytest.approx(10.0)
    assert http.open_replies == 0


async def test_two_tasks_can_not_read_at_once(autojump_clock: MockClock) -> None:
    """The second one is told so, and the first goes on."""
    http = scripted(Reply(200, TAIL, (5.0, b"a")))
    async with ask(http) as res:
        chunks = aiter(res)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(anext, chunks)
            await trio.sleep(1.0)
            with pytest.raises(trio.BusyResourceError):
                await anext(chunks)


async def test_a_closed_response_is_closed(autojump_clock: MockClock) -> None:
    """Iterating behind the block is an error of whoever does it; closing again is none."""
    http = scripted(Reply(200, TAIL, (b"a",)))
    async with ask(http) as res:
        chunks = aiter(res)
    await res.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await anext(chunks)


async def test_closing_works_when_cancelled(autojump_clock: MockClock) -> None:
    """A cancelled `aclose` has closed the connection all the same."""
    http = scripted(Reply(200, TAIL | {"content-type": "text/plain"}), Reply(200, EVENTS, (control("7"), math.inf)))
    res = await ask(http, "sse")
    with trio.move_on_after(1.0):
        await anext(aiter(res))
    assert http.open_replies == 1
    with trio.CancelScope() as scope:
        scope.cancel()
        await res.aclose()
    assert http.open_replies == 0


@pytest.mark.parametrize("is_read", [False, True])
async def test_an_endpoint_that_others_use_stays_open(is_read: bool, autojump_clock: MockClock) -> None:
    """A response that shares an endpoint leaves it open, whether it is read to its end or dropped by its block."""
    http = scripted(Reply(200, TAIL, (b"a",)), Reply(200, TAIL, (b"a",)))
    endpoint = Endpoint(URL, http=http)
    for _ in range(2):
        async with AsyncStreamRequest(endpoint, live=False) as res:
            if is_read:
                assert await res.read_bytes() == b"a"
    assert http.open_replies == 0
    await endpoint.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await AsyncStreamRequest(endpoint)

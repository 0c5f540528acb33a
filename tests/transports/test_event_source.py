"""Event streams over real connections: what is read, what is resumed, and what ends it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from trio_streams.service.exchange import Exchange
from trio_streams.service.sse import SseConfig, last_event_id, respond_sse
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.event_source import EventSourceConfig, State, open_event_source
from trio_streams.transports.http import serve_lean
from trio_streams.transports.http_client import HttpClient, HttpClientConfig
from trio_streams.wire.sse import Event

QUICK = EventSourceConfig(retry_delay=0.001, idle_timeout=None)
OPEN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
GONE = b"HTTP/1.1 204 No Content\r\n\r\n"


class Site:
    """Answers each connection with the next of its scripts, and keeps what was asked; then 204."""

    def __init__(self, *scripts: bytes | Callable[[trio.abc.Stream], Awaitable[None]]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.closed = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with stream:
            received = b""
            while b"\r\n\r\n" not in received:
                try:
                    chunk = await stream.receive_some()
                except trio.BrokenResourceError:
                    return  # it trusts us not
                if not chunk:
                    return
                received += chunk
            self.requests.append(received)
            script = self.scripts.pop(0) if self.scripts else GONE
            if isinstance(script, bytes):
                await stream.send_all(script)
            else:
                await script(stream)
        self.closed += 1
        self._lot.unpark_all()

    async def wait_closed(self, count: int) -> None:
        """Wait until so many connections are over."""
        while self.closed < count:
            await self._lot.park()

    @property
    def ids(self) -> list[str]:
        """The id of each request, empty for none."""
        return [request.partition(b"last-event-id: ")[2].split(b"\r\n")[0].decode() for request in self.requests]


@asynccontextmanager
async def served(site: Site) -> AsyncGenerator[str, None]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, site.serve, 0, host="127.0.0.1"))
            yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/events"
            nursery.cancel_scope.cancel()


def held(data: bytes) -> Callable[[trio.abc.Stream], Awaitable[None]]:
    """Sends what it is given, and then nothing until the client leaves."""

    async def hold(stream: trio.abc.Stream) -> None:
        await stream.send_all(data)
        await stream.receive_some()

    return hold


async def test_a_lost_stream_is_gone_on_with() -> None:
    """Each event arrives once: what a connection cut is asked for again behind the last whole one, until 204."""
    site = Site(OPEN + b"id: 1\ndata: a\n\nid: 2\ndata: cu", OPEN + b"id: 2\ndata: b\n\n", b"", OPEN + b"data: c\n\n")
    async with served(site) as url, open_event_source(url, config=QUICK) as events:
        states = [events.state]
        received = [event async for event in events]
        assert [*states, events.state] == [State.OPEN, State.CLOSED]
        with pytest.raises(trio.EndOfChannel):
            await events.receive()
    assert received == [Event(b"a", id="1"), Event(b"b", id="2"), Event(b"c", id="2")]
    assert site.ids == ["", "1", "2", "2", "2"]


@pytest.mark.parametrize("serve_host", [serve_lean, serve_hypercorn])
async def test_our_server_renews_resumes_and_ends(serve_host: Callable[..., Awaitable[None]]) -> None:
    """Twenty numbered items over answers that last a few hundredths of a second: all of them once, and then the end."""
    requests: list[str | None] = []

    async def handler(exchange: Exchange) -> None:
        last = last_event_id(exchange.request)
        requests.append(last)

        async def items() -> AsyncIterator[Event]:
            for number in range(int(last or 0) + 1, 21):
                yield Event(b"%d" % number, id=str(number))
                await trio.sleep(0.01)

        await respond_sse(exchange, items(), config=SseConfig(max_duration=0.05, retry_ms=1))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve_host, handler, "127.0.0.1", 0))
            async with open_event_source(f"{url}/") as events:
                received = [event async for event in events]
            nursery.cancel_scope.cancel()
    *items, end = received
    assert [int(event.data) for event in items] == list(range(1, 21))
    assert end.event == "end"
    assert len(requests) >= 2
    assert requests[0] is None


async def test_an_id_that_was_kept_is_where_it_begins() -> None:
    """So does a program that was restarted; headers travel with each request."""
    site = Site(GONE)
    async with served(site) as url, open_event_source(url, last_event_id="7", headers=[("X-A", "1")]) as events:
        assert [event async for event in events] == []
    assert site.ids == ["7"]
    assert b"x-a: 1\r\n" in site.requests[0]


@pytest.mark.parametrize(
    ("script", "error", "match"),
    [
        (b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", RemoteProtocolError, "answered with status 404"),
        (b"HTTP/1.1 200 X\r\ncontent-type: text/html\r\n\r\n", RemoteProtocolError, "type 'text/html'"),
        (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", ConnectionLost, "gave up .* after 2 attempts: .* status 503"),
        (b"SSH-2.0\r\n\r\n", ConnectionLost, "gave up .* after 2 attempts: .* is not HTTP"),
        (b"", ConnectionLost, "gave up .* after 2 attempts: .* lost"),
    ],
)
async def test_what_entering_raises(script: bytes, error: type[Exception], match: str) -> None:
    """A refusal at once, a fault after as many attempts as are allowed; bare, and naming the URL."""
    config = EventSourceConfig(retry_delay=0.001, max_attempts=2)
    async with served(Site(script, script)) as url:
        with pytest.raises(error, match=match):
            async with open_event_source(url, config=config):
                pass


async def test_what_a_reader_gets_after_the_events() -> None:
    """Events before a refusal can be read; then every call raises it."""
    site = Site(OPEN + b"data: a\n\n", b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n")
    async with served(site) as url, open_event_source(url, config=QUICK) as events:
        assert (await events.receive()).data == b"a"
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match="410"):
                await events.receive()
        with pytest.raises(RemoteProtocolError, match="410"):
            events.receive_nowait()


async def test_nobody_is_there() -> None:
    """The error of the last attempt says where."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(ConnectionLost, match=f"cannot connect to http://127.0.0.1:{port}"):
        async with open_event_source(f"http://127.0.0.1:{port}/", config=EventSourceConfig(max_attempts=1)):
            pass


@pytest.mark.parametrize(
    ("url", "headers"), [("ftp://h/", []), ("http://h/ö", []), ("http://127.0.0.1:9/", [("a", "b\r\n")])]
)
async def test_what_can_not_be_asked_for(url: str, headers: list[tuple[str, str]]) -> None:
    """It is our fault, and no attempt is made again."""
    with pytest.raises(LocalProtocolError):
        async with open_event_source(url, headers=headers):
            pass


async def test_silence_is_a_loss() -> None:
    """A server that neither sends nor leaves is left; heartbeats are no silence."""
    config = EventSourceConfig(retry_delay=0.001, idle_timeout=0.2)
    site = Site(held(OPEN + b"id: 1\ndata: a\n\n"), held(b""), OPEN + b"data: b\n\n")
    async with served(site) as url, open_event_source(url, config=config) as events:
        assert [event.data async for event in events] == [b"a", b"b"]
    assert site.ids == ["", "1", "1", "1"]


async def test_a_reader_that_does_something_else_is_no_silence() -> None:
    """Silence counts while somebody listens, so a slow reader loses nothing."""
    config = EventSourceConfig(retry_delay=0.001, idle_timeout=0.3)
    site = Site(held(OPEN + b"data: a\n\n"))
    async with served(site) as url, open_event_source(url, config=config) as events:
        assert (await events.receive()).data == b"a"
        await trio.sleep(0.5)
        with trio.move_on_after(0.01) as scope:
            await events.receive()
        assert scope.cancelled_caught
        assert events.state is State.OPEN
    assert len(site.requests) == 1


async def _cancel_when(claim: Callable[[], bool], nursery: trio.Nursery) -> None:
    while not claim():  # noqa: ASYNC110 - the kernel sets no event
        await trio.sleep(0.005)
    await wait_all_tasks_blocked(0.005)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", ["connecting", "open", "waiting"])
async def test_a_cancelled_receive_loses_nothing(state: str) -> None:
    """In each state: the next call goes on, and every event arrives once."""
    more = trio.Event()

    async def late(stream: trio.abc.Stream) -> None:
        await stream.send_all(OPEN + b"id: 1\nda")
        await more.wait()
        await stream.send_all(b"ta: a\n\n")

    async def slow(stream: trio.abc.Stream) -> None:
        await more.wait()
        await stream.send_all(OPEN + b"id: 1\ndata: a\n\n")

    site = {
        "open": Site(late),
        "connecting": Site(OPEN, slow, slow),
        "waiting": Site(OPEN, OPEN + b"id: 1\ndata: a\n\n"),
    }[state]
    config = EventSourceConfig(retry_delay=0.3 if state == "waiting" else 0.001, jitter=0.0, idle_timeout=None)
    async with served(site) as url, open_event_source(url, config=config) as events:
        asked = 2 if state == "connecting" else 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                _cancel_when, lambda: events.state.value == state and len(site.requests) == asked, nursery
            )
            await events.receive()
        assert nursery.cancel_scope.cancelled_caught
        assert events.state.value == state
        more.set()
        assert await events.receive() == Event(b"a", id="1")


async def test_leaving_closes_the_connection() -> None:
    """Normally, by an exception that leaves bare, and cancelled."""
    site = Site(*[held(OPEN + b"data: a\n\n")] * 3)
    async with served(site) as url:
        async with open_event_source(url) as events:
            await events.receive()
        with pytest.raises(KeyError):
            async with open_event_source(url) as events:
                raise KeyError
        with trio.CancelScope() as scope:
            async with open_event_source(url) as events:
                await events.receive()
                scope.deadline = trio.current_time() + 0.1
                await events.receive()
        assert scope.cancelled_caught
        await site.wait_closed(3)


async def test_cancelling_while_it_opens() -> None:
    """A server that does not answer can be left; its connection is closed."""
    site = Site(held(b""))
    async with served(site) as url:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, lambda: len(site.requests) == 1, nursery)
            async with open_event_source(url):
                pass
        assert nursery.cancel_scope.cancelled_caught
        await site.wait_closed(1)


@pytest.mark.parametrize("how", ["stop", "aclose"])
async def test_closing_wakes_who_waits(how: str) -> None:
    """A second task's receive ends with ClosedResourceError, and so does every later one; closing again is nothing."""
    site = Site(held(OPEN))
    async with served(site) as url, open_event_source(url) as events, trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await events.receive()

        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked(0.01)
        for _ in range(2):
            if how == "stop":
                events.stop()
            else:
                await events.aclose()
        with pytest.raises(trio.ClosedResourceError):
            events.receive_nowait()


async def test_stopping_while_it_waits() -> None:
    """A wait for the next attempt is over at once; what was not read is dropped."""
    config = EventSourceConfig(retry_delay=100.0)
    async with served(Site(OPEN + b"data: a\n\ndata: b\n\n")) as url, open_event_source(url, config=config) as events:
        await events.receive()
        events.stop()
        with pytest.raises(trio.ClosedResourceError):
            await events.receive()
    async with (
        served(Site(OPEN)) as url,
        open_event_source(url, config=config) as events,
        trio.open_nursery() as nursery,
    ):

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await events.receive()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked(0.05)
        events.stop()


async def test_several_may_read() -> None:
    """Each event goes to one of them, in order for each."""
    site = Site(OPEN + b"".join(b"data: %d\n\n" % i for i in range(500)))
    got: list[list[int]] = [[], []]

    async with served(site) as url, open_event_source(url, config=QUICK) as events:

        async def read(mine: list[int]) -> None:
            async for event in events:
                mine.append(int(event.data))
                if len(mine) % 100 == 0:
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for mine in got:
                nursery.start_soon(read, mine)
    assert sorted(got[0] + got[1]) == list(range(500))
    assert all(mine == sorted(mine) for mine in got)


async def test_runs_and_what_is_there() -> None:
    """`receive_many` takes what one read brought, up to a limit; `receive_nowait` never waits; statistics count."""
    site = Site(held(OPEN + b"".join(b"data: %d\n\n" % i for i in range(10))))
    async with served(site) as url, open_event_source(url) as events:
        assert [event.data for event in await events.receive_many(4)] == [b"0", b"1", b"2", b"3"]
        assert events.receive_nowait().data == b"4"
        statistics = events.statistics()
        assert (statistics.items_received, statistics.buffered_items, statistics.receive_state) == (5, 5, "open")
        assert len(await events.receive_many()) == 5
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()
        with pytest.raises(ValueError, match="max_items"):
            await events.receive_many(0)


async def test_a_loop_lets_others_run() -> None:
    """A reader whose events are all here does not keep the processor."""
    site = Site(OPEN + b"data: x\n\n" * 4_000)
    turns = 0
    async with served(site) as url, open_event_source(url, config=QUICK) as events, trio.open_nursery() as nursery:

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(count)
        async for _ in events:
            pass
        nursery.cancel_scope.cancel()
    assert turns >= 4_000 // 128  # a read that did not wait counts as a turn of its own


async def test_a_redirect_is_followed() -> None:
    """To another path of the same server, with the same id."""
    site = Site(b"HTTP/1.1 307 X\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n", GONE)
    async with served(site) as url, open_event_source(url, last_event_id="7") as events:
        assert [event async for event in events] == []
    assert site.requests[1].startswith(b"GET /there HTTP/1.1\r\n")
    assert site.ids == ["7", "7"]


async def test_over_tls() -> None:
    """`https` with a certificate that the context trusts; one that it does not trust is a clear error."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    site = Site(OPEN + b"data: a\n\n")
    config = EventSourceConfig(retry_delay=0.001, max_attempts=1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_ssl_over_tcp, site.serve, 0, server, host="127.0.0.1")
            (listener,) = await nursery.start(serve)
            port = listener.transport_listener.socket.getsockname()[1]
            async with (
                HttpClient(tls=client) as http,
                open_event_source(f"https://localhost:{port}/", http=http) as events,
            ):
                assert (await events.receive()).data == b"a"
            with pytest.raises((ConnectionLost, RemoteProtocolError), match="certificate"):
                async with open_event_source(f"https://localhost:{port}/", config=config):
                    pass
            nursery.cancel_scope.cancel()


async def test_an_error_body_has_a_limit() -> None:
    """`receive_body` takes as much as it is told, and no more."""
    site = Site(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789")
    async with served(site) as url, HttpClient(HttpClientConfig(max_body_bytes=9)) as http:
        get = await http.open_get(url)
        with pytest.raises(RemoteProtocolError, match="limit is 9"):
            await get.receive_body(http.config.max_body_bytes)
        await get.aclose()
        await get.aclose()

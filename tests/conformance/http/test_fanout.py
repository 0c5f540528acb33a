"""A broadcast over real sockets, on every host."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio
import trio.lowlevel

from tests.conformance.http.hosts import HOSTS, ask, open_request, read_all, read_until, until
from trio_streams.service.broadcast import Broadcast, BroadcastConfig, LagPolicy
from trio_streams.service.exchange import Exchange, ExchangeConfig, Routes, respond
from trio_streams.streams import pace
from trio_streams.wire import sse
from trio_streams.wire.http1_body import encode_chunk

END = b"event: end\ndata: {}\n\n"

every_host = pytest.mark.parametrize("host", sorted(HOSTS))


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


@asynccontextmanager
async def broadcasting(
    host: str, broadcast: Broadcast[bytes], config: ExchangeConfig | None = None
) -> AsyncIterator[int]:
    async def events(exchange: Exchange) -> None:
        await broadcast.respond(exchange)

    routes = Routes()
    routes.add("GET", "/", hello)
    routes.add("GET", "/events", events)
    routes.add("POST", "/events", events)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(HOSTS[host], routes, config=config or ExchangeConfig()))
        port = urlsplit(url).port
        assert port
        yield port
        nursery.cancel_scope.cancel()


async def opened(port: int, count: int, path: str = "/events") -> list[trio.SocketStream]:
    """Readers whose answers have begun."""
    streams = [await open_request(port, path) for _ in range(count)]
    for stream in streams:
        await read_until(stream, b"\r\n\r\n")
    return streams


def body(answer: bytes) -> bytes:
    """What is in the chunks of an answer that may stop short."""
    data, left = b"", answer.partition(b"\r\n\r\n")[2] if answer.startswith(b"HTTP/1.1") else answer
    while left:
        size, found, left = left.partition(b"\r\n")
        if not found or not size:
            break
        length = int(size, 16)
        data, left = data + left[:length], left[length + 2 :]
    return data


async def narrow_request(port: int, path: str, extra: str = "") -> trio.SocketStream:
    """A client whose kernel takes little ahead."""
    raw = trio.socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await raw.connect(("127.0.0.1", port))
    stream = trio.SocketStream(raw)
    await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: x\r\n{extra}\r\n".encode())
    return stream


async def close_all(streams: list[trio.SocketStream]) -> None:
    for stream in streams:
        await stream.aclose()


@every_host
async def test_all_readers_get_all_events_and_the_end(host: str) -> None:
    """One at a time and in runs; after the end their connections serve the next request."""
    broadcast = Broadcast[bytes]()
    async with broadcasting(host, broadcast) as port:
        streams = await opened(port, 20)
        for n in range(50):
            await broadcast.publish(*[b"%d" % n] * (n % 3 + 1))
        broadcast.end()
        expected = b"".join(b"data: %d\n\n" % n * (n % 3 + 1) for n in range(50)) + END
        for stream in streams:
            assert body(await read_until(stream, b"\r\n0\r\n\r\n")) == expected
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await read_until(stream, b"hello")
        assert broadcast.statistics().readers == 0
        await close_all(streams)


@every_host
async def test_head_and_a_request_with_a_body(host: str) -> None:
    """HEAD gets the head; a body that nobody reads disturbs nothing."""
    broadcast = Broadcast[bytes]()
    async with broadcasting(host, broadcast) as port:
        assert (await ask(port, "/events", method="HEAD")).endswith(b"\r\n\r\n")
        stream = await open_request(port, "/events", method="POST", extra="content-length: 3\r\n", body=b"a")
        await read_until(stream, b"\r\n\r\n")
        await broadcast.publish(b"1")
        await read_until(stream, b"data: 1\n\n")
        await stream.send_all(b"bc")
        await broadcast.publish(b"2")
        broadcast.end()
        await read_until(stream, b"\r\n0\r\n\r\n")
        await stream.aclose()


@every_host
async def test_a_stalled_reader_is_disconnected_and_resumes(host: str) -> None:
    """Others get everything meanwhile; it gets a whole beginning, the end of its answer, and the rest when it comes
    back with its last id."""
    config = BroadcastConfig(window_bytes=200_000, replay_bytes=50_000_000)
    broadcast = Broadcast[bytes](config=config)
    total = 0
    async with broadcasting(host, broadcast) as port:
        stalled = await narrow_request(port, "/events")
        (fast,) = await opened(port, 1)
        await until(lambda: broadcast.statistics().readers == 2)
        seen = b""
        with trio.fail_after(30):
            while not broadcast.statistics().disconnected_readers:
                await broadcast.publish(b"%06d" % total + b"x" * 50_000)
                seen = (seen + await read_until(fast, b"\n\n"))[-1_000_000:]
                total += 1
        seen += await read_until(fast, b"%06d" % (total - 1)) if b"%06d" % (total - 1) not in seen else b""
        assert broadcast.statistics().readers_behind <= 1
        first = sse.SseParser()
        got = first.receive(body(await read_until(stalled, b"\r\n0\r\n\r\n")))
        assert [int(event.data[:6]) for event in got] == list(range(len(got)))
        assert 0 < len(got) < total
        again = await narrow_request(port, "/events", f"last-event-id: {first.last_event_id}\r\n")
        await until(lambda: broadcast.statistics().readers == 2)
        broadcast.end()
        rest = sse.SseParser().receive(body(await read_until(again, b"\r\n0\r\n\r\n")))
        assert [int(event.data[:6]) for event in rest[:-1]] == list(range(len(got), total))
        await close_all([stalled, again, fast])


@every_host
async def test_readers_that_leave_while_it_is_published(host: str) -> None:
    """Half of them hang up in the middle; the others miss nothing, and nobody is left behind."""
    broadcast = Broadcast[bytes]()
    async with broadcasting(host, broadcast, ExchangeConfig(half_close_timeout=0.1)) as port:
        leaving = await opened(port, 10)
        staying = await opened(port, 10)
        for n in range(60):
            await broadcast.publish(b"%d" % n)
            if n % 6 == 0:
                await leaving[n // 6].aclose()
        for stream in staying:
            await read_until(stream, b"data: 59\n\n")
        await until(lambda: broadcast.statistics().readers == 10)
        await close_all(staying)
        await until(lambda: broadcast.statistics().readers == 0)
        await broadcast.publish(b"nobody")


@every_host
async def test_a_reader_that_stalls_for_good_is_reset(host: str) -> None:
    """A publisher that waits for it goes on after `stall_timeout`."""
    broadcast = Broadcast[bytes](config=BroadcastConfig(policy=LagPolicy.WAIT))
    async with broadcasting(host, broadcast, ExchangeConfig(stall_timeout=0.3)) as port:
        stalled = await narrow_request(port, "/events")
        await until(lambda: broadcast.statistics().readers == 1)
        with trio.fail_after(30):
            while broadcast.statistics().readers:
                await broadcast.publish(b"x" * 100_000)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stalled)


class Words:
    """A source that says what it is given."""

    def __init__(self) -> None:
        self.words = b""
        self.is_ended = False
        self.pull: Callable[[], None] = lambda: None

    def attach(self, pull: Callable[[], None]) -> None:
        self.pull = pull

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        words, self.words = self.words, b""
        return encode_chunk(words) if is_chunked else words

    def say(self, words: bytes, *, ends: bool = False) -> None:
        self.words, self.is_ended = words, ends
        self.pull()


@every_host
async def test_a_handler_that_goes_on_is_watched_again(host: str) -> None:
    """It may send after its source has ended, take another one, and is cancelled when its client leaves."""
    sources = [Words(), Words()]
    steps: list[str] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await trio.lowlevel.checkpoint()
        try:
            for number, source in enumerate(sources):
                await exchange.send_from(source)
                await exchange.send(b"<%d>" % number)
                steps.append(f"source {number}")
            await trio.sleep_forever()
        finally:
            steps.append("over")

    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(HOSTS[host], handler, config=ExchangeConfig(half_close_timeout=0.1)))
        (stream,) = await opened(urlsplit(url).port or 0, 1)
        sources[0].say(b"one", ends=True)
        await read_until(stream, b"<0>")
        await until(lambda: sources[1].pull.__name__ != "<lambda>")
        sources[0].say(b"nobody asks any more")
        sources[1].say(b"two")
        await read_until(stream, b"two")
        sources[1].say(b"three", ends=True)
        await read_until(stream, b"<1>")
        assert steps == ["source 0", "source 1"]
        await stream.aclose()
        await until(lambda: steps[-1] == "over")
        nursery.cancel_scope.cancel()


@every_host
async def test_partial_writes_tear_nothing(host: str) -> None:
    """Readers that take a little now and then get every event of a random broadcast, byte by byte in order."""
    rng = random.Random(7)
    broadcast = Broadcast[bytes](config=BroadcastConfig(window_bytes=500_000, policy=LagPolicy.WAIT))
    payloads = [b"%d " % n + b"y" * rng.choice([0, 10, 1_000, 60_000]) for n in range(150)]
    expected = b"".join(b"data: " + payload + b"\n\n" for payload in payloads) + END

    async def read_slowly(stream: trio.SocketStream, seed: int) -> None:
        pace = random.Random(seed)
        data = b""
        with trio.fail_after(60):
            while not data.endswith(b"\r\n0\r\n\r\n"):
                part = await stream.receive_some(pace.choice([100, 5_000, 200_000]))
                assert part
                data += part
                for _ in range(pace.randrange(3)):
                    await trio.lowlevel.checkpoint()
        assert body(data.partition(b"\r\n\r\n")[2]) == expected
        await stream.aclose()

    async with broadcasting(host, broadcast) as port:
        streams = [await narrow_request(port, "/events") for _ in range(5)]
        await until(lambda: broadcast.statistics().readers == 5)
        async with trio.open_nursery() as nursery:
            for seed, stream in enumerate(streams):
                nursery.start_soon(read_slowly, stream, seed)
            at = 0
            while at < len(payloads):
                size = rng.randrange(1, 5)
                await broadcast.publish(*payloads[at : at + size])
                at += size
            broadcast.end()


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_an_idle_reader_of_the_lean_host_is_one_task(is_loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that its connection has anyway: it reads for itself, and whoever publishes writes. On a loaded machine, where
    each step takes a schedule point, too."""
    if is_loaded:
        monkeypatch.setattr(pace, "BATCH_SECONDS", 0.0)
    broadcast = Broadcast[bytes]()
    async with broadcasting("lean", broadcast) as port:
        before = trio.lowlevel.current_statistics().tasks_living
        streams = await opened(port, 10)
        await until(lambda: broadcast.statistics().readers == 10)
        assert trio.lowlevel.current_statistics().tasks_living == before + 10
        await broadcast.publish(b"1")
        assert broadcast.statistics().readers_behind == 0  # written, without anybody's waking
        assert trio.lowlevel.current_statistics().tasks_living == before + 10
        await close_all(streams)


@every_host
async def test_cancelling_the_host_leaves_no_task(host: str) -> None:
    """Whatever its readers were doing: idle, in the middle of an event, gone."""
    before = trio.lowlevel.current_statistics().tasks_living
    broadcast = Broadcast[bytes](config=BroadcastConfig(window_bytes=10_000_000))
    async with broadcasting(host, broadcast, ExchangeConfig(close_timeout=0.2)) as port:
        streams = [await narrow_request(port, "/events"), *await opened(port, 3)]
        await until(lambda: broadcast.statistics().readers == 4)
        for _ in range(80):
            await broadcast.publish(b"x" * 100_000)
        await streams[3].aclose()
    assert broadcast.statistics().readers == 0
    assert trio.lowlevel.current_statistics().tasks_living <= before
    await close_all(streams)

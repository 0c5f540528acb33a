"""Visitors of our WebTransport server that mean no good: its memory has a bound, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.lowlevel

from tests.benchmarks.child import resident_bytes
from tests.faults.quic_visitor import QuicVisitor, open_visitor, varints
from tests.interop.webtransport.peers import PeerServer, start_server

SECONDS: Final = 90
"""A fail-safe: no test needs more than a few."""
MEBIBYTE: Final = 1_048_576
MAX_GROWTH_BYTES: Final = 40 * MEBIBYTE
"""Of the server's memory by one bad visitor: a connection's window, its send buffers, and what an allocator keeps."""
IDLE_TIMEOUT: Final = 2.0
UNKNOWN_CAPSULE: Final = 0x1234_5678
CLOSE_CAPSULE: Final = 0x2843
BUFFERED_STREAM_REJECTED: Final = 0x3994_BD84
GIBIBYTE: Final = 2**30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerServer]:
    """Our server in a process of its own, for all visitors."""
    with start_server("ours", tmp_path_factory.mktemp("certificate")) as started:
        yield started


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[PeerServer]:
    """One that does not wait long for a word."""
    with start_server("ours", tmp_path, idle_timeout=IDLE_TIMEOUT) as started:
        yield started


class Witness:
    """Somebody else's connection to the server, on which bytes come back all the time."""

    def __init__(self, visitor: QuicVisitor) -> None:
        self._visitor = visitor
        self.answers = 0

    async def run(self) -> None:
        while True:
            await self._visitor.echo(b"still there?")
            self.answers += 1
            await trio.sleep(0.01)

    async def wait_answers(self, count: int) -> None:
        """Wait for some more answers."""
        wanted = self.answers + count
        while self.answers < wanted:  # noqa: ASYNC110 - it polls anyway
            await trio.sleep(0.01)


@contextlib.asynccontextmanager
async def watched(server: PeerServer) -> AsyncIterator[Witness]:
    """While the block lasts another connection is answered, and behind it the server has not grown by much."""
    with trio.fail_after(SECONDS):
        async with open_visitor(server.port) as visitor, trio.open_nursery() as nursery:
            witness = Witness(visitor)
            nursery.start_soon(witness.run)
            await witness.wait_answers(10)
            before, answers = resident_bytes(server.pid), witness.answers
            yield witness
            await witness.wait_answers(10)
            grown = resident_bytes(server.pid) - before
            print(f"{grown / MEBIBYTE:.1f} MiB more, {witness.answers - answers} answers for others")  # noqa: T201
            assert grown < MAX_GROWTH_BYTES
            nursery.cancel_scope.cancel()


async def _settle(visitor: QuicVisitor, measure: Callable[[], int]) -> int:
    """Wait until a number stands still, or the connection is over."""
    before, equal = -1, 0
    while equal < 20 and visitor.terminated is None:
        await trio.sleep(0.02)
        now = measure()
        before, equal = now, equal + 1 if now == before else 0
    return before


async def test_streams_without_end(server: PeerServer) -> None:
    """A visitor that opens as many streams as it may, writes on each, and ends none, fills no more than its windows."""
    async with watched(server), open_visitor(server.port, "/ignore") as visitor:
        for number in range(1_500):
            visitor.open_stream(b"x" * 20_000, unidirectional=True)
            if number % 50 == 0:
                await trio.lowlevel.checkpoint()
        await _settle(visitor, lambda: visitor.quic._remote_max_data)


async def test_streams_opened_and_reset_at_once(server: PeerServer) -> None:
    """A visitor that opens and resets streams one after the other leaves nothing behind."""
    async with watched(server), open_visitor(server.port, "/tell") as visitor:
        for number in range(10_000):
            stream_id = visitor.open_stream(b"x" * 100, unidirectional=number % 2 == 0)
            visitor.quic.reset_stream(stream_id, 0x10F)
            if number % 20 == 0:
                await trio.sleep(0.001)
        await _settle(visitor, lambda: visitor.quic._remote_max_streams_uni)


async def test_a_visitor_that_never_reads(server: PeerServer) -> None:
    """Writers of streams that get no credit wait; what they have written is bounded."""
    async with (
        watched(server),
        open_visitor(server.port, "/pour", max_data=200_000, max_stream_data=50_000) as visitor,
    ):
        visitor.starve_peer()
        for _ in range(100):
            visitor.open_stream(b"go")
        await _settle(visitor, lambda: sum(map(len, visitor.received.values())))
        assert visitor.terminated is None


@pytest.mark.parametrize("kind", [UNKNOWN_CAPSULE, CLOSE_CAPSULE, 0x78AE, 0x190B_4D3D], ids=hex)
async def test_a_capsule_of_a_gibibyte(server: PeerServer, kind: int) -> None:
    """A capsule that says it is a gibibyte long is skipped or refused, and never kept."""
    async with watched(server) as witness, open_visitor(server.port, "/ignore") as visitor:
        visitor.send_capsule_bytes(varints(kind, GIBIBYTE))
        for _ in range(48):
            visitor.send_capsule_bytes(bytes(MEBIBYTE))
            await _send_off(visitor)
            if visitor.session_id in visitor.resets or visitor.session_id in visitor.stops or visitor.terminated:
                break
        else:
            assert kind == UNKNOWN_CAPSULE, "the server took it all"
        await witness.wait_answers(5)


async def _send_off(visitor: QuicVisitor) -> None:
    """Wait until nearly all of what the session's own stream has is acknowledged, or it is over."""
    over = (visitor.resets, visitor.stops)
    while visitor.unsent_bytes(visitor.session_id) > 65_536 and visitor.terminated is None:
        if any(visitor.session_id in found for found in over):
            return
        await trio.sleep(0.001)


async def test_a_flood_of_datagrams(server: PeerServer) -> None:
    """Datagrams that nobody receives drop the oldest of them."""
    async with watched(server), open_visitor(server.port, "/ignore") as visitor:
        for _ in range(600):
            for _ in range(50):
                visitor.send_datagram(bytes(1_000))
            await trio.sleep(0.001)
        assert visitor.terminated is None


async def test_streams_and_datagrams_for_unknown_sessions(server: PeerServer) -> None:
    """What comes for sessions that are not there is kept to a bound, and refused beyond it with the code for that."""
    async with watched(server), open_visitor(server.port, "/echo") as visitor:
        own = visitor.session_id
        for number in range(500):
            visitor.open_stream(bytes(10_000), session_id=own + 4 * (1 + number % 50), unidirectional=number % 2 == 0)
            visitor.http.send_datagram(own + 4 * (1 + number % 50), bytes(1_000))
            if number % 20 == 0:
                await trio.sleep(0.001)
        await visitor.wait_until(lambda: BUFFERED_STREAM_REJECTED in visitor.stops.values())
        await visitor.echo(b"and yet it works")


async def test_garbage(server: PeerServer) -> None:
    """Datagrams of noise, some of which begin as QUIC does, make no connections and hurt nobody."""
    rng = random.Random(7)
    async with watched(server):
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
            for number in range(20_000):
                await socket.sendto(_noise(rng), ("127.0.0.1", server.port))
                if number % 100 == 0:
                    await trio.sleep(0.001)


def _noise(rng: random.Random) -> bytes:
    body = rng.randbytes(rng.choice((0, 1, 20, 60, 1_200, 1_400)))
    start = rng.choice(
        (b"", b"\x40", b"\xc0\x00\x00\x00\x01\x08", b"\xc0\x00\x00\x00\x01\xff", b"\xc3\x6b\x33\x43\xcf\x08")
    )
    return start + body


async def test_a_visitor_that_vanishes(impatient: PeerServer) -> None:
    """Of a visitor that falls silent in the middle of a stream nothing is left once the idle timeout has passed."""
    async with (
        watched(impatient),
        open_visitor(impatient.port, "/pour") as asker,
        open_visitor(impatient.port, "/pour") as visitor,
    ):
        visitor.open_stream(b"go")
        await visitor.wait_until(lambda: bool(visitor.received))
        assert (await _ask(asker))["pouring"] == 1
        visitor.is_silent = True
        while (await _ask(asker))["pouring"]:  # noqa: ASYNC110 - the server is another process
            await trio.sleep(0.05)


async def _ask(visitor: QuicVisitor) -> dict[str, Any]:
    """What the server tells of its streams without end."""
    visitor.send_datagram(b"?")
    await visitor.wait_until(lambda: bool(visitor.datagrams))
    told: dict[str, Any] = json.loads(visitor.datagrams.pop())
    return told


VIOLATIONS: Final[dict[str, Callable[[QuicVisitor], object]]] = {
    "settings twice": lambda visitor: visitor.send(visitor.http._local_control_stream_id or 0, varints(4, 0)),
    "a control stream that ends": lambda visitor: visitor.send(
        visitor.http._local_control_stream_id or 0, b"", end=True
    ),
    "a second control stream": lambda visitor: visitor.quic.send_stream_data(
        visitor.quic.get_next_available_stream_id(is_unidirectional=True), b"\x00"
    ),
    "data before headers": lambda visitor: visitor.quic.send_stream_data(
        visitor.quic.get_next_available_stream_id(), varints(0, 5) + b"hello"
    ),
    "a session that is no request": lambda visitor: visitor.open_stream(b"x", session_id=3),
    "garbage for QPACK": lambda visitor: visitor.send(visitor.http._local_encoder_stream_id or 0, b"\xff" * 100),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_ends_its_connection_alone(server: PeerServer, name: str) -> None:
    """A peer that breaks HTTP/3's rules is closed with an error; nobody else notices."""
    async with watched(server), open_visitor(server.port, "/echo") as visitor:
        VIOLATIONS[name](visitor)
        visitor.kick()
        terminated = await visitor.wait_terminated()
        assert terminated.error_code != 0x100, terminated

"""WebTransport over a network that loses, doubles, delays and renumbers: our server with a client that is not ours, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest
import trio

from tests.faults.quic_visitor import QuicVisitor, open_visitor
from tests.faults.udp_proxy import UdpProxy, open_udp_proxy
from tests.interop.webtransport.peers import PeerServer, start_server
from tests.webtransport.quic_pair import unsteady
from trio_streams.webtransport import WebTransportSession, connect

SECONDS: Final = 120
"""A fail-safe."""
SIZE_BYTES: Final = 20_000
STREAMS: Final = 2
LINES: Final = [(1, 0.0), (1, 0.02), (2, 0.1), (3, 0.2)]
"""Seeds, and the share of the datagrams that is lost."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerServer]:
    """Our server in a process of its own."""
    with start_server("ours", tmp_path_factory.mktemp("certificate")) as started:
        yield started


@pytest.mark.parametrize(("seed", "loss"), LINES)
async def test_a_foreign_client_over_a_bad_line(server: PeerServer, seed: int, loss: float) -> None:
    """Streams come back whole, whatever share of the datagrams is lost, doubled or overtaken."""
    with trio.fail_after(SECONDS):
        async with (
            open_udp_proxy(server.port, unsteady(seed, loss)) as proxy,
            open_visitor(proxy.port) as visitor,
            trio.open_nursery() as nursery,
        ):
            for number in range(STREAMS):
                nursery.start_soon(visitor.echo, bytes([number]) * SIZE_BYTES)
    assert (proxy.lost > 0) == (loss > 0)


@pytest.mark.parametrize(("seed", "loss"), LINES)
async def test_our_client_over_a_bad_line(server: PeerServer, seed: int, loss: float) -> None:
    """The same of our own client."""
    with trio.fail_after(SECONDS):
        async with (
            open_udp_proxy(server.port, unsteady(seed, loss)) as proxy,
            connect(f"https://127.0.0.1:{proxy.port}/echo", verify=False) as session,
            trio.open_nursery() as nursery,
        ):
            for number in range(STREAMS):
                nursery.start_soon(_echo, session, bytes([number]) * SIZE_BYTES)


async def _echo(session: WebTransportSession, data: bytes) -> None:
    async with await session.create_bidirectional_stream() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(partial(stream.write, data, end_stream=True))
        assert await stream.read_all(max_size=2 * len(data)) == data


async def test_a_foreign_client_that_moves(server: PeerServer) -> None:
    """A client whose port changes, as behind a NAT that forgets, keeps its session and its streams."""
    with trio.fail_after(SECONDS):
        async with open_udp_proxy(server.port) as proxy, open_visitor(proxy.port) as visitor:
            for _ in range(5):
                await _move_in_mid_stream(proxy, visitor)


async def _move_in_mid_stream(proxy: UdpProxy, visitor: QuicVisitor) -> None:
    stream_id = visitor.open_stream(b"before")
    await visitor.wait_until(lambda: visitor.received[stream_id] == b"before")
    await proxy.move()
    visitor.send(stream_id, b" and after", end=True)
    await visitor.wait_until(lambda: stream_id in visitor.ended)
    assert visitor.received[stream_id] == b"before and after"


async def test_our_client_that_moves(server: PeerServer) -> None:
    """The same of our own client."""
    with trio.fail_after(SECONDS):
        async with (
            open_udp_proxy(server.port) as proxy,
            connect(f"https://127.0.0.1:{proxy.port}/echo", verify=False) as session,
        ):
            for number in range(5):
                await _echo(session, bytes([number]) * SIZE_BYTES)
                await proxy.move()

"""Our endpoints and aioquic's own asyncio driver, over real sockets of loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import attrs
import pytest
import trio
from aioquic.asyncio import client as stock_client
from aioquic.asyncio import server as stock_server
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived

from tests.webtransport.quic_driven import LIMITS, EchoingServer, QuicDriven, client
from tests.webtransport.quic_pair import certificate
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport.dial import dial
from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.endpoint import EndpointConfig, open_endpoint
from trio_streams.webtransport.quic_config import client_configuration, server_configuration
from trio_streams.webtransport.udp import bind_udp

DATA: Final = bytes(range(250)) * 4_000
FAIL_SAFE: Final = 60.0


# A stock client


async def _ask_stock(addr: Address, configuration: QuicConfiguration, data: bytes) -> bytes:
    async with (
        asyncio.timeout(FAIL_SAFE),
        stock_client.connect(addr[0], addr[1], configuration=configuration) as protocol,
    ):
        reader, writer = await protocol.create_stream()
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        protocol.change_connection_id()
        await protocol.ping()
        return answer


@pytest.mark.parametrize("retry_above_half_open", [0, 100])
@pytest.mark.parametrize("size", [1_200, 1_452])
async def test_a_stock_client_is_served(retry_above_half_open: int, size: int) -> None:
    """Aioquic's client gets a megabyte back, with a Retry and without, changes its connection id, and its goodbye is heard."""
    server = EchoingServer()
    configuration = client_configuration(LIMITS, verify=False)
    configuration.max_datagram_size = size
    config = EndpointConfig(retry_above_half_open=retry_above_half_open)
    with trio.fail_after(FAIL_SAFE):
        async with open_endpoint(bind_udp("127.0.0.1", 0), accept=server.accept, config=config) as endpoint:
            answer = await trio.to_thread.run_sync(
                asyncio.run, _ask_stock(endpoint.address, configuration, DATA), abandon_on_cancel=True
            )
            assert answer == DATA
            (connection,) = server.connections
            await connection.wait_over()
            assert connection.terminated is not None
            assert (server.openings[0].retry_source_connection_id is None) == (retry_above_half_open > 0)


async def test_a_stock_client_of_another_version_is_told() -> None:
    """Aioquic's client begins with a version that we do not speak, and comes back with one that we do."""
    server = EchoingServer()
    configuration = client_configuration(LIMITS, verify=False)
    configuration.original_version = 0x5A6A7A8A
    configuration.supported_versions = [0x5A6A7A8A, 1]
    with trio.fail_after(FAIL_SAFE):
        async with open_endpoint(bind_udp("127.0.0.1", 0), accept=server.accept) as endpoint:
            answer = await trio.to_thread.run_sync(
                asyncio.run, _ask_stock(endpoint.address, configuration, b"hello"), abandon_on_cancel=True
            )
            assert answer == b"hello"
            assert endpoint.statistics().answered_datagrams >= 1


# A stock server


class _Echo(QuicConnectionProtocol):
    """Sends back what it receives, and says how it ended."""

    on_ended: Callable[[ConnectionTerminated], None]

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self._quic.send_stream_data(event.stream_id, event.data, event.end_stream)
        elif isinstance(event, ConnectionTerminated):
            self.on_ended(event)


@attrs.define
class _StockServer:
    """A stock server in a thread of its own."""

    retry: bool
    port: int = 0
    ended: list[ConnectionTerminated] = attrs.field(factory=list)
    is_started: trio.Event = attrs.field(factory=trio.Event)
    has_ended: trio.Event = attrs.field(factory=trio.Event)
    _stop: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        await trio.to_thread.run_sync(asyncio.run, self._serve(), abandon_on_cancel=True)

    async def _serve(self) -> None:
        chain, key, _ = certificate()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        make = type("Echo", (_Echo,), {"on_ended": staticmethod(self._note)})
        configuration = server_configuration(LIMITS, certificate_file=chain, key_file=key)
        server = await stock_server.serve(
            "127.0.0.1", 0, configuration=configuration, create_protocol=make, retry=self.retry
        )
        assert server._transport is not None
        self.port = server._transport.get_extra_info("sockname")[1]
        trio.from_thread.run_sync(self.is_started.set)
        async with asyncio.timeout(FAIL_SAFE):
            await self._stop.wait()
        server.close()

    def _note(self, event: ConnectionTerminated) -> None:
        self.ended.append(event)
        trio.from_thread.run_sync(self.has_ended.set)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)


@pytest.mark.parametrize("retry", [False, True])
async def test_a_stock_server_serves_us(retry: bool) -> None:
    """Aioquic's server answers our client, with a Retry and without; when it closes, we hear it."""
    server = _StockServer(retry)
    with trio.fail_after(FAIL_SAFE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            await server.is_started.wait()
            async with dial("127.0.0.1", server.port, client, QuicDriven.wait_ready) as driven:
                assert await driven.ask(DATA) == DATA
                assert driven.quic._connection.packet_bytes == 1_452
            await server.has_ended.wait()
            async with dial("127.0.0.1", server.port, client, QuicDriven.wait_ready) as driven:
                assert await driven.ask(b"hello") == b"hello"
                server.stop()
                with pytest.raises(ConnectionLost):
                    await driven.wait_for(lambda: False)
        assert server.ended[0].reason_phrase == "bye"

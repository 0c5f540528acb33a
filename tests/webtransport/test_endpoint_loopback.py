"""Endpoints on real sockets of loopback: bulk, many connections, a changed port, loss, narrow paths, and addresses."""

from __future__ import annotations

import os
import socket as stdlib_socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.webtransport.quic_driven import LIMITS, EchoingServer, QuicDriven, client
from tests.webtransport.udp_relay import open_relay
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport.dial import dial, resolve
from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.endpoint import Endpoint, EndpointConfig, open_endpoint
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.udp import bind_udp

DATA: Final = bytes(range(250)) * 4_000
MANY: Final = int(os.environ.get("TRIO_STREAMS_MANY_CONNECTIONS", "50"))
FAIL_SAFE: Final = 60.0


@asynccontextmanager
async def _open_server(
    server: EchoingServer, host: str = "127.0.0.1", config: EndpointConfig | None = None
) -> AsyncIterator[Endpoint]:
    with trio.fail_after(FAIL_SAFE):
        async with open_endpoint(bind_udp(host, 0), accept=server.accept, config=config) as endpoint:
            yield endpoint


def _dial(addr: Address, limits: QuicLimits = LIMITS, **options: Any) -> AbstractAsyncContextManager[QuicDriven]:
    return dial(addr[0], addr[1], lambda found: client(found, limits), QuicDriven.wait_ready, **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_megabyte_goes_both_ways(host: str) -> None:
    """A stream is echoed whole, in packets that have grown; both families do."""
    server = EchoingServer()
    try:
        bind_udp(host, 0).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with _open_server(server, host) as endpoint, _dial(endpoint.address) as driven:
        assert await driven.ask(DATA) == DATA
        sides = driven, server.connections[0]
        while {side.quic._connection.packet_bytes for side in sides} != {1_452}:
            await driven.ask(DATA[:10_000])


async def test_many_connections_share_a_socket() -> None:
    """All of many clients are there at once, each gets its own answer, and in the end nothing of them is left."""
    server = EchoingServer()
    config = EndpointConfig(retry_above_half_open=10, retry_token_lifetime=FAIL_SAFE, handshake_timeout=FAIL_SAFE)
    async with _open_server(server, config=config) as endpoint:
        ready = 0
        all_ready = trio.Event()

        async def ask(number: int) -> None:
            nonlocal ready
            data = number.to_bytes(2, "big") * 1_000
            async with _dial(endpoint.address, config=config) as driven:
                ready += 1
                if ready == MANY:
                    all_ready.set()
                await all_ready.wait()
                assert await driven.ask(data) == data

        async with trio.open_nursery() as nursery:
            for number in range(MANY):
                nursery.start_soon(ask, number)
            await all_ready.wait()
            assert endpoint.statistics().connections >= MANY
            assert endpoint.statistics().half_open < MANY
        for connection in server.connections:
            await connection.wait_over()
        await wait_all_tasks_blocked()
        assert endpoint.statistics().connections == 0
        assert endpoint.statistics().connection_ids == 0
        assert endpoint.statistics().failed_connections == 0


async def test_a_client_whose_port_changes_is_followed() -> None:
    """An address translator that forgets the client costs nothing but a path validation; the data goes on."""
    server = EchoingServer()
    async with _open_server(server) as endpoint, open_relay(endpoint.address) as relay, _dial(relay.address) as driven:
        for _ in range(3):
            assert await driven.ask(DATA[:200_000]) == DATA[:200_000]
            relay.change_port()
        assert await driven.ask(DATA) == DATA
        (connection,) = server.connections
        assert len(connection.seen_from) == 4
        assert connection.seen_from[-1] == relay.outside


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.2])
async def test_lost_datagrams_cost_time_alone(loss: float) -> None:
    """Through a path that loses a share of the datagrams, the handshake and every byte come through."""
    server = EchoingServer()
    config = EndpointConfig(handshake_timeout=FAIL_SAFE)
    async with (
        _open_server(server, config=config) as endpoint,
        open_relay(endpoint.address, loss=loss, seed=5) as relay,
        _dial(relay.address, config=config) as driven,
    ):
        data = DATA[:100_000]
        assert await driven.ask(data) == data


async def test_a_narrow_path_carries_what_it_can() -> None:
    """Where no packet above 1,300 bytes passes, everything arrives, in packets that the path carries."""
    server = EchoingServer()
    async with _open_server(server) as endpoint, open_relay(endpoint.address) as relay:
        relay.carried_bytes = 1_300
        async with _dial(relay.address) as driven:
            assert await driven.ask(DATA[:500_000]) == DATA[:500_000]
            while driven.quic._connection.packet_bytes != 1_232:
                assert await driven.ask(DATA[:50_000]) == DATA[:50_000]


async def test_nobody_there_is_noticed_at_once() -> None:
    """A closed port ends the attempt long before any timeout, and the error says where."""
    socket = bind_udp("127.0.0.1", 0)
    addr = socket.address
    socket.close()
    with trio.fail_after(FAIL_SAFE), pytest.raises(ConnectionLost, match=f"nobody answered at 127.0.0.1:{addr[1]}"):
        async with _dial(addr, config=EndpointConfig(handshake_timeout=2 * FAIL_SAFE)):
            raise AssertionError


async def test_a_server_that_dies_is_noticed() -> None:
    """When nobody listens any more and nobody said goodbye, a client hears of it at its next attempts, not after a minute."""
    server = EchoingServer()
    async with _open_server(server) as endpoint, open_relay(endpoint.address) as relay, _dial(relay.address) as driven:
        assert await driven.ask(b"hello") == b"hello"
        relay.vanish()
        driven.write(driven.quic.open_stream(), b"anybody?")
        with pytest.raises(ConnectionLost, match="nobody listens"):
            await driven.wait_for(lambda: False)


# Addresses


async def test_addresses_come_by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's addresses are tried each once, the families alternating, the resolver's first one first."""
    found = [
        (stdlib_socket.AF_INET6, 2, 17, "", ("::1", 443, 0, 0)),
        (stdlib_socket.AF_INET6, 2, 17, "", ("::2", 443, 0, 0)),
        (stdlib_socket.AF_INET6, 2, 17, "", ("::1", 443, 0, 0)),
        (stdlib_socket.AF_INET, 2, 17, "", ("127.0.0.1", 443)),
    ]

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return found

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    assert await resolve("host.example", 443) == [("::1", 443, 0, 0), ("127.0.0.1", 443), ("::2", 443, 0, 0)]


async def test_a_host_without_an_address_is_said() -> None:
    """A name that does not resolve is a `ConnectionLost` that names it."""
    with pytest.raises(ConnectionLost, match="has no address"):
        await resolve("no such host", 443)


async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses, one without a way to it and one that is silent cost little, and the one that answers is used."""
    silent, server = bind_udp("127.0.0.1", 0), EchoingServer()
    refusing = bind_udp("127.0.0.1", 0)
    refused = refusing.address
    refusing.close()
    async with _open_server(server) as endpoint:

        async def addresses(host: str, port: int) -> list[Address]:
            await trio.lowlevel.checkpoint()
            return [("255.255.255.255", 9), refused, silent.address, endpoint.address]

        monkeypatch.setattr("trio_streams.webtransport.dial.resolve", addresses)
        async with _dial(("host.example", 443), attempt_timeout=0.2) as driven:
            assert await driven.ask(b"hello") == b"hello"
    silent.close()


async def test_an_attempt_that_is_cancelled_leaves_nothing() -> None:
    """A dial that is cancelled while it waits for an answer leaves no task and no socket."""
    silent = bind_udp("127.0.0.1", 0)
    await wait_all_tasks_blocked()
    living = trio.lowlevel.current_statistics().tasks_living
    with trio.move_on_after(0.1) as scope:
        async with _dial(silent.address):
            raise AssertionError
    assert scope.cancelled_caught
    assert trio.lowlevel.current_statistics().tasks_living == living
    silent.close()


async def test_what_the_body_raises_leaves_as_it_is() -> None:
    """An error in the block is not taken for one of the attempt."""
    server = EchoingServer()
    async with _open_server(server) as endpoint:
        with pytest.raises(ConnectionLost, match="of the body"):
            async with _dial(endpoint.address):
                raise ConnectionLost("of the body")

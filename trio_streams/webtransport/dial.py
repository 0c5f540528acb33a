"""A client's connection: each address of a host in turn, until one answers."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import zip_longest
from typing import TypeVar

import trio

from trio_streams.errors import ConnectionLost
from trio_streams.transports.host_names import resolving
from trio_streams.webtransport.driven import Address, Driven
from trio_streams.webtransport.endpoint import EndpointConfig, open_endpoint
from trio_streams.webtransport.udp import connect_udp

__all__ = ["dial", "resolve"]

DrivenT = TypeVar("DrivenT", bound=Driven)


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, each once, the families alternating, the resolver's favourite first.

    Raises:
      ConnectionLost: there is none.
      LocalProtocolError: `host` is no name.
    Cancellation: atomic; a look-up may go on in its thread.
    """
    try:
        with resolving(host):
            found = await trio.socket.getaddrinfo(host, port, type=stdlib_socket.SOCK_DGRAM)
    except OSError as exc:
        raise ConnectionLost(f"{host} has no address: {exc}") from exc
    families: dict[int, dict[Address, None]] = {}
    for family, _, _, _, addr in found:
        families.setdefault(family, {})[addr] = None
    return [addr for turn in zip_longest(*families.values()) for addr in turn if addr is not None]


@asynccontextmanager
async def dial(
    host: str,
    port: int,
    make: Callable[[Address], DrivenT],
    wait_ready: Callable[[DrivenT], Awaitable[None]],
    *,
    attempt_timeout: float = 3.0,
    config: EndpointConfig | None = None,
) -> AsyncIterator[DrivenT]:
    """Have a connection, on a socket of its own, for as long as the block.

    Args:
      host: a name or an address; a name's addresses are tried in turn, the families alternating.
      port: of the server.
      make: a connection to an address, whose machine was told to connect there with Trio's time.
      wait_ready: wait until it is of use; raises `ConnectionLost` where it never will be, and then the next address is tried.
      attempt_timeout: seconds for an address, if it is not the last one.
      config: limits of the endpoint, whose `handshake_timeout` is the last address's.

    Raises:
      ConnectionLost: no address answered; the cause is what the last one said.
      LocalProtocolError: `host` is no name.
    Cancellation: what was begun is closed, within the endpoint's `close_timeout`.
    """
    addresses = await resolve(host, port)
    async with AsyncExitStack() as stack:
        error: ConnectionLost | None = None
        for addr in addresses:
            timeout = attempt_timeout if addr is not addresses[-1] else float("inf")
            try:
                driven = await _attempt(stack, addr, make, wait_ready, timeout, config)
            except ConnectionLost as exc:
                error = exc
            else:
                break
        else:
            raise ConnectionLost(f"nobody answered at {host}:{port}: {error}") from error
        yield driven


async def _attempt(
    stack: AsyncExitStack,
    addr: Address,
    make: Callable[[Address], DrivenT],
    wait_ready: Callable[[DrivenT], Awaitable[None]],
    timeout: float,
    config: EndpointConfig | None,
) -> DrivenT:
    """Try an address; if that works, its endpoint goes to the stack."""
    try:
        socket = connect_udp(addr)
    except OSError as exc:
        raise ConnectionLost(f"there is no way to {addr[0]}: {exc}") from exc
    async with AsyncExitStack() as attempt:
        endpoint = await attempt.enter_async_context(open_endpoint(socket, config=config))
        driven = make(addr)
        endpoint.attach(driven)
        with trio.move_on_after(timeout) as scope:
            await wait_ready(driven)
        if scope.cancelled_caught:
            raise ConnectionLost(f"{addr[0]} did not answer within {timeout} s")
        stack.push_async_exit(attempt.pop_all())
    return driven

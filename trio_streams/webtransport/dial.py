"""A client's connection: each address of a host in turn, until one answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from trio_streams.webtransport.driven import Address, Driven
from trio_streams.webtransport.endpoint import EndpointConfig

__all__ = ["dial"]

DrivenT = TypeVar("DrivenT", bound=Driven)


@asynccontextmanager
async def dial(
    host: str,
    port: int,
    make: Callable[[Address], DrivenT],
    wait_ready: Callable[[DrivenT], Awaitable[None]],
    *,
    attempt_timeout: float = 5.0,
    config: EndpointConfig | None = None,
) -> AsyncIterator[DrivenT]:
    """Have a connection, on a socket of its own, for as long as the block.

    Args:
      host: a name or an address; a name's addresses are tried in turn, the families alternating.
      port: of the server.
      make: a connection to an address, whose machine was told to connect there with Trio's time.
      wait_ready: wait until it is of use; raises `ConnectionLost` where it never will be, and then the next address is tried.
      attempt_timeout: seconds for an address, if it is not the last one.
      config: limits of the endpoint.

    Raises:
      ConnectionLost: no address answered; the cause is what the last one said.
    """
    raise NotImplementedError
    yield make((host, port))

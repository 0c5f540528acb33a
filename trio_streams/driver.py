"""Runs a connection over a carrier: for as long as a block, or until the other side is done (`driving` has the loops)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.core.wire import Wire
from trio_streams.driving import Driver
from trio_streams.handling import Handler as Handler
from trio_streams.handling import Prepare as Prepare
from trio_streams.nursery import open_bare_nursery
from trio_streams.wire.binary import BinaryWire

__all__ = ["Handler", "Prepare", "run_client", "run_connection", "run_server"]


def run_client(
    carrier: Carrier,
    *,
    config: ConnectionConfig | None = None,
    wire: Wire | None = None,
    transport: str = "",
    make_machine: Callable[[], Mux] | None = None,
) -> AbstractAsyncContextManager[Connection]:
    """Run a connection as the client side for as long as the block; see `run_connection`."""
    return run_connection(
        carrier, is_client=True, config=config, wire=wire, transport=transport, make_machine=make_machine
    )


@contextlib.asynccontextmanager
async def run_connection(
    carrier: Carrier,
    *,
    is_client: bool,
    config: ConnectionConfig | None = None,
    wire: Wire | None = None,
    transport: str = "",
    make_machine: Callable[[], Mux] | None = None,
    received: bytes = b"",
    on_connection: Callable[[Connection], None] | None = None,
) -> AsyncIterator[Connection]:
    """Run either side of a connection for as long as the block, which has the peer's streams.

    Args:
      carrier: connected; it is closed when the block ends, whatever happens.
      is_client: which side this is: one of the two has to be the client.
      config: limits and timeouts.
      wire: the dialect; ours by default.
      transport: what the carrier is, for people.
      make_machine: makes the machine of a dialect that has one of its own, instead of `wire`; called once.
      received: what was taken from the carrier already.
      on_connection: told of the connection when it begins.

    Returns:
      The connection, after the peer's hello.

    Raises:
      ConnectionLost: the peer did not greet. Later faults surface from stream operations only.

    Cancellation: the streams are reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    async with open_bare_nursery() as nursery:
        driver = Driver(
            carrier,
            nursery,
            None,
            config=config,
            wire=wire or BinaryWire(),
            transport=transport,
            is_client=is_client,
            make_machine=make_machine,
        )
        if on_connection is not None:
            on_connection(driver.connection)
        nursery.start_soon(driver.receive_then_close, received)
        try:
            await driver.connection.wait_ready()
            yield driver.connection
        finally:
            await driver.close()


async def run_server(
    carrier: Carrier,
    prepare: Prepare,
    *,
    config: ConnectionConfig | None = None,
    wire: Wire | None = None,
    transport: str = "",
    make_machine: Callable[[], Mux] | None = None,
    received: bytes = b"",
    on_connection: Callable[[Connection], None] | None = None,
) -> None:
    """Serve one connection until it is over.

    Each stream that the peer opens is served in a task and a cancel scope of its own; a handler that fails ends its
    stream with a status, never the connection.

    Args:
      carrier: connected; it is closed at the end, whatever happens.
      prepare: called without waiting when a stream opens, before anything else of it is looked at; returns what
        serves it.
      config: limits and timeouts.
      wire: the dialect; ours by default.
      transport: what the carrier is, for people.
      make_machine: makes the machine of a dialect that has one of its own, instead of `wire`; called once.
      received: what was taken from the carrier already.
      on_connection: told of the connection when it begins.

    Cancellation: the handlers are cancelled, their streams reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    async with open_bare_nursery() as nursery:
        driver = Driver(
            carrier,
            nursery,
            prepare,
            config=config,
            wire=wire or BinaryWire(),
            transport=transport,
            make_machine=make_machine,
        )
        try:
            if on_connection is not None:
                on_connection(driver.connection)
            await driver.receive_loop(received)
        except BaseException:
            nursery.cancel_scope.cancel()  # the handlers
            raise
        finally:
            await driver.wait_served()
            await driver.close()

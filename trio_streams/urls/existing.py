"""Serving and calling over what a program has open already: byte streams, message channels, WebSockets."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from functools import partial

import trio
import trio_websocket

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_client, run_server
from trio_streams.procedures.client import Client, ConnectionClient
from trio_streams.procedures.durable.runs import check_replay_log
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.transports.bytes import ByteCarrier
from trio_streams.transports.messages import TrioWebSocketCarrier

__all__ = ["carrier_over", "connect_stream", "serve_connection", "serve_stream"]


async def serve_stream(
    stream: trio.abc.Stream | Carrier, app: Router, *, config: ConnectionConfig | None = None, peer: str | None = None
) -> None:
    """Serve an application on a byte stream or a carrier that exists already, until it is over.

    Args:
      stream: any Trio byte stream: a socket, TLS, two pipes that are stapled together, a subprocess; or a carrier, such
        as `transports.ChannelCarrier`. It is closed at the end, and nobody else may send or receive on it meanwhile.
      app: the procedures.
      config: limits and timeouts.
      peer: who is on the other side of a byte stream, for people; None to ask its socket.

    Raises:
      LocalProtocolError: a procedure is durable: its runs would outlive the stream, so `serve` it.

    Cancellation: handlers are cancelled, their streams reset, and the stream closed within `close_timeout`.
    """
    check_replay_log(app, None)
    config = config or ConnectionConfig()
    await run_server(carrier_over(stream, config, peer), partial(prepare, app), config=config)


@contextlib.asynccontextmanager
async def connect_stream(
    stream: trio.abc.Stream | Carrier, *, config: ConnectionConfig | None = None, peer: str | None = None
) -> AsyncGenerator[Client, None]:
    """Call the server on the other side of a byte stream or a carrier that exists already, for as long as the block.

    Args:
      stream: as for `serve_stream`.
      config: limits and timeouts.
      peer: who is on the other side of a byte stream, for people; None to ask its socket.

    Yields:
      The client.

    Raises:
      ConnectionLost: the stream broke before the hello.
      RemoteProtocolError: who is there speaks something else.

    Cancellation: streams are reset, and the resets leave within `close_timeout`.
    """
    config = config or ConnectionConfig()
    async with run_client(carrier_over(stream, config, peer), config=config) as connection:
        yield ConnectionClient(connection)


async def serve_connection(
    ws: trio_websocket.WebSocketConnection, app: Router, *, config: ConnectionConfig | None = None
) -> None:
    """Serve an application on a trio-websocket connection that exists already, until it is over.

    Args:
      ws: open, either side; it is closed at the end. Nobody else may send or receive on it meanwhile.
      app: the procedures.
      config: limits and timeouts.

    Cancellation: as for `serve`.
    """
    config = config or ConnectionConfig()
    await serve_stream(TrioWebSocketCarrier(ws, close_timeout=config.close_timeout), app, config=config)


def carrier_over(stream: trio.abc.Stream | Carrier, config: ConnectionConfig, peer: str | None) -> Carrier:
    """A carrier on what is open already."""
    if isinstance(stream, trio.abc.Stream):
        return ByteCarrier(stream, peer=peer, close_timeout=config.close_timeout)
    return stream

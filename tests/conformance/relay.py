"""A network that can be cut: stands between clients and a server on TCP or a Unix socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from trio_streams.transports import open_tcp_listeners
from trio_streams.transports.unix import open_unix_listener

__all__ = ["Relay", "open_relay"]

_BUFFERED_BYTES = 65_536


class Relay:
    """Moves bytes both ways, until it is cut.

    Attributes:
      url: where clients come to: that of the server, with another address.
      count: how many connections there have been.
      is_down: whether new ones are cut at once.
    """

    def __init__(self, url: str, connect: Callable[[], Awaitable[trio.SocketStream]]) -> None:
        self.url = url
        self.count = 0
        self.is_down = False
        self._connect = connect
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Break every connection there is."""
        for scope in self._scopes:
            scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection."""
        self.count += 1
        if self.is_down:
            client.socket.close()
            return
        async with client, await self._connect() as server:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass, client, server)
                    nursery.start_soon(self._pass, server, client)
            self._scopes.discard(scope)
            client.socket.close()
            server.socket.close()

    async def _pass(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(_BUFFERED_BYTES):
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            for stream in (source, sink):
                stream.socket.close()


@asynccontextmanager
async def open_relay(url: str, folder: Path) -> AsyncGenerator[Relay, None]:
    """Stand before a server.

    Args:
      url: the server's.
      folder: for a socket of our own, where the server has one.
    """
    scheme, _, rest = url.partition(":")
    async with trio.open_nursery() as nursery:
        if scheme == "unix":
            relay = Relay(f"unix:{folder / 'relay'}", partial(trio.open_unix_socket, rest))
            async with open_unix_listener(str(folder / "relay")) as listener:
                await nursery.start(trio.serve_listeners, relay.serve, [listener])
                yield relay
                nursery.cancel_scope.cancel()
            return
        port = int(rest.rpartition(":")[2])
        (tcp,) = await open_tcp_listeners("127.0.0.1", 0)
        relay = Relay(
            f"{scheme}://127.0.0.1:{tcp.socket.getsockname()[1]}", partial(trio.open_tcp_stream, "127.0.0.1", port)
        )
        await nursery.start(trio.serve_listeners, relay.serve, [tcp])
        yield relay
        nursery.cancel_scope.cancel()

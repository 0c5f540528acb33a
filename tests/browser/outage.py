"""A TCP proxy whose network can go away: open connections are reset, or silent, and new ones are reset until it is mended."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from tests.faults.visitors import linger_not

__all__ = ["Outage"]


@attrs.define(eq=False)
class Outage:
    """The proxy.

    Attributes:
      upstream_port: where it passes connections on to, on loopback.
      port: where it listens, once it does.
      is_cut: whether the network is away.
      refused: connections that were tried meanwhile.
    """

    upstream_port: int
    port: int = 0
    is_cut: bool = False
    refused: int = 0
    _hushed: set[trio.SocketStream] = attrs.Factory(set)
    _open: set[trio.SocketStream] = attrs.Factory(set)

    async def run(self, *, task_status: trio.TaskStatus[Outage] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started(self)
        await trio.serve_listeners(self._serve, [listener])

    def cut(self) -> None:
        """Take the network away: what is under way is lost, at both ends."""
        self.is_cut = True
        for stream in self._open:
            linger_not(stream)
            stream.socket.close()
        self._open.clear()

    def hush(self) -> None:
        """From now on nothing comes over what is open, and nobody is told."""
        self._hushed |= self._open

    def mend(self) -> None:
        """Bring it back, for new connections; what was silent is lost."""
        self.is_cut = False
        for stream in self._hushed:
            linger_not(stream)
            stream.socket.close()
        self._hushed.clear()

    async def _serve(self, client: trio.SocketStream) -> None:
        if self.is_cut:
            self.refused += 1
            linger_not(client)
            client.socket.close()
            return
        async with await trio.open_tcp_stream("127.0.0.1", self.upstream_port) as server:
            self._open |= {client, server}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, server)
                nursery.start_soon(self._pass_on, server, client)
            self._open -= {client, server}

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65_536):
                if source not in self._hushed:
                    await sink.send_all(data)
            if source not in self._hushed:
                await sink.send_eof()

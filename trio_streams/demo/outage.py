"""`network.cut`: the connections of the demo's own clients break, and their sessions go on before everybody's eyes.

These clients reach the server through a line of the demo's own on loopback, so that the cut is a real one: sockets are
closed under both, and for a while every new connection is, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router

__all__ = ["MAX_SECONDS", "Line", "Outage", "Outcome", "add_outage"]

MAX_SECONDS: Final = 30.0
"""Half of what a session lives without a connection."""

_HOST: Final = "127.0.0.1"
_READ_BYTES: Final = 65_536
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@attrs.frozen
class Outage:
    """How long the demo's own clients are to be without a network."""

    seconds: float = 3.0


@attrs.frozen(kw_only=True)
class Outcome:
    """What was cut."""

    connections: int
    seconds: float


class Line:
    """The network between the demo's own clients and its server."""

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._is_back_at = -math.inf

    @property
    def is_down(self) -> bool:
        """Whether connections are cut as soon as they come."""
        return trio.current_time() < self._is_back_at

    def cut(self, seconds: float) -> int:
        """Break every connection, and all that come for so many seconds; how many there were."""
        self._is_back_at = trio.current_time() + seconds
        for scope in self._scopes:
            scope.cancel()
        return len(self._scopes)

    async def serve(self, url: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Stand before a server on loopback until cancelled.

        Args:
          url: the server's.
          task_status: started with the URL that takes its place.

        Cancellation: the connections are closed.
        """
        address, _, port = url.rpartition(":")
        listeners = await trio.open_tcp_listeners(0, host=_HOST)
        task_status.started(f"{address}:{listeners[0].socket.getsockname()[1]}")
        await trio.serve_listeners(partial(self._carry, int(port)), listeners)

    async def _carry(self, port: int, client: trio.SocketStream) -> None:
        if self.is_down:
            return
        with suppress(*_GONE):
            async with await trio.open_tcp_stream(_HOST, port) as server, trio.open_nursery() as nursery:
                self._scopes.add(nursery.cancel_scope)
                try:
                    nursery.start_soon(_pass, client, server, nursery.cancel_scope)
                    await _pass(server, client, nursery.cancel_scope)
                finally:
                    self._scopes.discard(nursery.cancel_scope)


async def _pass(source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(*_GONE):
        while data := await source.receive_some(_READ_BYTES):
            await sink.send_all(data)
    scope.cancel()  # whoever ends, or breaks, has said all; what the other one still says nobody reads


def add_outage(router: Router, line: Line, note: Callable[[str], None]) -> None:
    """Enter `network.cut` into a router.

    Args:
      router: gets the procedure.
      line: what is cut.
      note: told, for the log, of each cut.
    """

    @router.call("network.cut")
    async def cut(input: Outage) -> Outcome:  # noqa: A002 - the word of all procedures
        """Cuts the connections of the demo's own clients for some seconds; their streams go on."""
        if not 0 <= input.seconds <= MAX_SECONDS:
            raise RpcError(
                Code.INVALID_ARGUMENT, f"seconds are a number from 0 to {MAX_SECONDS:g}, not {input.seconds:g}"
            )
        await trio.lowlevel.checkpoint()
        count = line.cut(input.seconds)
        note(f"network.cut: {count} connections, for {input.seconds:g} s")
        return Outcome(connections=count, seconds=input.seconds)

"""How many connections may be open at once, over any number of listeners.

A socket that is closed has no descriptor. So nobody has to report the end of a connection, whoever served it: what is
closed is dropped when the count matters. That look costs less than the accepting and refusing beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, cast

import trio

from trio_streams.errors import StreamsError
from trio_streams.transports.bytes import ByteCarrier

__all__ = ["Gate"]

_MAX_REFUSING: Final = 32
_REFUSAL_TIMEOUT: Final = 1.0
_MIN_SWEEP: Final = 256


class Gate:
    """Stands before listeners, and refuses what is too much.

    Args:
      nursery: refusals are said in it, a few at a time; all others are just closed.
      max_connections: open at once; None for no limit.
      max_connections_per_host: open at once from one address; None for no limit.
    """

    def __init__(
        self, nursery: trio.Nursery, *, max_connections: int | None, max_connections_per_host: int | None = None
    ) -> None:
        self._nursery = nursery
        self._max = max_connections
        self._max_per_host = max_connections_per_host
        self._open: dict[trio.socket.SocketType, str] = {}
        self._hosts = Counter[str]()
        self._held = 0
        self._sweep_at = _MIN_SWEEP
        self._refusing = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        self._sweep()
        return len(self._open) + self._held

    def guard(self, listener: trio.SocketListener, refusal: bytes = b"") -> trio.SocketListener:
        """Stand before a listener.

        Args:
          listener: open; what is returned owns it.
          refusal: what a connection that is too much is told before it is closed.
        """
        # trio's class is final; what servers use of it is here.
        return cast("trio.SocketListener", _GuardedListener(self, listener, refusal))

    def admit(self, stream: trio.SocketStream) -> bool:
        """Count a connection in, if there is room for it."""
        host = _host(stream)
        if self._is_full(host) or len(self._open) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(_MIN_SWEEP, 2 * len(self._open))
            if self._is_full(host):
                return False
        self._open[stream.socket] = host
        if host:
            self._hosts[host] += 1
        return True

    def is_full(self, host: str) -> bool:
        """Whether one more from an address, of what has no socket of its own, would be too much."""
        if self._is_full(host):
            self._sweep()
        return self._is_full(host)

    @contextmanager
    def hold(self, host: str) -> Generator[None, None, None]:
        """Count in, for as long as a block, what has no socket of its own: a session on a connection of QUIC.

        Args:
          host: the address at the other end.
        """
        give_back = self._take(host)
        try:
            yield
        finally:
            give_back()

    def take_place(self, host: str) -> Callable[[], None] | None:
        """Count in, if there is room for it, what has neither a socket nor a block of its own: a connection of QUIC.

        Args:
          host: the address at the other end.

        Returns:
          What gives the place back, once, however often it is called; None where there is no room.
        """
        return None if self.is_full(host) else self._take(host)

    def refuse(self, stream: trio.SocketStream, refusal: bytes) -> None:
        """Close a connection that was not admitted, telling it why where that costs little."""
        if refusal and self._refusing < _MAX_REFUSING:
            self._refusing += 1
            self._nursery.start_soon(self._say, stream, refusal)
        else:
            stream.socket.close()

    async def _say(self, stream: trio.SocketStream, refusal: bytes) -> None:
        carrier = ByteCarrier(stream, close_timeout=_REFUSAL_TIMEOUT)
        try:
            with trio.move_on_after(_REFUSAL_TIMEOUT):
                await carrier.send(refusal)
        except StreamsError:
            pass  # it has left
        finally:
            try:
                await carrier.aclose()
            finally:
                self._refusing -= 1

    def _is_full(self, host: str) -> bool:
        if self._max is not None and len(self._open) + self._held >= self._max:
            return True
        return bool(host) and self._max_per_host is not None and self._hosts[host] >= self._max_per_host

    def _take(self, host: str) -> Callable[[], None]:
        is_held = True
        self._held += 1
        self._hosts[host] += 1

        def give_back() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._held -= 1
                self._leave(host)

        return give_back

    def _sweep(self) -> None:
        for socket in [one for one in self._open if one.fileno() < 0]:
            self._leave(self._open.pop(socket))

    def _leave(self, host: str) -> None:
        self._hosts[host] -= 1
        if self._hosts[host] <= 0:
            del self._hosts[host]


class _GuardedListener(trio.abc.Listener[trio.SocketStream]):
    def __init__(self, gate: Gate, listener: trio.SocketListener, refusal: bytes) -> None:
        self._gate = gate
        self._listener = listener
        self._refusal = refusal
        self.socket = listener.socket

    async def accept(self) -> trio.SocketStream:
        while True:
            stream = await self._listener.accept()
            if self._gate.admit(stream):
                return stream
            self._gate.refuse(stream, self._refusal)

    async def aclose(self) -> None:
        await self._listener.aclose()


def _host(stream: trio.SocketStream) -> str:
    """The address at the other end; empty where there is none, as on Unix sockets."""
    try:
        address: object = stream.socket.getpeername()
    except OSError:
        return ""
    return str(cast("tuple[object, ...]", address)[0]) if isinstance(address, tuple) else ""

"""What carriers over `Output` share: whose turn it is to write, reading while answers are owed, and the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import trio

from trio_streams.carrier import RECEIVE_BYTES, next_read_bytes
from trio_streams.errors import ConnectionLost
from trio_streams.transports.gather import Chunk
from trio_streams.transports.output import Output

__all__ = ["OutputCarrier"]


class OutputCarrier(ABC):
    """A carrier whose protocol owes its peer answers, such as a WebSocket or TLS.

    Args:
      stream: the byte stream under it; the carrier owns it.
      peer: who is on the other side, for people.
      close_timeout: seconds that `aclose` takes at most.
      protocol: its name, for errors.
    """

    __slots__ = (
        "_close_timeout",
        "_is_closed",
        "_is_receiving",
        "_output",
        "_peer",
        "_protocol",
        "_read_bytes",
        "_stream",
    )

    def __init__(self, stream: trio.abc.Stream, *, peer: str, close_timeout: float, protocol: str) -> None:
        self._stream = stream
        self._peer = peer
        self._close_timeout = close_timeout
        self._protocol = protocol
        self._output = Output(stream, peer=peer, patience=close_timeout)
        self._read_bytes = RECEIVE_BYTES
        self._is_receiving = False
        self._is_closed = False

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        return self._peer

    async def wait_writable(self) -> None:
        """Wait until the kernel would take bytes; answers that are owed go first.

        Raises:
          ConnectionLost: the connection broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        self._check_open()
        await self._output.take_turn()
        try:
            await self._output.wait_writable()
        finally:
            self._output.end_turn()

    def is_writable(self) -> bool:
        """Whether the kernel would take bytes now, and no answers are owed; False where it can't be asked."""
        return not self._is_closed and self._output.is_writable

    async def _write(self, make: Callable[[], list[Chunk]]) -> None:
        """Write what `make` makes when our turn has come; nothing is made or sent between it and its bytes."""
        output = self._output
        await output.take_turn()
        try:
            self._check_open()
            chunks = make()
            if not chunks:
                await trio.lowlevel.checkpoint()
            await output.write(chunks)
        finally:
            output.end_turn()

    async def _close(self, say_goodbye: Callable[[], Awaitable[None]]) -> None:
        """Say goodbye within `close_timeout`, and close."""
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            with trio.move_on_after(self._close_timeout):
                await say_goodbye()
        except (ConnectionLost, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass  # the peer left without a word; so can we
        finally:
            await trio.aclose_forcefully(self._stream)

    # Receiving

    async def _read(self) -> None:
        """One read of the stream, while what is owed is being written."""
        try:
            if self._output.is_owing:
                await self._read_while_flushing()
            else:
                data = await self._stream.receive_some(self._read_bytes)
                self._read_bytes = next_read_bytes(self._read_bytes, len(data))
                self._take(data)
        except trio.BrokenResourceError as exc:
            self._lose(exc)

    async def _read_while_flushing(self) -> None:
        # Both at once: if each side first waited for the other to take its answers, neither would read.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush)
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except trio.BrokenResourceError as exc:
                self._lose(exc)
            except trio.ClosedResourceError:
                pass  # by our own `aclose`, which whoever called us will notice
            else:
                self._take(data)  # before the nursery's end, which may be where a cancellation strikes
            nursery.cancel_scope.cancel()
        self._check_open()

    async def _flush(self) -> None:
        try:
            await self._output.flush()
        except (ConnectionLost, trio.ClosedResourceError):
            pass  # reading will tell, and may still find what the peer sent before it left

    @abstractmethod
    def _take(self, data: bytes | bytearray) -> None:
        """Parse what was read; nothing is the end of it."""

    @abstractmethod
    def _lose(self, exc: trio.BrokenResourceError) -> None:
        """The connection broke while it was read."""

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError(f"this side of the {self._protocol} was closed")

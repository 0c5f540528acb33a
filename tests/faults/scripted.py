"""A byte stream whose other side is a script: what it says, and how it dies."""

from __future__ import annotations

import trio

__all__ = ["ScriptedStream"]


class ScriptedStream(trio.abc.HalfCloseableStream):
    """One end of a connection to a peer that hears nothing, says what it is told to, and then dies.

    Attributes:
      sent: what was sent to it.
    """

    def __init__(self) -> None:
        self.sent = bytearray()
        self._unread = bytearray()
        self._ending = ""
        self._is_closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def say(self, data: bytes) -> None:
        """Let bytes arrive."""
        self._unread += data
        self._changed.unpark_all()

    def die(self, ending: str) -> None:
        """Let the end arrive: `fin` behind what was said, or `reset`, which destroys what was not read."""
        self._ending = ending
        if ending == "reset":
            self._unread.clear()
        self._changed.unpark_all()

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("closed here")
        if self._ending == "reset":
            raise trio.BrokenResourceError("reset by the script")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self._unread or self._ending:
                data = bytes(self._unread[:max_bytes])
                del self._unread[:max_bytes]
                return data
            await self._changed.park()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()

    async def aclose(self) -> None:
        self._is_closed = True
        self._changed.unpark_all()
        await trio.lowlevel.checkpoint()

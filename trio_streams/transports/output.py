"""The writing side of a carrier that also owes its peer answers.

Two tasks produce bytes: the one that sends, and the one that receives and owes pongs or the answer to a goodbye. They
must neither tear each other's frames nor wait for each other's fate:

- What is *owed* is queued synchronously, already framed, and is written by whoever holds the *turn* next. If a task is
  writing, that is the holder, after the frame it is in: an answer cannot overtake half a frame.
- On a socket, writing resumes: `socket.send` says how much the kernel took, and Trio makes it atomic under cancellation.
  What a cancelled writer leaves behind is the beginning of the next write, so no frame is ever torn.
- Other streams (TLS, pipes) offer only `send_all`, which loses count when it is cancelled. Answers are then written in
  small pieces, each when the stream is ready for it and shielded; a cancelled `write` breaks the output for good, so that
  the next one fails instead of sending what the peer would misread.
"""

from __future__ import annotations

from typing import Final

import trio

from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import describe_fault, takes_bytes
from trio_streams.transports.gather import Chunk, send_some

__all__ = ["Output"]

_PIECE_BYTES: Final = 4_096
"""Written under a shield after the stream said that it is ready: small enough that a TLS record and a kernel buffer
that has just become writable take it whole."""


class Output:
    """An ordered run of framed bytes that two tasks write to one stream.

    Args:
      stream: where the bytes go.
      peer: who is on the other side, for messages.
      patience: seconds for a shielded piece to be taken by a stream that said it was ready.
    """

    __slots__ = ("_failure", "_is_taken", "_owed", "_patience", "_peer", "_rest", "_socket", "_stream", "_waiting")

    def __init__(self, stream: trio.abc.Stream, *, peer: str, patience: float) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._peer = peer
        self._patience = patience
        self._is_taken = False  # the turn
        self._waiting: trio.lowlevel.ParkingLot | None = None  # for it
        self._owed: list[bytes] = []
        self._rest: list[Chunk] | None = None  # of the run being written
        self._failure: str | None = None

    @property
    def owed_bytes(self) -> int:
        """Answers that nobody has begun to write."""
        return sum(map(len, self._owed))

    @property
    def is_owing(self) -> bool:
        """Whether there is something to write that no writer is about to take."""
        return bool(self._owed) or (bool(self._rest) and not self._is_taken)

    def owe(self, data: bytes) -> None:
        """Queue whole frames that are to be written by whoever writes next; dropped if nothing can be written."""
        if self._failure is None and data:
            self._owed.append(data)

    async def take_turn(self) -> None:
        """Wait for the right to write; not a checkpoint where it is free, as writing always is one.

        Cancellation: atomic.
        """
        if not self._is_taken:
            self._is_taken = True
            return
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()  # until who has it hands it on

    def end_turn(self) -> None:
        """Let the next one write."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self._is_taken = False

    async def write(self, chunks: list[Chunk]) -> None:
        """Write what is owed, then `chunks`, then what has come to be owed meanwhile. Needs the turn.

        Raises:
          ConnectionLost: the connection broke, now or before.
          trio.ClosedResourceError: the stream was closed on this side.
        Cancellation: on a socket, the rest is written by the next writer; elsewhere nothing can be written any more.
        """
        self._queue(chunks)
        while self._rest:
            await self._write_some(self._rest)
            if not self._rest:
                self._queue([])

    async def wait_writable(self) -> None:
        """Wait until the kernel would take bytes, and let what is owed go first. Needs the turn.

        Raises:
          ConnectionLost: the connection broke, now or before.
          trio.ClosedResourceError: the stream was closed on this side.
        Cancellation: as `flush`.
        """
        while True:
            await self._wait_ready()
            if not self._rest and not self._owed:
                return
            await self._flush_in_turn()

    @property
    def is_writable(self) -> bool:
        """Whether `wait_writable` would return at once; False where the stream can't be asked."""
        return not self._rest and not self._owed and not self._is_taken and takes_bytes(self._stream)

    async def flush(self) -> None:
        """Write what is owed.

        Raises:
          ConnectionLost: the connection broke, now or before.
          trio.ClosedResourceError: the stream was closed on this side.
        Cancellation: the rest is written by the next writer.
        """
        await self.take_turn()
        try:
            await self._flush_in_turn()
        finally:
            self.end_turn()

    async def _flush_in_turn(self) -> None:
        self._queue([])
        while self._rest:
            if self._socket is not None:
                await self._write_some(self._rest)
            else:
                await self._write_piece(self._rest)
            if not self._rest:
                self._queue([])

    def _queue(self, chunks: list[Chunk]) -> None:
        if self._failure is not None:
            raise ConnectionLost(self._failure)
        if self._rest or self._owed:
            chunks = [*(self._rest or ()), *self._owed, *chunks]
            self._owed.clear()
        self._rest = chunks or None

    async def _write_some(self, rest: list[Chunk]) -> None:
        try:
            if self._socket is not None:
                await send_some(self._socket, rest)
            else:
                await self._send_all(b"".join(rest))
                rest.clear()
        except trio.BrokenResourceError as exc:
            raise self._fail(exc) from exc
        except OSError as exc:
            if self._socket is not None and self._socket.fileno() == -1:
                raise trio.ClosedResourceError("this side of the connection was closed") from exc
            raise self._fail(exc) from exc

    async def _write_piece(self, rest: list[Chunk]) -> None:
        await self._wait_ready()
        data = memoryview(b"".join(rest))
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._patience) as scope:
            try:
                await self._send_all(data[:_PIECE_BYTES])
            except trio.BrokenResourceError as exc:
                raise self._fail(exc) from exc
            rest[:] = [data[_PIECE_BYTES:]] if len(data) > _PIECE_BYTES else []
        if scope.cancelled_caught:
            raise ConnectionLost(f"connection to {self._peer} lost: it takes no answers")

    async def _send_all(self, data: bytes | memoryview) -> None:
        is_torn = True
        try:
            await self._stream.send_all(data)
            is_torn = False
        finally:
            if is_torn:
                self._failure = f"connection to {self._peer} lost: a cancelled write left a frame unfinished"
                self._rest = None
                self._owed.clear()

    async def _wait_ready(self) -> None:
        if self._failure is not None:
            raise ConnectionLost(self._failure)
        try:
            if self._socket is not None:
                await trio.lowlevel.wait_writable(self._socket)
            else:
                await self._stream.wait_send_all_might_not_block()
        except trio.BrokenResourceError as exc:
            raise self._fail(exc) from exc
        except (OSError, ValueError) as exc:
            raise trio.ClosedResourceError("this side of the connection was closed") from exc

    def _fail(self, exc: BaseException) -> ConnectionLost:
        self._failure = f"connection to {self._peer} lost: {describe_fault(exc)}"
        self._rest = None
        self._owed.clear()
        return ConnectionLost(self._failure)

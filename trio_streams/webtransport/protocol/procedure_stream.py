"""A stream of items on one bidirectional stream of a session.

Its two directions carry the frames of `trio-streams.v1`, without the preface and with the number 1 in each, for there is no
other stream here: OPEN first from whoever opened it, then HEADER, DATA and END, and the end of the half right behind END.
RESET and STOP are the session's own, and CREDIT comes on the control streams: a half that was reset or stopped could carry
none.

A whole item that nobody has taken holds as many of QUIC's bytes as it has, so that what waits here is paid for by the
windows of the session's connection, too. A part of an item or of a frame holds none: it can't be taken, so streams that have
used up a window with such parts would wait for one another for ever. So what a stream may hold is its window and one item, as
on any carrier; but the items under way of all streams have no limit together, beside the number of streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import ProtocolError, RemoteProtocolError
from trio_streams.core.states import HalfState
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.core.wire import Frame
from trio_streams.webtransport.protocol.stream_port import StreamPort
from trio_streams.wire.binary import BinaryWire

__all__ = ["STREAM_NUMBER", "ProcedureStream", "encode_frame"]

STREAM_NUMBER: Final = 1
"""What the frames of a stream name: 0 is the connection's, and there is only one stream on it."""

_TURN_BYTES: Final = 32_768
"""What is put into frames at a time: at most so much, and the heads, waits here for room in the session's stream."""

_JOINED_BYTES: Final = 4_096
"""Frames are put together up to here: for small ones a send into the session's stream costs more than a copy."""

_UNLIMITED: Final = 1 << 62
_WIRE: Final = BinaryWire()


def encode_frame(record: records.Record) -> bytes:
    """A record as a frame of a stream. Raises LocalProtocolError where it does not fit into one."""
    return _WIRE.encode(STREAM_NUMBER, record)


class ProcedureStream:
    """One stream; see the module.

    Args:
      stream_id: the session's stream.
      machine: of one that we open.
      start: its OPEN then, as a frame.

    Attributes:
      is_ours: whether we opened it.
      machine: its halves; None until the peer's OPEN is here.
      is_full: whether the session's stream took less than it was given.
      peer_is_over: whether nothing of the peer's half is to come: it was ended, reset or stopped.
    """

    __slots__ = (
        "_control",
        "_held_bytes",
        "_is_ended",
        "_tail",
        "_unread_bytes",
        "_wire",
        "id",
        "is_full",
        "is_ours",
        "machine",
        "peer_is_over",
    )

    def __init__(self, stream_id: int, machine: StreamMachine | None = None, start: bytes = b"") -> None:
        self.id: int = stream_id
        self.machine: StreamMachine | None = machine
        self.is_ours: bool = machine is not None
        self.is_full: bool = False
        self.peer_is_over: bool = False
        self._wire = BinaryWire(expects_preface=False)
        self._tail: bytes | memoryview = start
        self._is_ended = False
        self._held_bytes = 0
        self._unread_bytes = 0

    # -- out --------------------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """What is in frames already, and was not taken."""
        return len(self._tail)

    @property
    def has_output(self) -> bool:
        """Whether there is something to hand on; it may have to wait."""
        machine = self.machine
        return bool(self._tail) or (machine is not None and machine.has_output)

    def flush(self, port: StreamPort) -> int:
        """Hand on what the session's stream takes.

        Returns:
          How many bytes that was.
        """
        size = 0
        while not self.is_full and self._fill():
            taken = port.send(self.id, self._tail)
            size += taken
            self.is_full = taken < len(self._tail)
            self._tail = memoryview(self._tail)[taken:] if self.is_full else b""
        machine = self.machine
        is_over = machine is not None and machine.send_state is HalfState.CLOSED and not self._tail
        if is_over and not self._is_ended:
            self._is_ended = True
            port.end(self.id)
        return size

    def _fill(self) -> bool:
        """Put frames behind what is left, while that is little; whether there is anything then."""
        size = len(self._tail)
        frames = [self._tail] if size else []
        while size < _JOINED_BYTES and (frame := self._next_frame(_TURN_BYTES - size)):
            frames.append(frame)
            size += len(frame)
        if frames:
            self._tail = frames[0] if len(frames) == 1 else b"".join(frames)
        return bool(frames)

    def _next_frame(self, max_bytes: int) -> bytes:
        machine = self.machine
        content = None if machine is None else machine.pull(max_bytes, _UNLIMITED)
        if content is None:
            return b""
        if isinstance(content, records.Header | records.End):
            return encode_frame(content)
        if isinstance(content, Piece):
            return b"".join(_WIRE.encode_piece(STREAM_NUMBER, content))
        return _WIRE.encode_run(STREAM_NUMBER, content)

    def abandon(self) -> None:
        """Our half is over: what was not taken stays here."""
        self._tail = b""
        self._is_ended = True

    # -- in ---------------------------------------------------------------------------------------------------

    def decode(self, chunk: bytes) -> Iterator[Frame]:
        """The frames that are complete with a chunk.

        Raises:
          ProtocolError: what comes behind them is none, or one of another stream.
        """
        for number, frame in self._wire.decode(chunk):
            if isinstance(frame, ProtocolError):
                raise frame
            if number != STREAM_NUMBER:
                raise RemoteProtocolError(
                    f"the peer sent a frame of stream {number} on a stream of its own",
                    field="stream_id",
                    size=number,
                    limit=STREAM_NUMBER,
                )
            yield frame

    def hold(self, size: int, whole: int) -> int:
        """Note what a chunk brought.

        Args:
          size: bytes of the chunk.
          whole: bytes of the items that it completed and that are wanted.

        Returns:
          How much of it is not held.
        """
        held = min(size, whole)
        self._unread_bytes += whole
        self._held_bytes += held
        return size - held

    def take(self, size: int) -> int:
        """The application took items of so many bytes; how many are no longer held."""
        self._unread_bytes -= size
        freed = max(0, self._held_bytes - self._unread_bytes)
        self._held_bytes -= freed
        return freed

    def settle(self) -> int:
        """Nobody will take what is here; how many bytes are no longer held."""
        freed, self._held_bytes, self._unread_bytes = self._held_bytes, 0, 0
        return freed

    @property
    def is_over(self) -> bool:
        """Whether both halves have come to their end, here and on the session's stream."""
        machine = self.machine
        return machine is not None and machine.is_finished and self.peer_is_over and self._is_ended

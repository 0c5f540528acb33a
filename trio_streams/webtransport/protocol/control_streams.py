"""What belongs to a whole session of procedures, or must arrive where a stream's own half is over.

Each side opens one unidirectional stream. It begins as a connection of `trio-streams.v1` does, with the preface and HELLO,
and carries PING and PONG, and the CREDIT of all streams, each with the session's number of its stream. It goes before them.
"""

from __future__ import annotations

from typing import Final

from trio_streams.core import records
from trio_streams.core.wire import Frame
from trio_streams.webtransport.protocol.stream_port import StreamPort
from trio_streams.wire.binary import BinaryWire

__all__ = ["ControlStreams"]

_PRIORITY: Final = 128
"""Above those of procedures."""


class ControlStreams:
    """Ours and the peer's.

    Args:
      port: the session.
      hello: what we begin with.

    Attributes:
      peer_id: the peer's, once it is here.
    """

    __slots__ = ("_id", "_is_full", "_port", "_tail", "_wire", "peer_id")

    def __init__(self, port: StreamPort, hello: records.Hello) -> None:
        self._port = port
        self._wire = BinaryWire()
        self._tail = bytearray(self._wire.preface + self._wire.encode(0, hello))
        self._id: int | None = None
        self._is_full = False
        self.peer_id: int | None = None

    @property
    def id(self) -> int | None:
        """Ours, once it is open."""
        return self._id

    @property
    def queued_bytes(self) -> int:
        """What waits to be taken."""
        return len(self._tail)

    @property
    def has_output(self) -> bool:
        """Whether something could be taken now."""
        if self._id is None:
            return self._port.can_open(is_unidirectional=True)
        return bool(self._tail) and not self._is_full

    def put(self, stream_id: int, record: records.Record) -> None:
        """Queue a record; 0 is the whole session."""
        self._tail += self._wire.encode(stream_id, record)

    def writable(self) -> None:
        """Our stream takes bytes again."""
        self._is_full = False

    def flush(self) -> int:
        """Hand on what our stream takes; how many bytes that was."""
        if not self.has_output:
            return 0
        if self._id is None:
            self._id = self._port.open_stream(is_unidirectional=True, priority=_PRIORITY)
        taken = self._port.send(self._id, bytes(self._tail))
        del self._tail[:taken]
        self._is_full = bool(self._tail)
        return taken

    def decode(self, chunk: bytes) -> list[tuple[int, Frame]]:
        """The peer's frames that are complete with a chunk; an error comes last."""
        return self._wire.decode(chunk)

"""The peer's unidirectional streams: each kind once, none of them ever ended, and none that we do not know.

Spec: RFC 9114 §4.6, §6.2; RFC 9204 §4.2.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_control import PeerControl
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.qpack import Qpack
from trio_streams.webtransport.protocol.varint import VarintReader

__all__ = ["PeerStreams", "StreamKind", "closed_critical_stream"]


class StreamKind(enum.IntEnum):
    """The first number on a unidirectional stream."""

    CONTROL = 0x00
    PUSH = 0x01
    QPACK_ENCODER = 0x02
    QPACK_DECODER = 0x03


_CRITICAL: Final = frozenset({StreamKind.CONTROL, StreamKind.QPACK_ENCODER, StreamKind.QPACK_DECODER})


class PeerStreams:
    """All that the peer opened in one direction, and that is HTTP/3's.

    Args:
      quic: the connection.
      control: reads the control stream.
      qpack: reads the other two.
      is_client: which side *this* is.
    """

    def __init__(self, quic: QuicPort, control: PeerControl, qpack: Qpack, *, is_client: bool) -> None:
        self._quic = quic
        self._control = control
        self._qpack = qpack
        self._is_client = is_client
        self._unnamed: dict[int, VarintReader] = {}
        self._critical: dict[int, StreamKind] = {}

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._critical or stream_id in self._unnamed

    def receive(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool) -> list[int]:
        """Bytes arrived, which are consumed at once.

        Returns:
          Requests whose fields waited, and do no longer.

        Raises:
          Http3Error: the connection is over.
        """
        self._quic.consumed(stream_id, sum(map(len, run)))
        if stream_id not in self._critical:
            rest = self._read_kind(stream_id, run)
            if rest is None:
                if is_ended:
                    self.receive_reset(stream_id)
                return []
            run = rest
        resumed = self._read(self._critical[stream_id], run)
        if is_ended:
            raise closed_critical_stream("ended its", self._critical[stream_id])
        return resumed

    def receive_reset(self, stream_id: int) -> None:
        """The peer abandoned a stream; before its kind was known, that is no matter.

        Raises:
          Http3Error: the connection cannot do without it.
        """
        if stream_id in self._critical:
            raise closed_critical_stream("reset its", self._critical[stream_id])
        if self._unnamed.pop(stream_id, None) is not None:
            self._quic.release(stream_id)

    def _read_kind(self, stream_id: int, run: Sequence[bytes]) -> list[bytes] | None:
        """What is behind the kind of a stream that we read; None if there is no such stream, or not yet."""
        reader = self._unnamed.setdefault(stream_id, VarintReader())
        for index, chunk in enumerate(run):
            number, position = reader.read(chunk)
            if number is not None:
                del self._unnamed[stream_id]
                return [chunk[position:], *run[index + 1 :]] if self._begin(stream_id, number) else None
        return None

    def _begin(self, stream_id: int, number: int) -> bool:
        if number == StreamKind.PUSH:
            # A client has to allow a push before there can be one, and a server gets none at all.
            code = Http3Code.H3_ID_ERROR if self._is_client else Http3Code.H3_STREAM_CREATION_ERROR
            raise Http3Error("the peer opened a push stream", code, ends_connection=True)
        if number not in _CRITICAL:
            self._quic.release(stream_id, Http3Code.H3_STREAM_CREATION_ERROR)
            return False
        kind = StreamKind(number)
        if kind in self._critical.values():
            raise Http3Error(
                f"the peer opened a second {kind.name} stream", Http3Code.H3_STREAM_CREATION_ERROR, ends_connection=True
            )
        self._critical[stream_id] = kind
        return True

    def _read(self, kind: StreamKind, run: Sequence[bytes]) -> list[int]:
        if kind is StreamKind.CONTROL:
            self._control.receive(run)
        elif kind is StreamKind.QPACK_DECODER:
            self._qpack.receive_decoder(b"".join(run))
        else:
            return self._qpack.receive_encoder(b"".join(run))
        return []


def closed_critical_stream(what: str, kind: StreamKind) -> Http3Error:
    """The error for a stream that must stay open; the connection is over."""
    return Http3Error(f"the peer {what} {kind.name} stream", Http3Code.H3_CLOSED_CRITICAL_STREAM, ends_connection=True)

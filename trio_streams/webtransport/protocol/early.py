"""What comes before its session: QUIC keeps no order between streams, so a stream may overtake the CONNECT it names.

Streams and datagrams of unknown sessions wait, within limits of number, bytes and age. A stream for which there is no room
is rejected with a code that tells its opener to try again; a datagram makes the oldest one go. A stream that once was
rejected is forgotten: what still comes on it is its driver's to drop.

Where sessions have flow control, its opener has counted such a stream, and all bytes that it sent on it, against its session's
limits; here nobody counts them, so what they took is never granted again.

Spec: draft-ietf-webtrans-http3 §4.6, §5.6.2, §5.6.4.
"""

from __future__ import annotations

from collections import deque

import attrs

from trio_streams.config import positive
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.session_events import Rejected

__all__ = ["EarlyArrivals", "EarlyLimits", "EarlyStream"]


@attrs.frozen(kw_only=True)
class EarlyLimits:
    """What may wait on a connection for sessions that do not yet exist.

    Attributes:
      max_early_streams: streams.
      max_early_stream_bytes: what arrived on them, together.
      max_early_datagrams: datagrams; one more drops the oldest.
      max_early_datagram_bytes: their payloads, together.
      max_early_age: seconds to wait for a session.
    """

    max_early_streams: int = attrs.field(default=16, validator=positive)
    max_early_stream_bytes: int = attrs.field(default=65_536, validator=positive)
    max_early_datagrams: int = attrs.field(default=64, validator=positive)
    max_early_datagram_bytes: int = attrs.field(default=65_536, validator=positive)
    max_early_age: float = attrs.field(default=5.0, validator=positive)


@attrs.define(eq=False)
class EarlyStream:
    """A stream that waits.

    Attributes:
      stream_id: which.
      session_id: the session it names.
      since: when it came.
      chunks: what arrived on it behind its header.
      is_ended: whether that is all.
    """

    stream_id: int
    session_id: int
    since: float
    chunks: list[bytes] = attrs.field(factory=list[bytes])
    is_ended: bool = False


class EarlyArrivals:
    """What waits on one connection.

    Args:
      limits: how much of it.
    """

    __slots__ = ("_datagram_bytes", "_datagrams", "_limits", "_stream_bytes", "_streams", "dropped_datagrams")

    def __init__(self, limits: EarlyLimits | None = None) -> None:
        self._limits = limits if limits is not None else EarlyLimits()
        self._streams: dict[int, EarlyStream] = {}
        self._stream_bytes = 0
        self._datagrams: deque[tuple[float, int, bytes]] = deque()
        self._datagram_bytes = 0
        self.dropped_datagrams: int = 0

    @property
    def waiting_bytes(self) -> int:
        """All that is held."""
        return self._stream_bytes + self._datagram_bytes

    @property
    def waiting_streams(self) -> int:
        """How many streams wait."""
        return len(self._streams)

    def hold_stream(self, session_id: int, stream_id: int, now: float) -> Rejected | None:
        """A stream named an unknown session.

        Returns:
          Its rejection where there is no room.

        Raises:
          LocalProtocolError: it waits already.
        """
        if stream_id in self._streams:
            raise LocalProtocolError(f"stream {stream_id} waits already", field="stream_id", size=stream_id)
        if len(self._streams) >= self._limits.max_early_streams:
            return Rejected(stream_id)
        self._streams[stream_id] = EarlyStream(stream_id, session_id, now)
        return None

    def receive(self, stream_id: int, data: bytes, *, is_ended: bool = False) -> Rejected | None:
        """More arrived on a stream; what comes on one that does not wait is dropped.

        Returns:
          Its rejection where there is no room for the bytes.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return None
        if self._stream_bytes + len(data) > self._limits.max_early_stream_bytes:
            self.forget_stream(stream_id)
            return Rejected(stream_id)
        if data:
            stream.chunks.append(data)
            self._stream_bytes += len(data)
        stream.is_ended = stream.is_ended or is_ended
        return None

    def forget_stream(self, stream_id: int) -> None:
        """A stream was reset by its opener, or is nobody's any more."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._stream_bytes -= sum(map(len, stream.chunks))

    def hold_datagram(self, session_id: int, payload: bytes, now: float) -> None:
        """A datagram named an unknown session; it may be dropped, and so may others for it."""
        limits = self._limits
        if len(payload) > limits.max_early_datagram_bytes:
            self.dropped_datagrams += 1
            return
        while (
            len(self._datagrams) >= limits.max_early_datagrams
            or self._datagram_bytes + len(payload) > limits.max_early_datagram_bytes
        ):
            self._drop_datagram()
        self._datagrams.append((now, session_id, payload))
        self._datagram_bytes += len(payload)

    def _drop_datagram(self) -> None:
        self._datagram_bytes -= len(self._datagrams.popleft()[2])
        self.dropped_datagrams += 1

    def claim(self, session_id: int) -> tuple[list[EarlyStream], list[bytes]]:
        """The session is there: take its streams and datagrams, in their order."""
        streams = [stream for stream in self._streams.values() if stream.session_id == session_id]
        for stream in streams:
            self.forget_stream(stream.stream_id)
        datagrams = [payload for _, owner, payload in self._datagrams if owner == session_id]
        self._datagrams = deque(one for one in self._datagrams if one[1] != session_id)
        self._datagram_bytes -= sum(map(len, datagrams))
        return streams, datagrams

    def refuse(self, session_id: int) -> list[Rejected]:
        """There will be no such session, or it is over already."""
        streams, _ = self.claim(session_id)
        return [Rejected(stream.stream_id, Http3Code.WT_SESSION_GONE) for stream in streams]

    def next_deadline(self) -> float | None:
        """When the oldest has waited long enough; None while nothing waits."""
        since = [stream.since for stream in self._streams.values()][:1] + [one[0] for one in self._datagrams][:1]
        return min(since) + self._limits.max_early_age if since else None

    def handle_deadline(self, now: float) -> list[Rejected]:
        """Give up on what has waited long enough."""
        age = self._limits.max_early_age  # added as in `next_deadline`: subtracted, it could round to just before it
        while self._datagrams and self._datagrams[0][0] + age <= now:
            self._drop_datagram()
        old = [stream.stream_id for stream in self._streams.values() if stream.since + age <= now]
        for stream_id in old:
            self.forget_stream(stream_id)
        return [Rejected(stream_id) for stream_id in old]

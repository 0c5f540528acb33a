"""Whose the peer's streams are, from their first byte until somebody takes them.

A stream is *unnamed* until its header has arrived, and *early* while the session that it names is not there. Both wait
within limits of number, bytes and age. What nobody wants is dismissed: reset, stopped and released, and never heard of again.

Spec: draft-ietf-webtrans-http3 §4.2, §4.3, §4.6.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import attrs

from trio_streams.webtransport.protocol.early import EarlyArrivals
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.session_events import Rejected
from trio_streams.webtransport.protocol.stream_headers import Passed, SessionNamed, StreamHeaderReader

__all__ = ["Arrival", "StreamRouter", "dismiss"]


def dismiss(quic: QuicPort, stream_id: int, code: int) -> None:
    """Reset, stop and release a stream that the peer opened and that nobody wants."""
    if not stream_id & 2:
        quic.reset(stream_id, code)
    quic.stop(stream_id, code)
    quic.release(stream_id, code)


@attrs.frozen
class Arrival:
    """A stream whose owner is known by now.

    Attributes:
      stream_id: which.
      session_id: the session that it names; None for a stream of HTTP/3.
      header_bytes: how long its header was, already consumed; 0 for a stream of HTTP/3.
      run: what arrived on it, behind its header.
      is_ended: whether that is all.
      stop_code: why the peer refuses our half, if it does so already.
    """

    stream_id: int
    session_id: int | None
    header_bytes: int
    run: Sequence[bytes]
    is_ended: bool
    stop_code: int | None


@attrs.define(eq=False)
class _Unnamed:
    """A stream whose header is incomplete."""

    reader: StreamHeaderReader
    since: float
    size: int = 0
    stop_code: int | None = None


class StreamRouter:
    """Streams that are nobody's yet, on one connection.

    Args:
      quic: the connection.
      limits: how many may wait, and how long.
    """

    def __init__(self, quic: QuicPort, limits: WebTransportLimits) -> None:
        self._quic = quic
        self._limits = limits
        self._unnamed: dict[int, _Unnamed] = {}
        self._held: dict[int, tuple[int, int | None]] = {}  # early streams: header bytes, and why our half was stopped
        self._early = EarlyArrivals(limits.early)

    @property
    def unnamed_streams(self) -> int:
        """Streams whose header is incomplete."""
        return len(self._unnamed)

    @property
    def early_streams(self) -> int:
        """Streams that wait for their session."""
        return len(self._held)

    @property
    def early_bytes(self) -> int:
        """What arrived for sessions that are not there: on streams, and datagrams."""
        return self._early.waiting_bytes

    # -- streams -------------------------------------------------------------------------------------------------------

    def receive(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool, now: float) -> Arrival | None:
        """Bytes came on a stream that is nobody's.

        Returns:
          Whose it is, once that is known.

        Raises:
          Http3Error: its header cannot be; the connection is over.
        """
        if stream_id in self._held:
            self._receive_early(stream_id, run, is_ended=is_ended)
            return None
        unnamed = self._unnamed.get(stream_id) or self._make(stream_id, now)
        arrival = self._read(stream_id, unnamed, run, is_ended=is_ended)
        if arrival is not None:
            self._unnamed.pop(stream_id, None)
            self._quic.consumed(stream_id, arrival.header_bytes)
            return arrival
        if is_ended:
            self._dismiss_unnamed(stream_id, Http3Code.H3_NO_ERROR)  # it says nothing, and that is no fault
            return None
        self._unnamed[stream_id] = unnamed
        if len(self._unnamed) > self._limits.max_unnamed_streams:
            self._dismiss_unnamed(stream_id, Http3Code.H3_EXCESSIVE_LOAD)
        return None

    def receive_reset(self, stream_id: int) -> None:
        """The peer abandoned a stream that is nobody's: nobody will hear of it."""
        if stream_id in self._held:
            self._drop_early(Rejected(stream_id))
        else:
            self._dismiss_unnamed(stream_id, Http3Code.H3_REQUEST_CANCELLED)

    def receive_stop(self, stream_id: int, code: int, now: float) -> None:
        """The peer refuses our half of a stream that is nobody's; it may do so before its header arrives."""
        if stream_id in self._held:
            self._held[stream_id] = self._held[stream_id][0], code
            return
        unnamed = self._unnamed.get(stream_id)
        if unnamed is None:
            unnamed = self._unnamed[stream_id] = self._make(stream_id, now)
        unnamed.stop_code = code
        if len(self._unnamed) > self._limits.max_unnamed_streams:
            self._dismiss_unnamed(stream_id, Http3Code.H3_EXCESSIVE_LOAD)

    def hold(self, arrival: Arrival, session_id: int, now: float) -> None:
        """Let a stream wait for the session that it names."""
        if self._early.hold_stream(session_id, arrival.stream_id, now) is not None:
            self.reject(arrival.stream_id, Http3Code.WT_BUFFERED_STREAM_REJECTED)
            return
        self._held[arrival.stream_id] = arrival.header_bytes, arrival.stop_code
        self._receive_early(arrival.stream_id, arrival.run, is_ended=arrival.is_ended)

    def reject(self, stream_id: int, code: Http3Code) -> None:
        """Nobody wants a stream."""
        dismiss(self._quic, stream_id, code)

    # -- datagrams -----------------------------------------------------------------------------------------------------

    def hold_datagram(self, session_id: int, payload: bytes, now: float) -> None:
        """Let a datagram wait for its session."""
        self._early.hold_datagram(session_id, payload, now)

    # -- their sessions ------------------------------------------------------------------------------------------------

    def claim(self, session_id: int) -> tuple[list[Arrival], list[bytes]]:
        """A session is there: take its streams and datagrams, in their order."""
        streams, datagrams = self._early.claim(session_id)
        arrivals: list[Arrival] = []
        for stream in streams:
            header_bytes, stop_code = self._held.pop(stream.stream_id)
            arrivals.append(
                Arrival(stream.stream_id, session_id, header_bytes, stream.chunks, stream.is_ended, stop_code)
            )
        return arrivals, datagrams

    def refuse(self, session_id: int) -> None:
        """There will be no such session, or it is over."""
        self._drop_all(self._early.refuse(session_id))

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the oldest has waited long enough."""
        deadlines = [unnamed.since + self._limits.header_timeout for unnamed in self._first_unnamed()]
        if (early := self._early.next_deadline()) is not None:
            deadlines.append(early)
        return min(deadlines, default=None)

    def handle_deadline(self, now: float) -> None:
        """Give up on what has waited long enough."""
        for stream_id, unnamed in list(self._unnamed.items()):
            if unnamed.since + self._limits.header_timeout > now:
                break
            self._dismiss_unnamed(stream_id, Http3Code.H3_REQUEST_INCOMPLETE)
        self._drop_all(self._early.handle_deadline(now))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _first_unnamed(self) -> Iterable[_Unnamed]:
        return itertools.islice(self._unnamed.values(), 1)

    @staticmethod
    def _make(stream_id: int, now: float) -> _Unnamed:
        return _Unnamed(StreamHeaderReader(is_unidirectional=bool(stream_id & 2)), now)

    def _read(self, stream_id: int, unnamed: _Unnamed, run: Sequence[bytes], *, is_ended: bool) -> Arrival | None:
        for index, chunk in enumerate(run):
            unnamed.size += len(chunk)
            found = unnamed.reader.receive(chunk)
            if found is None:
                continue
            rest = [found.data, *run[index + 1 :]] if found.data else run[index + 1 :]
            if isinstance(found, SessionNamed):
                header_bytes = unnamed.size - len(found.data)
                return Arrival(stream_id, found.session_id, header_bytes, rest, is_ended, unnamed.stop_code)
            return Arrival(stream_id, None, 0, rest, is_ended, unnamed.stop_code)
        if is_ended and isinstance(found := unnamed.reader.receive_end(), Passed):
            return Arrival(stream_id, None, 0, [found.data] if found.data else [], True, unnamed.stop_code)
        return None

    def _dismiss_unnamed(self, stream_id: int, code: Http3Code) -> None:
        self._unnamed.pop(stream_id, None)
        self.reject(stream_id, code)

    def _receive_early(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool) -> None:
        rejected = self._early.receive(stream_id, b"".join(run), is_ended=is_ended)
        if rejected is not None:
            self._drop_early(rejected)

    def _drop_all(self, rejected: Sequence[Rejected]) -> None:
        for one in rejected:
            self._drop_early(one)

    def _drop_early(self, rejected: Rejected) -> None:
        self._early.forget_stream(rejected.stream_id)
        del self._held[rejected.stream_id]
        self.reject(rejected.stream_id, rejected.http3_code)

"""A message that arrives: the frames of a request or an answer, in their order.

DATA goes on as it comes. Only fields are kept: of the frame that is under way, and what stands behind one that waits for QPACK;
for the latter the peer gets no credit until it is read, so it is bounded by the stream's window.

Spec: RFC 9114 §4.1, §4.1.2, §4.4, §7.2.1, §7.2.2, §7.2.5.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence

import attrs

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import (
    BodyReceived,
    HeadReceived,
    Http3Event,
    InterimReceived,
    TrailersReceived,
)
from trio_streams.webtransport.protocol.http3_frames import FrameReader, FrameType, unexpected
from trio_streams.webtransport.protocol.http3_heads import (
    check_answer,
    check_request,
    check_trailers,
    join_cookies,
)
from trio_streams.webtransport.protocol.qpack import Qpack
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = ["Incoming", "Receiving"]

_KNOWN: frozenset[int] = frozenset(FrameType)


@attrs.define(eq=False)
class Receiving:
    """What all messages of a connection share.

    Attributes:
      config: limits.
      is_client: whether the messages are answers.
      allows_protocol: whether requests may be extended CONNECT ones.
      qpack: the tables.
      events: where the messages go.
      pending_field_bytes: of all field sections that are not whole, or wait.
    """

    config: Http3Config
    is_client: bool
    allows_protocol: bool
    qpack: Qpack
    events: deque[Http3Event] = attrs.field(factory=deque)
    pending_field_bytes: int = 0

    def hold(self, size: int) -> None:
        """Keep so many bytes of a field section.

        Raises:
          Http3Error: that is too much for all together; the connection is over.
        """
        self.pending_field_bytes += size
        limit = self.config.max_pending_field_bytes
        if self.pending_field_bytes > limit:
            raise Http3Error(
                f"the peer has begun heads of {self.pending_field_bytes} bytes: max_pending_field_bytes is {limit}",
                Http3Code.H3_EXCESSIVE_LOAD,
                ends_connection=True,
                field="max_pending_field_bytes",
                size=self.pending_field_bytes,
                limit=limit,
            )


class _Phase(enum.Enum):
    HEAD = "head"
    BODY = "body"
    TRAILERS = "trailers"
    OVER = "over"


class Incoming:
    """One message.

    Args:
      stream_id: the request's.
      receiving: what it shares.

    Attributes:
      method: of the request; where this is the answer, whoever sends the request says it.
      was_told: whether any event named it.
    """

    __slots__ = (
        "_body_bytes",
        "_content_bytes",
        "_frame_bytes",
        "_frames",
        "_has_end",
        "_head",
        "_held",
        "_idle_frames",
        "_is_blocked",
        "_is_tunnel",
        "_kind",
        "_phase",
        "_receiving",
        "_run",
        "_run_bytes",
        "_section",
        "_section_bytes",
        "_stream_id",
        "_trailers",
        "method",
        "was_told",
    )

    def __init__(self, stream_id: int, receiving: Receiving) -> None:
        self._stream_id = stream_id
        self._receiving = receiving
        self._frames = FrameReader(self)
        self._phase = _Phase.HEAD
        self._kind: int = 0
        self._frame_bytes = 0
        self._section = bytearray()
        self._section_bytes = 0  # what of `pending_field_bytes` is this message's
        self._held = bytearray()
        self._is_blocked = False
        self._has_end = False
        self._is_tunnel = False
        self._content_bytes: int | None = None
        self._body_bytes = 0
        self._idle_frames = 0
        # What the next events are made of.
        self._head: RawHeaders | None = None
        self._run: list[bytes] = []
        self._run_bytes = 0
        self._trailers: RawHeaders | None = None
        self.method: bytes = b""
        self.was_told: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more of it is looked at."""
        return self._phase is _Phase.OVER

    def receive(self, run: Sequence[bytes], *, is_ended: bool) -> int:
        """Bytes of it arrived.

        Returns:
          How many bytes are dealt with: all but those of the body, and those behind fields that wait.

        Raises:
          Http3Error: as its `ends_connection` says; of no use is either this or all.
        """
        if self.is_over:
            return 0
        self._has_end = is_ended
        size = sum(map(len, run))
        if self._is_blocked:
            self._hold(run)
            return 0
        return size - self._read(run)

    def resume(self) -> int:
        """The fields that waited can be read, and what is behind them.

        Returns:
          How many bytes are dealt with; as `receive`.

        Raises:
          Http3Error: as `receive`.
        """
        self._is_blocked = False
        held, self._held = bytes(self._held), bytearray()
        self._forget_section()
        self._take_fields(self._receiving.qpack.resume(self._stream_id))
        return len(held) - self._read([held])

    def abandon(self) -> None:
        """Look at nothing more of it. One that is over is no matter."""
        if not self.is_over:
            self._phase = _Phase.OVER
            self._receiving.qpack.cancel(self._stream_id)
            self._forget_section()
            self._held.clear()
            self._is_blocked = False

    # Reading.

    def _read(self, run: Sequence[bytes]) -> int:
        """Read on, and tell what was read.

        Returns:
          How many bytes are not dealt with.
        """
        held_bytes = 0
        try:
            for index, chunk in enumerate(run):
                position = self._frames.receive(chunk)
                if self._is_blocked:
                    self._hold([chunk[position:], *run[index + 1 :]])
                    break
            held_bytes = len(self._held)
            is_complete = self._has_end and not self._is_blocked
            if is_complete:
                self._check_end()
        except Http3Error:
            self._tell(is_complete=False)
            raise
        return held_bytes + self._tell(is_complete=is_complete)

    def _hold(self, run: Sequence[bytes]) -> None:
        for chunk in run:
            self._held += chunk

    def _tell(self, *, is_complete: bool) -> int:
        """Make events of what was read.

        Returns:
          How many bytes of the body there are in them.
        """
        events, stream_id = self._receiving.events, self._stream_id
        head, self._head = self._head, None
        run, self._run = self._run, []
        size, self._run_bytes = self._run_bytes, 0
        trailers = self._trailers if is_complete else None
        ends_with_body = is_complete and trailers is None
        if head is not None:
            events.append(HeadReceived(stream_id, head, ends_with_body and not size))
            self.was_told = True
        if size or (ends_with_body and head is None):
            events.append(BodyReceived(stream_id, run, size, ends_with_body))
        if trailers is not None:
            events.append(TrailersReceived(stream_id, trailers))
        if is_complete:
            self._phase = _Phase.OVER
        return size

    def _check_end(self) -> None:
        if self._frames.is_inside:
            raise Http3Error("the peer ended a stream within a frame", Http3Code.H3_FRAME_ERROR, ends_connection=True)
        if self._phase is _Phase.HEAD:
            if self._receiving.is_client:
                raise _malformed("the peer ended its answer before its head")
            raise Http3Error("the peer ended its request before its head", Http3Code.H3_REQUEST_INCOMPLETE)
        if self._content_bytes not in {None, self._body_bytes}:
            raise self._wrong_length()

    # What the frames tell.

    @property
    def is_waiting(self) -> bool:
        """Whether fields wait for QPACK."""
        return self._is_blocked

    def begin_frame(self, kind: int, size: int) -> None:
        """A frame begins."""
        self._kind, self._frame_bytes = kind, size
        if kind == FrameType.DATA:
            self._begin_data(size)
        elif kind == FrameType.HEADERS:
            self._begin_fields(size)
        elif kind == FrameType.PUSH_PROMISE and self._receiving.is_client:
            raise Http3Error(
                "the peer promised a push, and none was allowed", Http3Code.H3_ID_ERROR, ends_connection=True
            )
        elif kind in _KNOWN:
            raise unexpected(kind, "on a request's stream")
        else:
            self._count_idle()

    def take_payload(self, data: bytes) -> None:
        """Bytes of a frame."""
        if self._kind == FrameType.DATA:
            self._run.append(data)
            self._run_bytes += len(data)
        elif self._kind == FrameType.HEADERS:
            if len(data) == self._frame_bytes:
                self._section = bytearray(data)
                return
            self._section_bytes += len(data)
            self._receiving.hold(len(data))
            self._section += data

    def end_frame(self) -> None:
        """A frame was whole."""
        if self._kind != FrameType.HEADERS:
            return
        section = bytes(self._section)
        self._forget_section()
        headers = self._receiving.qpack.decode(self._stream_id, section)
        if headers is None:
            self._is_blocked = True
            self._section_bytes = len(section)  # the decoder keeps it
            self._receiving.hold(len(section))
        else:
            self._take_fields(headers)

    def _forget_section(self) -> None:
        self._section.clear()
        self._receiving.pending_field_bytes -= self._section_bytes
        self._section_bytes = 0

    def _begin_data(self, size: int) -> None:
        if self._phase is not _Phase.BODY:
            raise unexpected(FrameType.DATA, "before a head, or behind trailers")
        if not size:
            self._count_idle()
            return
        self._idle_frames = 0
        self._body_bytes += size
        if self._content_bytes is not None and self._body_bytes > self._content_bytes:
            raise self._wrong_length()

    def _begin_fields(self, size: int) -> None:
        if self._phase is _Phase.TRAILERS or (self._is_tunnel and self._phase is _Phase.BODY):
            raise unexpected(FrameType.HEADERS, "where none may follow")
        limit = self._receiving.config.max_field_section_bytes
        if size > limit:
            raise Http3Error(
                f"the peer's field section has {size} bytes: max_field_section_bytes is {limit}",
                Http3Code.H3_EXCESSIVE_LOAD,
                field="max_field_section_bytes",
                size=size,
                limit=limit,
            )

    def _take_fields(self, headers: RawHeaders) -> None:
        if self._phase is _Phase.BODY:
            check_trailers(headers)
            self._trailers = headers
            self._phase = _Phase.TRAILERS
        elif self._receiving.is_client:
            self._take_answer(headers)
        else:
            head = check_request(headers, allows_protocol=self._receiving.allows_protocol)
            self.method = head.method
            self._begin_body(join_cookies(headers), head.content_bytes, is_tunnel=head.is_tunnel)

    def _take_answer(self, headers: RawHeaders) -> None:
        head = check_answer(headers)
        if not head.is_final:
            self._count_idle()
            self._receiving.events.append(InterimReceived(self._stream_id, headers))
            return
        content_bytes = 0 if head.has_no_content(self.method) else head.content_bytes
        self._begin_body(headers, content_bytes, is_tunnel=head.is_tunnel(self.method))

    def _begin_body(self, headers: RawHeaders, content_bytes: int | None, *, is_tunnel: bool) -> None:
        self._head = headers
        self._is_tunnel = is_tunnel
        # What a tunnel carries is no content (RFC 9110 §9.3.6).
        self._content_bytes = None if is_tunnel else content_bytes
        self._idle_frames = 0
        self._phase = _Phase.BODY

    def _count_idle(self) -> None:
        self._idle_frames += 1
        limit = self._receiving.config.max_idle_frames
        if self._idle_frames > limit:
            raise too_many_idle_frames(limit)

    def _wrong_length(self) -> Http3Error:
        return Http3Error(
            f"the peer's message has {self._body_bytes} bytes, and content-length is {self._content_bytes}",
            Http3Code.H3_MESSAGE_ERROR,
            field="content-length",
            size=self._body_bytes,
            limit=self._content_bytes,
        )


def _malformed(message: str) -> Http3Error:
    return Http3Error(message, Http3Code.H3_MESSAGE_ERROR)


def too_many_idle_frames(limit: int) -> Http3Error:
    """The error for a peer that sends frames which carry nothing; the connection is over (RFC 9114 §10.5)."""
    return Http3Error(
        f"the peer sent more than max_idle_frames of {limit} that carry nothing",
        Http3Code.H3_EXCESSIVE_LOAD,
        ends_connection=True,
        field="max_idle_frames",
        size=limit + 1,
        limit=limit,
    )

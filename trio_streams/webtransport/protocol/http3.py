"""HTTP/3 on one QUIC connection, without I/O: control streams, QPACK, requests and answers. Nothing is ever pushed.

Spec: RFC 9114, 9204, 9218 §7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, ParamSpec

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_control import PeerControl
from trio_streams.webtransport.protocol.http3_events import Http3Event, MessageFailed, MessageReset, MessageStopped
from trio_streams.webtransport.protocol.http3_frames import FrameType, encode_frame, encode_settings
from trio_streams.webtransport.protocol.http3_incoming import Incoming, Receiving
from trio_streams.webtransport.protocol.http3_outgoing import Outgoing
from trio_streams.webtransport.protocol.http3_unidirectional import PeerStreams, StreamKind, closed_critical_stream
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.qpack import (
    BLOCKED_STREAMS,
    MAX_FIELD_SECTION_SIZE,
    MAX_TABLE_CAPACITY,
    Qpack,
    field_section_bytes,
)
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.protocol.settings import Setting
from trio_streams.webtransport.protocol.varint import encode_varint

__all__ = ["Http3"]

P = ParamSpec("P")

_LAST_REQUEST: Final = (1 << 62) - 4
_GREASE: Final = 0x1F * 0x539 + 0x21  # nobody may know it, so that nobody forgets to ignore what they do not know


@attrs.define(eq=False)
class _Message:
    """Both halves of a request's stream; `release_code` is why it was released before all of it could leave."""

    incoming: Incoming
    outgoing: Outgoing
    release_code: Http3Code | None = None


class Http3:
    """One side of a connection.

    The peer's faults: one that ends the connection is raised, and whoever gets it closes the connection with its code; one
    of a request resets and stops its stream, and is an event. Streams that are rejected, and unidirectional ones of an unknown
    kind, are stopped and released here, and no event names them.

    Args:
      quic: the connection.
      is_client: which side this is.
      settings: what to tell the peer beside what the machine says itself (QPACK's, MAX_FIELD_SECTION_SIZE).
      config: limits.
    """

    def __init__(
        self, quic: QuicPort, *, is_client: bool, settings: Mapping[int, int], config: Http3Config | None = None
    ) -> None:
        self._quic = quic
        self._is_client = is_client
        self._config = config or Http3Config()
        self._settings = settings
        self._receiving = Receiving(
            config=self._config,
            is_client=is_client,
            allows_protocol=settings.get(Setting.ENABLE_CONNECT_PROTOCOL) == 1,
            qpack=Qpack(self._config),
        )
        self._control = PeerControl(self._config, self._receiving.events, is_client=is_client)
        self._peer_streams = PeerStreams(quic, self._control, self._receiving.qpack, is_client=is_client)
        self._own_streams: dict[StreamKind, int] = {}
        self._messages: dict[int, _Message] = {}
        self._next_request_id = 0
        self._sent_last_id: int | None = None
        self._withheld: Http3Error | None = None
        self._is_over = False

    # The connection.

    def start(self) -> None:
        """Open our control and QPACK streams and send SETTINGS; once, when the handshake is complete.

        Raises:
          Http3Error: the peer does not allow three unidirectional streams; the connection is over.
        """
        allowed = self._quic.streams_available(unidirectional=True)
        if allowed < 3:
            raise Http3Error(
                f"the peer allows {allowed} unidirectional streams: HTTP/3 needs 3",
                Http3Code.H3_GENERAL_PROTOCOL_ERROR,
                ends_connection=True,
                field="max_unidirectional_streams",
                size=allowed,
            )
        for kind in (StreamKind.CONTROL, StreamKind.QPACK_ENCODER, StreamKind.QPACK_DECODER):
            stream_id = self._own_streams[kind] = self._quic.open_stream(unidirectional=True)
            self._quic.set_priority(stream_id, 0, is_urgent=True)
            self._tell(kind, encode_varint(kind))
        own = {
            MAX_TABLE_CAPACITY: self._config.qpack_table_bytes,
            BLOCKED_STREAMS: self._config.qpack_blocked_streams,
            MAX_FIELD_SECTION_SIZE: self._config.max_field_section_bytes,
            _GREASE: 0,
        }
        self._tell(StreamKind.CONTROL, encode_settings({**self._settings, **own}))
        self._use_peer_table()

    def go_away(self, next_id: int | None = None) -> None:
        """Send GOAWAY: no more requests, please. What comes regardless is rejected.

        Args:
          next_id: the first request that will not be looked at. None on a server: any (2**62 - 4) at first, so that requests
            under way still count, and, a second time, the one behind the last that was seen. A client's is a push's, so 0.

        Raises:
          LocalProtocolError: it is no request's id, or above one that was sent before; or `start` was not called.
        """
        if not self._own_streams:
            raise LocalProtocolError("can't send GOAWAY: HTTP/3 was not started")
        if next_id is None:
            next_id = 0 if self._is_client else _LAST_REQUEST if self._sent_last_id is None else self._next_request_id
        earlier = self._sent_last_id
        is_wrong = not self._is_client and (next_id & 3 or next_id < self._next_request_id)
        if is_wrong or (earlier is not None and next_id > earlier):
            raise LocalProtocolError(
                f"can't send GOAWAY with {next_id}: requests below {self._next_request_id} were seen, and the last one "
                f"named {earlier}",
                field="next_id",
                size=next_id,
                limit=earlier,
            )
        if next_id != earlier:
            self._sent_last_id = next_id
            self._tell(StreamKind.CONTROL, encode_frame(FrameType.GOAWAY, encode_varint(next_id)))

    @property
    def peer_settings(self) -> Mapping[int, int] | None:
        """The peer's SETTINGS; None until they are here."""
        return self._control.settings

    @property
    def peer_went_away(self) -> bool:
        """Whether the peer has sent GOAWAY."""
        return self._control.last_id is not None

    # What arrives. Raises Http3Error where the connection is over; nothing is parsed after that.

    def receive(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool) -> None:
        """Bytes of a stream of HTTP/3 arrived, from its first one on."""
        self._guard(self._receive, stream_id, run, is_ended)

    def receive_reset(self, stream_id: int, code: int) -> None:
        """The peer abandoned its half of a stream of HTTP/3."""
        self._guard(self._receive_reset, stream_id, code)

    def receive_stop(self, stream_id: int, code: int) -> None:
        """The peer refuses more of our half of a stream of HTTP/3, also of one that we opened in `start`."""
        self._guard(self._receive_stop, stream_id, code)

    def receive_writable(self, stream_id: int) -> bool:
        """A request's stream takes bytes again: send what is left of a frame that was cut.

        Returns:
          Whether the application may go on.
        """
        message = self._messages.get(stream_id)
        if message is None:
            return False
        may_go_on = message.outgoing.receive_writable()
        self._release_late(stream_id, message)
        return may_go_on

    def owns(self, stream_id: int) -> bool:
        """Whether a stream is HTTP/3's: a request that is not released, a control or a QPACK stream."""
        return stream_id in self._messages or stream_id in self._peer_streams or stream_id in self._own_streams.values()

    @property
    def has_news(self) -> bool:
        """Whether `events` has something."""
        return bool(self._receiving.events)

    def events(self) -> Iterator[Http3Event]:
        """Take what has happened, in order."""
        events = self._receiving.events
        while events:
            yield events.popleft()

    # Requests and answers.

    def open_request(self) -> int:
        """Open a request's stream, on a client.

        Returns:
          Its id.

        Raises:
          LocalProtocolError: the peer went away, allows no more streams for now, or this is a server.
        """
        if not self._is_client or self.peer_went_away:
            why = "the peer went away" if self._is_client else "this is a server"
            raise LocalProtocolError(f"can't open a request: {why}")
        stream_id = self._quic.open_stream()
        self._add(stream_id)
        return stream_id

    def send_head(self, stream_id: int, headers: RawHeaders, *, is_ended: bool = False) -> None:
        """Send the head of a request or an answer; before the latter any number of heads that are not final (1xx).

        Raises:
          LocalProtocolError: the peer would have to call it malformed, or it is above the peer's MAX_FIELD_SECTION_SIZE
            (`field`, `size` and `limit` say so); it is not its turn; our half is over. Nothing was sent.
        """
        message = self._known(stream_id)
        if self._is_client:
            allows_protocol = (self.peer_settings or {}).get(Setting.ENABLE_CONNECT_PROTOCOL) == 1
            message.outgoing.send_request(headers, allows_protocol=allows_protocol)
            message.incoming.method = message.outgoing.method
        else:
            message.outgoing.method = message.incoming.method
            message.outgoing.send_answer(headers)
        if is_ended:
            message.outgoing.end()

    def send_body(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Send bytes of a body, as many as the stream has room for.

        Returns:
          How many were taken. If not all were, `Writable` comes, and `receive_writable` then says True.

        Raises:
          LocalProtocolError: it is not its turn; more than content-length; our half is over.
        """
        return self._known(stream_id).outgoing.send_body(data)

    def send_trailers(self, stream_id: int, headers: RawHeaders) -> None:
        """Send the fields behind a body, and end our half.

        Raises:
          LocalProtocolError: as `send_head`, and less than content-length was sent.
        """
        self._known(stream_id).outgoing.send_trailers(headers)

    def end(self, stream_id: int) -> None:
        """End our half.

        Raises:
          LocalProtocolError: it is not its turn; less than content-length was sent; our half is over.
        """
        self._known(stream_id).outgoing.end()

    def unsent_bytes(self, stream_id: int) -> int:
        """What of our half is left here, beside what QUIC has: at most a head and a kilobyte."""
        return len(self._known(stream_id).outgoing.unsent)

    def reset(self, stream_id: int, code: Http3Code) -> None:
        """Abandon our half of a request. One that is over is no matter."""
        self._known(stream_id).outgoing.abandon()
        self._quic.reset(stream_id, code)

    def stop(self, stream_id: int, code: Http3Code) -> None:
        """Refuse more of the peer's half of a request; no event tells more of it. One that is over is no matter."""
        self._known(stream_id).incoming.abandon()
        self._quic.stop(stream_id, code)
        self._send_feedback()

    def release(self, stream_id: int, code: Http3Code = Http3Code.H3_NO_ERROR) -> None:
        """Be done with a request, once; QUIC's stream is released with it. Our half is to be ended or reset before.

        Args:
          stream_id: the request's.
          code: why the peer's half is stopped, if it is not over.
        """
        message = self._known(stream_id)
        message.incoming.abandon()
        message.release_code = code
        if message.outgoing.unsent:
            self._quic.stop(stream_id, code)
        self._release_late(stream_id, message)
        self._send_feedback()

    # What the machine keeps.

    def _known(self, stream_id: int) -> _Message:
        message = self._messages.get(stream_id)
        if message is None or message.release_code is not None:
            raise LocalProtocolError(f"there is no request {stream_id}", field="stream_id", size=stream_id)
        return message

    def _add(self, stream_id: int) -> _Message:
        message = self._messages[stream_id] = _Message(
            Incoming(stream_id, self._receiving), Outgoing(stream_id, self._quic, self._encode)
        )
        return message

    def _release_late(self, stream_id: int, message: _Message) -> None:
        """Let a stream go that was released, as soon as nothing of it is left here."""
        if message.release_code is not None and not message.outgoing.unsent:
            del self._messages[stream_id]
            self._quic.release(stream_id, message.release_code)

    def _guard(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """After a fault that ends the connection nothing is looked at any more."""
        if self._is_over:
            return
        try:
            step(*args, **kwargs)
            self._send_feedback()
            if self._withheld is not None:
                raise self._withheld
        except Http3Error:
            self._is_over = True
            raise

    def _receive(self, stream_id: int, run: Sequence[bytes], is_ended: bool) -> None:
        if stream_id & 2:
            self._receive_unidirectional(stream_id, run, is_ended=is_ended)
            return
        if stream_id & 1:
            raise Http3Error(
                "the server opened a bidirectional stream, which cannot be a request",
                Http3Code.H3_STREAM_CREATION_ERROR,
                ends_connection=True,
            )
        message = self._messages.get(stream_id)
        if message is None and not self._is_client:
            message = self._admit(stream_id)
        if message is not None:
            self._advance(stream_id, message, message.incoming.receive, run, is_ended=is_ended)

    def _admit(self, stream_id: int) -> _Message | None:
        """A request that is new; None where a GOAWAY said that it is too late for it."""
        if self._sent_last_id is not None and stream_id >= self._sent_last_id:
            self._quic.reset(stream_id, Http3Code.H3_REQUEST_REJECTED)
            self._quic.release(stream_id, Http3Code.H3_REQUEST_REJECTED)
            return None
        self._next_request_id = max(self._next_request_id, stream_id + 4)
        self._control.idle_frames = 0
        return self._add(stream_id)

    def _receive_unidirectional(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool) -> None:
        control = self._control
        had_settings, earlier = control.settings is not None, control.last_id
        resumed = self._peer_streams.receive(stream_id, run, is_ended=is_ended)
        if not had_settings:
            self._use_peer_table()
        if self._is_client and control.last_id is not None and control.last_id != earlier:
            self._drop_requests(control.last_id)
        for waiting_id in resumed:
            message = self._messages[waiting_id]
            self._advance(waiting_id, message, message.incoming.resume)

    def _use_peer_table(self) -> None:
        """Once the peer's settings are here, and we may say that we use them."""
        if self.peer_settings is not None and StreamKind.QPACK_ENCODER in self._own_streams:
            self._tell(StreamKind.QPACK_ENCODER, self._receiving.qpack.apply_settings(self.peer_settings))

    def _drop_requests(self, first_id: int) -> None:
        """The server looks at no request from this one on."""
        for stream_id, message in self._messages.items():
            if stream_id >= first_id and message.release_code is None:
                if not message.incoming.is_over:
                    self._receiving.events.append(MessageReset(stream_id, Http3Code.H3_REQUEST_REJECTED))
                self._abandon(stream_id, message, Http3Code.H3_REQUEST_CANCELLED)

    def _advance(
        self, stream_id: int, message: _Message, step: Callable[P, int], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        try:
            size = step(*args, **kwargs)
        except Http3Error as error:
            if error.ends_connection:
                raise
            self._abandon(stream_id, message, error.http3_code)
            self._receiving.events.append(MessageFailed(stream_id, error))
        else:
            if size:
                self._quic.consumed(stream_id, size)

    def _abandon(self, stream_id: int, message: _Message, code: Http3Code) -> None:
        message.incoming.abandon()
        message.outgoing.abandon()
        self._quic.reset(stream_id, code)
        self._quic.stop(stream_id, code)

    def _receive_reset(self, stream_id: int, code: int) -> None:
        if stream_id in self._peer_streams:
            self._peer_streams.receive_reset(stream_id)
            return
        message = self._messages.get(stream_id)
        if message is None or message.incoming.is_over:
            return
        if self._is_client or message.incoming.was_told:
            message.incoming.abandon()
            self._receiving.events.append(MessageReset(stream_id, code))
        else:
            self._abandon(stream_id, message, Http3Code.H3_REQUEST_REJECTED)
            self.release(stream_id, Http3Code.H3_REQUEST_REJECTED)

    def _receive_stop(self, stream_id: int, code: int) -> None:
        for kind, own_id in self._own_streams.items():
            if stream_id == own_id:
                raise closed_critical_stream("stopped our", kind)
        message = self._messages.get(stream_id)
        if message is None:
            return
        message.outgoing.abandon()
        if message.release_code is None:
            self._receiving.events.append(MessageStopped(stream_id, code))
        self._release_late(stream_id, message)

    def _encode(self, stream_id: int, headers: RawHeaders) -> bytes:
        size = field_section_bytes(headers)
        limit = (self.peer_settings or {}).get(MAX_FIELD_SECTION_SIZE)
        if limit is not None and size > limit:
            raise LocalProtocolError(
                f"can't send fields of {size} bytes on stream {stream_id}: the peer's MAX_FIELD_SECTION_SIZE is {limit}",
                field="MAX_FIELD_SECTION_SIZE",
                size=size,
                limit=limit,
            )
        encoder_id = self._own_streams.get(StreamKind.QPACK_ENCODER)
        room = 0 if encoder_id is None else self._quic.send_room(encoder_id)
        instructions, section = self._receiving.qpack.encode(stream_id, headers, uses_table=size <= room)
        self._tell(StreamKind.QPACK_ENCODER, instructions)
        return section

    def _send_feedback(self) -> None:
        if StreamKind.QPACK_DECODER in self._own_streams:
            self._tell(StreamKind.QPACK_DECODER, self._receiving.qpack.take_feedback())

    def _tell(self, kind: StreamKind, data: bytes) -> None:
        """Send on a stream of ours that may never stop; a peer that lets it is cut with what arrives next."""
        if data and self._quic.send(self._own_streams[kind], data) < len(data):
            self._withheld = Http3Error(
                f"the peer takes nothing more on our {kind.name} stream",
                Http3Code.H3_EXCESSIVE_LOAD,
                ends_connection=True,
                field=kind.name,
            )

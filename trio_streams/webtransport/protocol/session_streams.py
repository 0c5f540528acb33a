"""The streams of all sessions of a connection: whose they are, what is said about their halves, and when they are over.

QUIC moves their bytes, and what arrives on them is not even looked at here, but for its size where a session counts it. A
stream is kept until both halves are over on the wire and nobody holds it: until then it counts in its session, and what the
peer sent on a half that we refuse has to be counted, too. Streams that are not known here, since their session is over, are
no matter to any method.

Spec: draft-ietf-webtrans-http3 §4.2–§4.4, §5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code, from_http3, to_http3
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.routing import Arrival
from trio_streams.webtransport.protocol.session import SessionMachine, SessionState
from trio_streams.webtransport.protocol.stream_headers import encode_stream_header

__all__ = ["SessionStream", "SessionStreams", "group_of"]


def group_of(session_id: int) -> int:
    """Whose turns a session's streams and datagrams share; plain requests are group 0."""
    return session_id + 1


class SessionStream:
    """One stream of a session.

    Attributes:
      session: whose.
      has_own_half, has_peer_half: what kind of stream it is.
      is_counted: whether the session has flow control.
      header_sent_bytes: of our half, before the application's bytes.
      header_received_bytes: of the peer's.
      sent_bytes: the application's, that our half took; as far as they count.
      received_bytes, consumed_bytes: the application's.
      is_ended: whether our half has an end.
      is_reset: whether our half was reset by us.
      is_sending: whether our half is not over: the peer has not all of it.
      is_receiving: whether the peer's half is not over: more of it may come.
      is_refusing: whether the peer's half was reset, or stopped: nobody reads it.
      is_released: whether the application is done with the stream.
    """

    __slots__ = (
        "consumed_bytes",
        "has_own_half",
        "has_peer_half",
        "header_received_bytes",
        "header_sent_bytes",
        "is_counted",
        "is_ended",
        "is_receiving",
        "is_refusing",
        "is_released",
        "is_reset",
        "is_sending",
        "received_bytes",
        "sent_bytes",
        "session",
    )

    def __init__(self, session: SessionMachine, *, has_own_half: bool, has_peer_half: bool) -> None:
        self.session: SessionMachine = session
        self.has_own_half: bool = has_own_half
        self.has_peer_half: bool = has_peer_half
        self.is_counted: bool = session.has_flow_control
        self.header_sent_bytes: int = 0
        self.header_received_bytes: int = 0
        self.sent_bytes: int = 0
        self.received_bytes: int = 0
        self.consumed_bytes: int = 0
        self.is_ended: bool = False
        self.is_reset: bool = False
        self.is_sending: bool = has_own_half
        self.is_receiving: bool = has_peer_half
        self.is_refusing: bool = False
        self.is_released: bool = False

    @property
    def may_send(self) -> bool:
        """Whether our half takes bytes, as far as the application knows."""
        return self.is_sending and not (self.is_ended or self.is_reset)


class SessionStreams:
    """The streams of all sessions.

    Args:
      quic: the connection.
      queue: where events go.
      touch: called with a session that may have something to say: to us, or to the peer.

    Attributes:
      table: the streams, by their ids.
    """

    def __init__(self, quic: QuicPort, queue: deque[events.Event], touch: Callable[[SessionMachine], None]) -> None:
        self._quic = quic
        self._queue = queue
        self._touch = touch
        self._starved: dict[int, dict[int, None]] = {}  # by session: streams that wait for its credit
        self._undelivered: dict[int, int] = {}
        self.table: dict[int, SessionStream] = {}

    # -- they begin ------------------------------------------------------------------------------------------------

    def open(self, session: SessionMachine, *, is_unidirectional: bool, priority: int) -> int:
        """Open a stream of ours; its header is the first that it takes.

        Raises:
          LocalProtocolError: the session is over, or it or QUIC allows no more.
        """
        header = encode_stream_header(session.session_id, is_unidirectional=is_unidirectional)
        if not session.may_open(is_unidirectional=is_unidirectional):
            self._touch(session)  # it complains to the peer
            kind = "unidirectional" if is_unidirectional else "bidirectional"
            raise LocalProtocolError(
                f"can't open a {kind} stream in session {session.session_id}: the session allows no more",
                field=f"max_{kind}_streams",
            )
        stream_id = self._quic.open_stream(unidirectional=is_unidirectional)
        session.open_stream(stream_id)
        stream = SessionStream(session, has_own_half=True, has_peer_half=not is_unidirectional)
        stream.header_sent_bytes = len(header)
        self.table[stream_id] = stream
        self._quic.set_priority(stream_id, priority, group=group_of(session.session_id))
        self._quic.send(stream_id, header)
        return stream_id

    def adopt(self, session: SessionMachine, arrival: Arrival) -> None:
        """The peer opened a stream, and its header says that it is this session's."""
        stream_id = arrival.stream_id
        is_unidirectional = bool(stream_id & 2)
        stream = SessionStream(session, has_own_half=not is_unidirectional, has_peer_half=True)
        stream.header_received_bytes = arrival.header_bytes
        self.table[stream_id] = stream
        if not session.accept_stream(stream_id):
            self._touch(session)  # it passed a limit, and the session is over by that
            return
        if not is_unidirectional:
            self._quic.set_priority(stream_id, 0, group=group_of(session.session_id))
        self._queue.append(events.StreamOpened(session.session_id, stream_id, is_unidirectional))
        if arrival.run or arrival.is_ended:
            if stream.is_counted:
                self.count_received(stream, arrival.run)
            stream.is_receiving = not arrival.is_ended
            self._queue.append(events.StreamReceived(stream_id, list(arrival.run), arrival.is_ended))
        if arrival.stop_code is not None:
            self.receive_stop(stream_id, arrival.stop_code)

    # -- what the application does -----------------------------------------------------------------------------------

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Let a stream take what buffers and its session have room for.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped.
        """
        stream = self.table.get(stream_id)
        if stream is None:
            return 0
        try:
            if stream.is_counted:
                return self._send_counted(stream_id, stream, data)
            return self._quic.send(stream_id, data)
        except LocalProtocolError:
            if not stream.may_send:
                raise
            return 0  # the peer has stopped it, and that is about to be told

    def end(self, stream_id: int) -> None:
        """End our half.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped.
        """
        stream = self.table.get(stream_id)
        if stream is None:
            return
        try:
            self._quic.end(stream_id)
        except LocalProtocolError:
            if not stream.may_send:
                raise
            return  # as in `send`
        stream.is_ended = True
        session_id = stream.session.session_id
        self._undelivered[session_id] = self._undelivered.get(session_id, 0) + 1

    def reset(self, stream_id: int, code: int) -> None:
        """Abandon our half, behind its header.

        Raises:
          LocalProtocolError: the code is too large, or there is no half of ours.
        """
        wire_code = to_http3(code)
        if (stream := self.table.get(stream_id)) is not None:
            self._reset(stream_id, stream, wire_code)

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half.

        Raises:
          LocalProtocolError: the code is too large, or the peer has no half.
        """
        wire_code = to_http3(code)
        if (stream := self.table.get(stream_id)) is not None:
            self._quic.stop(stream_id, wire_code)
            self._refuse(stream)

    def consumed(self, stream: SessionStream, stream_id: int, size: int) -> None:
        """The reader took bytes.

        Raises:
          LocalProtocolError: that is more than has arrived.
        """
        self._quic.consumed(stream_id, size)
        if stream.is_counted and not stream.is_refusing:
            stream.consumed_bytes += size
            if stream.session.count_consumed(size):
                self._touch(stream.session)

    def release(self, stream_id: int, code: int) -> None:
        """The application is done with a stream.

        Raises:
          LocalProtocolError: the code is too large.
        """
        wire_code = to_http3(code)
        stream = self.table.get(stream_id)
        if stream is None or stream.is_released:
            return
        stream.is_released = True
        if stream.is_sending and not stream.is_ended:
            self._reset(stream_id, stream, wire_code)
        if stream.has_peer_half and not stream.is_refusing:
            if stream.is_sending or stream.is_receiving:  # else it is released below, which drops what is unread, too
                self._quic.stop(stream_id, wire_code)
            self._refuse(stream)
        self._finish(stream_id, stream)

    def set_priority(self, stream_id: int, priority: int) -> None:
        """Say when it is a stream's turn in its session."""
        if (stream := self.table.get(stream_id)) is not None:
            self._quic.set_priority(stream_id, priority, group=group_of(stream.session.session_id))

    def undelivered(self, session_id: int) -> int:
        """How many streams of a session have an end that the peer has not acknowledged."""
        return self._undelivered.get(session_id, 0)

    # -- what the peer does --------------------------------------------------------------------------------------------

    def count_received(self, stream: SessionStream, run: Sequence[bytes]) -> None:
        """Bytes arrived on a stream whose session counts them."""
        size = sum(map(len, run))
        stream.received_bytes += size
        self._count_received(stream.session, size)

    def receive_end(self, stream_id: int, stream: SessionStream) -> None:
        """The peer's half ended; it may still be unread."""
        stream.is_receiving = False
        self._finish(stream_id, stream)

    def receive_reset(self, event: quic_events.StreamReset) -> None:
        """The peer abandoned its half."""
        stream = self.table[event.stream_id]
        stream.is_receiving = False
        self._count_discarded(stream, event.final_bytes)
        self._refuse(stream)
        if not stream.is_released:
            self._queue.append(events.StreamReset(event.stream_id, from_http3(event.code)))
        self._finish(event.stream_id, stream)

    def receive_stop(self, stream_id: int, code: int) -> None:
        """The peer refuses more of our half."""
        stream = self.table[stream_id]
        self._sending_abandoned(stream_id, stream)
        if not stream.is_released:
            self._queue.append(events.StreamStopped(stream_id, from_http3(code)))
        self._finish(stream_id, stream)

    def on_discarded(self, event: quic_events.Discarded) -> None:
        """Something came on a half that we refuse."""
        stream = self.table[event.stream_id]
        self._count_discarded(stream, event.arrived_bytes)
        self._refuse(stream)
        if event.is_ended:
            self.receive_end(event.stream_id, stream)

    def on_delivered(self, stream_id: int, stream: SessionStream) -> None:
        """The peer has all of our half."""
        self._sending_over(stream)
        self._finish(stream_id, stream)

    def on_reset_sent(self, stream_id: int) -> None:
        """A reset that waited for the header has left."""
        stream = self.table[stream_id]
        self._sending_abandoned(stream_id, stream)
        self._finish(stream_id, stream)

    def on_data_allowed(self, session_id: int) -> None:
        """A session has credit again."""
        for stream_id in self._starved.pop(session_id, ()):
            stream = self.table.get(stream_id)
            if stream is not None and stream.is_sending and not stream.is_released:
                self._queue.append(events.Writable(stream_id))

    def abandon(self, stream_ids: Sequence[int], code: Http3Code) -> None:
        """A session is over: reset, stop and release its streams."""
        for stream_id in stream_ids:
            stream = self.table.pop(stream_id)
            if stream.has_own_half:
                self._quic.reset(stream_id, code, after_bytes=stream.header_sent_bytes)
            self._quic.release(stream_id, code)

    def forget_session(self, session_id: int) -> None:
        """A session is over."""
        self._starved.pop(session_id, None)
        self._undelivered.pop(session_id, None)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _count_received(self, session: SessionMachine, size: int) -> None:
        session.count_received(size)
        if session.state is SessionState.CLOSED:
            self._touch(session)

    def _count_discarded(self, stream: SessionStream, arrived_bytes: int) -> None:
        """Count what no event told the size of, since it was dropped on its way."""
        if stream.is_counted:
            size = arrived_bytes - stream.header_received_bytes - stream.received_bytes
            stream.received_bytes += size
            self._count_received(stream.session, size)

    def _refuse(self, stream: SessionStream) -> None:
        """What arrived is nobody's: it is as good as consumed."""
        stream.is_refusing = True
        unread = stream.received_bytes - stream.consumed_bytes
        if stream.is_counted and unread:
            stream.consumed_bytes += unread
            if stream.session.count_consumed(unread):
                self._touch(stream.session)

    def _send_counted(self, stream_id: int, stream: SessionStream, data: bytes | bytearray | memoryview) -> int:
        session = stream.session
        limit = session.sendable_bytes
        size = memoryview(data).nbytes
        if size <= limit:
            taken = self._quic.send(stream_id, data)
        else:
            with memoryview(data) as flat:
                taken = self._quic.send(stream_id, flat.cast("B")[:limit])
        stream.sent_bytes += taken
        session.count_sent(taken)
        if taken == limit < size:
            session.want_data()
            self._starved.setdefault(session.session_id, {})[stream_id] = None
            self._touch(session)
        return taken

    def _reset(self, stream_id: int, stream: SessionStream, wire_code: int) -> None:
        stream.is_reset = True
        is_over = self._quic.reset(stream_id, wire_code, after_bytes=stream.header_sent_bytes)
        if is_over:
            self._sending_abandoned(stream_id, stream)

    def _sending_over(self, stream: SessionStream) -> None:
        if not stream.is_sending:
            return
        stream.is_sending = False
        session_id = stream.session.session_id
        if stream.is_ended and session_id in self._undelivered:
            self._undelivered[session_id] -= 1

    def _sending_abandoned(self, stream_id: int, stream: SessionStream) -> None:
        """Our half was reset or stopped: what was never sent does not count."""
        self._sending_over(stream)
        if stream.is_counted:
            sent = max(0, self._quic.sent_bytes(stream_id) - stream.header_sent_bytes)
            if sent < stream.sent_bytes:
                stream.session.count_unsent(stream.sent_bytes - sent)
                stream.sent_bytes = sent
                self._touch(stream.session)

    def _finish(self, stream_id: int, stream: SessionStream) -> None:
        if stream.is_released and not (stream.is_sending or stream.is_receiving):
            del self.table[stream_id]
            self._quic.release(stream_id)
            if stream.session.finish_stream(stream_id):
                self._touch(stream.session)

"""The Trio side of one connection, without a socket: who hears of what its machine has found.

Whoever drives it feeds it datagrams and deadlines, and calls `dispatch`, which tells sessions, streams and requests, and
never waits. Users' tasks touch the machine synchronously, and `kick` whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, RemoteProtocolError, forget_frames, translate
from trio_streams.streams.parking import Parking
from trio_streams.webtransport.ending import cause_of_end, cause_of_loss
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.port import Address
from trio_streams.webtransport.protocol.requests import ConnectRequest, RawHeaders
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_offer import Asking, SessionOffer
from trio_streams.webtransport.session_request import SessionRequest
from trio_streams.webtransport.sinks import RequestSink, Sink, StreamSink
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream

if TYPE_CHECKING:
    from trio_streams.webtransport.config import WebTransportConfig
    from trio_streams.webtransport.driven import Attachment

__all__ = ["Link"]


def _nobody(*_: object) -> None:
    """Nothing drives the connection."""


class Link(Parking):
    """Sessions and requests on one connection.

    Args:
      machine: does the protocol.
      peer: the other end, for people.
      config: limits and timeouts.
      is_client: which side this is.

    Attributes:
      lost: why the connection is over, if it is.
      kick: asks for a flush; does nothing where nobody drives the connection.
      on_session: on a server, told of each request for a session, without waiting; where there is none, they are refused
        with 404.
      on_request: told of each plain request, without waiting; it calls `take_request`. Where there is none, they are
        answered with 404.
      on_over: told once when the connection is over, without waiting.
    """

    __slots__ = (
        "_asking",
        "_attachment",
        "_heard_at",
        "_offers",
        "_pinged_at",
        "_requests",
        "_sessions",
        "_sinks",
        "config",
        "is_client",
        "kick",
        "lost",
        "machine",
        "on_over",
        "on_request",
        "on_session",
        "peer",
        "window_bytes",
    )

    def __init__(self, machine: ConnectionMachine, *, peer: str, config: WebTransportConfig, is_client: bool) -> None:
        super().__init__()
        self.machine: ConnectionMachine = machine
        self.peer: str = peer
        self.config: WebTransportConfig = config
        self.is_client: bool = is_client
        self.window_bytes: int = config.quic.window_bytes
        self.lost: ConnectionLost | None = None
        self.kick: Callable[[], None] = _nobody
        self.on_session: Callable[[SessionOffer], None] | None = None
        self.on_request: Callable[[int, RawHeaders, bool], None] | None = None
        self.on_over: Callable[[ConnectionLost], None] | None = None
        self._heard_at = self._pinged_at = trio.current_time()
        self._attachment: Attachment | None = None
        self._sessions: dict[int, WebTransportSession] = {}
        self._asking: dict[int, Asking] = {}
        self._offers: dict[int, SessionOffer] = {}
        self._sinks: dict[int, StreamSink] = {}
        self._requests: dict[int, RequestSink] = {}

    # -- for what is built on it ------------------------------------------------------------------------------

    async def wait_ready(self) -> None:
        """Wait until the handshake is complete and the peer's settings are here.

        Raises:
          ConnectionLost: the connection ended before.

        Cancellation: atomic.
        """
        await trio.lowlevel.checkpoint()
        while not self.machine.is_ready and self.lost is None:
            await self._park()
        self.check_open()

    async def connect_session(self, request: ConnectRequest) -> WebTransportSession:
        """Ask for a session, on a client whose connection is ready, and wait for the answer.

        Args:
          request: what is asked for.

        Returns:
          The session; `SessionBlock` is the block that owns it.

        Raises:
          SessionRefused: the answer is another one than 2xx.
          SessionClosed: the server closed the session instead of answering.
          ConnectionLost: the connection or the request's stream ended before, or the server does not speak WebTransport.
          LocalProtocolError: the request is malformed, or the server takes no more sessions.

        Cancellation: the request is withdrawn.
        """
        self.check_open()
        with translate({RemoteProtocolError: ConnectionLost}):
            session_id = self.machine.connect_session(request, trio.current_time())
        asking = self._asking[session_id] = Asking(SessionRequest.of(request, self.peer))
        self.kick()
        try:
            return await asking.wait()
        except trio.Cancelled:
            if self._asking.pop(session_id, None) is not None:
                self.machine.close_session(session_id, Code.CANCELLED, "", trio.current_time())
                self.kick()
            elif (session := self._sessions.get(session_id)) is not None:
                session.close(Code.CANCELLED)
            raise

    def add_session(self, session: WebTransportSession) -> None:
        """Let a session that is about to be open hear of what concerns it."""
        self._sessions[session.session_id] = session

    def forget_offer(self, session_id: int) -> None:
        """An offer was answered."""
        self._offers.pop(session_id, None)

    def add_stream_sink(self, stream_id: int, sink: StreamSink) -> None:
        """Say who is told of what happens on a stream of a session, from now on; whoever was told before is no more.

        Args:
          stream_id: the stream.
          sink: it is told until `release_stream`, or until its session or the connection is over.
        """
        self._sinks[stream_id] = sink

    def replay(self, stream: WebTransportStream | WebTransportReceiveStream) -> None:
        """Tell a stream's new sink what the stream has heard, and not passed on."""
        if (sink := self._sinks.get(stream.stream_id)) is not None:
            stream.replay(sink)

    def release_stream(self, stream_id: int) -> None:
        """Be done with a stream of a session; see `ConnectionMachine.release`."""
        if self._sinks.pop(stream_id, None) is not None:
            self.machine.release(stream_id)
            self.kick()

    def drop_stream_sink(self, stream_id: int) -> None:
        """The session of a stream is over, and the machine has released it."""
        self._sinks.pop(stream_id, None)

    def take_request(self, stream_id: int, sink: RequestSink) -> None:
        """Say who is told of what happens to a plain request, from now on.

        Args:
          stream_id: the request's.
          sink: it is told until `release_request`, or until the connection is over.
        """
        self._requests[stream_id] = sink

    def release_request(self, stream_id: int) -> None:
        """Be done with a plain request; see `ConnectionMachine.release`."""
        if self._requests.pop(stream_id, None) is not None:
            self.machine.release(stream_id)
            self.kick()

    async def wait_changed(self) -> None:
        """Wait until something was sent or has happened; whoever waits looks again at what it waits for.

        Cancellation: atomic.
        """
        await self._park()

    def check_open(self) -> None:
        """Raise what ended the connection.

        Raises:
          ConnectionLost: it is over.
        """
        if self.lost is not None:
            raise self.lost_again()

    def lost_again(self) -> ConnectionLost:
        """Why the connection is over, to be raised: what was raised before has a traceback."""
        assert self.lost is not None
        error = type(self.lost)(*self.lost.args)
        error.__cause__ = self.lost.__cause__
        return error

    # -- for the endpoint -------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing will be sent or received any more."""
        return self.machine.is_over

    def attach(self, attachment: Attachment) -> None:
        """Learn of its place at the endpoint."""
        self._attachment = attachment
        self.kick = attachment.kick
        attachment.add_connection_id(self.machine.host_connection_id)

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        """Take a UDP datagram."""
        self._heard_at = now
        self.machine.receive(datagram, addr, now)

    def dispatch(self) -> None:
        """Tell whom it concerns what the machine has found. Never waits.

        A peer that closes a session resets its streams, too, and which of the two arrives first is chance. So resets without
        a code of an application are told last, and streams hear of the close instead.
        """
        sinks = self._sinks
        last: list[events.StreamReset | events.StreamStopped] = []
        for event in self.machine.events():
            if isinstance(event, events.StreamReceived):
                sink = sinks.get(event.stream_id)
                if sink is not None:
                    sink.on_received(event.run, event.is_ended)
            elif isinstance(event, events.StreamReset | events.StreamStopped) and event.code is None:
                last.append(event)
            else:
                self._HANDLERS[type(event)](self, event)
        for reset in last:
            self._HANDLERS[type(reset)](self, reset)
        self._wake()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent at once, and to where."""
        for session in self._sessions.values():
            session.before_flush()
        return self.machine.datagrams_to_send(now)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, on Trio's clock."""
        deadline, ping_at = self.machine.next_deadline(), self._ping_at
        return deadline if ping_at is None or deadline is None else min(deadline, ping_at)

    @property
    def _ping_at(self) -> float | None:
        interval = self.config.keep_alive_interval
        if interval is None or self.machine.is_closing or not (self._sessions or self._requests):
            return None
        return max(self._heard_at, self._pinged_at) + interval

    def handle_deadline(self, now: float) -> None:
        """Note that time has passed."""
        self.machine.handle_deadline(now)
        if self._ping_at is not None and now >= self._ping_at:
            self._pinged_at = now
            self.machine.ping()

    def close(self, code: Http3Code = Http3Code.H3_NO_ERROR, reason: str = "") -> None:
        """Close the connection: what is open on it is lost, and the next flush tells the peer."""
        if self.lost is None:
            self.machine.close(code, reason)
            self._lose(ConnectionLost(f"the connection to {self.peer} was closed here"))
            self.kick()

    def lose(self, error: Exception) -> None:
        """The connection is gone: tell everybody, and let the peer know with the last flush."""
        forget_frames(error)
        if not isinstance(error, ConnectionLost):
            cause, error = error, ConnectionLost(f"the connection to {self.peer} failed: {error}")
            error.__cause__ = cause
        self._lose(error)
        self._detach()
        self.machine.close(Http3Code.H3_INTERNAL_ERROR, "")

    # -- what the machine tells -------------------------------------------------------------------------------

    def _lose(self, error: ConnectionLost) -> None:
        if self.lost is not None:
            return
        self.lost = error
        for session in list(self._sessions.values()):
            session.on_lost(self.lost_again)
        for sink in list(self._requests.values()):
            sink.on_lost(self.lost_again)
        for asking in self._asking.values():
            asking.fail(self.lost_again)
        for offer in self._offers.values():
            offer.withdraw()
        for table in (self._sessions, self._requests, self._asking, self._offers, self._sinks):
            table.clear()
        self._wake()
        if self.on_over is not None:
            self.on_over(error)
        self.on_over = self.on_session = self.on_request = None

    def _on_ready(self, event: events.Ready) -> None:
        if self._attachment is not None:
            self._attachment.note_handshake()

    def _on_requested(self, event: events.SessionRequested) -> None:
        offer = self._offers[event.session_id] = SessionOffer(self, event.session_id, event.request)
        if self.on_session is None:
            offer.refuse(404)
        else:
            self.on_session(offer)

    def _on_answered(self, event: events.SessionAnswered) -> None:
        asking = self._asking.pop(event.session_id, None)
        if asking is None:
            return
        if event.answer.is_accepted:
            session = WebTransportSession(self, event.session_id, asking.request, event.answer)
            self.add_session(session)
            asking.accept(session)
        else:
            asking.refuse(event.answer)

    def _on_drained(self, event: events.SessionDrained) -> None:
        if (session := self._sessions.get(event.session_id)) is not None:
            session.on_drained()

    def _on_closed(self, event: events.SessionClosed) -> None:
        session_id = event.session_id
        if (session := self._sessions.pop(session_id, None)) is not None:
            session.on_closed(event)
        elif (asking := self._asking.pop(session_id, None)) is not None:
            asking.fail(cause_of_end(event, self.peer))
        elif (offer := self._offers.pop(session_id, None)) is not None:
            offer.withdraw()

    def _on_opened(self, event: events.StreamOpened) -> None:
        if (session := self._sessions.get(event.session_id)) is not None:
            session.on_stream_opened(event.stream_id, event.is_unidirectional)

    def _on_reset(self, event: events.StreamReset) -> None:
        if (sink := self._sinks.get(event.stream_id)) is not None:
            sink.on_reset(event.code)

    def _on_stopped(self, event: events.StreamStopped) -> None:
        if (sink := self._sinks.get(event.stream_id)) is not None:
            sink.on_stopped(event.code)

    def _on_writable(self, event: events.Writable) -> None:
        sink: Sink | None = self._sinks.get(event.stream_id) or self._requests.get(event.stream_id)
        if sink is not None:
            sink.on_writable()

    def _on_delivered(self, event: events.Delivered) -> None:
        sink: Sink | None = self._sinks.get(event.stream_id) or self._requests.get(event.stream_id)
        if sink is not None:
            sink.on_delivered()

    def _on_allowed(self, event: events.StreamsAllowed) -> None:
        if (session := self._sessions.get(event.session_id)) is not None:
            session.on_streams_allowed(event.is_unidirectional)

    def _on_datagram(self, event: events.DatagramReceived) -> None:
        if (session := self._sessions.get(event.session_id)) is not None:
            session.on_datagram(event.payload)

    def _on_request(self, event: events.RequestReceived) -> None:
        if self.on_request is not None:
            self.on_request(event.stream_id, event.headers, event.is_ended)
            return
        self.machine.send_head(event.stream_id, [(b":status", b"404")], is_ended=True)
        self.machine.release(event.stream_id)

    def _on_answer(self, event: events.AnswerReceived) -> None:
        if (sink := self._requests.get(event.stream_id)) is not None:
            sink.on_head(event.headers, event.is_ended)

    def _on_body(self, event: events.BodyReceived) -> None:
        if (sink := self._requests.get(event.stream_id)) is not None:
            sink.on_body(event.run, event.size, event.is_ended)

    def _on_trailers(self, event: events.TrailersReceived) -> None:
        if (sink := self._requests.get(event.stream_id)) is not None:
            sink.on_trailers(event.headers)

    def _on_request_reset(self, event: events.RequestReset) -> None:
        if (sink := self._requests.get(event.stream_id)) is not None:
            sink.on_reset(event.code)

    def _on_request_stopped(self, event: events.RequestStopped) -> None:
        if (sink := self._requests.get(event.stream_id)) is not None:
            sink.on_stopped(event.code)

    def _on_went_away(self, event: events.WentAway) -> None:
        for session in list(self._sessions.values()):
            session.on_drained()

    def _on_id_issued(self, event: events.ConnectionIdIssued) -> None:
        if self._attachment is not None:
            self._attachment.add_connection_id(event.connection_id)

    def _on_id_retired(self, event: events.ConnectionIdRetired) -> None:
        if self._attachment is not None:
            self._attachment.remove_connection_id(event.connection_id)

    def _on_over(self, event: events.ConnectionOver) -> None:
        self._lose(cause_of_loss(event, self.peer))
        self._detach()

    def _detach(self) -> None:
        # Each would else hold the other until the collector of cycles finds them.
        self.kick, self._attachment = _nobody, None

    _HANDLERS: ClassVar[Mapping[type, Callable[[Link, Any], None]]] = {
        events.Ready: _on_ready,
        events.SessionRequested: _on_requested,
        events.SessionAnswered: _on_answered,
        events.SessionDrained: _on_drained,
        events.SessionClosed: _on_closed,
        events.StreamOpened: _on_opened,
        events.StreamReset: _on_reset,
        events.StreamStopped: _on_stopped,
        events.Writable: _on_writable,
        events.Delivered: _on_delivered,
        events.StreamsAllowed: _on_allowed,
        events.DatagramReceived: _on_datagram,
        events.RequestReceived: _on_request,
        events.AnswerReceived: _on_answer,
        events.BodyReceived: _on_body,
        events.TrailersReceived: _on_trailers,
        events.RequestReset: _on_request_reset,
        events.RequestStopped: _on_request_stopped,
        events.WentAway: _on_went_away,
        events.ConnectionIdIssued: _on_id_issued,
        events.ConnectionIdRetired: _on_id_retired,
        events.ConnectionOver: _on_over,
    }

"""Who hears of what the machine of a connection has found: sessions, streams, requests, and the endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import trio

from trio_streams.errors import ConnectionLost
from trio_streams.streams.parking import Parking
from trio_streams.webtransport.ending import cause_of_end, cause_of_loss
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_offer import Asking, SessionOffer
from trio_streams.webtransport.sinks import RequestSink, Sink, StreamSink

if TYPE_CHECKING:
    from trio_streams.webtransport.config import WebTransportConfig
    from trio_streams.webtransport.driven import Attachment
    from trio_streams.webtransport.link import Link

__all__ = ["LinkEvents"]


def _nobody(*_: object) -> None:
    """Nothing drives the connection."""


class LinkEvents(Parking):
    """The tables of a connection, and one method for each kind of event. `Link` is the whole."""

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
        "hurry",
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
        self.hurry: Callable[[], None] = _nobody
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

    def dispatch(self) -> None:
        """Tell whom it concerns what the machine has found. Never waits.

        A peer that closes a session resets its streams, too, and which of the two arrives first is chance. So resets without
        a code of an application are told last, and streams hear of the close instead.
        """
        sinks, handlers = self._sinks, self._HANDLERS
        last: list[events.StreamReset | events.StreamStopped] = []
        for event in self.machine.events():
            if type(event) is events.StreamReceived:
                sink = sinks.get(event.stream_id)
                if sink is not None:
                    sink.on_received(event.run, event.is_ended)
            elif (type(event) is events.StreamReset or type(event) is events.StreamStopped) and event.code is None:
                last.append(event)
            else:
                handlers[type(event)](self, event)
        for reset in last:
            self._HANDLERS[type(reset)](self, reset)
        self._wake()

    @property
    def _link(self) -> Link:
        return cast("Link", self)

    def lost_again(self) -> ConnectionLost:
        """Why the connection is over, to be raised: what was raised before has a traceback."""
        assert self.lost is not None
        error = type(self.lost)(*self.lost.args)
        error.__cause__ = self.lost.__cause__
        return error

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
        offer = self._offers[event.session_id] = SessionOffer(self._link, event.session_id, event.request)
        if self.on_session is None:
            offer.refuse(404)
        else:
            self.on_session(offer)

    def _on_answered(self, event: events.SessionAnswered) -> None:
        asking = self._asking.pop(event.session_id, None)
        if asking is None:
            return
        if event.answer.is_accepted:
            session = WebTransportSession(self._link, event.session_id, asking.request, event.answer)
            self._sessions[session.session_id] = session
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

    def _on_datagrams(self, event: events.DatagramsReceived) -> None:
        if (session := self._sessions.get(event.session_id)) is not None:
            session.on_datagrams(event.run)

    def _on_request(self, event: events.RequestReceived) -> None:
        if self.on_request is not None:
            self.on_request(event.stream_id, event.headers, event.is_ended)
            return
        self._link.refuse_request(event.stream_id, [(b":status", b"404")])

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
        self.kick = self.hurry = _nobody
        self._attachment = None

    _HANDLERS: ClassVar[Mapping[type, Callable[[LinkEvents, Any], None]]] = {
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
        events.DatagramsReceived: _on_datagrams,
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

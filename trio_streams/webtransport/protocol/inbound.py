"""What QUIC and HTTP/3 tell of a connection, and which of its parts is to hear it.

QUIC's events name streams. A stream is a session's, HTTP/3's, or nobody's yet, and each kind has its owner; HTTP/3's events
name requests, which are sessions or plain ones. A fault that ends the connection is raised by whoever finds it, and closes the
connection here.

Spec: draft-ietf-webtrans-http3 §3, §4; RFC 9114 §6.2, §7.2.4, §8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events, http3_events
from trio_streams.webtransport.protocol.datagrams import runs_by_session
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3 import Http3
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.plain_requests import PlainRequests
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.requests import parse_request
from trio_streams.webtransport.protocol.routing import Arrival, StreamRouter
from trio_streams.webtransport.protocol.session import SessionMachine
from trio_streams.webtransport.protocol.session_streams import SessionStreams
from trio_streams.webtransport.protocol.sessions import Sessions
from trio_streams.webtransport.protocol.settings import PeerSettings, local_settings, read_settings
from trio_streams.webtransport.protocol.waiting import WaitingRequests

__all__ = ["Inbound"]

_SESSION_ENDS: Final = frozenset({Http3Code.WT_SESSION_GONE, Http3Code.H3_CONNECT_ERROR})
"""What streams are reset with when their session ends; Chromium uses the second one."""

_FIRST_GOAWAY_ROUND_TRIPS: Final = 2  # so that requests under way are seen before the second one names the last


class Inbound:
    """The parts of a connection, and the way of events to them.

    Args:
      quic: the connection.
      is_client: which side this is.
      limits: what the connection may hold.

    Attributes:
      queue: events that nobody has taken yet.
      touched: sessions that may have something to say: `serve` has something to do.
      sessions: None until the peer's settings are here.
      settings: what they mean.
      fault: what the peer did wrong to end the connection.
      is_over: whether the connection is.
    """

    def __init__(self, quic: QuicPort, *, is_client: bool, limits: WebTransportLimits) -> None:
        self._quic = quic
        self._is_client = is_client
        self._limits = limits
        self._now = 0.0
        self._wanted: dict[tuple[int, bool], None] = {}
        self._late: list[quic_events.StreamReset | quic_events.StopReceived] = []
        self._is_going_away = False
        self._settings_deadline: float | None = None
        self._goaway_deadline: float | None = None
        self._waiting = WaitingRequests(
            max_requests=limits.max_waiting_sessions, max_bytes=limits.session.max_waiting_capsule_bytes
        )
        self.queue: deque[events.Event] = deque()
        self.touched: dict[int, None] = {}
        own = local_settings(is_client=is_client, max_sessions=limits.max_sessions, limits=limits.session.limits)
        self.http3: Http3 = Http3(quic, is_client=is_client, settings=own, config=limits.http3)
        self.streams: SessionStreams = SessionStreams(quic, self.queue, self.touch)
        self.router: StreamRouter = StreamRouter(quic, limits)
        self.requests: PlainRequests = PlainRequests(quic, self.http3, limits, self.queue)
        self.sessions: Sessions | None = None
        self.settings: PeerSettings | None = None
        self.fault: Http3Error | None = None
        self.is_started: bool = False
        self.is_over: bool = False
        self._handlers = self._make_handlers()

    def _make_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            quic_events.Handshaken: self._on_handshaken,
            quic_events.StreamDataReceived: self._on_data,
            quic_events.StreamReset: self._on_reset,
            quic_events.StopReceived: self._on_stop,
            quic_events.Discarded: self._on_discarded,
            quic_events.Delivered: self._on_delivered,
            quic_events.ResetSent: self._on_reset_sent,
            quic_events.Writable: self._on_writable,
            quic_events.DatagramsReceived: self._on_datagrams,
            quic_events.StreamsAllowed: self._on_streams_allowed,
            quic_events.ConnectionIdIssued: self.queue.append,
            quic_events.ConnectionIdRetired: self.queue.append,
            http3_events.SettingsReceived: self._on_settings,
            http3_events.HeadReceived: self._on_head,
            http3_events.InterimReceived: self._on_interim,
            http3_events.BodyReceived: self._on_body,
            http3_events.TrailersReceived: self._on_trailers,
            http3_events.MessageReset: self._on_message_reset,
            http3_events.MessageStopped: self._on_message_stopped,
            http3_events.MessageFailed: self._on_message_failed,
            http3_events.PriorityUpdated: self._on_priority,
            http3_events.WentAway: self._on_went_away,
        }

    # -- for the machine -----------------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether no session is there, or waits."""
        return not self._waiting and (self.sessions is None or self.sessions.is_empty)

    def serve(self, now: float) -> None:
        """Hear what sessions have to say, and let them say it to the peer."""
        if self.touched and self.sessions is not None:
            self.sessions.serve(now)

    def take(self, event: quic_events.Event, now: float) -> None:
        """Let the part that is meant hear of an event of QUIC."""
        self._now = now
        if isinstance(event, quic_events.ConnectionTerminated):
            self._on_terminated(event)
            return
        if self.fault is not None:
            return
        try:
            self._handlers[type(event)](event)
            if self.http3.has_news:
                for told in self.http3.events():
                    self._handlers[type(told)](told)
        except Http3Error as error:
            self.fail(error)

    def finish(self) -> None:
        """Nothing else has arrived: let hear of streams that were reset as if their session ended, and it did not."""
        late, self._late = self._late, []
        for event in late:
            if event.stream_id in self.streams.table:
                self._on_half_over(event)

    def fail(self, error: Http3Error) -> None:
        """The peer broke a rule that ends the connection."""
        self.fault = error
        self._quic.close(error.http3_code, str(error))

    def touch(self, machine: SessionMachine) -> None:
        """A session may have something to say."""
        assert self.sessions is not None, "there is no other machine than theirs"
        self.sessions.touch(machine)

    def want_stream(self, session_id: int, *, is_unidirectional: bool) -> None:
        """Let `StreamsAllowed` come when QUIC allows more streams."""
        self._wanted[session_id, is_unidirectional] = None

    def go_away(self, now: float, round_trip: float) -> None:
        """Take no new sessions, and on a server no new requests when those that are under way have come."""
        self._is_going_away = True
        if self.sessions is not None:
            self.sessions.is_going_away = True
            self.sessions.drain_all()
        if self.is_started and self._goaway_deadline is None:
            self.http3.go_away()
            if not self._is_client:
                self._goaway_deadline = now + _FIRST_GOAWAY_ROUND_TRIPS * round_trip

    # -- time ----------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called."""
        deadlines = [self._settings_deadline, self._goaway_deadline, self.router.next_deadline()]
        if self.sessions is not None:
            deadlines.append(self.sessions.next_deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_deadline(self, now: float) -> None:
        """Time has passed."""
        if self._settings_deadline is not None and self._settings_deadline <= now:
            self._settings_deadline = None
            self.fail(
                Http3Error(
                    f"the peer sent no SETTINGS within {self._limits.settings_timeout} seconds",
                    Http3Code.H3_MISSING_SETTINGS,
                    ends_connection=True,
                    field="settings_timeout",
                )
            )
        if self._goaway_deadline is not None and self._goaway_deadline <= now:
            self._goaway_deadline = None
            self.http3.go_away()
        self.router.handle_deadline(now)
        if self.sessions is not None:
            self.sessions.handle_deadline(now)

    # -- the connection --------------------------------------------------------------------------------------------------

    def _on_handshaken(self, _: quic_events.Handshaken) -> None:
        self.http3.start()
        self.is_started = True
        if self._is_going_away:
            self.http3.go_away()
        if self.settings is None:
            self._settings_deadline = self._now + self._limits.settings_timeout

    def _on_settings(self, event: http3_events.SettingsReceived) -> None:
        settings = read_settings(
            event.settings, is_client=self._is_client, max_datagram_frame_size=self._quic.max_datagram_size
        )
        self.settings = settings
        self._settings_deadline = None
        self.sessions = Sessions(
            self._quic,
            self.http3,
            self.streams,
            self.router,
            settings,
            is_client=self._is_client,
            limits=self._limits,
            queue=self.queue,
            touched=self.touched,
        )
        self.sessions.is_going_away = self._is_going_away
        self.queue.append(events.Ready(settings))
        for waiting in self._waiting.take():
            self._handlers[type(waiting)](waiting)

    def _on_went_away(self, event: http3_events.WentAway) -> None:
        assert self.sessions is not None, "HTTP/3 lets SETTINGS be first"
        self.queue.append(event)
        self.sessions.on_went_away()

    def _on_terminated(self, event: quic_events.ConnectionTerminated) -> None:
        self.is_over = True
        self._settings_deadline = self._goaway_deadline = None
        self.streams.table.clear()
        self.router = StreamRouter(self._quic, self._limits)
        self.requests.clear()
        self._waiting.take()
        if self.sessions is not None:
            self.sessions.clear()
        self.queue.append(
            events.ConnectionOver(self.fault, event.code, event.reason, event.is_timeout, event.is_application)
        )

    # -- streams ---------------------------------------------------------------------------------------------------------

    def _is_ours(self, stream_id: int) -> bool:
        return (stream_id & 1 == 0) == self._is_client

    def _on_data(self, event: quic_events.StreamDataReceived) -> None:
        if self.http3.owns(event.stream_id):
            self.http3.receive(event.stream_id, event.run, is_ended=event.is_ended)
        elif not self._is_ours(event.stream_id):
            arrival = self.router.receive(event.stream_id, event.run, is_ended=event.is_ended, now=self._now)
            if arrival is not None:
                self._route(arrival)

    def _route(self, arrival: Arrival) -> None:
        stream_id, session_id = arrival.stream_id, arrival.session_id
        sessions = self.sessions
        if session_id is None:
            self.http3.receive(stream_id, arrival.run, is_ended=arrival.is_ended)
            if arrival.stop_code is not None:
                self.http3.receive_stop(stream_id, arrival.stop_code)
        elif sessions is not None and (machine := sessions.get_open(session_id)) is not None:
            self.streams.adopt(machine, arrival)
        elif self._is_expected(session_id):
            self.router.hold(arrival, session_id, self._now)
        else:
            self.router.reject(stream_id, Http3Code.WT_SESSION_GONE)

    def _is_expected(self, session_id: int) -> bool:
        if self.sessions is not None:
            return self.sessions.is_expected(session_id)
        return not self._is_client

    def _on_reset(self, event: quic_events.StreamReset) -> None:
        if event.stream_id in self.streams.table:
            self._unless_session_ends(event)
        elif self.http3.owns(event.stream_id):
            self.http3.receive_reset(event.stream_id, event.code)
        elif not self._is_ours(event.stream_id):
            self.router.receive_reset(event.stream_id)

    def _on_stop(self, event: quic_events.StopReceived) -> None:
        if event.stream_id in self.streams.table:
            self._unless_session_ends(event)
        elif self.http3.owns(event.stream_id):
            self.http3.receive_stop(event.stream_id, event.code)
        elif not self._is_ours(event.stream_id):
            self.router.receive_stop(event.stream_id, event.code, self._now)

    def _unless_session_ends(self, event: quic_events.StreamReset | quic_events.StopReceived) -> None:
        """The streams of a session that ends may be reset before its CLOSE is read, which says more."""
        if event.code in _SESSION_ENDS:
            self._late.append(event)
        else:
            self._on_half_over(event)

    def _on_half_over(self, event: quic_events.StreamReset | quic_events.StopReceived) -> None:
        if isinstance(event, quic_events.StreamReset):
            self.streams.receive_reset(event)
        else:
            self.streams.receive_stop(event.stream_id, event.code)

    def _on_discarded(self, event: quic_events.Discarded) -> None:
        if event.stream_id in self.streams.table:
            self.streams.on_discarded(event)

    def _on_delivered(self, event: quic_events.Delivered) -> None:
        if event.stream_id in self.requests:  # those of sessions' streams do not come here
            self.queue.append(event)

    def _on_reset_sent(self, event: quic_events.ResetSent) -> None:
        if event.stream_id in self.streams.table:
            self.streams.on_reset_sent(event.stream_id)

    def _on_writable(self, event: quic_events.Writable) -> None:
        stream_id = event.stream_id
        if stream_id in self.streams.table:
            self.queue.append(event)
        elif self.http3.receive_writable(stream_id):
            if self.sessions is not None and (machine := self.sessions.get(stream_id)) is not None:
                self.sessions.touch(machine)
            elif stream_id in self.requests:
                self.queue.append(event)

    def _on_streams_allowed(self, _: quic_events.StreamsAllowed) -> None:
        wanted, self._wanted = self._wanted, {}
        for session_id, is_unidirectional in wanted:
            if not self._quic.streams_available(unidirectional=is_unidirectional):
                self._wanted[session_id, is_unidirectional] = None
            elif self.sessions is not None and session_id in self.sessions:
                self.queue.append(events.StreamsAllowed(session_id, is_unidirectional))

    def _on_datagrams(self, event: quic_events.DatagramsReceived) -> None:
        for session_id, run in runs_by_session(event.run):
            if self.sessions is not None and self.sessions.get_open(session_id) is not None:
                self.queue.append(events.DatagramsReceived(session_id, run))
            elif self._is_expected(session_id):
                for payload in run:
                    self.router.hold_datagram(session_id, payload, self._now)

    # -- requests --------------------------------------------------------------------------------------------------------

    def _on_head(self, event: http3_events.HeadReceived) -> None:
        stream_id = event.stream_id
        if not self._is_client:
            self._on_request(event)
        elif self.sessions is not None and stream_id in self.sessions:
            self.sessions.on_answer(stream_id, event.headers, self._now)
        else:
            self.queue.append(events.AnswerReceived(stream_id, event.headers, event.is_ended))
            return
        if event.is_ended and self.sessions is not None and stream_id in self.sessions:
            self.sessions.on_data(stream_id, [], 0, self._now, is_ended=True)

    def _on_request(self, event: http3_events.HeadReceived) -> None:
        stream_id = event.stream_id
        try:
            request = parse_request(event.headers)
        except Http3Error as error:
            self.requests.reject(stream_id, error.http3_code)
            return
        if request is None:
            self.requests.on_request(stream_id, event.headers, is_ended=event.is_ended)
        elif self.sessions is not None:
            self.sessions.on_request(stream_id, request)
        else:
            self._wait(event)

    def _wait(self, event: http3_events.HeadReceived | http3_events.BodyReceived) -> None:
        if not self._waiting.hold(event):
            self.requests.reject(event.stream_id)

    def _on_interim(self, event: http3_events.InterimReceived) -> None:
        if event.stream_id in self.requests:
            self.queue.append(events.AnswerReceived(event.stream_id, event.headers, is_ended=False))

    def _on_body(self, event: http3_events.BodyReceived) -> None:
        stream_id = event.stream_id
        if stream_id in self.requests:
            self.queue.append(event)
        elif self.sessions is not None and stream_id in self.sessions:
            self.sessions.on_data(stream_id, event.run, event.size, self._now, is_ended=event.is_ended)
        elif stream_id in self._waiting:
            self._wait(event)

    def _on_trailers(self, event: http3_events.TrailersReceived) -> None:
        if event.stream_id in self.requests:
            self.queue.append(event)
        else:  # they say nothing of a session, but that its peer has ended it
            self._on_body(http3_events.BodyReceived(event.stream_id, [], 0, is_ended=True))

    def _on_message_reset(self, event: http3_events.MessageReset) -> None:
        stream_id = event.stream_id
        if self.sessions is not None and stream_id in self.sessions:
            self.sessions.on_reset(stream_id, event.code, self._now)
        else:
            self._on_request_over(events.RequestReset(stream_id, event.code))

    def _on_message_stopped(self, event: http3_events.MessageStopped) -> None:
        stream_id = event.stream_id
        if self.sessions is not None and stream_id in self.sessions:
            self.sessions.on_stop(stream_id, event.code, self._now)
        else:
            self._on_request_over(events.RequestStopped(stream_id, event.code))

    def _on_message_failed(self, event: http3_events.MessageFailed) -> None:
        stream_id = event.stream_id
        if self.sessions is not None and stream_id in self.sessions:
            self.sessions.on_failed(stream_id, event.error)
        else:
            self._on_request_over(events.RequestReset(stream_id, event.error.http3_code))

    def _on_request_over(self, event: events.RequestReset | events.RequestStopped) -> None:
        if event.stream_id in self._waiting:
            self._waiting.forget(event.stream_id)
        self.requests.on_over(event)

    def _on_priority(self, event: http3_events.PriorityUpdated) -> None:
        self.requests.on_priority(event.stream_id, event.priority)

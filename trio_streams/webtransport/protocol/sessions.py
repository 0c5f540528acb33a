"""The CONNECT streams of a connection: who asks for sessions, what is answered, and how they end.

A server looks at nothing before the client's SETTINGS, since they say which draft and which limits hold. What a session owes
its peer is taken from it when its CONNECT stream has room, so a peer that does not read makes nothing grow.

Spec: draft-ietf-webtrans-http3 §3, §4.7, §6.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import events, session_events
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3 import Http3
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.requests import (
    Answer,
    ConnectRequest,
    RawHeaders,
    encode_answer,
    encode_request,
    parse_answer,
)
from trio_streams.webtransport.protocol.routing import StreamRouter
from trio_streams.webtransport.protocol.session import SessionMachine, SessionState
from trio_streams.webtransport.protocol.session_streams import SessionStreams, group_of
from trio_streams.webtransport.protocol.settings import PeerSettings

__all__ = ["Sessions"]

_TOO_MANY = Answer(status=429)
_OPEN = SessionState.OPEN, SessionState.DRAINING


@attrs.define(eq=False)
class _Entry:
    """A session and its CONNECT stream.

    Attributes:
      pending: of capsules that the CONNECT stream had no room for.
      is_answered: whether the final answer was sent, or arrived.
      is_sending: whether our half of the CONNECT stream is not over.
    """

    machine: SessionMachine
    request: ConnectRequest
    pending: bytes = b""
    is_answered: bool = False
    is_sending: bool = True


class Sessions:
    """The sessions of one connection, once the peer's settings are here.

    Args:
      quic: the connection.
      http3: its HTTP/3.
      streams: the streams of all sessions.
      router: those that wait for theirs.
      settings: the peer's.
      is_client: which side this is.
      limits: how many sessions, and of each.
      queue: where events go.
      touched: where sessions are noted that may have something to say.
    """

    def __init__(
        self,
        quic: QuicPort,
        http3: Http3,
        streams: SessionStreams,
        router: StreamRouter,
        settings: PeerSettings,
        *,
        is_client: bool,
        limits: WebTransportLimits,
        queue: deque[events.Event],
        touched: dict[int, None],
    ) -> None:
        self._quic = quic
        self._http3 = http3
        self._streams = streams
        self._router = router
        self._settings = settings
        self._is_client = is_client
        self._limits = limits
        self._queue = queue
        self._table: dict[int, _Entry] = {}
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._touched = touched
        self._ending: dict[int, float] = {}  # until when the peer may take what is left, and end the stream, too
        self.is_going_away: bool = False

    # -- to look at ----------------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether no session is open, asked for, or waits for its peer's end."""
        return not self._table

    def __contains__(self, session_id: int) -> bool:
        return session_id in self._table

    def get(self, session_id: int) -> SessionMachine | None:
        """A session that is not yet forgotten."""
        entry = self._table.get(session_id)
        return entry.machine if entry is not None else None

    def get_open(self, session_id: int) -> SessionMachine | None:
        """A session whose streams and datagrams go to the application."""
        entry = self._table.get(session_id)
        return entry.machine if entry is not None and entry.machine.state in _OPEN else None

    def is_expected(self, session_id: int) -> bool:
        """Whether there may yet be such a session: it waits for an answer, or its CONNECT was overtaken."""
        entry = self._table.get(session_id)
        if entry is not None:
            return entry.machine.state is SessionState.CONNECTING
        # All sessions of a client are known to it; what a server does not know may be on its way.
        return not (self._is_client or session_id in self._gone or self._http3.owns(session_id))

    # -- asking ------------------------------------------------------------------------------------------------------------

    def connect(self, request: ConnectRequest) -> int:
        """Ask for a session, on a client.

        Raises:
          LocalProtocolError: a limit is reached, or the request is malformed.
          Http3Error: the peer's settings do not allow sessions.
        """
        draft = self._settings.require()
        most = min(self._limits.max_sessions, self._settings.max_sessions or self._limits.max_sessions)
        if self._live_count() >= most:
            raise LocalProtocolError(
                f"can't ask for another session: {most} are open", field="max_sessions", limit=most
            )
        headers = encode_request(request, draft)
        session_id = self._http3.open_request()
        try:
            self._http3.send_head(session_id, headers)
        except LocalProtocolError:
            self._http3.reset(session_id, Http3Code.H3_REQUEST_CANCELLED)
            self._http3.release(session_id, Http3Code.H3_REQUEST_CANCELLED)
            raise
        self._add(session_id, request)
        return session_id

    def on_request(self, session_id: int, request: ConnectRequest) -> None:
        """A client asks for a session."""
        if self.is_going_away:
            self._reject(session_id, Http3Code.H3_REQUEST_REJECTED)
        elif self._settings.draft is None or self._settings.unmet:
            self._reject(session_id, Http3Code.WT_REQUIREMENTS_NOT_MET)
        elif self._live_count() >= self._limits.max_sessions:
            self._refuse_at_once(session_id, request, _TOO_MANY)
        else:
            self._add(session_id, request)
            self._queue.append(events.SessionRequested(session_id, request))

    def accept(self, session_id: int, answer: Answer, now: float) -> None:
        """Let a session be open.

        Raises:
          LocalProtocolError: it was answered, or the answer is no 2xx.
        """
        if not answer.is_accepted:
            raise LocalProtocolError(f"status {answer.status} accepts no session", field="status", size=answer.status)
        if (entry := self._answer(session_id, answer, is_ended=False)) is not None:
            entry.machine.accept(now)
            self.touch(entry.machine)

    def refuse(self, session_id: int, answer: Answer, now: float) -> None:
        """Say no. A client that takes not even a status is reset instead.

        Raises:
          LocalProtocolError: it was answered, or the answer is no refusal, or has fields that are too much for the client.
        """
        if answer.is_accepted:
            raise LocalProtocolError(f"status {answer.status} refuses no session", field="status", size=answer.status)
        try:
            if (entry := self._answer(session_id, answer, is_ended=True)) is not None:
                entry.is_sending = False
                entry.machine.refuse(answer.status, now)
                self.touch(entry.machine)
        except LocalProtocolError as error:
            if error.field != "MAX_FIELD_SECTION_SIZE" or answer.headers:
                raise
            self.close(session_id, 0, "", now)

    # -- ending ------------------------------------------------------------------------------------------------------------

    def drain(self, session_id: int) -> None:
        """Ask the peer to bring a session to its end.

        Raises:
          LocalProtocolError: it is not open yet.
        """
        entry = self._table.get(session_id)
        if entry is not None and entry.machine.state is not SessionState.CLOSED:
            entry.machine.drain()
            self.touch(entry.machine)

    def drain_all(self) -> None:
        """Ask for the end of all sessions that are open."""
        for session_id in list(self._table):
            if self.get_open(session_id) is not None:
                self.drain(session_id)

    def close(self, session_id: int, code: int, reason: str, now: float) -> None:
        """End a session.

        Raises:
          LocalProtocolError: the code is too large.
        """
        entry = self._table.get(session_id)
        if entry is not None and entry.machine.state is not SessionState.CLOSED:
            entry.machine.close(code, reason, now)
            self.touch(entry.machine)

    def on_went_away(self) -> None:
        """The peer sent GOAWAY: that asks for the end of each session, too."""
        for session_id in self._table:
            if self.get_open(session_id) is not None:
                self._queue.append(events.SessionDrained(session_id))

    def clear(self) -> None:
        """The connection is over."""
        self._table.clear()
        self._touched.clear()
        self._ending.clear()

    # -- what comes on a CONNECT stream --------------------------------------------------------------------------------

    def on_answer(self, session_id: int, headers: RawHeaders, now: float) -> None:
        """The head of a server's final answer."""
        entry = self._table[session_id]
        if entry.is_answered or entry.machine.state is SessionState.CLOSED:
            return
        try:
            answer = parse_answer(headers, entry.request.protocols)
        except Http3Error as error:
            entry.machine.fail(error)
        else:
            if answer is not None:
                entry.is_answered = True
                self._queue.append(events.SessionAnswered(session_id, answer))
                if answer.is_accepted:
                    entry.machine.accept(now)
                else:
                    entry.machine.refuse(answer.status, now)
        self.touch(entry.machine)

    def on_data(self, session_id: int, run: Sequence[bytes], size: int, now: float, *, is_ended: bool) -> None:
        """Content of the CONNECT stream."""
        machine = self._table[session_id].machine
        machine.receive(b"".join(run), now)
        self._quic.consumed(session_id, size)
        if is_ended:
            machine.receive_end(now)
        self.touch(machine)

    def on_reset(self, session_id: int, code: int, now: float) -> None:
        """The peer abandoned its half of the CONNECT stream."""
        machine = self._table[session_id].machine
        machine.receive_reset(code, now)
        self.touch(machine)

    def on_stop(self, session_id: int, code: int, now: float) -> None:
        """The peer reads no more of the CONNECT stream."""
        entry = self._table[session_id]
        entry.is_sending, entry.pending = False, b""
        if entry.is_answered or self._is_client:
            entry.machine.receive_stop(code, now)
        else:  # it wants no answer
            entry.machine.receive_reset(code, now)
        self.touch(entry.machine)

    def on_failed(self, session_id: int, error: Http3Error) -> None:
        """The peer broke a rule of HTTP/3 on the CONNECT stream, which was reset and stopped for it."""
        entry = self._table[session_id]
        entry.is_sending, entry.pending = False, b""
        entry.machine.fail(error)
        self.touch(entry.machine)

    # -- what is to be done ------------------------------------------------------------------------------------------------

    def touch(self, machine: SessionMachine) -> None:
        """A session may have something to say."""
        self._touched[machine.session_id] = None

    def serve(self, now: float) -> None:
        """Hear what sessions have to say, and let their CONNECT streams take what they owe the peer."""
        while self._touched:
            touched = list(self._touched)
            self._touched.clear()
            for session_id in touched:
                self._serve(session_id, now)

    def next_deadline(self) -> float | None:
        """When the first peer has had its time to end a CONNECT stream."""
        return min(self._ending.values(), default=None)

    def handle_deadline(self, now: float) -> None:
        """Time has passed."""
        for session_id in [session_id for session_id, deadline in self._ending.items() if deadline <= now]:
            entry = self._table[session_id]
            entry.machine.handle_deadline(now)
            if entry.machine.reset_code is not None:
                self.touch(entry.machine)
            else:  # the peer has ended it, and does not read how we do
                self._http3.reset(session_id, Http3Code.H3_NO_ERROR)
                self._drop(session_id, Http3Code.H3_NO_ERROR)

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _live_count(self) -> int:
        return sum(entry.machine.state is not SessionState.CLOSED for entry in self._table.values())

    def _add(self, session_id: int, request: ConnectRequest) -> None:
        machine = SessionMachine(
            session_id,
            is_client=self._is_client,
            peer_limits=self._settings.limits,
            config=self._limits.session,
        )
        self._table[session_id] = _Entry(machine, request)
        self._quic.set_priority(session_id, 0, is_urgent=True)

    def _answer(self, session_id: int, answer: Answer, *, is_ended: bool) -> _Entry | None:
        """Send an answer; None where the client has given up meanwhile."""
        entry = self._table.get(session_id)
        if entry is None or entry.machine.state is SessionState.CLOSED:
            return None
        if entry.is_answered or self._is_client:
            raise LocalProtocolError(
                f"nobody waits for an answer in session {session_id}", field="session_id", size=session_id
            )
        headers = encode_answer(answer, entry.request, self._settings.require())
        if not self._quic.send_room(session_id):
            return None  # the client has stopped our half, and that is about to be told
        self._http3.send_head(session_id, headers, is_ended=is_ended)
        entry.is_answered = True
        return entry

    def _refuse_at_once(self, session_id: int, request: ConnectRequest, answer: Answer) -> None:
        """Say no and forget: nothing is kept for those who ask too much."""
        try:
            self._http3.send_head(session_id, encode_answer(answer, request, self._settings.require()), is_ended=True)
        except LocalProtocolError:  # it stopped our half, or takes no heads of that size
            self._reject(session_id, Http3Code.H3_REQUEST_REJECTED)
        else:
            self._http3.release(session_id, Http3Code.H3_NO_ERROR)
            self._forget(session_id)

    def _reject(self, session_id: int, code: Http3Code) -> None:
        self._http3.reset(session_id, code)
        self._http3.release(session_id, code)
        self._forget(session_id)

    def _on_event(self, session_id: int, event: session_events.Event) -> None:
        match event:
            case session_events.Accepted():
                self._claim(session_id)
            case session_events.Drained():
                self._queue.append(events.SessionDrained(session_id))
            case session_events.StreamsAllowed(is_unidirectional):
                self._queue.append(events.StreamsAllowed(session_id, is_unidirectional))
            case session_events.DataAllowed():
                self._streams.on_data_allowed(session_id)
            case session_events.Abandoned(stream_ids, code):
                self._streams.abandon(stream_ids, code)
            case session_events.Closed(code, reason, closer):
                self._over(session_id)
                self._queue.append(events.SessionClosed(session_id, code, reason, closer))
            case session_events.Failed(error):
                self._over(session_id)
                self._queue.append(
                    events.SessionClosed(session_id, error.http3_code, str(error), events.Closer.LOST, error)
                )
            case _:
                self._over(session_id)  # refused: whoever did it knows, or got the answer

    def _over(self, session_id: int) -> None:
        self._router.refuse(session_id)
        self._quic.drop_datagrams(group_of(session_id))
        self._streams.forget_session(session_id)

    def _claim(self, session_id: int) -> None:
        """What came too early has come now."""
        machine = self._table[session_id].machine
        arrivals, datagrams = self._router.claim(session_id)
        for arrival in arrivals:
            self._streams.adopt(machine, arrival)
        if datagrams:
            self._queue.append(events.DatagramsReceived(session_id, datagrams))

    def _serve(self, session_id: int, now: float) -> None:
        entry = self._table.get(session_id)
        if entry is not None:
            for event in entry.machine.events():
                self._on_event(session_id, event)
            self._write(session_id, entry, now)

    def _write(self, session_id: int, entry: _Entry, now: float) -> None:
        machine = entry.machine
        if machine.reset_code is not None:
            self._http3.reset(session_id, machine.reset_code)
            self._drop(session_id, machine.reset_code)
            return
        if entry.is_sending:
            self._send_capsules(session_id, entry)
        if machine.is_over and not entry.is_sending:
            self._drop(session_id, Http3Code.H3_NO_ERROR)
        elif machine.ends_sending:
            self._ending.setdefault(session_id, now + self._limits.session.close_timeout)

    def _send_capsules(self, session_id: int, entry: _Entry) -> None:
        if not entry.is_answered and not self._is_client:
            return  # a client that ends its half before the answer: there is nothing to say but that
        data = entry.pending or entry.machine.to_send()
        while data:
            taken = self._http3.send_body(session_id, data)
            if taken < len(data):
                entry.pending = data[taken:]
                return
            entry.pending, data = b"", entry.machine.to_send()
        if entry.machine.ends_sending:
            self._http3.end(session_id)
            entry.is_sending = False

    def _drop(self, session_id: int, code: Http3Code) -> None:
        self._http3.release(session_id, code)
        del self._table[session_id]
        self._ending.pop(session_id, None)
        self._forget(session_id)

    def _forget(self, session_id: int) -> None:
        """Remember of a session that it was there."""
        self._router.refuse(session_id)
        self._gone[session_id] = None
        if len(self._gone) > self._limits.max_remembered_sessions:
            self._gone.popitem(last=False)

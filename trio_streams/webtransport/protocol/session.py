"""One session: from CONNECT to its end, by what is said on the CONNECT stream.

    CONNECTING ──accept──▶ OPEN ──drain──▶ DRAINING
        └──────refuse / end───┴──────end──────┴──▶ CLOSED

The machine reads and writes the CONNECT stream's DATA, and knows which streams belong to the session; their bytes pass it
by, as numbers. It never touches a stream: it says which are to be reset, and whether the CONNECT stream is to end or to be
reset, and its driver does it. The first cause of an end wins. What it owes the peer is marked, not queued, so it needs no
limit; what comes before the session is accepted waits, within one.

Spec: draft-ietf-webtrans-http3 §3, §4.7, §5, §6.
"""

from __future__ import annotations

from collections.abc import Iterator

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import capsules
from trio_streams.webtransport.protocol import session_events as events
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.flow import SessionFlow
from trio_streams.webtransport.protocol.session_config import SessionConfig
from trio_streams.webtransport.protocol.session_events import Event
from trio_streams.webtransport.protocol.session_states import TRANSITIONS, SessionState, Trigger
from trio_streams.webtransport.protocol.settings import SessionLimits

__all__ = ["TRANSITIONS", "SessionConfig", "SessionMachine", "SessionState", "Trigger"]


class SessionMachine:
    """One session, on either side.

    Attributes:
      state: how far it is.
      ends_sending: whether the CONNECT stream ends behind what `to_send` gave.
      reset_code: with what the CONNECT stream is to be reset and stopped; None for not at all. The first one stays.

    Args:
      session_id: the id of the CONNECT stream.
      is_client: which side this is.
      peer_limits: what the peer's settings allow us.
      config: the limits.
    """

    __slots__ = (
        "_config",
        "_deadline",
        "_events",
        "_flow",
        "_is_client",
        "_owes_close",
        "_owes_drain",
        "_parser",
        "_peer_closed",
        "_peer_ended",
        "_stop_code",
        "_streams",
        "_waiting",
        "ends_sending",
        "reset_code",
        "session_id",
        "state",
    )

    def __init__(
        self,
        session_id: int,
        *,
        is_client: bool,
        peer_limits: SessionLimits | None = None,
        config: SessionConfig | None = None,
    ) -> None:
        self._config = config if config is not None else SessionConfig()
        self._is_client = is_client
        self._flow = SessionFlow(self._config.limits, peer_limits if peer_limits is not None else SessionLimits())
        self._parser = capsules.CapsuleParser(self._config.max_skipped_capsule_bytes)
        self._waiting = bytearray()
        self._streams: dict[int, None] = {}
        self._events: list[Event] = []
        self._owes_drain = False
        self._owes_close: capsules.Close | None = None
        self._peer_closed = False
        self._peer_ended = False
        self._deadline: float | None = None
        self._stop_code: int | None = None
        self.session_id: int = session_id
        self.state: SessionState = SessionState.CONNECTING
        self.ends_sending: bool = False
        self.reset_code: Http3Code | None = None

    # -- for the driver -----------------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """Take the events, in order."""
        while self._events:
            batch, self._events = self._events, []
            yield from batch

    def to_send(self) -> bytes:
        """Take what goes on the CONNECT stream, whole capsules."""
        if self.state is SessionState.CONNECTING or self.reset_code is not None or self._stop_code is not None:
            return b""
        owed: list[capsules.Capsule] = []
        if self.state is not SessionState.CLOSED:
            owed += self._flow.take_capsules()
        if self._owes_drain:
            owed.append(capsules.Drain())
        if self._owes_close is not None:
            owed.append(self._owes_close)
        self._owes_drain, self._owes_close = False, None
        return b"".join(map(capsules.encode_capsule, owed))

    @property
    def is_over(self) -> bool:
        """Whether the CONNECT stream needs nothing more: a connection waits for that before it is closed."""
        return self.reset_code is not None or (self._peer_ended and self.ends_sending and self._owes_close is None)

    @property
    def stream_count(self) -> int:
        """Streams of the session that are not finished."""
        return len(self._streams)

    @property
    def has_flow_control(self) -> bool:
        """Whether both sides asked for flow control of sessions."""
        return self._flow.is_on

    def next_deadline(self) -> float | None:
        """When the peer has had its time to end the CONNECT stream; None while nothing is waited for."""
        return None if self.is_over else self._deadline

    def handle_deadline(self, now: float) -> None:
        """Time has passed."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        self._reset(Http3Code.H3_NO_ERROR)
        if self.state is not SessionState.CLOSED:  # it stopped us, and no CLOSE came behind
            self._end(events.Closed(self._stop_code or 0, "", events.Closer.LOST))

    # -- the beginning --------------------------------------------------------------------------------------------

    def accept(self, now: float) -> None:
        """The 2xx was sent, or arrived. Capsules that came before it are looked at now.

        Raises:
          LocalProtocolError: the session is open or over already.
        """
        self._advance(Trigger.ACCEPT, "accepted")
        self._events.append(events.Accepted())
        waiting = bytes(self._waiting)
        self._waiting.clear()
        self._parse(waiting, now)

    def refuse(self, status: int, now: float) -> None:
        """The final answer was another one, or will be.

        Raises:
          LocalProtocolError: the session is open or over already.
        """
        if self.state is not SessionState.CONNECTING:
            raise self._wrong_state("refused")
        self._finish_sending(now)
        self._end(events.Refused(status))

    # -- the CONNECT stream ---------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """DATA arrived on the CONNECT stream. Never raises for a peer's fault: `Failed` is then the last event."""
        if not data or self._peer_ended:
            return
        if self.state is not SessionState.CONNECTING:
            self._parse(data, now)
        elif len(self._waiting) + len(data) <= self._config.max_waiting_capsule_bytes:
            self._waiting += data
        else:
            self._fail(
                Http3Error(
                    "the peer sent too much before its session was accepted",
                    Http3Code.H3_EXCESSIVE_LOAD,
                    field="max_waiting_capsule_bytes",
                    size=len(self._waiting) + len(data),
                    limit=self._config.max_waiting_capsule_bytes,
                )
            )

    def receive_end(self, now: float) -> None:
        """The CONNECT stream's other half ended. Without CLOSE that is code 0; what waited is looked at."""
        if self._peer_ended:
            return
        if self.state is SessionState.CONNECTING:
            waiting = bytes(self._waiting)
            self._waiting.clear()
            self._parse(waiting, now)
        self._peer_ended = True
        if self.state is SessionState.CLOSED:
            return
        if self._parser.is_between:
            self._close_by_peer(capsules.Close(), now)
        else:
            self._fail(Http3Error("the peer ended a session within a capsule", Http3Code.H3_MESSAGE_ERROR))

    def receive_reset(self, code: int, now: float) -> None:
        """The peer reset the CONNECT stream: nobody says why the session is over."""
        self._peer_ended = True
        self._reset(Http3Code.H3_REQUEST_CANCELLED)
        if self.state is not SessionState.CLOSED:
            self._end(events.Closed(code, "", events.Closer.LOST))

    def receive_stop(self, code: int, now: float) -> None:
        """The peer reads no more of the CONNECT stream. It may do so beside its CLOSE, so that is waited for."""
        self._stop_code = code
        self._owes_drain, self._owes_close = False, None
        self._finish_sending(now)

    def fail(self, error: Http3Error) -> None:
        """The peer broke a rule elsewhere: in the heads of the CONNECT stream, or on a stream of the session."""
        self._fail(error)

    def drain(self) -> None:
        """Ask the peer to come to an end. Streams may still be opened, by both sides.

        Raises:
          LocalProtocolError: the session is not open.
        """
        self._advance(Trigger.DRAIN, "drained")
        self._owes_drain = True

    def close(self, code: int, reason: str, now: float) -> None:
        """End the session; its streams are abandoned. One that is not yet accepted is given up without a word.

        Args:
          code: the application's, 32 bits.
          reason: for people; sent up to 1,024 bytes.
          now: the time.

        Raises:
          LocalProtocolError: the session is over, or the code too large.
        """
        close = capsules.Close(code, reason)
        capsules.encode_capsule(close)
        if self.state is SessionState.CLOSED:
            raise self._wrong_state("closed")
        if self.state is SessionState.CONNECTING:
            self._give_up()
        else:
            self._owes_close = close if not self.ends_sending else None
            self._finish_sending(now)
        self._end(events.Closed(code, reason, events.Closer.LOCAL))

    # -- its streams ------------------------------------------------------------------------------------------------

    def may_open(self, *, is_unidirectional: bool) -> bool:
        """Whether the session lets us open a stream; if not, `StreamsAllowed` will come.

        A client may open streams before its session is accepted.

        Raises:
          LocalProtocolError: the session is over.
        """
        if self.state is SessionState.CLOSED:
            raise self._wrong_state("given a stream")
        return self._flow.may_open(is_unidirectional=is_unidirectional)

    def open_stream(self, stream_id: int) -> None:
        """We opened a stream.

        Raises:
          LocalProtocolError: the session is over, or the peer allows no more; see `may_open`.
        """
        if self.state is SessionState.CLOSED:
            raise self._wrong_state("given a stream")
        self._flow.count_opened(is_unidirectional=bool(stream_id & 2))
        self._streams[stream_id] = None

    def accept_stream(self, stream_id: int) -> bool:
        """The peer opened a stream.

        Returns:
          Whether it lives; else the session is over, and an `Abandoned` names it.
        """
        self._streams[stream_id] = None
        if self.state is SessionState.CLOSED:
            self._abandon()
            return False
        try:
            self._flow.count_accepted(is_unidirectional=bool(stream_id & 2))
        except Http3Error as error:
            self._fail(error)
            return False
        return True

    def finish_stream(self, stream_id: int) -> bool:
        """Both halves of a stream are over, and nobody holds it; unknown ones are nobody's fault.

        Returns:
          Whether `to_send` has a grant for that.
        """
        if stream_id not in self._streams:
            return False
        del self._streams[stream_id]
        is_ours = bool(stream_id & 1) is not self._is_client
        return not is_ours and self._flow.count_finished(is_unidirectional=bool(stream_id & 2))

    @property
    def sendable_bytes(self) -> int:
        """Bytes that the session lets its streams send now, without headers."""
        return self._flow.sendable_bytes

    def want_data(self) -> None:
        """A stream has more to send than `sendable_bytes`: `DataAllowed` will come."""
        self._flow.want_data()

    def count_sent(self, size: int) -> None:
        """Bytes were sent on a stream, behind its header.

        Raises:
          LocalProtocolError: they pass the limit.
        """
        self._flow.count_sent(size)

    def count_unsent(self, size: int) -> None:
        """Bytes that were counted as sent were dropped, since their stream was reset before."""
        if self._flow.count_unsent(size):
            self._events.append(events.DataAllowed())

    def count_received(self, size: int) -> None:
        """Bytes arrived on a stream, behind its header; on a reset those up to its final size, too."""
        try:
            self._flow.count_received(size)
        except Http3Error as error:
            self._fail(error)

    def count_consumed(self, size: int) -> bool:
        """Bytes were taken from a stream, or dropped with it; whether `to_send` has a grant for that."""
        return self._flow.count_consumed(size)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _parse(self, data: bytes, now: float) -> None:
        position = 0
        try:
            while position < len(data) and self.reset_code is None:
                if self._peer_closed:
                    self._reset(Http3Code.H3_MESSAGE_ERROR)  # draft-ietf-webtrans-http3 §6: nothing follows CLOSE
                    return
                capsule, position = self._parser.parse_next(data, position)
                if capsule is not None:
                    self._on_capsule(capsule, now)
        except Http3Error as error:
            self._fail(error)

    def _on_capsule(self, capsule: capsules.Capsule, now: float) -> None:
        if isinstance(capsule, capsules.Close):
            self._peer_closed = True
            self._close_by_peer(capsule, now)
        elif self.state is SessionState.CLOSED:
            return  # it crossed our CLOSE
        elif isinstance(capsule, capsules.Drain):
            if self.state is not SessionState.CONNECTING:
                self.state = TRANSITIONS[self.state, Trigger.DRAIN]
            self._events.append(events.Drained())
        elif isinstance(capsule, capsules.MaxStreams):
            if self._flow.receive_limit(capsule):
                self._events.append(events.StreamsAllowed(capsule.is_unidirectional))
        elif isinstance(capsule, capsules.MaxData) and self._flow.receive_limit(capsule):
            self._events.append(events.DataAllowed())

    def _close_by_peer(self, close: capsules.Close, now: float) -> None:
        if self.state is SessionState.CLOSED:
            return
        if self.state is SessionState.CONNECTING:
            self._give_up()
        self._finish_sending(now)
        self._end(events.Closed(close.code, close.reason, events.Closer.PEER))

    def _fail(self, error: Http3Error) -> None:
        """The peer broke a rule. After the end only its stream pays for it: the first cause has won."""
        self._reset(error.http3_code)
        if self.state is not SessionState.CLOSED:
            self._end(events.Failed(error))

    def _end(self, last: Event) -> None:
        self.state = TRANSITIONS[self.state, Trigger.END]
        self._waiting.clear()
        self._owes_drain = False
        self._abandon()
        self._events.append(last)

    def _abandon(self) -> None:
        if self._streams:
            self._events.append(events.Abandoned(tuple(self._streams)))
            self._streams.clear()

    def _reset(self, code: Http3Code) -> None:
        if self.reset_code is None:
            self.reset_code = code

    def _finish_sending(self, now: float) -> None:
        self.ends_sending = True
        if self._deadline is None:
            self._deadline = now + self._config.close_timeout

    def _give_up(self) -> None:
        """There is no answer yet, so nothing can be said on the stream."""
        self._reset(Http3Code.H3_REQUEST_CANCELLED if self._is_client else Http3Code.H3_REQUEST_REJECTED)

    def _advance(self, trigger: Trigger, what: str) -> None:
        try:
            self.state = TRANSITIONS[self.state, trigger]
        except KeyError:
            raise self._wrong_state(what) from None

    def _wrong_state(self, what: str) -> LocalProtocolError:
        return LocalProtocolError(f"session {self.session_id} cannot be {what}: it is {self.state.value}")

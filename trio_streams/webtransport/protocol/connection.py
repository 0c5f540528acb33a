"""One connection of WebTransport: HTTP/3, sessions and plain requests over QUIC, without I/O and without a clock.

Whoever drives it calls `receive` for each UDP datagram and `handle_deadline` when a deadline has come; after these, and after
any call that may make some, it takes the `events`, then sends `datagrams_to_send`, and takes the events again. Events are
made while they are taken, so an answer to one is part of what the next one is made from.

A fault of one stream ends its request or its session; only what HTTP/3 or the drafts call a connection error ends the
connection, and nothing raises for a peer's fault.

Spec: draft-ietf-webtrans-http3; RFC 9114; RFC 9220; RFC 9297.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.datagrams import encode_datagram, max_payload_bytes
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.events import Delivered, Event, StreamReceived
from trio_streams.webtransport.protocol.inbound import Inbound
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.port import Address, DrivenQuic
from trio_streams.webtransport.protocol.requests import Answer, ConnectRequest, RawHeaders
from trio_streams.webtransport.protocol.session import SessionMachine, SessionState
from trio_streams.webtransport.protocol.session_streams import group_of
from trio_streams.webtransport.protocol.sessions import Sessions
from trio_streams.webtransport.protocol.settings import PeerSettings

__all__ = ["ConnectionMachine"]

_ROUND_TRIP: Final = 0.5  # seconds, as long as none was measured


class ConnectionMachine:
    """One side of a connection.

    Args:
      quic: the connection below; on a client, `connect` is called on it already.
      is_client: which side this is.
      limits: what the connection may hold above QUIC.
    """

    def __init__(self, quic: DrivenQuic, *, is_client: bool, limits: WebTransportLimits | None = None) -> None:
        self._quic = quic
        self._is_client = is_client
        self._limits = limits if limits is not None else WebTransportLimits()
        self._now = 0.0
        self._inbound = Inbound(quic, is_client=is_client, limits=self._limits)
        self._streams = self._inbound.streams
        self._requests = self._inbound.requests

    # -- the endpoint and the link -----------------------------------------------------------------------------------

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        """Take a UDP datagram. A peer's fault does not raise."""
        self._now = now
        self._quic.receive(datagram, addr, now)

    def events(self) -> Iterator[Event]:
        """Take what has happened, in order."""
        inbound, streams = self._inbound, self._streams
        queue, table, touched = inbound.queue, streams.table, inbound.touched
        if queue or touched:
            yield from self._take()
        for event in self._quic.events():
            # What comes by the thousand goes through as it came: the bytes of a session's stream, and that ours are there.
            if type(event) is StreamReceived and (stream := table.get(event.stream_id)) is not None:
                if stream.is_counted:
                    streams.count_received(stream, event.run)
                if event.is_ended:
                    streams.receive_end(event.stream_id, stream)
                yield event
            elif type(event) is Delivered and (stream := table.get(event.stream_id)) is not None:
                streams.on_delivered(event.stream_id, stream)
                yield event
            else:
                inbound.take(event, self._now)
            if queue or touched:
                yield from self._take()
        inbound.finish()
        if queue or touched:
            yield from self._take()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent at once, and to where. It makes events, too: what was full has room."""
        self._now = now
        self._inbound.serve(self._now)
        return self._quic.datagrams_to_send(now)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, in seconds; None for never."""
        if self.is_over:
            return None
        deadlines = (self._quic.next_deadline(), self._inbound.next_deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def handle_deadline(self, now: float) -> None:
        """Note that time has passed."""
        self._now = now
        self._quic.handle_deadline(now)
        if not self._quic.is_closing:
            self._inbound.handle_deadline(now)

    @property
    def wants_flush(self) -> bool:
        """Whether the next flush has something to say beside acknowledgements and datagrams."""
        return bool(self._inbound.touched) or self._quic.wants_flush

    @property
    def is_ready(self) -> bool:
        """Whether the handshake is complete and the peer's settings are here."""
        return self._inbound.settings is not None and self._inbound.is_started

    @property
    def is_closing(self) -> bool:
        """Whether the connection is over, or about to be."""
        return self._quic.is_closing

    @property
    def is_over(self) -> bool:
        """Whether `ConnectionOver` was made."""
        return self._inbound.is_over

    @property
    def is_settled(self) -> bool:
        """Whether no session is open or about to be, and the peer has ended those that were: now `close` cuts nothing off."""
        return self._inbound.is_settled

    @property
    def peer_settings(self) -> PeerSettings | None:
        """What the peer's settings mean; None before they are here."""
        return self._inbound.settings

    @property
    def peer_went_away(self) -> bool:
        """Whether the peer takes no new requests and sessions."""
        return self._inbound.http3.peer_went_away

    @property
    def round_trip(self) -> float | None:
        """Seconds there and back, smoothed; None before the first measurement."""
        return self._quic.round_trip

    @property
    def host_connection_id(self) -> bytes:
        """The first connection id of this side; later ones are events."""
        return self._quic.host_connection_id

    def ping(self) -> None:
        """Make the peer answer, so that neither side takes a silence for the end."""
        self._quic.ping()

    def close(self, code: Http3Code = Http3Code.H3_NO_ERROR, reason: str = "") -> None:
        """Close the QUIC connection at once: what is open is lost."""
        self._quic.close(code, reason)

    def go_away(self) -> None:
        """Take no new sessions, ask the peer to end those that are open, and on a server take no new requests after a while."""
        self._inbound.go_away(self._now, self._quic.round_trip or _ROUND_TRIP)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def connect_session(self, request: ConnectRequest, now: float) -> int:
        """Ask for a session, on a client. `SessionAnswered` comes, or `SessionClosed`.

        Returns:
          Its id. Streams may be opened in it before the answer; should it be refused, they are over.

        Raises:
          LocalProtocolError: the connection is not ready, the peer went away or its limit of sessions or streams is reached,
            or the request is malformed.
          Http3Error: the peer's settings do not allow sessions.
        """
        self._now = now
        sessions = self._inbound.sessions
        if sessions is None or not self._is_client or self._quic.is_closing:
            why = "only clients do" if not self._is_client else "the connection is not ready, or over"
            raise LocalProtocolError(f"can't ask for a session: {why}")
        return sessions.connect(request)

    def accept_session(self, session_id: int, answer: Answer, now: float) -> None:
        """Let a session that was requested be open: its early streams and datagrams are events then.

        One that is over by then is no matter: `SessionClosed` says so, or did.

        Raises:
          LocalProtocolError: it was answered before, or the answer is no 2xx, too large, or names what was not offered.
        """
        self._now = now
        self._sessions(session_id).accept(session_id, answer, now)

    def refuse_session(self, session_id: int, answer: Answer, now: float) -> None:
        """Say no to a session that was requested; nothing more is heard of it. One that is over by then is no matter.

        Raises:
          LocalProtocolError: it was answered before, or the answer is not final, a 2xx, or too large.
        """
        self._now = now
        self._sessions(session_id).refuse(session_id, answer, now)

    def session(self, session_id: int) -> SessionMachine | None:
        """A session to look at; None for one that is not there, or not any more."""
        sessions = self._inbound.sessions
        return sessions.get(session_id) if sessions is not None else None

    def drain_session(self, session_id: int) -> None:
        """Ask the peer to bring a session to its end. One that is over is no matter.

        Raises:
          LocalProtocolError: the session is not open yet.
        """
        if (sessions := self._inbound.sessions) is not None:
            sessions.drain(session_id)

    def close_session(self, session_id: int, code: int, reason: str, now: float) -> None:
        """End a session: its streams are reset and stopped, and the peer hears why. One that is over is no matter.

        Args:
          session_id: which.
          code: the application's, 32 bits.
          reason: for people; sent up to 1,024 bytes.
          now: seconds.

        Raises:
          LocalProtocolError: the code is too large.
        """
        self._now = now
        if (sessions := self._inbound.sessions) is not None:
            sessions.close(session_id, code, reason, now)

    def undelivered_streams(self, session_id: int) -> int:
        """How many streams of a session have an end of ours that is not acknowledged yet; released ones count, too.

        `close_session` cuts them off; whoever wants them to arrive waits, looking again at each `Delivered`.
        """
        return self._streams.undelivered(session_id)

    # -- streams of sessions -----------------------------------------------------------------------------------------

    # A stream whose session is over is no matter to any of these: `send` takes nothing, and counts say 0.

    def can_open(self, session_id: int, *, is_unidirectional: bool) -> bool:
        """Whether a stream may be opened now: QUIC has credit, and the session. If not, `StreamsAllowed` follows."""
        machine = self.session(session_id)
        if machine is None or machine.state is SessionState.CLOSED:
            return False
        if not machine.may_open(is_unidirectional=is_unidirectional):
            self._inbound.touch(machine)
            return False
        if not self._quic.streams_available(unidirectional=is_unidirectional):
            self._inbound.want_stream(session_id, is_unidirectional=is_unidirectional)
            return False
        return True

    def open_stream(self, session_id: int, *, is_unidirectional: bool, priority: int = 0) -> int:
        """Open a stream; the peer learns of it with the next flush. It is to be released once.

        Args:
          session_id: whose.
          is_unidirectional: which kind.
          priority: its send order in the session: higher goes first, strictly.

        Returns:
          Its id.

        Raises:
          LocalProtocolError: the session is over, or `can_open` says no.
        """
        machine = self.session(session_id)
        if machine is None:
            raise LocalProtocolError(f"there is no session {session_id}", field="session_id", size=session_id)
        return self._streams.open(machine, is_unidirectional=is_unidirectional, priority=priority)

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Let a stream take bytes, as many as buffers and the session's credit have room for.

        Returns:
          How many were taken. If not all were, `Writable` comes.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped.
        """
        return self._streams.send(stream_id, data)

    def end(self, stream_id: int) -> None:
        """End our half behind what it took; `Delivered` comes when the peer has all of it, even if it is released before.

        Raises:
          LocalProtocolError: our half was ended, reset or stopped.
        """
        self._streams.end(stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        """Abandon our half; the header that says whose stream it is still arrives. A half that is over is no matter.

        Args:
          stream_id: which.
          code: the application's, 32 bits.

        Raises:
          LocalProtocolError: the code is too large, or the stream has no half of ours.
        """
        self._streams.reset(stream_id, code)

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half, and drop what is unread of it. A half that is over is no matter.

        Args:
          stream_id: which.
          code: the application's, 32 bits.

        Raises:
          LocalProtocolError: the code is too large, or the peer has no half of the stream.
        """
        self._streams.stop(stream_id, code)

    def consumed(self, stream_id: int, size: int) -> None:
        """The reader took bytes of a session's stream, or of a plain request's content: the peer may send as much more."""
        stream = self._streams.table.get(stream_id)
        if stream is not None:
            self._streams.consumed(stream, stream_id, size)
        elif stream_id in self._requests:
            self._quic.consumed(stream_id, size)

    def release(self, stream_id: int, code: int = 0) -> None:
        """Be done with a stream, or with a plain request, once for each. What our half took still leaves, if it was ended.

        A half of ours that was neither ended nor reset is reset, and one of the peer's that has no end yet is stopped.

        Args:
          stream_id: which.
          code: the application's, for both; a plain request's are reset and stopped with H3_REQUEST_CANCELLED, or what
            HTTP/3 asks for.
        """
        if stream_id in self._streams.table:
            self._streams.release(stream_id, code)
        elif stream_id in self._requests:
            self._requests.release(stream_id)

    def set_priority(self, stream_id: int, priority: int) -> None:
        """Let a session's stream go before those of the session that have a lower priority."""
        self._streams.set_priority(stream_id, priority)

    def unsent_bytes(self, stream_id: int) -> int:
        """What a stream, or a plain request, took and never sent; 0: all has left."""
        if stream_id in self._requests:
            return self._quic.unsent_bytes(stream_id) + self._inbound.http3.unsent_bytes(stream_id)
        return self._quic.unsent_bytes(stream_id) if stream_id in self._streams.table else 0

    # -- datagrams -----------------------------------------------------------------------------------------------------

    def send_datagram(self, session_id: int, payload: bytes, now: float) -> None:
        """Let a datagram leave with the next flush. It may be lost, and the oldest ones are dropped if too many wait.

        Raises:
          LocalProtocolError: it is larger than `max_datagram_size`, or the session is over or not open yet.
        """
        sessions, quic = self._inbound.sessions, self._quic
        if sessions is None or sessions.get_open(session_id) is None:
            raise LocalProtocolError(
                f"can't send a datagram: session {session_id} is not open", field="session_id", size=session_id
            )
        data = encode_datagram(session_id, payload, quic.max_datagram_size or 0)
        quic.send_datagram(data, now, group=group_of(session_id))

    def max_datagram_size(self, session_id: int) -> int | None:
        """The largest payload that `send_datagram` takes now; None where the peer takes no datagrams."""
        most = self._quic.max_datagram_size
        return None if most is None else max_payload_bytes(session_id, most)

    # -- plain requests --------------------------------------------------------------------------------------------------

    # `consumed`, `unsent_bytes`, `release` and the events `Writable` and `Delivered` are those of streams.

    def open_request(self) -> int:
        """Open the stream of a plain request, on a client; its head comes first.

        Returns:
          Its id, to be released once.

        Raises:
          LocalProtocolError: the connection is not ready, the peer went away or allows no more streams, or `max_requests`
            are open.
        """
        if not self.is_ready or self._quic.is_closing:
            raise LocalProtocolError("can't send a request: the connection is not ready, or over")
        return self._requests.open()

    def send_head(self, stream_id: int, headers: RawHeaders, *, is_ended: bool = False) -> None:
        """Send the head of a request, or of its answer, interim ones first."""
        self._requests.send_head(stream_id, headers, is_ended=is_ended)

    def send_body(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Let a message take content; how many bytes were taken. If not all were, `Writable` comes."""
        return self._requests.send_body(stream_id, data)

    def send_trailers(self, stream_id: int, headers: RawHeaders) -> None:
        """Send fields behind the content, which ends the message."""
        self._requests.send_trailers(stream_id, headers)

    def end_body(self, stream_id: int) -> None:
        """End the message."""
        self._requests.end(stream_id)

    def abandon(self, stream_id: int, code: Http3Code) -> None:
        """Reset our half of a request's stream and stop the peer's; halves that are over are no matter."""
        self._requests.abandon(stream_id, code)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _take(self) -> Iterator[Event]:
        queue = self._inbound.queue
        self._inbound.serve(self._now)
        while queue:
            yield queue.popleft()
            if not queue and self._inbound.touched:
                self._inbound.serve(self._now)

    def _sessions(self, session_id: int) -> Sessions:
        if (sessions := self._inbound.sessions) is None:
            raise LocalProtocolError(f"there is no session {session_id}", field="session_id", size=session_id)
        return sessions

"""The Trio side of one connection, without a socket: who hears of what its machine has found.

Whoever drives it feeds it datagrams and deadlines, and calls `dispatch`, which tells sessions, streams and requests, and
never waits. Users' tasks touch the machine synchronously, and `kick` whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError
from trio_streams.errors import ConnectionLost, RemoteProtocolError, forget_frames, translate
from trio_streams.webtransport.link_events import LinkEvents
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.port import Address
from trio_streams.webtransport.protocol.requests import ConnectRequest, RawHeaders
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_offer import Asking
from trio_streams.webtransport.session_request import SessionRequest
from trio_streams.webtransport.sinks import RequestSink, StreamSink
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream

if TYPE_CHECKING:
    from trio_streams.webtransport.driven import Attachment

__all__ = ["Link"]


class Link(LinkEvents):
    """Sessions and requests on one connection.

    Args:
      machine: does the protocol.
      peer: the other end, for people.
      config: limits and timeouts.
      is_client: which side this is.

    Attributes:
      lost: why the connection is over, if it is.
      kick: asks for a flush; does nothing where nobody drives the connection.
      hurry: asks for a flush in the next tick, as what ends a session or a half does.
      on_session: on a server, told of each request for a session, without waiting; where there is none, they are refused
        with 404.
      on_request: told of each plain request, without waiting; it calls `take_request`. Where there is none, they are
        answered with 404.
      on_over: told once when the connection is over, without waiting.
    """

    __slots__ = ()

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
            self.kick_if_wanted()

    def kick_if_wanted(self) -> None:
        """Ask for a flush after something that seldom has anything to say to the peer."""
        if self.machine.wants_flush:
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

    def refuse_request(self, stream_id: int, headers: RawHeaders) -> None:
        """Answer a plain request that nobody takes; a client that refuses the answer, or takes none of that size, gets none.

        Args:
          stream_id: the request's.
          headers: the whole answer.
        """
        try:
            self.machine.send_head(stream_id, headers, is_ended=True)
        except LocalProtocolError:
            self.machine.abandon(stream_id, Http3Code.H3_REQUEST_REJECTED)
        self.machine.release(stream_id)
        self.kick()

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

    # -- for the endpoint -------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing will be sent or received any more."""
        return self.machine.is_over

    def attach(self, attachment: Attachment) -> None:
        """Learn of its place at the endpoint."""
        self._attachment = attachment
        self.kick: Callable[[], None] = attachment.kick
        self.hurry: Callable[[], None] = attachment.hurry
        attachment.add_connection_id(self.machine.host_connection_id)

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        """Take a UDP datagram."""
        self._heard_at = now
        self.machine.receive(datagram, addr, now)

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

"""A session: streams of both kinds and datagrams between two applications, and a nursery for what works with them.

Its methods await only what happens in this process. What the machine has found comes from the link, by the `on_` methods,
which never wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVarTuple, Unpack

import attrs
import trio

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.datagram_inbox import DatagramInbox
from trio_streams.webtransport.ending import Closer, SessionClose, cause_of_end
from trio_streams.webtransport.incoming import Incoming, Opening
from trio_streams.webtransport.protocol.error_codes import to_http3
from trio_streams.webtransport.stream_half import OverCause
from trio_streams.webtransport.streams import (
    Data,
    StreamType,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)

if TYPE_CHECKING:
    from trio_streams.webtransport.link import Link
    from trio_streams.webtransport.protocol import events
    from trio_streams.webtransport.protocol.requests import Answer
    from trio_streams.webtransport.session_request import SessionRequest
    from trio_streams.webtransport.sinks import SessionSink

__all__ = ["SessionStatistics", "WebTransportSession"]

ArgsT = TypeVarTuple("ArgsT")


@attrs.frozen(kw_only=True)
class SessionStatistics:
    """A snapshot of a session, for people and for tests.

    Attributes:
      is_open: whether it is not over.
      open_streams: streams of it that are not over.
      waiting_streams: those of them that the peer opened and nobody has taken.
      streams_opened: by us, since the session began.
      streams_accepted: opened by the peer.
      unread_bytes: what arrived on its streams and was not read.
      datagrams_sent: given to the connection; it may have dropped the oldest.
      datagrams_received: that arrived.
      datagrams_dropped: of those, dropped because too many waited.
      datagrams_expired: of those, dropped because they waited too long.
      round_trip: seconds there and back on the connection; None before the first measurement.
    """

    is_open: bool
    open_streams: int
    waiting_streams: int
    streams_opened: int
    streams_accepted: int
    unread_bytes: int
    datagrams_sent: int
    datagrams_received: int
    datagrams_dropped: int
    datagrams_expired: int
    round_trip: float | None


class WebTransportSession:
    """A session with one peer. Given by `connect`, and to the handlers of `serve`; never made by hand.

    When the session is over, its streams and operations raise why: `SessionClosed` where the peer closed it,
    `ConnectionLost` where the world did, `trio.ClosedResourceError` where we did.

    Attributes:
      session_id: its number on the connection.
      request: what was asked for: path, origin, headers.
      protocol: the subprotocol that the server chose; None for none.
      answer_headers: fields of the server's answer.
      link: the connection under it, for what is built on sessions.
      cancel_scope: the scope of a server's handler; the end of the session by the peer or the world cancels it. On a client
        it is nobody's.
      nursery: the one that `start_soon` uses, while the session's block is entered.
    """

    __slots__ = (
        "__weakref__",
        "_bidirectional",
        "_close",
        "_closed",
        "_datagrams",
        "_drained",
        "_forget",
        "_incoming",
        "_over",
        "_sink",
        "_streams",
        "_streams_accepted",
        "_streams_opened",
        "_unidirectional",
        "answer_headers",
        "cancel_scope",
        "link",
        "nursery",
        "protocol",
        "request",
        "session_id",
    )

    def __init__(self, link: Link, session_id: int, request: SessionRequest, answer: Answer) -> None:
        self.link: Link = link
        self.session_id: int = session_id
        self.request: SessionRequest = request
        self.protocol: str | None = answer.protocol
        self.answer_headers: Mapping[str, str] = dict(answer.headers)
        self.cancel_scope: trio.CancelScope = trio.CancelScope()
        self.nursery: trio.Nursery | None = None
        self._streams: dict[int, StreamType] = {}
        self._forget = _forgetting(self._streams)
        self._streams_opened = 0
        self._streams_accepted = 0
        self._incoming = Incoming()
        self._sink: SessionSink | None = None
        self._bidirectional = Opening(link, session_id, is_unidirectional=False)
        self._unidirectional = Opening(link, session_id, is_unidirectional=True)
        self._datagrams = DatagramInbox(link.config)
        self._drained = trio.Event()
        self._closed = trio.Event()
        self._close: SessionClose | None = None
        self._over: OverCause | None = None

    def __repr__(self) -> str:
        return f"<WebTransportSession {self.session_id} {self.path!r} {'open' if self.is_open else 'closed'}>"

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The resource that was asked for, with its query."""
        return self.request.path

    @property
    def headers(self) -> Mapping[str, str]:
        """The fields of the request, names in lower case; of several with one name the last."""
        return dict(self.request.headers)

    @property
    def peer(self) -> str:
        """The other end, for people."""
        return self.link.peer

    @property
    def is_open(self) -> bool:
        """Whether the session is not over."""
        return self._over is None

    @property
    def streams(self) -> tuple[StreamType, ...]:
        """The streams that are not over, for views."""
        return tuple(self._streams.values())

    def get_stream(self, stream_id: int) -> StreamType | None:
        """A stream that is not over, by its number; None for one that is not there."""
        return self._streams.get(stream_id)

    def statistics(self) -> SessionStatistics:
        """A snapshot of the session."""
        datagrams = self._datagrams
        return SessionStatistics(
            is_open=self.is_open,
            open_streams=len(self._streams),
            waiting_streams=len(self._incoming),
            streams_opened=self._streams_opened,
            streams_accepted=self._streams_accepted,
            unread_bytes=sum(getattr(stream, "unread_bytes", 0) for stream in self._streams.values()),
            datagrams_sent=datagrams.sent_items,
            datagrams_received=datagrams.received_items,
            datagrams_dropped=datagrams.dropped_items,
            datagrams_expired=datagrams.expired_items,
            round_trip=self.link.machine.round_trip,
        )

    # -- streams ----------------------------------------------------------------------------------------------

    async def create_bidirectional_stream(self, *, priority: int = 0) -> WebTransportStream:
        """Open a stream in both directions, waiting until the peer allows another one; first come, first served.

        Args:
          priority: who sends first within the session: the higher, strictly.

        Raises:
          Exception: what ended the session; see the class.

        Cancellation: nothing was opened.
        """
        stream_id = await self._bidirectional.open(priority)
        stream = WebTransportStream(self.link, stream_id, self._forget, priority=priority)
        self._streams_opened += 1
        self._add(stream)
        return stream

    async def create_unidirectional_stream(self, *, priority: int = 0) -> WebTransportSendStream:
        """Open a stream to send on; else as `create_bidirectional_stream`.

        Cancellation: nothing was opened.
        """
        stream_id = await self._unidirectional.open(priority)
        stream = WebTransportSendStream(self.link, stream_id, self._forget, priority=priority)
        self._streams_opened += 1
        self._add(stream)
        return stream

    def incoming_streams(self) -> AsyncIterator[WebTransportStream | WebTransportReceiveStream]:
        """Iterate over the streams that the peer opens, both kinds in the order in which they come.

        What nobody takes counts against the number of streams that the peer may open. The loop ends when the peer closes
        the session with code 0, or we close it; other ends raise. Streams that came before can still be taken.

        Cancellation: atomic; a cancelled step takes none.
        """
        return self._incoming

    async def accept_bidirectional_stream(self) -> WebTransportStream:
        """Take the next stream of this kind that the peer opened.

        Raises:
          Exception: what ended the session; streams that came before can still be taken.

        Cancellation: atomic.
        """
        return await self._incoming.take_one_of(WebTransportStream)

    async def accept_unidirectional_stream(self) -> WebTransportReceiveStream:
        """Take the next stream of this kind that the peer opened; else as `accept_bidirectional_stream`.

        Cancellation: atomic.
        """
        return await self._incoming.take_one_of(WebTransportReceiveStream)

    def hand_over(self, sink: SessionSink) -> None:
        """Have the peer's streams given to a sink, in place of `incoming_streams`.

        Args:
          sink: told of each stream, those that wait first; see `SessionSink`. Streams that were opened or taken before
            stay with whoever has them.

        Raises:
          LocalProtocolError: somebody else has them already.
        """
        if self._sink is not None:
            raise LocalProtocolError("can't hand over the peer's streams: somebody else serves them")
        self._sink = sink
        for stream in self._incoming.clear():
            if self._streams.pop(stream.stream_id, None) is not None:
                sink.on_stream_opened(stream.stream_id, isinstance(stream, WebTransportReceiveStream))
                self.link.replay(stream)
        if self._over is not None:
            sink.on_lost(self._over)

    # -- datagrams --------------------------------------------------------------------------------------------

    @property
    def max_datagram_size(self) -> int | None:
        """The largest datagram that `send_datagram` takes now, in bytes; None where the peer takes none."""
        return self.link.machine.max_datagram_size(self.session_id)

    def send_datagram(self, data: Data) -> None:
        """Let a datagram leave at once. It may be lost, and if too many wait for the network the oldest are dropped.

        Args:
          data: at most `max_datagram_size` bytes.

        Raises:
          LocalProtocolError: it is larger; the error has field, size and limit.
          Exception: what ended the session.
        """
        if self._over is not None:
            raise self._over()
        link, datagrams = self.link, self._datagrams
        link.machine.send_datagram(self.session_id, bytes(data), datagrams.now())
        datagrams.sent_items += 1
        link.kick()

    async def receive_datagram(self) -> bytes:
        """Take the oldest datagram that waits, waiting until one arrives.

        Raises:
          Exception: what ended the session; those that wait can still be taken.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        return await self._datagrams.take()

    def datagrams(self) -> AsyncIterator[bytes]:
        """Iterate over the datagrams that arrive; ends as `incoming_streams` does.

        Cancellation: atomic; a cancelled step takes nothing.
        """
        return self._datagrams

    # -- its life ---------------------------------------------------------------------------------------------

    def start_soon(
        self, function: Callable[[Unpack[ArgsT]], Awaitable[object]], *args: *ArgsT, name: object = None
    ) -> None:
        """Start a task that lives no longer than the session's block, which is cancelled if the task fails.

        Args:
          function: what it runs.
          args: its arguments.
          name: for people.
        """
        assert self.nursery is not None
        self.nursery.start_soon(function, *args, name=name)

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the session: its streams are reset and stopped at once, and the peer hears why. Idempotent.

        What was ended and is not delivered yet is cut off: leaving the block normally waits for it instead.

        Args:
          code: the application's, 32 bits.
          reason: for people; sent up to 1,024 bytes.

        Raises:
          LocalProtocolError: the code does not fit; nothing has changed.
        """
        to_http3(code)
        if self._over is not None:
            return
        self.link.machine.close_session(self.session_id, code, reason, trio.current_time())
        self._finish(SessionClose(code=code, reason=reason, closer=Closer.LOCAL), _closed_here)
        self.link.hurry()

    def drain(self) -> None:
        """Ask the peer to bring the session to its end; both sides may go on for a while, and open streams."""
        self.check_open()
        self.link.machine.drain_session(self.session_id)
        self.link.kick()

    async def wait_drained(self) -> None:
        """Wait until the peer asks to bring the session to its end, takes no new ones, or the session is over.

        Cancellation: atomic.
        """
        await self._drained.wait()

    async def wait_closed(self) -> SessionClose:
        """Wait until the session is over.

        Cancellation: atomic.
        """
        await self._closed.wait()
        assert self._close is not None
        return self._close

    def check_open(self) -> None:
        """Raise what ended the session.

        Raises:
          SessionClosed, ConnectionLost, trio.ClosedResourceError: the session is over.
        """
        if self._over is not None:
            raise self._over()

    # -- what the link reports --------------------------------------------------------------------------------

    def on_stream_opened(self, stream_id: int, is_unidirectional: bool) -> None:
        """The peer opened a stream."""
        self._streams_accepted += 1
        if self._sink is not None:
            self._sink.on_stream_opened(stream_id, is_unidirectional)
            return
        kind = WebTransportReceiveStream if is_unidirectional else WebTransportStream
        stream = kind(self.link, stream_id, self._forget, is_waiting=True)
        self._add(stream)
        self._incoming.push(stream)

    def on_streams_allowed(self, is_unidirectional: bool) -> None:
        """The peer allows more streams."""
        (self._unidirectional if is_unidirectional else self._bidirectional).on_allowed()
        if self._sink is not None:
            self._sink.on_streams_allowed(is_unidirectional)

    def before_flush(self) -> None:
        """What was sent is about to leave: whoever lets it come together hands it on."""
        if self._sink is not None:
            self._sink.on_flush()

    def on_datagrams(self, run: Sequence[bytes]) -> None:
        """Datagrams arrived."""
        self._datagrams.push_run(run)

    def on_drained(self) -> None:
        """The peer asks for an end."""
        self._drained.set()

    def on_closed(self, event: events.SessionClosed) -> None:
        """The session is over."""
        close = SessionClose(code=event.code, reason=event.reason, closer=event.closer)
        self._finish(close, cause_of_end(event, self.peer))

    def on_lost(self, over: OverCause) -> None:
        """The connection is over."""
        self._finish(SessionClose(code=0, reason="", closer=Closer.LOST), over)

    # -- inside -----------------------------------------------------------------------------------------------

    def _add(self, stream: StreamType) -> None:
        self._streams[stream.stream_id] = stream
        self.link.add_stream_sink(stream.stream_id, stream)

    def _finish(self, close: SessionClose, over: OverCause) -> None:
        if self._over is not None:
            return
        self._over, self._close = over, close
        if close.closer is not Closer.LOCAL:
            # Before the others: whoever waits in a handler is cancelled, and does not hear why.
            self.cancel_scope.cancel()
        for stream in self._streams.values():
            self.link.drop_stream_sink(stream.stream_id)
            stream.on_lost(over)
        self._streams.clear()
        is_clean = close.closer is Closer.LOCAL or (close.closer is Closer.PEER and not close.code)
        self._incoming.finish(over, is_clean=is_clean)
        self._datagrams.finish(over, is_clean=is_clean)
        self._bidirectional.finish(over)
        self._unidirectional.finish(over)
        if self._sink is not None:
            self._sink.on_lost(over)
            self._sink = None
        self._drained.set()
        self._closed.set()


def _forgetting(streams: dict[int, StreamType]) -> Callable[[int], None]:
    """What takes a stream out of a session's table. Each stream has it, and none holds its session by it."""

    def forget(stream_id: int) -> None:
        streams.pop(stream_id, None)

    return forget


def _closed_here() -> Exception:
    return trio.ClosedResourceError("this session was closed here")

"""The streams of a session: both kinds of them, and the two ends of a unidirectional one.

Each is Trio's byte stream, with the words of other WebTransport libraries beside Trio's. What a half does is in
`stream_sending` and `stream_receiving`; this file is what concerns the whole: how it is left, and when it is over.
"""

# Bases with slots of their own cannot be combined, so each class declares the slots of its halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast

import trio

from trio_streams.codes import Code
from trio_streams.core.states import FINISHED, HalfState, StreamState, project
from trio_streams.errors import as_rpc_error, split_cancelled
from trio_streams.webtransport.stream_half import Half, OverCause
from trio_streams.webtransport.stream_owning import Owning
from trio_streams.webtransport.stream_receiving import ReceiveHalf
from trio_streams.webtransport.stream_sending import Data as Data
from trio_streams.webtransport.stream_sending import SendHalf

if TYPE_CHECKING:
    from trio_streams.webtransport.link import Link

__all__ = [
    "Data",
    "StreamId",
    "StreamType",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]

StreamId: TypeAlias = int
"""A stream's number on its QUIC connection."""

Forget: TypeAlias = Callable[[int], None]

_WHOLE: Final = (
    "__weakref__",
    "_forget",
    "_is_closed",
    "_is_waiting",
    "_link",
    "_on_over",
    "_owner",
    "_receive_state",
    "_send_state",
    "errors",
    "stream_id",
)
_SENDING: Final = (
    "_is_full",
    "_is_sending",
    "_priority",
    "_send_over",
    "_writer",
    "bytes_sent",
    "write_seconds",
)
_RECEIVING: Final = (
    "_buffer",
    "_is_dropped",
    "_is_receiving",
    "_reader",
    "_receive_over",
    "_reset_code",
    "_unreported_bytes",
    "bytes_received",
    "read_seconds",
)


class _Whole(Half):
    """What all three have. Made by a session, never by hand.

    Attributes:
      stream_id: the stream's number on its QUIC connection.
      errors: operations that failed because of the peer, the world or a closed half.
    """

    __slots__ = ()

    _forget: Forget
    _is_waiting: bool

    def _begin(self, link: Link, stream_id: int, forget: Forget, *, is_waiting: bool) -> None:
        self._link = link
        self._is_waiting = is_waiting
        self._owner = None
        self._forget = forget
        self._is_closed = False
        self._on_over: Callable[[], None] | None = None
        self.stream_id: int = stream_id
        self.errors: int = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream_id} {self.state.value}>"

    @property
    def state(self) -> StreamState:
        """The state of both halves together; one that is not there counts as closed."""
        return project(self._send_state, self._receive_state)

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be written, and nothing more will be read."""
        return self.state is StreamState.CLOSED

    def call_when_over(self, callback: Callable[[], None]) -> None:
        """Have a function called once, without waiting, when both halves are over, or the connection is; at once if so.

        Args:
          callback: must not raise; one that was given before is forgotten.
        """
        self._on_over = callback
        if self.is_closed:
            self._note_over()

    def _note_over(self) -> None:
        callback, self._on_over = self._on_over, None
        if callback is not None:
            callback()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the block: normally as `aclose`; cancelled or by an exception as `abort` with its code."""
        self.leave(exc)
        if exc is None:
            await trio.lowlevel.checkpoint()

    def own(self) -> Owning:
        """Own the stream for a block that the peer can cancel: `with stream.own():`.

        The peer's STOP_SENDING and RESET_STREAM and the end of the session cancel the block, whatever it waits for, and the
        error that says so leaves it. For whoever makes bytes slowly: without, a writer hears of a STOP_SENDING when it
        writes, and a reader of a RESET_STREAM when it reads. Else the block is left as `async with stream:` is.

        Returns:
          A context manager; its value is the block's cancel scope.
        """
        return Owning(cast("StreamType", self))

    def set_owner(self, owner: Owning | None) -> None:
        """Whom the peer's STOP_SENDING and RESET_STREAM cancel."""
        self._owner = owner

    def leave(self, exc: BaseException | None) -> None:
        """Apply the exit policy of blocks: END, and STOP with code 0; RESET and STOP with the code of an exception.

        Args:
          exc: what leaves the block, or None.
        """
        if exc is not None:
            _, rest = split_cancelled(exc)
            self.abort(code=Code.CANCELLED if rest is None else as_rpc_error(rest).known_code)
        self._note_closed()

    def abort(self, *, code: int = 0) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def _note_closed(self) -> None:
        raise NotImplementedError

    def note_taken(self) -> None:
        """Somebody has taken the stream that the peer opened: from now on it is released when it is over."""
        self._is_waiting = False
        self._settle()

    def _settle(self) -> None:
        if self._is_waiting:
            return
        if self._send_state in FINISHED and self._receive_state in FINISHED:
            self._link.release_stream(self.stream_id)
            self._forget(self.stream_id)
            self._note_over()

    def on_lost(self, over: OverCause) -> None:
        raise NotImplementedError


class WebTransportSendStream(_Whole, SendHalf):
    """A unidirectional stream that we send on."""

    __slots__ = (*_WHOLE, *_SENDING)

    def __init__(self, link: Link, stream_id: int, forget: Forget, *, priority: int = 0) -> None:
        self._begin(link, stream_id, forget, is_waiting=False)
        self._begin_sending(HalfState.OPEN, priority)
        self._receive_state = HalfState.CLOSED

    @property
    def direction(self) -> Literal["send"]:
        """Which way it goes: "send"."""
        return "send"

    def abort(self, *, code: int = 0) -> None:
        """Abandon the stream with RESET_STREAM; see `reset`.

        Args:
          code: why, for the peer's application; 32 bits.
        """
        self.reset(code)

    async def aclose(self) -> None:
        """End the stream, in order: what was written is still delivered. Idempotent; always a checkpoint.

        Cancellation: it is ended even so.
        """
        self._note_closed()
        await trio.lowlevel.checkpoint()

    def _note_closed(self) -> None:
        self._is_closed = True
        self._close_sending()

    def on_lost(self, over: OverCause) -> None:
        """The session or the connection is over."""
        self._end_sending(over)
        self._note_over()


class WebTransportReceiveStream(_Whole, ReceiveHalf):
    """A unidirectional stream that we receive on."""

    __slots__ = (*_WHOLE, *_RECEIVING)

    def __init__(self, link: Link, stream_id: int, forget: Forget, *, is_waiting: bool = True) -> None:
        self._begin(link, stream_id, forget, is_waiting=is_waiting)
        self._begin_receiving(HalfState.OPEN, link.window_bytes)
        self._send_state = HalfState.CLOSED

    @property
    def direction(self) -> Literal["receive"]:
        """Which way it goes: "receive"."""
        return "receive"

    def abort(self, *, code: int = 0) -> None:
        """Refuse more with STOP_SENDING; see `stop`.

        Args:
          code: why, for the peer's application; 32 bits.
        """
        self.stop(code)

    async def aclose(self) -> None:
        """Let go of the stream: an unfinished one is stopped with code 0. Idempotent; always a checkpoint.

        Cancellation: it is let go of even so.
        """
        self._note_closed()
        await trio.lowlevel.checkpoint()

    def _note_closed(self) -> None:
        self._is_closed = True
        self._close_receiving()

    def on_lost(self, over: OverCause) -> None:
        """The session or the connection is over."""
        self._end_receiving(over)
        self._note_over()


class WebTransportStream(_Whole, SendHalf, ReceiveHalf, trio.abc.HalfCloseableStream):
    """A bidirectional stream."""

    __slots__ = (*_WHOLE, *_SENDING, *_RECEIVING)

    def __init__(
        self, link: Link, stream_id: int, forget: Forget, *, priority: int = 0, is_waiting: bool = False
    ) -> None:
        self._begin(link, stream_id, forget, is_waiting=is_waiting)
        self._begin_sending(HalfState.OPEN, priority)
        self._begin_receiving(HalfState.OPEN, link.window_bytes)

    @property
    def direction(self) -> Literal["bidirectional"]:
        """Which way it goes: "bidirectional"."""
        return "bidirectional"

    def abort(self, *, code: int = 0) -> None:
        """Abandon both halves: RESET_STREAM and STOP_SENDING.

        Args:
          code: why, for the peer's application; 32 bits.

        Raises:
          LocalProtocolError: the code does not fit; nothing has changed.
        """
        self.reset(code)
        self.stop(code)

    async def aclose(self) -> None:
        """Close both halves: ours is ended in order, an unfinished one of the peer's is stopped with code 0. Idempotent.

        Cancellation: the stream is closed even so.
        """
        self._note_closed()
        await trio.lowlevel.checkpoint()

    def _note_closed(self) -> None:
        self._is_closed = True
        self._close_sending()
        self._close_receiving()

    def on_lost(self, over: OverCause) -> None:
        """The session or the connection is over."""
        self._end_sending(over)
        self._end_receiving(over)
        self._note_over()


StreamType: TypeAlias = WebTransportStream | WebTransportSendStream | WebTransportReceiveStream
"""Any stream of a session."""

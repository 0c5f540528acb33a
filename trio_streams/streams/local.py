"""The in-process stream: one object whose two ends are a queue apart. How items move is in queue.py; here is how
streams begin and end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Generic, TypeVar

import trio

from trio_streams.codes import Code
from trio_streams.core.records import OK, Status
from trio_streams.core.states import HalfState, Trigger, advance
from trio_streams.errors import RpcError, StreamReset, StreamStopped, split_cancelled, unwrap_group
from trio_streams.streams.abc import StreamChunk, StreamStatistics
from trio_streams.streams.queue import QueueStream

__all__ = ["LocalStream", "open_stream"]

T = TypeVar("T")

_ids = itertools.count(1)


class LocalStream(QueueStream[T]):
    """A stream inside one process. Make one with `open_stream`; share it among the tasks of your nursery.

    After an ending, the operations fail as follows, for as long as anybody holds the stream. The first ending wins.

    | ending | items not yet read | receiving raises | sending raises |
    |---|---|---|---|
    | `end()`, drained | all were read | `trio.EndOfChannel` | `trio.ClosedResourceError` |
    | `end(status)` not OK, drained | all were read | `RpcError`, every time | `trio.ClosedResourceError` |
    | `error(exc)` | dropped | `exc` | `trio.ClosedResourceError` |
    | `reset(code, reason)` | dropped | `StreamReset` | `trio.ClosedResourceError` |
    | `stop(code, reason)` | dropped | `trio.ClosedResourceError` | `StreamStopped` |
    | `cancel(reason)` | dropped | `StreamReset` (CANCELLED) | `StreamStopped` (CANCELLED) |

    Tasks that are waiting when it happens are woken with the same exceptions, except that `end()` lets senders that
    already wait send their items.

    Attributes:
      id: a name, for people.
      priority: higher goes first, where a scheduler carries the stream on.
      high_water_mark: how many items wait before senders do; 0 makes every item a rendezvous.
      cancel_scope: the scope of the block that opened the stream.
    """

    __slots__ = ("_dropped", "_errored", "cancel_scope", "id", "priority")

    def __init__(self, id: str, high_water_mark: int, priority: int, cancel_scope: trio.CancelScope) -> None:  # noqa: A002
        super().__init__(high_water_mark)
        self.id: Final = id
        self.priority: Final = priority
        self.cancel_scope: Final = cancel_scope
        self._dropped = 0
        self._errored: Exception | None = None

    def __repr__(self) -> str:
        paused = ", paused" if self._paused else ""
        filling = f"{self.buffered_amount}/{self.high_water_mark}"
        return f"<LocalStream {self.id!r}: {self._state.value}{paused}, {filling} items>"

    # Endings

    def end(self, status: Status | None = None) -> None:
        """Finish the stream after what was accepted and what senders already wait to send. See `SendStream.end`."""
        state = advance(self._state, Trigger.END)
        if state is None:
            return
        self._state = state
        self._send_error = partial(_closed_here, self.id, state, None)
        self._status = status or OK
        self._settle()
        self._room.unpark_all()
        self._close_if_drained()

    def reset(self, code: Code = Code.CANCELLED, reason: str = "") -> None:
        """Abandon the stream from the sending side. See `SendStream.reset`."""
        self._abandon(Trigger.RESET, lambda: StreamReset(code, reason), None)

    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more from the receiving side. See `ReceiveStream.stop`."""
        self._abandon(Trigger.STOP, None, lambda: StreamStopped(code, reason), StreamStopped(code, reason))

    def error(self, exc: Exception) -> None:
        """Abandon the stream with an exception of your own, which every later receive raises.

        Args:
          exc: the exception.
        """
        traceback = exc.__traceback__
        self._abandon(Trigger.RESET, lambda: exc.with_traceback(traceback), None, exc)

    def cancel(self, reason: str = "") -> None:
        """Abandon both ends: drop the buffer and wake everybody. The body of the block is not cancelled.

        Args:
          reason: why, in words.
        """
        self._abandon_both(Code.CANCELLED, reason)

    def _abandon_both(self, code: Code, reason: str) -> None:
        self._abandon(Trigger.RESET, lambda: StreamReset(code, reason), lambda: StreamStopped(code, reason))

    def _abandon(
        self,
        trigger: Trigger,
        receive_error: Callable[[], Exception] | None,
        send_error: Callable[[], Exception] | None,
        errored: Exception | None = None,
    ) -> None:
        """None stands for the side that closed the stream: it is told that it did."""
        state = advance(self._state, trigger)
        if state is None:
            return
        if errored is None and receive_error is not None:
            errored = receive_error()
        here = partial(_closed_here, self.id, state, errored)
        self._receive_error, self._send_error = receive_error or here, send_error or here
        self._errored = errored
        self._dropped += self.buffered_amount
        self._finish(state)

    def _finish(self, state: HalfState) -> None:
        if state is HalfState.CLOSED:
            self._send_error = partial(_closed_here, self.id, state, None)
        super()._finish(state)

    async def aclose(self) -> None:
        """Let go of both ends, as leaving the block does: END, and STOP if anything was still unread. Idempotent.

        Cancellation: the ends are let go of even so.
        """
        self._let_go()
        await trio.lowlevel.checkpoint()

    def _leave(self, exc: BaseException | None) -> None:
        """Leave the block: the exit policy of `open_stream`."""
        if exc is None:
            self._let_go()
            return
        _, rest = split_cancelled(exc)
        if rest is None:
            self._abandon_both(Code.CANCELLED, "its block was cancelled")
            return
        cause = unwrap_group(rest)
        code = cause.known_code if isinstance(cause, RpcError) else Code.INTERNAL
        self._abandon_both(code, f"its block failed: {type(cause).__name__}: {cause}")

    def _let_go(self) -> None:
        self.end()
        self.stop(Code.OK, "the stream was closed with items unread")

    # The seed's words

    async def write(self, value: T) -> None:
        """`send`, in the seed's word."""
        await self.send(value)

    async def read(self) -> StreamChunk[T]:
        """`receive`, in the seed's word: a clean end is a chunk that is done, not an exception."""
        try:
            return StreamChunk(False, await self.receive())
        except trio.EndOfChannel:
            return StreamChunk(True)

    @property
    def state(self) -> HalfState:
        """Open, closing (ended, not yet drained), closed, or errored."""
        return self._state

    @property
    def readable(self) -> bool:
        """Whether receiving may still give an item, now or later."""
        return self._state is HalfState.OPEN or self._state is HalfState.CLOSING

    @property
    def writable(self) -> bool:
        """Whether sending is allowed; it may have to wait."""
        return self._state is HalfState.OPEN

    @property
    def closed(self) -> bool:
        """Whether the stream was ended and everything was read."""
        return self._state is HalfState.CLOSED

    @property
    def errored(self) -> Exception | None:
        """Why the stream was abandoned; None if it was not."""
        return self._errored

    @property
    def is_paused(self) -> bool:
        """Whether delivery is paused."""
        return self._paused

    @property
    def buffered_amount(self) -> int:
        """How many items wait in the buffer; those of waiting senders are not in it."""
        return self._channel_in.statistics().current_buffer_used

    def channel_statistics(self) -> trio.MemoryChannelStatistics:
        """What Trio says of the memory channel that the items wait in."""
        return self._channel_in.statistics()

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream. Items have no size in bytes here."""
        channel = self._channel_in.statistics()
        return StreamStatistics(
            id=self.id,
            send_state=self._state.value,
            receive_state=self._state.value,
            items_sent=self._received + channel.current_buffer_used + self._dropped,
            items_received=self._received,
            buffered_items=channel.current_buffer_used,
            tasks_waiting_send=channel.tasks_waiting_send,
            tasks_waiting_receive=len(self._readers),
            window_items=self.high_water_mark,
        )


def _closed_here(name: str, state: HalfState, errored: Exception | None) -> Exception:
    """Without the stream: what a stream keeps must not keep the stream, or only the collector of cycles could free it."""
    error = trio.ClosedResourceError(f"stream {name!r} is {state.value}")
    error.__cause__ = errored
    return error


class open_stream(Generic[T]):  # noqa: N801 - read as a verb, like trio.open_memory_channel, and takes [T] like it
    """Open an in-process stream for one block: `async with open_stream[int](high_water_mark=2) as stream:`.

    Nothing outlives the block. However it is left, the stream is finished then, every waiting task is woken, and later
    operations fail as the table of `LocalStream` says:

    - Normally: END. If everything was read, receivers elsewhere get `trio.EndOfChannel`. If not, the rest is dropped and
      the stream is stopped with OK: senders elsewhere get `StreamStopped`, and receivers `trio.ClosedResourceError`, since
      an end that hides a loss would not be clean. To leave a loop early is to leave the block early.
    - Cancelled: both ends are abandoned with CANCELLED, as by `cancel()`.
    - By an exception: both ends are abandoned with INTERNAL (or the code of an `RpcError`) and the exception's text.

    A stream that is finished already stays as it is.

    Args:
      id: a name, for people; made up if None.
      high_water_mark: how many items wait before senders do; 0 makes every item a rendezvous.
      priority: higher goes first, where a scheduler carries the stream on.

    Raises:
      ValueError: the mark is negative.

    Cancellation: entering and leaving are no checkpoints. The block is a cancel scope, `stream.cancel_scope`.
    """

    __slots__ = ("_high_water_mark", "_id", "_priority", "_stream")

    _stream: LocalStream[T]

    def __init__(self, id: str | None = None, high_water_mark: int = 16, priority: int = 0) -> None:  # noqa: A002
        if high_water_mark < 0:
            raise ValueError(f"high_water_mark must be at least 0, not {high_water_mark!r}")
        self._id = f"stream-{next(_ids)}" if id is None else id
        self._high_water_mark = high_water_mark
        self._priority = priority

    async def __aenter__(self) -> LocalStream[T]:
        scope = trio.CancelScope()
        self._stream = LocalStream(self._id, self._high_water_mark, self._priority, scope)
        scope.__enter__()
        return self._stream

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._stream._leave(exc)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - one idea, two classes
        return self._stream.cancel_scope.__exit__(exc_type, exc, traceback)

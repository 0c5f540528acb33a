"""Those who read a broadcast: an exchange that its host writes to, and a subscriber in this process.

Both are positions in the broadcast's log, and the same policies hold for both.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import trio

from trio_streams.codes import Code
from trio_streams.errors import StreamReset
from trio_streams.streams.pace import Pace
from trio_streams.wire import sse
from trio_streams.wire.http1_body import encode_chunk

if TYPE_CHECKING:
    from trio_streams.service.broadcast import Broadcast

__all__ = ["EventReader", "LagPolicy", "Reader", "Subscription"]

T = TypeVar("T")

_END: Final = sse.encode_event(b"{}", event="end")


class LagPolicy(enum.Enum):
    """What happens to a reader that is a window behind."""

    WAIT = "wait"
    """The publisher waits for it, until its host gives it up."""
    DROP = "drop"
    """It misses the oldest items, and is told how many."""
    DISCONNECT = "disconnect"
    """Its answer ends. A browser's EventSource comes back, and goes on where it was."""


def dropped_event(count: int | None) -> bytes:
    """Tells a reader of events that some are missing; how many, where that is known."""
    data = b'{"dropped":%s}' % (b"null" if count is None else b"%d" % count)
    return sse.encode_event(data, event="dropped")


class Reader(Generic[T]):
    """A position in a broadcast's log.

    Attributes:
      policy: what happens when it is too far behind.
      run: the number of the run that it takes next.
      item: the number of its next item.
      limit_bytes: how far behind is too far.
      is_behind: whether the broadcast has to look at how far.
      is_over: whether it has fallen behind and takes nothing more.
      pull: to be called when there is more for it; None while nobody takes anything.
    """

    __slots__ = ("_broadcast", "is_behind", "is_over", "item", "limit_bytes", "policy", "pull", "run")

    def __init__(self, broadcast: Broadcast[T], policy: LagPolicy) -> None:
        self._broadcast = broadcast
        self.policy: LagPolicy = policy
        self.run: int = broadcast.log.end_run
        self.item: int = broadcast.log.end_item
        self.limit_bytes: int = broadcast.config.window_bytes
        self.is_behind: bool = False
        self.is_over: bool = False
        self.pull: Callable[[], None] | None = None

    @property
    def lag_bytes(self) -> int:
        """How far behind it is."""
        return self._broadcast.log.lag_bytes(self.run)

    def skip_excess(self) -> int:
        """Where more than the limit waits, go on behind the excess; how many items are missed by that."""
        log = self._broadcast.log
        if self.policy is not LagPolicy.DROP or log.lag_bytes(self.run) <= self.limit_bytes:
            return 0
        self.run = log.run_within(self.run, self.limit_bytes)
        missed = log.run(self.run).first - self.item
        self.item += missed
        self._broadcast.count_dropped(missed)
        return missed

    def attach(self, pull: Callable[[], None]) -> None:
        """Begin to take; see `BodySource`."""
        self.pull = pull

    def start_at(self, run: int) -> None:
        """Begin with an earlier run. As far as that is behind it may be, until it has caught up."""
        log = self._broadcast.log
        if run < log.end_run:
            self.run = run
            self.item = log.run(run).first
            self.is_behind = True
            self.limit_bytes += log.lag_bytes(run)

    def moved(self, run: int, item: int) -> None:
        """Everything before this has been taken."""
        self.run = run
        self.item = item
        if self.is_behind:
            self._broadcast.handle_moved(self)


class EventReader(Reader[T]):
    """A reader whose client gets events; the source of an exchange's body (`BodySource`)."""

    __slots__ = ("_has_said_end", "_pending")

    def __init__(self, broadcast: Broadcast[T], policy: LagPolicy) -> None:
        super().__init__(broadcast, policy)
        self._pending = b""
        self._has_said_end = False

    @property
    def is_ended(self) -> bool:
        """See `BodySource`."""
        return self.is_over or self._has_said_end

    def add(self, data: bytes) -> None:
        """Have something said before anything else: a notice, or a part of one run."""
        self._pending += data

    def add_comment(self, comment: bytes) -> None:
        """Have a comment said, if nothing else is waiting."""
        self._pending = self._pending or comment

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        """See `BodySource`."""
        log = self._broadcast.log
        number = self.run
        if log.end_run - number == 1 and not self._pending and not self.is_over:
            # The usual case, a thousand times for each publication: what has just come, and nothing else.
            run = log.newest
            self.moved(number + 1, log.end_item)
            return run.encoded(is_chunked=is_chunked)
        return self._take(is_chunked=is_chunked)

    def _take(self, *, is_chunked: bool) -> bytes:
        log = self._broadcast.log
        if self.is_over:
            return b""
        if self.run < log.end_run and (missed := self.skip_excess()):
            self._pending += dropped_event(missed)
        if self._pending:
            data, self._pending = self._pending, b""
        elif self.run < log.end_run:
            data, number = log.gather(self.run, is_chunked=is_chunked)
            self.moved(number, log.end_item if number == log.end_run else log.run(number).first)
            return data
        elif self._broadcast.is_ended and not self._has_said_end:
            self._has_said_end = True
            data = _END
        else:
            return b""
        return encode_chunk(data) if is_chunked else data


class Subscription(Reader[T], trio.abc.ReceiveChannel[T]):
    """What a subscriber in this process reads: `async with broadcast.subscribe() as items: async for item in items`.

    One task reads; others may close it.

    Attributes:
      dropped_items: how many it has missed so far, where its policy is `DROP`.
    """

    __slots__ = ("_is_closed", "_lot", "_pace", "dropped_items")

    def __init__(self, broadcast: Broadcast[T], policy: LagPolicy) -> None:
        super().__init__(broadcast, policy)
        self.dropped_items: int = 0
        self._is_closed = False
        self._lot = trio.lowlevel.ParkingLot()
        self._pace = Pace()
        self.attach(self._wake)

    async def receive(self) -> T:
        """Take the next item, waiting until one is published. The schedule point is amortised, as a stream's is.

        Raises:
          trio.EndOfChannel: the broadcast has ended, and everything was read.
          trio.ClosedResourceError: the subscription was closed.
          StreamReset: it fell behind and was disconnected (RESOURCE_EXHAUSTED).
        Cancellation: atomic; a cancelled call takes nothing.
        """
        await self._pace.step()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._lot.park()
                self._pace.restart()

    def receive_nowait(self) -> T:
        """Take the next item if there is one.

        Raises:
          trio.WouldBlock: there is none yet.
          Exception: as `receive`.
        """
        if self._is_closed:
            raise trio.ClosedResourceError("this subscription was closed")
        if self.is_over:
            raise StreamReset(Code.RESOURCE_EXHAUSTED, f"the reader was more than {self.limit_bytes} bytes behind")
        log = self._broadcast.log
        if self.run == log.end_run:
            if self._broadcast.is_ended:
                raise trio.EndOfChannel
            raise trio.WouldBlock
        self.dropped_items += self.skip_excess()
        run = log.run(self.run)
        item = run.items[self.item - run.first]
        is_last = self.item == run.first + len(run.items) - 1
        self.moved(self.run + is_last, self.item + 1)
        return item

    def close(self) -> None:
        """Take nothing more; whoever waits gets `ClosedResourceError`. Idempotent."""
        self._is_closed = True
        self._broadcast.remove(self)
        self._lot.unpark_all()

    async def aclose(self) -> None:
        """As `close`. Cancellation: it is closed."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _wake(self) -> None:
        self._lot.unpark_all()

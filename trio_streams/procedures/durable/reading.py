"""One caller of a run: a reader of its log, from a place on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.durable.end import read_end
from trio_streams.procedures.durable.place import Place
from trio_streams.service.replay_log import LogItems, RunLog
from trio_streams.wire.sse import Event

__all__ = ["Batch", "Reading"]


@attrs.frozen
class Batch:
    """Items that were read together.

    Attributes:
      position: of the log, where the read began.
      items_before: how many behind it the caller has already.
      items: what comes next.
    """

    position: int
    items_before: int
    items: Sequence[bytes]


class Reading:
    """Reads a run's items and its end.

    Args:
      log: of the run.
      place: where to begin.
      max_bytes: of items that it takes at a time, and holds.
      renew: finds the log again after `interrupt`: with the run going on, or ended as lost.
      recode: an item as it is stored to one as the caller wants it; None for as it is.

    Attributes:
      place: where it begins.
    """

    def __init__(
        self,
        log: RunLog,
        place: Place,
        *,
        max_bytes: int,
        renew: Callable[[], Awaitable[RunLog]],
        recode: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.place: Place = place
        self._log = log
        self._max_bytes = max_bytes
        self._renew = renew
        self._recode = recode
        self._position = place.position
        self._skip = place.items
        self._next: LogItems | None = None
        self._scope = trio.CancelScope()
        self._is_interrupted = False
        self._renewed_at = -1

    async def seek(self) -> None:
        """Find the place, which may come from a stranger; before anything is answered.

        Raises:
          RpcError: OUT_OF_RANGE, INVALID_ARGUMENT: there is no such place, or no longer.
        Cancellation: to be called again.
        """
        while True:
            got = await self._log.read(self._position, max_bytes=self._max_bytes)
            count = len(got.items) - got.is_closed  # the last one of a closed log is the end
            if self._skip > max(count, 0) or count < 0:
                if got.is_closed or not got.items:
                    raise RpcError(Code.OUT_OF_RANGE, f"{str(self.place)!r} is not in the run, or not yet")
                self._skip -= count
                self._position = got.next_position
                continue
            self.place = Place(self.place.run, self._position, self._skip)
            self._next = got
            return

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The items from the place on, as the caller wants them, until the run has ended.

        Raises:
          RunEnded: what it has ended with.
          RpcError: UNAVAILABLE: the log can't be read, or the run not be brought to an end; to come again may help.
        """
        recode = self._recode
        while True:
            got = await self._take()
            items = got.items[self._skip : -1 if got.is_closed else None]
            if items:
                yield Batch(self._position, self._skip, items if recode is None else list(map(recode, items)))
            if got.is_closed:
                if (error := read_end(got.items[-1] if got.items else b"")) is not None:
                    raise error
                return
            self._position, self._skip = got.next_position, 0

    async def events(self) -> AsyncGenerator[Event, None]:
        """The same as events, each with its id."""
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                prefix = f"{self.place.run}@{batch.position}."
                for number, item in enumerate(batch.items, batch.items_before + 1):
                    yield Event(item, id=f"{prefix}{number}")

    def interrupt(self) -> None:
        """The run is over without an end in its log: who waits there would wait for ever."""
        self._is_interrupted = True
        self._scope.cancel()

    async def _take(self) -> LogItems:
        got, self._next = self._next, None
        while got is None or not (got.items or got.is_closed):
            if got is not None:
                await self._wait()
            got = await self._log.read(self._position, max_bytes=self._max_bytes)
        return got

    async def _wait(self) -> None:
        if not self._is_interrupted:
            with trio.CancelScope() as self._scope:
                await self._log.wait_behind(self._position)
                return
        if self._renewed_at == self._position:
            raise RpcError(Code.UNAVAILABLE, "the run goes on and fails again, without an item in between")
        self._renewed_at = self._position
        self._is_interrupted = False
        self._log = await self._renew()

"""What a broadcast has said lately: one log for all readers, each of whom is a position in it.

A run is what one `publish` brought. It is encoded once, for the first reader who wants it, and shared by all: a reader
that is behind holds nothing of its own but a number, so a thousand stalled ones cost what one costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.wire import sse
from trio_streams.wire.http1_body import encode_chunk

__all__ = ["EventFormat", "Log", "Run", "RunFormat"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

GATHER_BYTES: Final = 16_384
"""Where joining more for one write stops paying: the kernel takes no more than this unsent."""


class RunFormat(Protocol[T_contra]):
    """How runs become bytes."""

    def encode(self, items: Sequence[T_contra], payloads: Sequence[bytes], first: int) -> bytes:
        """A run, or the end of one.

        Args:
          items: as they were published.
          payloads: the same as bytes.
          first: the number of the first of them.
        """
        ...


class EventFormat:
    """How payloads become server-sent events.

    Args:
      event: the type of each; None for none.
      epoch: tells this broadcast's ids from those of another one, or of an earlier process; None for events without ids.
    """

    def __init__(self, event: str | None, epoch: str | None) -> None:
        self._event = event
        self._epoch = epoch

    def encode(self, items: Sequence[object], payloads: Sequence[bytes], first: int) -> bytes:
        """See `RunFormat`."""
        epoch = self._epoch
        if epoch is None:
            return sse.encode_events(payloads, event=self._event)
        return b"".join(
            [
                sse.encode_event(payload, event=self._event, id=f"{epoch}-{number}")
                for number, payload in enumerate(payloads, first)
            ]
        )

    def parse_id(self, last_event_id: str) -> int | None:
        """The number in an id of ours; None for any other."""
        epoch, _, number = last_event_id.rpartition("-")
        is_ours = epoch == self._epoch and number.isascii() and number.isdigit() and len(number) < 20
        return int(number) if is_ours else None


class Run(Generic[T]):
    """Items that were published together.

    Attributes:
      first: the number of its first item.
      items: for readers in process.
      payloads: the same as bytes.
      start_bytes: what everything before it cost; an item costs its length plus 64.
      end_bytes: what everything cost with it.
    """

    __slots__ = ("_chunk", "_data", "_format", "end_bytes", "first", "items", "payloads", "start_bytes")

    def __init__(
        self, items: Sequence[T], payloads: Sequence[bytes], first: int, start_bytes: int, run_format: RunFormat[T]
    ) -> None:
        self.items: Sequence[T] = items
        self.payloads: Sequence[bytes] = payloads
        self.first: int = first
        self.start_bytes: int = start_bytes
        self.end_bytes: int = start_bytes + run_cost(payloads)
        self._format = run_format
        self._data: bytes | None = None
        self._chunk: bytes | None = None

    def encoded(self, *, is_chunked: bool) -> bytes:
        """The run as events, made once."""
        if is_chunked:
            if self._chunk is None:
                self._chunk = encode_chunk(self.encoded_from(self.first))
            return self._chunk
        if self._data is None:
            self._data = self.encoded_from(self.first)
        return self._data

    def encoded_from(self, number: int) -> bytes:
        """The events from an item on, not framed and not kept."""
        skipped = number - self.first
        return self._format.encode(self.items[skipped:], self.payloads[skipped:], number)


def run_cost(payloads: Sequence[bytes]) -> int:
    """What a run costs, in bytes."""
    return sum(map(len, payloads)) + ITEM_OVERHEAD_BYTES * len(payloads)


class Log(Generic[T]):
    """Runs, from the oldest that is kept to the newest. Runs and items have numbers that only grow.

    Attributes:
      end_run: the number that the next run will have.
      end_item: the number that the next item will have.
      end_bytes: what everything so far has cost.

    Args:
      keep_bytes: how much is kept behind the newest run.
      run_format: for all runs.
    """

    def __init__(self, keep_bytes: int, run_format: RunFormat[T]) -> None:
        self.end_run: int = 0
        self.end_item: int = 1
        self.end_bytes: int = 0
        self._keep_bytes = keep_bytes
        self._format = run_format
        self._runs: deque[Run[T]] = deque()

    @property
    def first_run(self) -> int:
        """The number of the oldest run that is kept."""
        return self.end_run - len(self._runs)

    @property
    def first_item(self) -> int:
        """The number of the oldest item that is kept."""
        return self._runs[0].first if self._runs else self.end_item

    @property
    def retained_bytes(self) -> int:
        """What is kept."""
        return self.end_bytes - self._runs[0].start_bytes if self._runs else 0

    @property
    def newest(self) -> Run[T]:
        """The last run."""
        return self._runs[-1]

    def append(self, items: Sequence[T], payloads: Sequence[bytes]) -> None:
        """Add a run, and forget what is too old."""
        run = Run(items, payloads, self.end_item, self.end_bytes, self._format)
        runs = self._runs
        runs.append(run)
        self.end_run += 1
        self.end_item += len(items)
        self.end_bytes = run.end_bytes
        # A reader that was within the limit before the newest run finds everything still here.
        while run.start_bytes - runs[0].end_bytes >= self._keep_bytes:
            runs.popleft()

    def clear(self) -> None:
        """Keep nothing of what there was."""
        self._runs.clear()

    def run(self, number: int) -> Run[T]:
        """A run that is kept, by its number."""
        return self._runs[number - self.end_run]

    def lag_bytes(self, number: int) -> int:
        """What a reader has before it who takes run `number` next; more than any limit where that is not kept."""
        if number >= self.end_run:
            return 0
        return self.end_bytes - self.run(number).start_bytes if number >= self.first_run else self.end_bytes + 1

    def run_of(self, item: int) -> int:
        """The number of the run that holds an item which is kept, or of the next one."""
        number = self.end_run
        while number > self.first_run and self.run(number - 1).first > item - len(self.run(number - 1).items):
            number -= 1
        return number

    def run_within(self, number: int, limit_bytes: int) -> int:
        """The first run from `number` on behind which a reader lags no more than a limit; at the latest the newest."""
        number = max(number, self.first_run)
        while number < self.end_run - 1 and self.lag_bytes(number) > limit_bytes:
            number += 1
        return number

    def gather(self, number: int, *, is_chunked: bool) -> tuple[bytes, int]:
        """From run `number` on what one write should carry, and the number of the run behind it."""
        pieces: list[bytes] = []
        size = 0
        while number < self.end_run and size < GATHER_BYTES:
            pieces.append(self.run(number).encoded(is_chunked=is_chunked))
            size += len(pieces[-1])
            number += 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), number

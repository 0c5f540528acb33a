"""Streams as the server holds them in memory: what was decided, and how much of it is durable.

A decision is made on `StreamState.record` and becomes the state at once, so that the next one builds on it before the
first is on disk. Readers see `durable` alone. What is decided is answered when `Pending` is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from trio_streams.durable.protocol.media_types import is_json
from trio_streams.durable.store.base import Commit, Entry, ProducerState, Stored, StreamRecord

__all__ = ["Follower", "Listener", "Pending", "Segment", "Step", "StreamState"]

Listener = Callable[[], None]
"""Called when what readers see has changed; must neither wait nor raise."""

Segment = tuple[int, int, int | None]
"""A part of a stream's lineage: the stream that holds it, its first position, and the one behind it; None for the tail."""


class Follower(Protocol):
    """What is given a stream's new entries as soon as readers may see them."""

    def add(self, entries: Sequence[Entry], record: StreamRecord) -> None:
        """What one change has added. Each entry comes once, and in order; must neither wait nor raise.

        Args:
          entries: at least one.
          record: the stream behind that change.
        """
        ...


class StreamState:
    """One stream.

    Attributes:
      record: the stream as it was decided last.
      durable: the stream as readers see it.
      producers: its idempotent producers.
      segments: where its bytes are, oldest first.
      touched_at: Unix seconds of the last read or write; may be ahead of the record's.
      pending: the last change that is not durable yet.
      version: the number of decisions.
      durable_version: of the one that `durable` is.
      is_removed: whether it is decided that it is gone, with all that is its own.
      is_current: whether it is the one that the server knows; a dropped one must not be decided on.
      is_failed: whether something of it was not made durable, and will never be.
      is_json: whether it is read as an array of messages.
      pins: how many need it to stay the one that the server knows.
      listeners: told of changes of `durable`, in no order.
      follower: given what is appended, before the listeners are told.
      unsettled: steps that have brought entries and are not durable yet, in order.
    """

    __slots__ = (
        "durable", "durable_version", "follower", "is_current", "is_failed", "is_json", "is_removed", "listeners", "pending",
        "pins", "producers", "record", "segments", "touched_at", "unsettled", "version",
    )  # fmt: skip

    def __init__(self, stored: Stored, segments: tuple[Segment, ...]) -> None:
        self.record: StreamRecord = stored.record
        self.durable: StreamRecord = stored.record
        self.producers: dict[str, ProducerState] = dict(stored.producers)
        self.segments: tuple[Segment, ...] = segments
        self.touched_at: float = stored.record.touched_at
        self.pending: Pending | None = None
        self.version: int = 0
        self.durable_version: int = 0
        self.is_removed: bool = False
        self.is_current: bool = True
        self.is_failed: bool = False
        self.is_json: bool = is_json(stored.record.content_type)
        self.pins: int = 0
        self.listeners: set[Listener] = set()
        self.follower: Follower | None = None
        self.unsettled: deque[Step] = deque()

    def is_expired(self, now: float) -> bool:
        """Whether its time is over."""
        record = self.record
        if record.expires_at is not None and now >= record.expires_at:
            return True
        # Who waits for more of a stream keeps it alive.
        return record.ttl_seconds is not None and now >= self.touched_at + record.ttl_seconds and not self.listeners

    def touch(self, now: float) -> None:
        """Count a read or a write for the stream's time to live."""
        self.touched_at = max(self.touched_at, now)

    def notify(self) -> None:
        """Tell the listeners."""
        if self.listeners:
            for listener in tuple(self.listeners):
                listener()


_NO_PRODUCERS: Final[Mapping[str, ProducerState]] = {}


class Step:
    """What one change makes of one stream.

    Args:
      state: the stream.
      record: as it is afterwards.
      producers: those that have moved.
      is_removal: whether it is gone afterwards.

    Attributes:
      entries: what it adds to the stream; known when it is submitted.
    """

    __slots__ = ("entries", "is_removal", "producers", "record", "state", "version")

    def __init__(
        self,
        state: StreamState,
        record: StreamRecord,
        producers: Mapping[str, ProducerState] = _NO_PRODUCERS,
        *,
        is_removal: bool = False,
    ) -> None:
        self.state: StreamState = state
        self.record: StreamRecord = record
        self.producers: Mapping[str, ProducerState] = producers
        self.is_removal: bool = is_removal
        self.entries: Sequence[Entry] = ()
        self.version: int = 0

    def apply(self) -> None:
        """Make the decision the state."""
        state = self.state
        state.record = self.record
        if self.producers:
            state.producers.update(self.producers)
        state.version += 1
        self.version = state.version
        if self.is_removal:
            state.is_removed = True
        if self.entries:
            state.unsettled.append(self)

    def settle(self) -> None:
        """The change is durable: readers see it."""
        state = self.state
        if self.version > state.durable_version:
            state.durable_version = self.version
            state.durable = self.record
            # Those before it are durable, too, though their own commits may be heard of later.
            unsettled = state.unsettled
            while unsettled and unsettled[0].version <= self.version:
                step = unsettled.popleft()
                if state.follower is not None:
                    state.follower.add(step.entries, step.record)
            state.notify()


class Pending:
    """A change that is not durable yet, and what it makes of which streams.

    Args:
      commit: the store's.
      steps: already applied.
    """

    __slots__ = ("commit", "is_settled", "steps")

    def __init__(self, commit: Commit, steps: Sequence[Step]) -> None:
        self.commit: Commit = commit
        self.steps: Sequence[Step] = steps
        self.is_settled: bool = False

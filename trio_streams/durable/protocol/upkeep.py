"""What time and limits do to streams: those whose time is over are deleted, and what retention does not keep is dropped.

All of it is done in slices, so that a look costs as much at a million streams as at a thousand.

Spec: Durable Streams §4 (TTL/expiry, retention).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from trio_streams.durable.protocol.needs import Expired, Listing, ReadEntries, Running
from trio_streams.durable.protocol.registry import Registry, touch
from trio_streams.durable.protocol.states import Step, StreamState
from trio_streams.durable.store.base import Change, StreamRecord

__all__ = ["SLICE_ITEMS", "Upkeep"]

SLICE_ITEMS: Final = 1_000
"""Streams that retention looks at in one go, beside those that are known to have grown too large."""

_SWEEP_ITEMS: Final = 100
"""Streams deleted in one go: so many share a commit."""

_MAX_NOTED: Final = 10_000
"""Streams that are known to be too large; others are come across."""

_MAX_READS: Final = 64
"""Looks at one stream's entries in one go: 32 MiB of what is dropped, and the rest the next time."""


class Upkeep:
    """Deletes and drops.

    Args:
      registry: of the streams.
      clock: Unix seconds.
      submit_removal: decides that a stream is gone, without waiting for it.
      max_stream_bytes: kept of one stream; None for all.
      max_age: seconds that an entry is kept; None for ever.
      max_read_bytes: of one look at a stream's entries.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Callable[[], float],
        submit_removal: Callable[[StreamState], Running[None]],
        *,
        max_stream_bytes: int | None,
        max_age: float | None,
        max_read_bytes: int,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._submit_removal = submit_removal
        self._max_stream_bytes = max_stream_bytes
        self._max_age = max_age
        self._max_read_bytes = max_read_bytes
        self._grown: dict[str, None] = {}
        self._after = ""

    def note_growth(self, record: StreamRecord) -> None:
        """A stream was appended to: it is looked at the next time if it is too large now."""
        if self._is_too_large(record) and len(self._grown) < _MAX_NOTED:
            self._grown[record.path] = None

    def sweep(self) -> Running[int]:
        """Delete streams whose time is over. Returns how many."""
        count = 0
        while True:
            now = self._clock()
            records: Sequence[StreamRecord] = yield Expired(now, _SWEEP_ITEMS)
            is_progress = False
            for record in records:
                state = yield from self._registry.load(record.path)
                if state is None or state.record.is_deleted:
                    continue
                if state.is_expired(now):
                    yield from self._submit_removal(state)
                    count += 1
                elif not self._keep(state, now):
                    continue
                is_progress = True
            yield from self._registry.settle_unawaited()
            if not is_progress or len(records) < _SWEEP_ITEMS:
                return count

    def _keep(self, state: StreamState, now: float) -> bool:
        """Persist that a stream is in use, so that it is not come across again and again."""
        if state.listeners:
            state.touch(now)
        if state.touched_at <= state.record.touched_at:
            return False
        self._registry.submit_unawaited(*touch(state))
        return True

    def trim(self) -> Running[None]:
        """Drop what retention does not keep: whole entries, oldest first. What forks read from stays whole.

        Streams that have grown too large are looked at, and the next `SLICE_ITEMS` of all streams.
        """
        if self._max_stream_bytes is None and self._max_age is None:
            return
        grown, self._grown = self._grown, {}
        for path in grown:
            yield from self._trim_stream(path)
        yield from self._trim_slice()
        yield from self._registry.settle_unawaited()

    def _trim_slice(self) -> Running[None]:
        for _ in range(0, SLICE_ITEMS, _SWEEP_ITEMS):
            records: Sequence[StreamRecord] = yield Listing("", self._after, _SWEEP_ITEMS)
            for record in records:
                if self._may_drop(record):
                    yield from self._trim_stream(record.path)
            if len(records) < _SWEEP_ITEMS:
                self._after = ""
                return
            self._after = records[-1].path

    def _is_too_large(self, record: StreamRecord) -> bool:
        return self._max_stream_bytes is not None and record.tail - record.start > self._max_stream_bytes

    def _may_drop(self, record: StreamRecord) -> bool:
        if record.references or record.is_deleted or record.tail == record.start:
            return False
        # What a fork has inherited may be older than itself.
        is_old = self._max_age is not None and (
            record.fork is not None or record.created_at < self._clock() - self._max_age
        )
        return is_old or self._is_too_large(record)

    def _trim_stream(self, path: str) -> Running[None]:
        state = yield from self._registry.load(path)
        if state is None or not self._may_drop(state.record):
            return
        oldest = None if self._max_age is None else self._clock() - self._max_age
        start = yield from self._kept_from(state, oldest)
        if start > state.record.start and state.is_current and not state.is_removed and not state.record.references:
            record = attrs.evolve(state.record, start=start)
            self._registry.submit_unawaited(Change(records=[record]), [Step(state, record)])
            self.note_growth(record)

    def _kept_from(self, state: StreamState, oldest: float | None) -> Running[int]:
        """Where what is kept begins, as far as a few looks at the entries tell."""
        durable = state.durable
        start, reads = durable.start, 0
        for stream_id, first, last in state.segments:
            stop = durable.tail if last is None else min(last, durable.tail)
            while max(start, first) < stop:
                if reads == _MAX_READS:
                    return start
                # As a rule the first entry is one to keep, and says so alone.
                size = self._max_read_bytes if reads else 1
                reads += 1
                entries = yield ReadEntries(stream_id, max(start, first), stop, size)
                if not entries:
                    return start
                for entry in entries:
                    is_over = self._max_stream_bytes is not None and durable.tail - start > self._max_stream_bytes
                    if not (is_over or (oldest is not None and entry.at < oldest)):
                        return start
                    start = min(entry.end, stop)
        return start

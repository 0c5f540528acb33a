"""The server without I/O: each operation is a generator that yields what it needs and returns what was done.

The operations know nothing of HTTP: `answers` words them, and an application in the same process calls them itself.
Between a look at a stream's state and the decision on it nothing is yielded, so decisions need no locks.

Spec: Durable Streams §4, §5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import attrs

from trio_streams.durable.protocol import refusals
from trio_streams.durable.protocol.decisions import Appended, decide_append
from trio_streams.durable.protocol.entries import make_entries
from trio_streams.durable.protocol.forks import Forking
from trio_streams.durable.protocol.lifecycle import check_same, new_record, removal
from trio_streams.durable.protocol.needs import ROOM, Count, Listing, NewId, ReadEntries, Running, Settle, Wait
from trio_streams.durable.protocol.operations import Append, Create, List, Read, Start
from trio_streams.durable.protocol.registry import Registry, touch
from trio_streams.durable.protocol.states import Step, StreamState
from trio_streams.durable.protocol.upkeep import Upkeep
from trio_streams.durable.store.base import Change, Store, Stored, StoreError, StreamRecord

__all__ = ["Chunk", "Created", "Following", "Machine", "MachineLimits"]

_TOUCH_PARTS: Final = 8
"""A time to live is persisted to an eighth of itself: a crash costs a stream no more of it."""


@attrs.frozen(kw_only=True)
class MachineLimits:
    """What the machine bounds; the server's configuration has these fields, and says what they mean."""

    max_read_bytes: int = 524_288
    max_streams: int | None = None
    max_loaded_streams: int = 10_000
    max_producers_per_stream: int = 10_000
    long_poll_timeout: float = 30.0
    max_stream_bytes: int | None = None
    max_age: float | None = None


class Created(NamedTuple):
    """What a creation found or made."""

    record: StreamRecord
    is_new: bool


class Chunk(NamedTuple):
    """A part of a stream.

    Attributes:
      state: of the stream.
      pieces: the bytes; in a JSON stream, messages with a comma behind each.
      start: the position of the first.
      end: the position behind the last.
      is_up_to_date: whether that was the tail.
      is_closed: whether nothing more will come.
      is_timed_out: whether it was waited for in vain.
    """

    state: StreamState
    pieces: Sequence[bytes]
    start: int
    end: int
    is_up_to_date: bool
    is_closed: bool
    is_timed_out: bool = False


class Following(NamedTuple):
    """A reader that is to be told of everything from a position on."""

    state: StreamState
    position: int


class Machine:
    """All operations of one server.

    Args:
      store: keeps what is decided. Only `submit` is called here, which does not wait.
      limits: what is bounded.
      clock: Unix seconds.

    Attributes:
      registry: the streams in memory.
      stream_count: streams in the store, those that are deleted and have forks included.
      upkeep: what time and limits do to streams, to be run now and then.
    """

    def __init__(self, store: Store, limits: MachineLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self.registry: Registry = Registry(store, limits.max_loaded_streams)
        self._forking = Forking(self.registry, limits.max_read_bytes)
        self.stream_count: int = 0
        self.upkeep: Upkeep = Upkeep(
            self.registry,
            clock,
            self._submit_removal,
            max_stream_bytes=limits.max_stream_bytes,
            max_age=limits.max_age,
            max_read_bytes=limits.max_read_bytes,
        )

    def find(self, path: str) -> Running[StreamState]:
        """The stream at a path, for whoever is to read or write it.

        Raises:
          Refused: 404: there is none; 410: it is deleted.
        """
        state = self.registry.get_nowait(path)
        while True:
            if state is None and (state := (yield from self.registry.load(path))) is None:
                raise refusals.not_found(path)
            if state.record.is_deleted:
                yield from _settled(state)
                raise refusals.gone(path)
            if not state.is_expired(self._clock()):
                return state
            yield from self._remove(state)
            state = None

    def create(self, operation: Create, body: bytes = b"") -> Running[Created]:
        """PUT. Raises `Refused`."""
        while True:
            yield ROOM
            try:
                state = yield from self.find(operation.path)
            except refusals.Refused as refused:
                if refused.status == 410:
                    raise refusals.stream_exists(f"{refused}, but forks still read from it") from None
            else:
                check_same(operation, state.record)
                yield from _settled(state)
                return Created(state.record, is_new=False)
            created = yield from self._create_new(operation, body)
            if created is not None:
                return created

    def _create_new(self, operation: Create, body: bytes) -> Running[Created | None]:
        self._check_room()
        stream_id: int = yield NewId()
        if operation.fork is not None:
            ready = yield from self._forking.prepare(operation, stream_id, self.find, self._clock)
            record, segments, source = ready
        else:
            record, segments, source = new_record(operation, stream_id, self._clock()), ((stream_id, 0, None),), None
        entries = make_entries(body, record.content_type, record.tail, record.created_at)
        if entries or operation.is_closed:
            tail = entries[-1].end if entries else record.tail
            record = attrs.evolve(record, tail=tail, is_closed=operation.is_closed)
        if (yield from self.registry.load(operation.path)) is not None:
            return None  # somebody was faster: look at what they made
        self._check_room()  # others may have been faster elsewhere
        if source is not None and not (source.is_current and not source.is_removed and not source.record.is_deleted):
            return None
        state = StreamState(Stored(record), segments)
        state.version = state.durable_version = -1  # readers have to wait for the first step
        steps, records = [Step(state, record)], [record]
        if source is not None:
            source_record = attrs.evolve(source.record, references=source.record.references + 1)
            steps.append(Step(source, source_record))
            records.append(source_record)
        self.registry.submit(Change(records=records, entries=entries), steps)
        self.registry.add(state)
        self.stream_count += 1
        yield from _settled(state)
        return Created(record, is_new=True)

    def _check_room(self) -> None:
        maximum = self._limits.max_streams
        if maximum is not None and self.stream_count >= maximum:
            raise refusals.too_many("max_streams", maximum, f"the server keeps {maximum} streams, and takes no more")

    def append(self, operation: Append, body: bytes) -> Running[Appended]:
        """POST. Raises `Refused`."""
        yield ROOM
        state = yield from self.find(operation.path)
        now = self._clock()
        state.touch(now)
        try:
            decision = decide_append(operation, body, state, now, max_producers=self._limits.max_producers_per_stream)
        except refusals.Refused:
            yield from _settled(state)
            raise
        step = decision.step
        if step is not None:
            change = Change(records=(step.record,), entries=decision.entries, producers=step.producers)
            self.registry.submit(change, (step,))
            if self._limits.max_stream_bytes is not None:
                self.upkeep.note_growth(step.record)
        if state.pending is not None:
            yield Settle(state.pending)
        return decision.result

    def head(self, path: str) -> Running[StreamRecord]:
        """HEAD. Raises `Refused`."""
        state = yield from self.find(path)
        yield from _settled(state)
        return state.durable

    def delete(self, path: str) -> Running[None]:
        """DELETE. Raises `Refused`."""
        yield ROOM
        state = yield from self.find(path)
        yield from self._remove(state)

    def _remove(self, state: StreamState) -> Running[None]:
        yield from self._submit_removal(state)
        yield from _settled(state)

    def _submit_removal(self, state: StreamState) -> Running[None]:
        ancestors = yield from self.registry.lineage(state)
        if state.is_failed:
            raise StoreError(f"it is not known whether {state.record.path!r} is there")
        if not state.is_removed and not state.record.is_deleted:
            change, steps = removal(state, ancestors)
            self.registry.submit_unawaited(change, steps)
            self.stream_count -= len(change.removals)

    def read(self, operation: Read) -> Running[Chunk]:
        """GET, at once or by long-poll. Raises `Refused`."""
        state, position = yield from self._open(operation)
        if operation.live is None and operation.start is Start.NOW:
            return _at_tail(state, position)
        if operation.live is not None and position == state.durable.tail and not state.durable.is_closed:
            is_ready = yield Wait(state, self.growth(state, position), self._limits.long_poll_timeout, is_reader=True)
            state.touch(self._clock())
            check_alive(state)
            if not is_ready:
                return _at_tail(state, position)._replace(is_timed_out=True)
        if position == state.durable.tail:
            return _at_tail(state, position)
        return (yield from self.read_chunk(state, position))

    def follow(self, operation: Read) -> Running[Following]:
        """GET as events: where they begin. Raises `Refused`."""
        state, position = yield from self._open(operation)
        return Following(state, position)

    def _open(self, operation: Read) -> Running[tuple[StreamState, int]]:
        state = yield from self.find(operation.path)
        if state.durable_version < 0:
            yield from _settled(state)
        now = self._clock()
        state.touch(now)
        record = state.record
        if record.ttl_seconds is not None and now - record.touched_at >= record.ttl_seconds / _TOUCH_PARTS:
            self.registry.submit_unawaited(*touch(state))
        return state, _position(operation.start, state.durable)

    def leave(self, state: StreamState) -> None:
        """A reader stops following: the stream's time to live counts from here."""
        state.touch(self._clock())

    @staticmethod
    def growth(state: StreamState, position: int) -> Callable[[], bool]:
        """Whether there is more than `position` to tell of a stream: data, its closure, its end."""

        def is_ready() -> bool:
            durable = state.durable
            return durable.tail > position or durable.is_closed or is_over(state)

        return is_ready

    def read_chunk(self, state: StreamState, position: int, max_bytes: int | None = None) -> Running[Chunk]:
        """What follows a position: one entry at least, and no more than fits. Raises `Refused`.

        Args:
          state: of the stream.
          position: in front of what is read.
          max_bytes: what should fit, where that is less than `max_read_bytes`.
        """
        limit = self._limits.max_read_bytes
        if max_bytes is not None and max_bytes < limit:
            limit = max_bytes
        pieces, end = yield from read_range(state, position, state.durable.tail, limit)
        check_alive(state)
        durable = state.durable
        is_up_to_date = end == durable.tail
        return Chunk(state, pieces, position, end, is_up_to_date, is_up_to_date and durable.is_closed)

    def list_streams(self, operation: List) -> Running[Sequence[StreamRecord]]:
        """The streams whose paths begin so, in order; deleted and expired ones are left out."""
        now, after = self._clock(), operation.after
        found: list[StreamRecord] = []
        while len(found) < operation.limit:
            records: Sequence[StreamRecord] = yield Listing(operation.prefix, after, operation.limit)
            found += [record for record in records if not (record.is_deleted or self._is_expired(record, now))]
            if len(records) < operation.limit:
                break
            after = records[-1].path
        return found[: operation.limit]

    def _is_expired(self, record: StreamRecord, now: float) -> bool:
        return (self.registry.get_nowait(record.path) or StreamState(Stored(record), ())).is_expired(now)

    def count_streams(self) -> Running[None]:
        """Count what the store has, for `max_streams`."""
        self.stream_count = yield Count()


def read_range(state: StreamState, start: int, end: int, max_bytes: int) -> Running[tuple[list[bytes], int]]:
    """The bytes of [start, end) that fit, and one entry at least, with the position behind them.

    Raises:
      Refused: 400: `start` lies within a message; 410: it has been dropped meanwhile.
    """
    pieces: list[bytes] = []
    size, position = 0, start
    for stream_id, first, last in state.segments:
        stop = end if last is None else min(last, end)
        while first <= position < stop:
            entries = yield ReadEntries(stream_id, position, stop, max(1, max_bytes - size))
            if not entries:
                return pieces, position
            for entry in entries:
                if entry.position > position:  # it is not kept any more
                    if pieces:
                        return pieces, position
                    raise refusals.retention_gone(state.record.path, entry.position)
                if entry.position < position and state.is_json:
                    raise refusals.bad_request("offset", "the offset is none that this server gave")
                piece = entry.data
                if entry.position < position or entry.end > stop:
                    piece = piece[position - entry.position : stop - entry.position]
                if pieces and size + len(piece) > max_bytes:
                    return pieces, position
                pieces.append(piece)
                size += len(piece)
                position += len(piece)
            if size >= max_bytes:
                return pieces, position
    return pieces, position


def is_over(state: StreamState) -> bool:
    """Whether nothing can be read from a stream any more."""
    if state.durable.is_deleted or not state.is_current:
        return True
    return state.is_removed and state.durable_version == state.version


def check_alive(state: StreamState) -> None:
    """Look whether a stream that was waited for is still there.

    Raises:
      Refused: 404, 410, or 503 where the store has failed.
    """
    if state.is_failed:
        raise refusals.unavailable()
    if state.durable.is_deleted:
        raise refusals.gone(state.record.path)
    if state.is_removed and is_over(state):
        raise refusals.not_found(state.record.path)


def _settled(state: StreamState) -> Running[None]:
    if state.pending is not None:
        yield Settle(state.pending)


def _at_tail(state: StreamState, position: int) -> Chunk:
    durable = state.durable
    return Chunk(state, (), position, position, is_up_to_date=True, is_closed=durable.is_closed)


def _position(start: int | Start, durable: StreamRecord) -> int:
    if start is Start.BEGINNING:
        return durable.start
    if start is Start.NOW:
        return durable.tail
    assert isinstance(start, int)
    if start > durable.tail:
        raise refusals.bad_request("offset", "the offset is behind the stream's tail")
    if start < durable.start:
        raise refusals.retention_gone(durable.path, durable.start)
    return start

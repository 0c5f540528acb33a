"""What one stream's readers by server-sent events are given at its tail: encoded once, and written to all by whoever appends.

A feed is a broadcast's log (`service.broadcast_log`) whose runs are entries, each with its control event. What has been
appended is put into it when it is durable, and every reader's host takes it from there without a task of the reader's.
Nothing is kept that all have taken. A reader that is further behind than the log reaches ends its source, and goes on
from the store (`live`), where its history costs nobody else anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self

import trio

from trio_streams.durable.protocol.events import encode_control, encode_data
from trio_streams.durable.protocol.machine import is_over
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.store.base import Entry, StreamRecord
from trio_streams.service.broadcast_log import Log, Run
from trio_streams.wire.http1_body import encode_chunk

__all__ = ["Cursor", "LiveFeed", "LiveReader", "Part"]

_SLICE_READERS: Final = 64
"""Readers written to between two schedule points: half a millisecond. So many are written to before the append is answered."""


class Part(NamedTuple):
    """Where a stream's readers are when they have got an entry.

    Attributes:
      end: the position behind it.
      is_up_to_date: whether that was the tail when it came.
      is_closed: whether nothing more will come.
    """

    end: int
    is_up_to_date: bool
    is_closed: bool


class Cursor:
    """The cursor that one reader is told.

    Args:
      current: makes the one that most readers are told.
      own: makes the one of a client that named one; None where it named none.
    """

    __slots__ = ("_current", "_own")

    def __init__(self, current: Callable[[], str], own: Callable[[], str] | None = None) -> None:
        self._current = current
        self._own = own

    def value(self) -> str:
        """The cursor of the next control event."""
        return self._current() if self._own is None else self._own()

    def is_own(self) -> bool:
        """Whether it is ahead of the one that the others are told, as it may be for a while."""
        if self._own is not None and self._own() == self._current():
            self._own = None
        return self._own is not None


class _Format:
    """Entries as events, for all readers who are told the same cursor."""

    def __init__(self, content_type: str, current_cursor: Callable[[], str]) -> None:
        self._content_type = content_type
        self._current_cursor = current_cursor

    def encode(self, items: Sequence[Part], payloads: Sequence[bytes], first: int) -> bytes:
        """See `RunFormat`."""
        return self.encode_for(items, payloads, self._current_cursor())

    def encode_for(self, items: Sequence[Part], payloads: Sequence[bytes], cursor: str) -> bytes:
        """A run with a cursor."""
        events: list[bytes] = []
        for part, payload in zip(items, payloads, strict=True):
            if payload:
                events.append(encode_data((payload,), self._content_type))
            events.append(encode_control(part.end, cursor, is_up_to_date=part.is_up_to_date, is_closed=part.is_closed))
        return b"".join(events)


class LiveFeed:
    """The tail of one stream, for those who follow it. It is the state's follower while there is anybody.

    Args:
      state: of the stream; current.
      nursery: for writing to many readers.
      current_cursor: makes the cursor that most readers are told.
      window_bytes: how far behind a reader may be before it goes on from the store.
    """

    def __init__(
        self, state: StreamState, nursery: trio.Nursery, current_cursor: Callable[[], str], window_bytes: int
    ) -> None:
        self._state = state
        self._nursery = nursery
        self.format: _Format = _Format(state.record.content_type, current_cursor)
        self.log: Log[Part] = Log(window_bytes, self.format)
        self._guests = 0
        self._readers: set[LiveReader] = set()
        self._behind: set[LiveReader] = set()
        self._is_spreading = False
        self._has_said_end = False

    @classmethod
    def of(
        cls, state: StreamState, nursery: trio.Nursery, current_cursor: Callable[[], str], window_bytes: int
    ) -> Self:
        """The stream's feed: the one that it has, or a new one."""
        follower = state.follower
        return follower if isinstance(follower, cls) else cls(state, nursery, current_cursor, window_bytes)

    def __enter__(self) -> Self:
        """Somebody follows the stream, at its tail or on the way there: the state stays the one that is appended to."""
        self._guests += 1
        self._state.follower = self
        self._state.listeners.add(self._spread)
        return self

    def __exit__(self, *_: object) -> None:
        self._guests -= 1
        if not self._guests:
            self._state.follower = None
            self._state.listeners.discard(self._spread)
            self.log.clear()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes: the stream is closed and has said so, or is gone."""
        return self._has_said_end or is_over(self._state) or self._state.is_failed

    @property
    def readers(self) -> int:
        """How many are at the tail."""
        return len(self._readers)

    # What is appended.

    def add(self, entries: Sequence[Entry], record: StreamRecord) -> None:
        """See `Follower`; what is added is written when the listeners are told."""
        if not self._readers:
            return  # who comes to the tail later has read it from the store
        tail = self._state.durable.tail
        for entry in entries:
            is_closed = record.is_closed and entry.end == record.tail
            self.log.append((Part(entry.end, entry.end == tail, is_closed),), (entry.data,))
            self._has_said_end = is_closed

    def _spread(self) -> None:
        """Write to all readers: to some at once, to many in slices with others' work in between."""
        durable = self._state.durable
        if durable.is_closed and not self._has_said_end:
            self._has_said_end = True
            if self._readers:
                self.log.append((Part(durable.tail, True, True),), (b"",))
        if self._is_spreading:
            return
        self._is_spreading = True  # until then the log keeps what comes
        if len(self._readers) > _SLICE_READERS:
            self._nursery.start_soon(self._spread_slices)
            return
        self._pull(tuple(self._readers))
        self._is_spreading = False
        self._forget()

    async def _spread_slices(self) -> None:
        try:
            end_run, was_over = -1, False
            while end_run != self.log.end_run or was_over != self.is_over:
                end_run, was_over = self.log.end_run, self.is_over
                readers = list(self._readers)
                for start in range(0, len(readers), _SLICE_READERS):
                    self._pull(readers[start : start + _SLICE_READERS])
                    await trio.lowlevel.checkpoint()
        finally:
            self._is_spreading = False
        self._forget()

    def _pull(self, readers: Sequence[LiveReader]) -> None:
        log = self.log
        for reader in readers:
            if reader.pull is not None:
                reader.pull()
            if reader.run != log.end_run and reader in self._readers:
                self._behind.add(reader)

    def _forget(self) -> None:
        """Keep what somebody has not taken yet, as far as the window reaches; who is further behind is told."""
        first_run = self.log.first_run
        for reader in [reader for reader in self._behind if reader.run < first_run]:
            reader.leave()
        if not self._behind:
            self.log.clear()

    # For readers.

    def join(self, reader: LiveReader) -> None:
        """A reader has everything up to the tail."""
        self._readers.add(reader)

    def leave(self, reader: LiveReader) -> None:
        """A reader takes nothing more from here."""
        self._readers.discard(reader)
        self.caught_up(reader)

    def caught_up(self, reader: LiveReader) -> None:
        """A reader is not behind any more."""
        if reader in self._behind:
            self._behind.discard(reader)
            if not self._behind and not self._is_spreading:
                self.log.clear()


class LiveReader:
    """One reader at the tail: the source of its exchange's body (`BodySource`), between times that it reads from the store.

    Attributes:
      position: everything before it was taken.
      run: the number of the run that it takes next.
      is_done: whether its answer is to end.
      pull: to be called when there is more for it; None while nobody takes anything.

    Args:
      feed: of the stream.
      cursor: what it is told.
      position: where it begins.
    """

    __slots__ = ("_cursor", "_feed", "_has_left", "is_done", "position", "pull", "run")

    def __init__(self, feed: LiveFeed, cursor: Cursor, position: int) -> None:
        self._feed = feed
        self._cursor = cursor
        self._has_left = True
        self.position: int = position
        self.run: int = 0
        self.is_done: bool = False
        self.pull: Callable[[], None] | None = None

    def join(self) -> None:
        """Take what comes behind the tail, which is where it is."""
        self.run = self._feed.log.end_run
        self._has_left = False
        self._feed.join(self)

    def leave(self) -> None:
        """Take nothing more, and have whoever waits for the source's end go on. Idempotent."""
        if not self._has_left:
            self._has_left = True
            self._feed.leave(self)
            if self.pull is not None:
                self.pull()
                self.pull = None

    def finish(self) -> None:
        """As `leave`, and the answer ends."""
        self.is_done = True
        self.leave()

    @property
    def is_ended(self) -> bool:
        """See `BodySource`."""
        return self._has_left or self._feed.is_over

    def attach(self, pull: Callable[[], None]) -> None:
        """See `BodySource`."""
        self.pull = pull

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        """See `BodySource`."""
        feed = self._feed
        log, run = feed.log, self.run
        if self._has_left or run == log.end_run or run < log.first_run:
            return b""
        if self._cursor.is_own():
            data, self.run = self._encode_own(log.run(run), is_chunked=is_chunked), run + 1
        elif log.end_run - run == 1:
            # The usual case, a thousand times for each append: what has just come, and nothing else.
            data, self.run = log.newest.encoded(is_chunked=is_chunked), run + 1
        else:
            data, self.run = log.gather(run, is_chunked=is_chunked)
        last: Part = log.run(self.run - 1).items[-1]
        self.position = last.end
        self.is_done = last.is_closed
        if self.run == log.end_run:
            feed.caught_up(self)
        return data

    def _encode_own(self, run: Run[Part], *, is_chunked: bool) -> bytes:
        data = self._feed.format.encode_for(run.items, run.payloads, self._cursor.value())
        return encode_chunk(data) if is_chunked else data

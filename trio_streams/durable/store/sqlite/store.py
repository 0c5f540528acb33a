"""The store's face in Trio: what is asked goes to threads, and what is durable comes back once for a whole transaction."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from trio_streams.durable.store.base import Change, Commit, Entry, Store, Stored, StoreError, StreamRecord
from trio_streams.durable.store.sqlite import rows
from trio_streams.durable.store.sqlite.config import SqliteConfig
from trio_streams.durable.store.sqlite.files import Files
from trio_streams.durable.store.sqlite.lock import DirectoryInUseError
from trio_streams.durable.store.sqlite.recent import RecentEntries
from trio_streams.durable.store.sqlite.writer import cost_bytes

__all__ = ["SqliteStore", "open_sqlite_store"]

T = TypeVar("T")

_LOG: Final = logging.getLogger("trio_streams")

LOCK_RETRY: Final = 0.05
"""Seconds between two looks at a lock that another process holds."""


class _Commit:
    """A change that was submitted."""

    __slots__ = ("_error", "_event", "_is_settled", "change", "cost_bytes")

    def __init__(self, change: Change, cost_bytes: int) -> None:
        self.change = change
        self.cost_bytes = cost_bytes
        self._is_settled = False
        self._error: StoreError | None = None
        self._event: trio.Event | None = None

    def settle(self, error: StoreError | None = None) -> None:
        """It is durable, or never will be."""
        self._is_settled = True
        self._error = error
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it is durable."""
        if self._is_settled:
            await trio.lowlevel.checkpoint()
        else:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        if self._error is not None:
            raise StoreError(str(self._error)) from self._error


class SqliteStore:
    """A `Store` in a directory. Made by `open_sqlite_store`.

    A failed transaction ends it: what is durable can still be read, and nothing more is taken, until it is opened again.
    Where the disk failed in the very act of syncing, nobody knows whether the group is on it. `wait` says that it failed,
    and after the next opening it is there as a whole, or not at all.
    """

    def __init__(self, files: Files, config: SqliteConfig) -> None:
        self._files = files
        self._config = config
        self._token = trio.lowlevel.current_trio_token()
        self._pending: deque[_Commit] = deque()
        self._pending_bytes = 0
        self._room = trio.lowlevel.ParkingLot()
        self._recent = RecentEntries(config.cache_bytes)
        self._error: StoreError | None = None
        self._is_closing = False
        self._ended = trio.Event()
        self._limiter = trio.CapacityLimiter(config.readers)
        self._writer = files.writer
        self._last_id = self._writer.last_id
        thread = threading.Thread(target=self._run_writer, name=f"store {files.directory}", daemon=True)
        thread.start()

    async def find(self, path: str) -> Stored | None:
        """The stream at a path. Runs in a thread; a call that has begun is finished."""
        return await self._ask(rows.find, path)

    async def get(self, stream_id: int) -> Stored | None:
        """A stream by its number, as `find`."""
        return await self._ask(rows.get, stream_id)

    async def new_id(self) -> int:
        """A number that no stream has had."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        self._last_id += 1
        return self._last_id

    async def read(self, stream_id: int, start: int, end: int, *, max_bytes: int) -> Sequence[Entry]:
        """A stream's own entries that overlap [start, end): from memory where they are new, as `find` where not."""
        found = self._recent.read(stream_id, start, end, max_bytes)
        if found is None:
            return await self._ask(rows.read_entries, stream_id, start, end, max_bytes)
        await trio.lowlevel.checkpoint()
        return found

    async def list_records(self, prefix: str, *, after: str = "", limit: int) -> Sequence[StreamRecord]:
        """Streams whose path starts with `prefix` and is greater than `after`, in the order of paths."""
        return await self._ask(rows.list_records, prefix, after, limit)

    async def count_records(self) -> int:
        """How many streams there are: a look at the index of paths, which is tens of milliseconds for a million."""
        return await self._ask(rows.count_records)

    async def list_expired(self, now: float, *, limit: int) -> Sequence[StreamRecord]:
        """Streams that have expired and are not deleted yet, the oldest expiry first."""
        return await self._ask(rows.list_expired, now, limit)

    def submit(self, change: Change) -> Commit:
        """Queue a change for the next transaction."""
        self._check_open()
        commit = _Commit(change, cost_bytes(change))
        self._pending.append(commit)
        self._pending_bytes += commit.cost_bytes
        self._writer.submit(change)
        return commit

    async def wait_room(self) -> None:
        """Wait until less than `max_pending_bytes` wait for the disk.

        With room it is only a cancellation point: the schedule point of an append is its commit.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        while self._pending_bytes >= self._config.max_pending_bytes:
            await self._room.park()
            self._check_open()

    async def aclose(self) -> None:
        """Make durable what was submitted, and let go of the directory. Idempotent.

        Cancellation: the transaction that is under way is waited for, `close_timeout` at most; what was not in it is lost.
        """
        if not self._is_closing:
            self._is_closing = True
            self._files.close_readers()
            self._writer.stop()
        try:
            await self._ended.wait()
        except trio.Cancelled:
            self._writer.abandon()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.close_timeout):
                await self._ended.wait()
            raise

    def committed(self, changes: int) -> None:
        """The writer's word, in its thread: the next so many changes are durable."""
        self._tell(self._on_committed, changes)

    def failed(self, error: StoreError) -> None:
        """The writer's last word, in its thread: nothing else will be."""
        self._tell(self._on_failed, error)

    async def _ask(self, ask: Callable[..., T], *arguments: object) -> T:
        self._check_readable()
        return await trio.to_thread.run_sync(self._files.ask, ask, *arguments, limiter=self._limiter)

    def _check_readable(self) -> None:
        if self._is_closing:
            raise StoreError(f"the store in {self._files.directory} is closed")

    def _check_open(self) -> None:
        self._check_readable()
        if self._error is not None:
            raise StoreError(f"the store in {self._files.directory} has failed: {self._error}") from self._error

    def _run_writer(self) -> None:
        try:
            self._writer.run(self)
        finally:
            self._files.release()
            self._tell(self._ended.set)

    def _tell(self, hear: Callable[..., object], *arguments: object) -> None:
        try:
            self._token.run_sync_soon(hear, *arguments)
        except trio.RunFinishedError:
            pass  # nobody is left to be told

    def _on_committed(self, changes: int) -> None:
        for _ in range(changes):
            commit = self._pending.popleft()
            self._pending_bytes -= commit.cost_bytes
            self._remember(commit.change)
            commit.settle()
        self._room.unpark_all()

    def _remember(self, change: Change) -> None:
        if change.entries:
            self._recent.add(change.records[0].stream_id, change.entries)
        for stream_id in change.removals:
            self._recent.remove(stream_id)

    def _on_failed(self, error: StoreError) -> None:
        self._error = error
        if not self._is_closing:
            _LOG.error(
                "the store in %s has failed: it can be read, and takes nothing until it is opened again: %s",
                self._files.directory,
                error,
            )
        pending, self._pending = self._pending, deque()
        self._pending_bytes = 0
        for commit in pending:
            commit.settle(error)
        self._room.unpark_all()


@asynccontextmanager
async def open_sqlite_store(path: str | Path, config: SqliteConfig | None = None) -> AsyncIterator[Store]:
    """Open the store in a directory, which is made if there is none, and close it behind the block.

    Args:
      path: the directory; the streams are in its `streams.sqlite3`.
      config: limits and timeouts.

    Raises:
      StoreError: another process has the directory, or the files are damaged, a newer version's, or not to be written.
    Cancellation: the files are let go.
    """
    config = config or SqliteConfig()
    store = SqliteStore(await _open_files(Path(path), config), config)
    try:
        yield store
    finally:
        await store.aclose()


async def _open_files(directory: Path, config: SqliteConfig) -> Files:
    """Open them as soon as nobody else has them."""
    deadline = trio.current_time() + config.lock_timeout
    while True:
        try:
            return await trio.to_thread.run_sync(Files.open, directory, config)
        except DirectoryInUseError:
            if trio.current_time() >= deadline:
                raise
        await trio.sleep(LOCK_RETRY)

"""The one writer: takes what is queued, makes it durable in one transaction, and says how many changes that were.

While the disk syncs one group, the next one gathers: the busier the store, the larger the groups (group commit). It knows
no Trio and starts no thread: `run` is a thread's body, and `step` is one group, so that a test may decide what happens when.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from trio_streams.durable.store.base import Change, StoreError
from trio_streams.durable.store.sqlite.batch import Batch
from trio_streams.durable.store.sqlite.config import SqliteConfig
from trio_streams.durable.store.sqlite.database import Database
from trio_streams.durable.store.sqlite.schema import BUSY_MS, PAGE_BYTES
from trio_streams.durable.store.sqlite.trimming import give_back, trim

__all__ = ["CHANGE_OVERHEAD_BYTES", "Listener", "Writer", "cost_bytes"]

CHANGE_OVERHEAD_BYTES: Final = 1024
"""What a change costs beside its entries: its record and its commit, and what SQLite binds of them."""

TRANSACTION_OVERHEAD_BYTES: Final = 8 * PAGE_BYTES
"""What a transaction writes to the log beside its bytes: the leaves that it touches, and what is above them."""

RESTART_MS: Final = 250
"""How long the log's restart waits for readers. Ours are done in a few milliseconds; somebody else's copy may take longer,
and is not worth more than this once in `max_wal_bytes`."""

MAX_DROPPED: Final = 65_536
"""Streams whose dropped start is remembered. Forgetting one costs a row of `garbage` more, and nothing else."""


def cost_bytes(change: Change) -> int:
    """What a change counts against the limits in bytes."""
    return sum([len(entry.data) for entry in change.entries], CHANGE_OVERHEAD_BYTES)


class Listener(Protocol):
    """Hears from the writer, in the writer's thread."""

    def committed(self, changes: int) -> None:
        """The next so many of the changes that were submitted are durable."""
        ...

    def failed(self, error: StoreError) -> None:
        """None of the others will ever be."""
        ...


class Writer:
    """Writes changes to a database in the order of their submission.

    Args:
      database: a connection that `prepare_writer` has seen; the writer's own from here on.
      config: the limits.
      is_in_place: whether what is written is still in the file that the next one to open it will find.

    Raises:
      StoreError: the tables can't be read.
    """

    def __init__(
        self, database: Database, config: SqliteConfig, is_in_place: Callable[[], bool] = lambda: True
    ) -> None:
        self._database = database
        self._is_in_place = is_in_place
        self._config = config
        self._queue: SimpleQueue[Change | None] = SimpleQueue()
        self._is_stopping = False
        self._is_abandoned = False
        self._dropped: dict[int, int] = {}
        self._unwatched_bytes = 0
        ((last_id,),) = database.execute("SELECT last_id FROM counter")
        self._last_id = int(last_id)
        self._has_garbage = bool(database.execute("SELECT 1 FROM garbage LIMIT 1"))
        self._may_give_back = True

    @property
    def last_id(self) -> int:
        """The highest number that a durable stream has had."""
        return self._last_id

    def submit(self, change: Change) -> None:
        """Queue a change. From any thread."""
        self._queue.put(change)

    def stop(self) -> None:
        """Let `run` end when all that was submitted before is durable. From any thread."""
        self._queue.put(None)

    def abandon(self) -> None:
        """Let `run` end behind the transaction that is under way; what is queued is lost. From any thread."""
        self._is_abandoned = True
        self._queue.put(None)

    def run(self, listener: Listener) -> None:
        """Write until stopped, or until something fails; the connection is closed then, and the last word is said."""
        error: StoreError | None = None
        try:
            while not self._is_stopping:
                changes = self._step(self._take(is_waiting=not (self._has_garbage or self._may_give_back)))
                if changes:
                    listener.committed(changes)
                self.watch_log()
        except StoreError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - a value that SQLite can't bind, or a fault of ours
            error = StoreError(f"the store failed: {exc!r}")
            error.__cause__ = exc
        try:
            self._database.close()
        except StoreError as exc:
            error = error or exc  # all is in the log, and the next one to open it copies it from there
        listener.failed(error or StoreError("the store is closed"))

    def step(self) -> int:
        """Make durable what is queued, as much as goes into one group, or else delete a slice of what was dropped.

        Returns: how many changes are durable now.

        Raises:
          StoreError: the group is not, nor will anything be that comes after it.
        """
        return self._step(self._take(is_waiting=False))

    def watch_log(self) -> None:
        """Keep the log bounded where readers follow each other so closely that it never starts anew by itself.

        Raises:
          StoreError: it can't be; what was durable is.
        """
        limit = self._config.max_wal_bytes
        if self._unwatched_bytes < limit:
            return
        self._unwatched_bytes = 0
        ((_, pages, _),) = self._database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if pages * PAGE_BYTES > limit:
            self._database.execute(f"PRAGMA busy_timeout={RESTART_MS}")
            self._database.execute("PRAGMA wal_checkpoint(RESTART)")
            self._database.execute(f"PRAGMA busy_timeout={BUSY_MS}")

    def _take(self, *, is_waiting: bool) -> Batch:
        """The next group: what is queued, up to the limits. Empty where nothing is queued, or the end has come."""
        batch, room, count = Batch(), self._config.max_batch_bytes, self._config.max_batch_changes
        try:
            while room > 0 and batch.changes < count and not self._is_abandoned:
                change = self._queue.get(block=is_waiting)
                is_waiting = False
                if change is None:
                    self._is_stopping = True
                    break
                batch.add(change)
                room -= cost_bytes(change)
        except Empty:
            pass
        self._is_stopping = self._is_stopping or self._is_abandoned
        self._unwatched_bytes += self._config.max_batch_bytes - room
        return batch

    def _step(self, batch: Batch) -> int:
        if batch.changes or self._has_garbage:
            self._unwatched_bytes += TRANSACTION_OVERHEAD_BYTES
            self._transact(batch)
        elif not self._is_stopping:
            self._may_give_back = give_back(self._database, self._config)
        return batch.changes

    def _transact(self, batch: Batch) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            is_garbage = batch.write(database, self._dropped) if batch.changes else False
            if self._has_garbage and not self._is_stopping:
                is_garbage = trim(database, self._config) or is_garbage
                self._may_give_back = self._may_give_back or not is_garbage
            highest_id = max(batch.highest_id, self._last_id)
            if highest_id > self._last_id:
                database.execute("UPDATE counter SET last_id = ?", (highest_id,))
            self._check_place()
        except BaseException:
            self._roll_back()
            raise
        database.execute("COMMIT")
        self._has_garbage = is_garbage
        self._last_id = highest_id
        if len(self._dropped) > MAX_DROPPED:
            self._dropped.clear()

    def _check_place(self) -> None:
        if not self._is_in_place():
            raise StoreError("the database's file was deleted, moved or replaced")

    def _roll_back(self) -> None:
        try:
            self._database.execute("ROLLBACK")
        except StoreError:
            pass  # SQLite has done so itself; the first error says why

"""The limits of a store in SQLite."""

from __future__ import annotations

import attrs

from trio_streams.config import positive

__all__ = ["SqliteConfig"]


@attrs.frozen(kw_only=True)
class SqliteConfig:
    """Limits and timeouts of one store.

    Attributes:
      max_pending_bytes: bytes of changes (each counts its entries plus 1,024) that wait for the disk before
        `wait_room` waits. Those who were let in at once may pass it by one change each.
      max_batch_bytes: bytes of changes in one transaction; the change that passes them still goes in.
      max_batch_changes: changes in one transaction.
      cache_bytes: bytes of the newest entries of all streams (each costs its length plus 256) that are kept in memory, so
        that readers at the tail do not touch the disk.
      readers: connections that read at once, in a thread each while they do.
      checkpoint_bytes: bytes of the write-ahead log after which it is copied into the database.
      max_wal_bytes: bytes of the write-ahead log after which the writer waits for readers to start it anew; also what it
        keeps of the file then.
      page_cache_bytes: bytes of the database that each connection keeps in memory.
      max_free_bytes: bytes of unused pages in the database before they are given back to the file system.
      max_trim_bytes: bytes of dropped entries that one transaction deletes, beside what it is for.
      max_trim_entries: as many entries at most.
      lock_timeout: seconds to wait for another process to let go of the directory.
      close_timeout: seconds that a cancelled `aclose` waits for the transaction that is under way.
    """

    max_pending_bytes: int = attrs.field(default=67_108_864, validator=positive)
    max_batch_bytes: int = attrs.field(default=4_194_304, validator=positive)
    max_batch_changes: int = attrs.field(default=4096, validator=positive)
    cache_bytes: int = attrs.field(default=67_108_864, validator=positive)
    readers: int = attrs.field(default=2, validator=positive)
    checkpoint_bytes: int = attrs.field(default=16_777_216, validator=positive)
    max_wal_bytes: int = attrs.field(default=134_217_728, validator=positive)
    page_cache_bytes: int = attrs.field(default=16_777_216, validator=positive)
    max_free_bytes: int = attrs.field(default=67_108_864, validator=positive)
    max_trim_bytes: int = attrs.field(default=1_048_576, validator=positive)
    max_trim_entries: int = attrs.field(default=256, validator=positive)
    lock_timeout: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    close_timeout: float = attrs.field(default=10.0, validator=positive)

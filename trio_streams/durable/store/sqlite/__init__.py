"""Keeps durable streams in a directory, in SQLite: what is acknowledged is on the disk.

`store` is the face in Trio; `writer` the one thread that writes, a group of changes at a time; `batch` what a group says
to the database; `rows` how records are rows; `recent` the newest entries in memory; `lock` whose directory it is.
"""

from __future__ import annotations

from trio_streams.durable.store.sqlite.config import SqliteConfig as SqliteConfig
from trio_streams.durable.store.sqlite.store import SqliteStore as SqliteStore
from trio_streams.durable.store.sqlite.store import open_sqlite_store as open_sqlite_store

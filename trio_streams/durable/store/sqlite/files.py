"""What a store has open in its directory: the lock, the connection that writes, and those that read."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from trio_streams.durable.store.base import StoreError
from trio_streams.durable.store.sqlite.config import SqliteConfig
from trio_streams.durable.store.sqlite.database import Database, Opener, open_database
from trio_streams.durable.store.sqlite.lock import DirectoryLock
from trio_streams.durable.store.sqlite.schema import prepare_reader, prepare_writer, sync_directory
from trio_streams.durable.store.sqlite.writer import Writer

__all__ = ["NAME", "Files"]

NAME: Final = "streams.sqlite3"

P = ParamSpec("P")
T = TypeVar("T")


class Files:
    """An open directory. All of it blocks, and is for threads.

    Attributes:
      directory: where they are.
      writer: writes, on a connection of its own.
    """

    def __init__(self, directory: Path, lock: DirectoryLock, writer: Writer, readers: list[Database]) -> None:
        self.directory = directory
        self.writer = writer
        self._lock = lock
        self._idle = readers
        self._guard = threading.Lock()
        self._is_closed = False

    @classmethod
    def open(cls, directory: Path, config: SqliteConfig, opener: Opener = open_database) -> Files:
        """Open a directory's files, and make them if they are not there.

        Raises:
          DirectoryInUseError: another store has them.
          StoreError: they can't be used.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"{directory} can't be made: {exc.strerror}") from exc
        lock = DirectoryLock.acquire(directory)
        opened: list[Database] = []
        try:
            path = directory / NAME
            opened.append(opener(path))
            # Numbers go into validators, which outlive a directory in caches: another one counts from elsewhere.
            prepare_writer(opened[0], path, config, last_id=secrets.randbits(40) << 8)
            sync_directory(directory)
            sync_directory(directory.parent)
            identity = _identity(path)
            writer = Writer(opened[0], config, lambda: _identity(path) == identity)
            for _ in range(config.readers):
                opened.append(opener(path))
                prepare_reader(opened[-1], config)
        except BaseException:
            for database in opened:
                with suppress(StoreError):
                    database.close()
            lock.release()
            raise
        return cls(directory, lock, writer, opened[1:])

    def ask(self, ask: Callable[Concatenate[Database, P], T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Run a function on a connection that reads; as many at once as there are connections.

        Raises:
          StoreError: it can't be read, or the files are closed.
        """
        with self._guard:
            if self._is_closed:
                raise StoreError(f"the store in {self.directory} is closed")
            reader = self._idle.pop()
        try:
            return ask(reader, *arguments, **keywords)
        finally:
            self._put_back(reader)

    def close_readers(self) -> None:
        """Close the connections that read, each when it is idle."""
        with self._guard:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()

    def release(self) -> None:
        """Let others have the directory; the connection that writes is closed before."""
        self._lock.release()

    def _put_back(self, reader: Database) -> None:
        with self._guard:
            if not self._is_closed:
                self._idle.append(reader)
                return
        reader.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file is there; None for none. A deleted one takes bytes as ever, and nobody finds them."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

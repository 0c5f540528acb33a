"""A connection to a database, in three methods: where another engine, or a test's, takes the place of `sqlite3`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from trio_streams.durable.store.base import StoreError

__all__ = ["Database", "Opener", "Row", "open_database"]

Row = tuple[Any, ...]

CACHED_STATEMENTS: Final = 64
"""Statements a connection keeps prepared: more than there are in `batch` and `rows`."""


class Database(Protocol):
    """One connection. Its users see to it that one thread at a time calls it."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement to its end.

        Raises:
          StoreError: it failed.
        """
        ...

    def iterate(self, sql: str, parameters: Sequence[Any] = ()) -> Generator[Row, None, None]:
        """Run a statement as far as its rows are asked for; to be closed. Raises as `execute`."""
        ...

    def close(self) -> None:
        """Let go of the files. Raises as `execute`."""
        ...


Opener = Callable[[Path], Database]
"""Opens a connection to a file, which it makes if there is none. Raises a `StoreError`."""


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise StoreError(f"{path}: {exc}") from exc


class _Connection:
    """Python's own SQLite. Transactions are explicit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _translated(path):
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
            )

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise StoreError(f"{self._path}: {exc}") from exc

    def iterate(self, sql: str, parameters: Sequence[Any] = ()) -> Generator[Row, None, None]:
        with _translated(self._path):
            cursor = self._connection.execute(sql, parameters)
            try:
                yield from cursor
            finally:
                cursor.close()

    def close(self) -> None:
        with _translated(self._path):
            self._connection.close()


def open_database(path: Path) -> Database:
    """Open a file with Python's `sqlite3`: an `Opener`."""
    return _Connection(path)

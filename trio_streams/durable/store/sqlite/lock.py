"""Whose directory it is: one process at a time, and the kernel takes it from the dead."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from trio_streams.durable.store.base import StoreError

__all__ = ["DirectoryInUseError", "DirectoryLock"]

NAME: Final = "lock"


class DirectoryInUseError(StoreError):
    """Another store has the directory."""


class DirectoryLock:
    """A lock on a directory, held until `release`, or the end of the process.

    The file stays: deleting it would let a third one lock a new file while a second waits for the old one. A second store
    in the same process is refused, too.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> DirectoryLock:
        """Lock a directory.

        Raises:
          DirectoryInUseError: another store has it.
          StoreError: there can be no file in it.
        """
        path = directory / NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StoreError(f"{path}: {exc.strerror}") from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise DirectoryInUseError(f"{directory} is in use by the process with the pid {owner}") from None
        except OSError as exc:
            os.close(descriptor)
            raise StoreError(f"{path} can't be locked: {exc.strerror}") from exc
        return cls(descriptor)

    def release(self) -> None:
        """Let others have it. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

"""SQLite on a `Disk`, by apsw: a connection on which the store's own code runs as on Python's."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, ParamSpec

import apsw

from tests.durable.store.sqlite.disk import Disk, File, PowerCut, Refusal
from trio_streams.durable.store.base import StoreError
from trio_streams.durable.store.sqlite.database import Row

__all__ = ["DiskDatabase", "DiskVFS"]


P = ParamSpec("P")


class DiskVFS(apsw.VFS):
    """SQLite's view of a disk. Time, chance and sleep are the system's."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.vfs_name = name
        self.disk = disk
        self.connections: list[apsw.Connection] = []
        super().__init__(name, "", maxpathname=512)

    def bury(self) -> None:
        """Close what a dead process left open."""
        for connection in self.connections:
            connection.close(force=True)
        self.connections.clear()

    def xFullPathname(self, name: str) -> str:  # noqa: N802 - SQLite's name, here and below
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self.disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        try:
            self.disk.delete(filename, is_durable=syncdir)
        except Refusal as exc:
            raise apsw.IOError("refused") from exc

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _DiskFile:  # noqa: N802
        filename = name.filename() if isinstance(name, apsw.URIFilename) else (name or "temporary")
        return _DiskFile(self.disk, filename, self.disk.open(filename))

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: TracebackType | None
    ) -> bool:
        assert isinstance(evalue, PowerCut | Refusal | apsw.Error), evalue
        return True


class _DiskFile(apsw.VFSFile):
    """An open file. Nobody else has it open, so a lock is a word."""

    def __init__(self, disk: Disk, name: str, file: File) -> None:
        self._disk = disk
        self._name = name
        self._file = file

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.check()
        return bytes(self._file.live[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._do(self._disk.change, self._file, offset, bytes(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._do(self._disk.change, self._file, size, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._do(self._disk.sync, self._name, self._file)

    @staticmethod
    def _do(do: Callable[P, None], *arguments: P.args, **keywords: P.kwargs) -> None:
        try:
            do(*arguments, **keywords)
        except Refusal as exc:
            raise apsw.IOError("refused") from exc

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._file.live)

    def xClose(self) -> None:  # noqa: N802
        pass

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE  # as SQLite's own for Linux says

    def excepthook(
        self, etype: type[BaseException] | None, evalue: BaseException | None, etraceback: TracebackType | None
    ) -> bool:
        assert isinstance(evalue, PowerCut | Refusal | apsw.Error), evalue
        return True


class DiskDatabase:
    """A `Database` over apsw. It owns the files: such a VFS has no shared memory for others."""

    def __init__(self, path: str, vfs: DiskVFS) -> None:
        try:
            self._connection = apsw.Connection(path, vfs=vfs.vfs_name)
            vfs.connections.append(self._connection)
            self._disk = vfs.disk
        except (apsw.Error, PowerCut, Refusal) as exc:
            raise StoreError(repr(exc)) from exc
        self.execute("PRAGMA locking_mode=EXCLUSIVE")

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        synced = self._disk.frame_syncs
        try:
            return list(self._connection.execute(sql, tuple(parameters)))
        except (apsw.Error, PowerCut, Refusal) as exc:
            if sql == "COMMIT" and self._disk.frame_syncs > synced:
                return []  # a checkpoint behind the commit has failed: SQLite keeps that to itself, and apsw does not
            raise StoreError(repr(exc)) from exc

    def iterate(self, sql: str, parameters: Sequence[Any] = ()) -> Generator[Row, None, None]:
        yield from self.execute(sql, parameters)

    def close(self) -> None:
        try:
            self._connection.close()
        except (apsw.Error, PowerCut, Refusal) as exc:
            raise StoreError(repr(exc)) from exc

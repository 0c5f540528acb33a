"""A log of runs in memory, for tests: as strict as the contract, and able to fail."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.service.replay_log import LogItems, LogState

__all__ = ["FakeLog", "FakeReplayLog"]


class FakeLog:
    """One log; positions are bytes, each batch is an entry, and only its ends are positions."""

    def __init__(self, log_id: str) -> None:
        self.log_id = log_id
        self.batches: list[list[bytes]] = []
        self.bounds = [0]
        self.start = 0
        self.is_closed = False
        self.is_gone = False
        self.failure: RpcError | None = None
        self.hold: trio.Event | None = None
        self.writer: object = None
        self.reads = 0
        self._grown = trio.Event()

    @property
    def items(self) -> list[bytes]:
        return [item for batch in self.batches for item in batch]

    def _check(self) -> None:
        if self.is_gone:
            raise RpcError(Code.NOT_FOUND, "the log is gone")

    async def state(self) -> LogState:
        await trio.lowlevel.checkpoint()
        self._check()
        return LogState(self.start, self.bounds[-1], self.is_closed)

    async def read(self, position: int, *, max_bytes: int) -> LogItems:
        await trio.lowlevel.checkpoint()
        self._check()
        self.reads += 1
        if not self.start <= position <= self.bounds[-1]:
            raise RpcError(Code.OUT_OF_RANGE, "not in the log")
        if position not in self.bounds:
            raise RpcError(Code.INVALID_ARGUMENT, "no position")
        number = self.bounds.index(position)
        items: list[bytes] = []
        size = 0
        while number < len(self.batches) and (not items or size + sum(map(len, self.batches[number])) <= max_bytes):
            items += self.batches[number]
            size += sum(map(len, self.batches[number]))
            number += 1
        return LogItems(items, self.bounds[number], self.is_closed and number == len(self.batches))

    async def wait_behind(self, position: int) -> None:
        await trio.lowlevel.checkpoint()
        while position >= self.bounds[-1] and not self.is_closed:
            self._check()
            await self._grown.wait()
        self._check()

    async def take_over(self) -> FakeWriter:
        await trio.lowlevel.checkpoint()
        writer = self.writer = FakeWriter(self)
        return writer

    def grow(self) -> None:
        self._grown.set()
        self._grown = trio.Event()

    def delete(self) -> None:
        self.is_gone = True
        self.grow()


class FakeWriter:
    def __init__(self, log: FakeLog) -> None:
        self._log = log

    async def append(self, items: Sequence[bytes], *, close: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        log = self._log
        if log.hold is not None:
            await log.hold.wait()
        if log.failure is not None:
            raise log.failure
        if log.writer is not self or log.is_closed:
            raise RpcError(Code.ABORTED, "another writer")
        log.batches.append(list(items))
        log.bounds.append(log.bounds[-1] + sum(len(item) + 1 for item in items))
        log.is_closed = close
        log.grow()


class FakeReplayLog:
    """The logs by their paths."""

    def __init__(self) -> None:
        self.logs: dict[str, FakeLog] = {}
        self.failure: RpcError | None = None
        self.made = 0

    async def find(self, path: str) -> FakeLog | None:
        await trio.lowlevel.checkpoint()
        log = self.logs.get(path)
        return None if log is None or log.is_gone else log

    async def create(self, path: str, *, keep_seconds: int | None) -> tuple[FakeLog, bool]:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        if (log := await self.find(path)) is not None:
            return log, False
        self.made += 1
        log = self.logs[path] = FakeLog(f"log-{self.made}")
        return log, True

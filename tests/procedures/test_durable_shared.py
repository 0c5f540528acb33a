"""Readers of one log that are in step: one read serves them all, and nobody's misfortune is another's."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.procedures.fake_replay_log import FakeLog
from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.durable.shared import SharedLog
from trio_streams.service.replay_log import LogItems


class SlowLog(FakeLog):
    """Reads wait for a test's word, and may fail."""

    def __init__(self) -> None:
        super().__init__("l")
        self.go = trio.Event()
        self.read_failure: RpcError | None = None

    async def read(self, position: int, *, max_bytes: int) -> LogItems:
        got = await super().read(position, max_bytes=max_bytes)
        await self.go.wait()
        if self.read_failure is not None:
            raise self.read_failure
        return got


async def test_one_read_serves_all() -> None:
    """Those that ask while it is under way, and those that come a moment later; another place is another read."""
    log = SlowLog()
    shared = SharedLog(log)
    writer = await shared.take_over()
    for number in range(4):
        await writer.append([b"%d" % number])
    got: list[LogItems] = []

    async def read(position: int) -> None:
        got.append(await shared.read(position, max_bytes=1))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(read, 0)
        await trio.testing.wait_all_tasks_blocked()
        log.go.set()
    await read(0)
    assert len(got) == 11
    assert {tuple(one.items) for one in got} == {(b"0",)}
    assert log.reads == 1
    for position in (2, 4, 2, 0):  # the last two are kept
        await read(position)
    assert log.reads == 1 + 2 + 0 + 1
    assert shared.log_id == "l"
    assert (await shared.state()).tail == 8


async def test_nothing_is_not_kept() -> None:
    """A read at the tail is made again, for there may be more now."""
    log = SlowLog()
    log.go.set()
    shared = SharedLog(log)
    writer = await shared.take_over()
    assert not (await shared.read(0, max_bytes=1)).items
    await writer.append([b"1"])
    await shared.wait_behind(0)
    assert list((await shared.read(0, max_bytes=1)).items) == [b"1"]


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_who_reads_for_others_may_fail(is_cancelled: bool) -> None:
    """The others read for themselves then."""
    log = SlowLog()
    shared = SharedLog(log)
    await (await shared.take_over()).append([b"1"])
    got: list[LogItems] = []
    scope = trio.CancelScope()

    async def fail() -> None:
        with scope:
            with pytest.raises(RpcError):
                await shared.read(0, max_bytes=1)
            log.read_failure = None

    async def read() -> None:
        got.append(await shared.read(0, max_bytes=1))

    if not is_cancelled:
        log.read_failure = RpcError(Code.UNAVAILABLE, "no disk")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        if is_cancelled:
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
        log.go.set()
    assert list(got[0].items) == [b"1"]
    assert log.reads == 2

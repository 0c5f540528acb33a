"""Streams of figures, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.demo.links import open_client
from trio_streams.demo.figures import CpuFigures, CpuTimes, DiskCounters, DiskFigures, MemoryFigures, Traffic, now
from trio_streams.demo.sampling import SystemInfo, TimeInfo, add_figures
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router


class Fake:
    """A machine that does the same work every second of the test's clock."""

    name = "fake"

    def cpu(self) -> Sequence[CpuTimes]:
        return [CpuTimes(trio.current_time() / 4, trio.current_time())]

    def memory(self) -> MemoryFigures:
        return MemoryFigures(
            timestamp=now(),
            percent=50.0,
            total_bytes=100,
            available_bytes=50,
            used_bytes=50,
            swap_total_bytes=0,
            swap_used_bytes=0,
        )

    def disk(self) -> DiskCounters:
        moved = round(trio.current_time() * 1_000)
        return DiskCounters(read_bytes=moved, written_bytes=0, total_bytes=10, free_bytes=4)

    def network(self) -> Mapping[str, Traffic]:
        return {"lo": Traffic(round(trio.current_time() * 10), 0)}

    def load_average(self) -> tuple[float, ...]:
        return (0.5, 0.5, 0.5)


def _router(notes: list[str]) -> Router:
    router = Router()
    add_figures(router, Fake(), notes.append)
    return router


async def test_items_come_at_their_interval(autojump_clock: MockClock) -> None:
    """The first after 0.2 s, for it takes two readings, and then one an interval; each tells of the time since the last."""
    async with open_client(_router([])) as client:
        began = trio.current_time()
        async with client.stream("system.cpu", {"interval": 2.0}, returns=CpuFigures) as items:
            for due in (0.2, 2.2, 4.2):
                assert (await items.receive()).percent == 25.0
                assert trio.current_time() - began == pytest.approx(due, abs=0.05)
        async with client.stream("system.disk", {"interval": 1.0}, returns=DiskFigures) as disk:
            assert (await disk.receive()).read_bytes_per_second == pytest.approx(1_000, rel=0.05)
            assert (await disk.receive()).read_bytes_per_second == pytest.approx(1_000, rel=0.05)
        for name in ("system.memory", "system.network"):
            async with client.stream(name) as others:
                assert isinstance(await others.receive(), dict)


@pytest.mark.parametrize("interval", [0.0, 0.049, -1.0, 3_601.0])
async def test_an_interval_out_of_its_limits_is_refused(interval: float, autojump_clock: MockClock) -> None:
    """The error names the field and both limits; a second stream works."""
    async with open_client(_router([])) as client:
        async with client.stream("system.cpu", {"interval": interval}) as items:
            with pytest.raises(RpcError, match="interval is 0.05 to 3600 seconds") as caught:
                await items.receive()
        assert caught.value.code == "INVALID_ARGUMENT"
        assert caught.value.details == {"field": "interval", "minimum": 0.05, "maximum": 3600.0}
        async with client.stream("system.cpu") as items:
            assert await items.receive()


async def test_a_reader_that_leaves_is_noted(autojump_clock: MockClock) -> None:
    """The handler's `finally` runs when its reader leaves the block, and counts what it sent."""
    notes: list[str] = []
    async with open_client(_router(notes)) as client, client.stream("system.cpu") as items:
        await items.receive()
    assert [note.partition(":")[2].split()[0] for note in notes] == ["starts", "ends"]
    assert "every 1 s" in notes[0]
    assert notes[1].endswith("after 1 items")


async def test_plain_calls_answer(autojump_clock: MockClock) -> None:
    """`system.info` and `time` say what machine this is, and when."""
    async with open_client(_router([])) as client:
        info = await client.call("system.info", returns=SystemInfo)
        assert (info.source, info.memory_bytes) == ("fake", 100)
        assert info.cores >= 1
        moment = await client.call("time", returns=TimeInfo)
        assert moment.utc.timestamp() == pytest.approx(moment.unix)

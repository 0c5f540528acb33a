"""Reading a machine's figures: from /proc by hand, and from psutil."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trio_streams.demo import proc, sampling
from trio_streams.demo.figures import CpuTimes, Source, Traffic
from trio_streams.demo.proc import ProcSource

STAT = """\
cpu  30 0 30 340 0 0 0 0 0 0
cpu0 10 0 20 160 10 0 0 0 7 0
cpu1 20 0 10 170 0 0 0 0 0 0
intr 1 2 3
"""
MEMINFO = (
    "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\nSwapTotal: 40 kB\nSwapFree: 30 kB\nHugePages_Total: x\n"
)
DISKSTATS = """\
   8  0 sda 5 0 100 9 5 0 200 9 0 9 9
   8  1 sda1 5 0 100 9 5 0 200 9 0 9 9
   7  0 loop0 5 0 999 9 5 0 999 9 0 9 9
"""
NET = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0
  eth0: 1234567      10    0    0    0     0          0         0     7654      10    0    0    0     0       0          0
"""

needs_proc = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="there is no /proc here")


def _sources() -> list[Source]:
    sources: list[Source] = [ProcSource()] if Path("/proc/stat").exists() else []
    try:
        from trio_streams.demo.ps import PsutilSource  # noqa: PLC0415 - it may be missing
    except ModuleNotFoundError:
        return sources
    return [*sources, PsutilSource()]


def test_processor_times_are_read_by_core() -> None:
    """The sum of all cores is left out, idle and iowait are no work, and guest time is not counted twice."""
    assert proc.parse_cpu(STAT, ticks=100) == [CpuTimes(0.3, 2.0), CpuTimes(0.3, 2.0)]


def test_memory_is_read_in_bytes() -> None:
    """What is available counts, not what is free."""
    memory = proc.parse_memory(MEMINFO)
    assert (memory.total_bytes, memory.available_bytes, memory.used_bytes) == (1_024_000, 256_000, 768_000)
    assert (memory.swap_total_bytes, memory.swap_used_bytes, memory.percent) == (40_960, 10_240, 75.0)


def test_disks_are_counted_once() -> None:
    """Partitions and virtual disks are parts of others; where no disk is listed there is no figure."""
    assert proc.parse_disks(DISKSTATS, {"sda"}) == (51_200, 102_400)
    assert proc.parse_disks(DISKSTATS, set()) is None


def test_interfaces_are_read_by_name() -> None:
    """The head of the table is no interface."""
    assert proc.parse_network(NET) == {"lo": Traffic(500, 500), "eth0": Traffic(1_234_567, 7_654)}


def test_a_system_that_hides_its_disks_gives_none(tmp_path: Path) -> None:
    """A container without diskstats still has a file system."""
    disk = ProcSource(tmp_path, tmp_path / "nothing").disk()
    assert disk.read_bytes is None
    assert disk.total_bytes >= disk.free_bytes > 0


@pytest.mark.parametrize("source", _sources(), ids=lambda source: source.name)
def test_figures_are_of_this_machine(source: Source) -> None:
    """Sizes are plausible, every core has a history, and time that passes shows in a second reading."""
    memory = source.memory()
    assert 2**24 < memory.available_bytes <= memory.total_bytes < 2**50
    assert 0 < memory.percent < 100
    disk = source.disk()
    assert 0 < disk.free_bytes <= disk.total_bytes
    assert all(it.received_bytes >= 0 for it in source.network().values())
    assert len(source.load_average()) in {0, 3}
    first = source.cpu()
    assert all(0 <= core.busy <= core.total for core in first)
    _burn(0.1)
    second = source.cpu()
    assert len(first) == len(second)
    assert sum(core.total for core in second) > sum(core.total for core in first)
    assert sum(core.busy for core in second) > sum(core.busy for core in first)


def _burn(seconds: float) -> None:
    """Work, so that the processors' counters move."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@needs_proc
def test_psutil_and_proc_agree() -> None:
    """Both read the same machine: the same cores, memory, interfaces and file system."""
    if len(sources := _sources()) < 2:
        pytest.skip("psutil is not installed")
    ours, theirs = sources
    assert len(ours.cpu()) == len(theirs.cpu())
    assert ours.memory().total_bytes == theirs.memory().total_bytes
    assert ours.network().keys() == theirs.network().keys()
    assert ours.disk().total_bytes == theirs.disk().total_bytes
    assert sum(core.total for core in ours.cpu()) == pytest.approx(sum(core.total for core in theirs.cpu()), rel=0.01)


@needs_proc
def test_proc_is_read_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(sampling.find_source(), ProcSource)


def test_without_either_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without /proc is told what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sampling, "Path", lambda name: Path("nowhere"))
    with pytest.raises(sampling.NoSourceError, match=r"pip install 'trio_streams\[demo\]'"):
        sampling.find_source()

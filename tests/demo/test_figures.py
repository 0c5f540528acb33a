"""Figures from two readings."""

from __future__ import annotations

from trio_streams.demo import figures
from trio_streams.demo.figures import CpuTimes, DiskCounters, Traffic


def test_processors_are_as_busy_as_their_counters_say() -> None:
    """Two cores, one busy for a quarter of its time and one for all of it."""
    before = [CpuTimes(10.0, 100.0), CpuTimes(50.0, 100.0)]
    after = [CpuTimes(11.0, 104.0), CpuTimes(54.0, 104.0)]
    made = figures.cpu_figures(before, after, (0.123, 1.0, 2.0))
    assert made.per_core == (25.0, 100.0)
    assert made.percent == 62.5
    assert made.load_average == (0.12, 1.0, 2.0)


def test_no_time_between_two_readings_is_no_work() -> None:
    """Equal readings, and readings of which one lacks a core, divide nothing by zero."""
    times = [CpuTimes(1.0, 2.0), CpuTimes(1.0, 2.0)]
    assert figures.cpu_figures(times, times, ()).percent == 0.0
    assert figures.cpu_figures(times, times[:1], ()).per_core == (0.0,)
    disk = DiskCounters(read_bytes=1, written_bytes=1, total_bytes=0, free_bytes=0)
    assert figures.disk_figures(disk, disk, 0.0).read_bytes_per_second == 0.0


def test_rates_are_differences_over_time() -> None:
    """Bytes a second; a counter that restarts gives 0, one that the system hides gives None."""
    before = DiskCounters(read_bytes=1_000, written_bytes=None, total_bytes=100, free_bytes=60)
    after = DiskCounters(read_bytes=3_000, written_bytes=None, total_bytes=100, free_bytes=50)
    made = figures.disk_figures(before, after, 2.0)
    assert (made.read_bytes_per_second, made.written_bytes_per_second, made.percent) == (1_000.0, None, 50.0)
    assert figures.disk_figures(after, before, 2.0).read_bytes_per_second == 0.0


def test_an_interface_that_comes_up_starts_at_nothing() -> None:
    """Each interface has its own rates; a new one has moved nothing since the last item."""
    made = figures.network_figures({"lo": Traffic(10, 20)}, {"lo": Traffic(30, 25), "eth9": Traffic(7, 7)}, 2.0)
    assert made.interfaces["lo"].received_bytes_per_second == 10.0
    assert made.interfaces["lo"].sent_bytes_per_second == 2.5
    assert made.interfaces["eth9"].received_bytes_per_second == 0.0
    assert made.interfaces["eth9"].received_bytes == 7

"""A machine's figures from Linux's /proc, for those who have not installed psutil. See proc(5)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from trio_streams.demo.figures import CpuTimes, DiskCounters, MemoryFigures, Traffic, now, percent

__all__ = ["ProcSource", "parse_cpu", "parse_disks", "parse_memory", "parse_network"]

_PROC: Final = Path("/proc")
_BLOCK: Final = Path("/sys/block")
_TICKS: Final = 100
"""Clock ticks a second, USER_HZ; used where sysconf does not say."""

_SECTOR_BYTES: Final = 512
"""The unit of diskstats, whatever the device's own sectors are."""

_VIRTUAL_DISKS: Final = ("dm-", "loop", "md", "ram", "zram")
"""These lie on other disks, or on none: counting them would count twice."""


def parse_cpu(text: str, ticks: int = _TICKS) -> list[CpuTimes]:
    """Every processor's times from /proc/stat."""
    times: list[CpuTimes] = []
    for line in text.splitlines():
        name, *fields = line.split() or [""]
        if not name.startswith("cpu") or name == "cpu":
            continue
        # user nice system idle iowait irq softirq steal; guest times after them are part of user's already.
        numbers = [int(field) for field in fields[:8]]
        total = sum(numbers)
        idle = sum(numbers[3:5])
        times.append(CpuTimes((total - idle) / ticks, total / ticks))
    return times


def parse_memory(text: str) -> MemoryFigures:
    """Memory from /proc/meminfo."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            sizes[name] = int(number[0]) * 1024
    total = sizes.get("MemTotal", 0)
    available = min(total, sizes.get("MemAvailable", sizes.get("MemFree", 0)))
    swap = sizes.get("SwapTotal", 0)
    return MemoryFigures(
        timestamp=now(),
        percent=percent(total - available, total),
        total_bytes=total,
        available_bytes=available,
        used_bytes=total - available,
        swap_total_bytes=swap,
        swap_used_bytes=max(0, swap - sizes.get("SwapFree", 0)),
    )


def parse_disks(text: str, disks: set[str]) -> tuple[int, int] | None:
    """Bytes read and written by the named disks, from /proc/diskstats; None where none of them is listed."""
    read = written = 0
    found = False
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 10 and fields[2] in disks:
            found = True
            read += int(fields[5]) * _SECTOR_BYTES
            written += int(fields[9]) * _SECTOR_BYTES
    return (read, written) if found else None


def parse_network(text: str) -> dict[str, Traffic]:
    """Every interface's counters from /proc/net/dev."""
    traffic: dict[str, Traffic] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        fields = rest.split()
        if colon and len(fields) >= 9:
            traffic[name.strip()] = Traffic(int(fields[0]), int(fields[8]))
    return traffic


def _whole_disks(block: Path) -> set[str]:
    try:
        names = {path.name for path in block.iterdir()}
    except OSError:
        return set()
    return {name for name in names if not name.startswith(_VIRTUAL_DISKS)}


class ProcSource:
    """Reads /proc.

    Args:
      proc: where it is mounted.
      block: the directory that has an entry for each whole disk.
    """

    name = "/proc"

    def __init__(self, proc: Path = _PROC, block: Path = _BLOCK) -> None:
        self._proc = proc
        self._block = block
        self._ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else _TICKS

    def _read(self, name: str) -> str:
        return (self._proc / name).read_text(encoding="utf-8", errors="replace")

    def cpu(self) -> Sequence[CpuTimes]:
        """Every processor's times."""
        return parse_cpu(self._read("stat"), self._ticks)

    def memory(self) -> MemoryFigures:
        """Memory as it is now."""
        return parse_memory(self._read("meminfo"))

    def disk(self) -> DiskCounters:
        """The disks' counters; some containers hide them."""
        try:
            moved = parse_disks(self._read("diskstats"), _whole_disks(self._block))
        except OSError:
            moved = None
        usage = shutil.disk_usage("/")
        return DiskCounters(
            read_bytes=moved[0] if moved else None,
            written_bytes=moved[1] if moved else None,
            total_bytes=usage.total,
            free_bytes=usage.free,
        )

    def network(self) -> Mapping[str, Traffic]:
        """Every interface's counters."""
        return parse_network(self._read("net/dev"))

    def load_average(self) -> tuple[float, ...]:
        """Over 1, 5 and 15 minutes."""
        return tuple(float(field) for field in self._read("loadavg").split()[:3])

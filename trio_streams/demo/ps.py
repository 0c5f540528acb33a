"""A machine's figures from psutil, which knows every system. It is imported here only, and may be missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from trio_streams.demo.figures import CpuTimes, DiskCounters, MemoryFigures, Traffic, now, percent

__all__ = ["PsutilSource"]


class PsutilSource:
    """Asks psutil."""

    name: str = f"psutil {psutil.__version__}"

    def cpu(self) -> Sequence[CpuTimes]:
        """Every processor's times."""
        times: list[CpuTimes] = []
        for core in psutil.cpu_times(percpu=True):
            fields: dict[str, float] = core._asdict()
            # Linux counts guest times as user times already.
            total = sum(value for name, value in fields.items() if not name.startswith("guest"))
            idle = fields["idle"] + fields.get("iowait", 0.0)
            times.append(CpuTimes(total - idle, total))
        return times

    def memory(self) -> MemoryFigures:
        """Memory as it is now."""
        memory = psutil.virtual_memory()
        swap = psutil.swap_memory()
        total, available = int(memory.total), int(memory.available)
        return MemoryFigures(
            timestamp=now(),
            percent=percent(total - available, total),
            total_bytes=total,
            available_bytes=available,
            used_bytes=total - available,
            swap_total_bytes=int(swap.total),
            swap_used_bytes=int(swap.used),
        )

    def disk(self) -> DiskCounters:
        """The disks' counters; some systems hide them."""
        moved = psutil.disk_io_counters()
        usage = shutil.disk_usage(Path.cwd().anchor)
        return DiskCounters(
            read_bytes=None if moved is None else int(moved.read_bytes),
            written_bytes=None if moved is None else int(moved.write_bytes),
            total_bytes=usage.total,
            free_bytes=usage.free,
        )

    def network(self) -> Mapping[str, Traffic]:
        """Every interface's counters."""
        interfaces = psutil.net_io_counters(pernic=True)
        return {name: Traffic(int(it.bytes_recv), int(it.bytes_sent)) for name, it in interfaces.items()}

    def load_average(self) -> tuple[float, ...]:
        """Over 1, 5 and 15 minutes; empty on Windows, where psutil would start a thread to count it."""
        return os.getloadavg() if hasattr(os, "getloadavg") else ()

"""Figures of a machine: what is read, and what a stream tells of two readings.

Systems count upwards (seconds, bytes) since they started; a figure for people is the difference of two readings over
the time between them. Everything here is plain arithmetic on values that somebody else has read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import attrs

__all__ = [
    "CpuFigures",
    "CpuTimes",
    "DiskCounters",
    "DiskFigures",
    "InterfaceFigures",
    "MemoryFigures",
    "NetworkFigures",
    "Source",
    "Traffic",
    "cpu_figures",
    "disk_figures",
    "network_figures",
]


@attrs.frozen
class CpuTimes:
    """What one processor has done since the system started.

    Attributes:
      busy: seconds of work.
      total: seconds in all, idle ones included.
    """

    busy: float
    total: float


@attrs.frozen(kw_only=True)
class DiskCounters:
    """What the disks have moved since the system started, and the room on the main file system.

    Attributes:
      read_bytes: read by all disks; None where the system does not say.
      written_bytes: written likewise.
      total_bytes: the size of the main file system.
      free_bytes: what an ordinary user may still fill.
    """

    read_bytes: int | None
    written_bytes: int | None
    total_bytes: int
    free_bytes: int


@attrs.frozen
class Traffic:
    """What one network interface has moved since it came up."""

    received_bytes: int
    sent_bytes: int


@attrs.frozen(kw_only=True)
class CpuFigures:
    """How busy the processors were since the last item.

    Attributes:
      timestamp: when it was read.
      percent: of all processors together, 0 to 100.
      per_core: the same of each.
      load_average: tasks that ran or waited over 1, 5 and 15 minutes; empty where the system does not count them.
    """

    timestamp: datetime
    percent: float
    per_core: tuple[float, ...]
    load_average: tuple[float, ...]


@attrs.frozen(kw_only=True)
class MemoryFigures:
    """How much memory is in use.

    Attributes:
      timestamp: when it was read.
      percent: what is not available, of the total.
      total_bytes: of the machine.
      available_bytes: what programs could have without swapping.
      used_bytes: the rest.
      swap_total_bytes: swap space.
      swap_used_bytes: swap space in use.
    """

    timestamp: datetime
    percent: float
    total_bytes: int
    available_bytes: int
    used_bytes: int
    swap_total_bytes: int
    swap_used_bytes: int


@attrs.frozen(kw_only=True)
class DiskFigures:
    """What the disks did since the last item.

    Attributes:
      timestamp: when it was read.
      read_bytes_per_second: by all disks; None where the system does not say.
      written_bytes_per_second: likewise.
      total_bytes: the size of the main file system.
      free_bytes: what is free of it.
      percent: what is not free, of the total.
    """

    timestamp: datetime
    read_bytes_per_second: float | None
    written_bytes_per_second: float | None
    total_bytes: int
    free_bytes: int
    percent: float


@attrs.frozen(kw_only=True)
class InterfaceFigures:
    """What one network interface did since the last item, and since it came up."""

    received_bytes_per_second: float
    sent_bytes_per_second: float
    received_bytes: int
    sent_bytes: int


@attrs.frozen(kw_only=True)
class NetworkFigures:
    """What each network interface did since the last item, by its name."""

    timestamp: datetime
    interfaces: Mapping[str, InterfaceFigures]


class Source(Protocol):
    """Reads a machine's figures. Every method is quick: it asks the kernel, never a device."""

    name: str

    def cpu(self) -> Sequence[CpuTimes]:
        """Every processor's times."""
        ...

    def memory(self) -> MemoryFigures:
        """Memory as it is now."""
        ...

    def disk(self) -> DiskCounters:
        """The disks' counters."""
        ...

    def network(self) -> Mapping[str, Traffic]:
        """Every interface's counters."""
        ...

    def load_average(self) -> tuple[float, ...]:
        """Over 1, 5 and 15 minutes; empty where the system does not count it."""
        ...


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def percent(part: float, whole: float) -> float:
    """A share from 0 to 100, with two decimals; 0 of nothing."""
    return round(min(100.0, max(0.0, 100 * part / whole)), 2) if whole > 0 else 0.0


def _rate(before: float, after: float, seconds: float) -> float:
    # Counters restart when an interface or a disk is replaced; a negative rate would say nothing.
    return round(max(0.0, after - before) / seconds, 1) if seconds > 0 else 0.0


def cpu_figures(before: Sequence[CpuTimes], after: Sequence[CpuTimes], load: tuple[float, ...]) -> CpuFigures:
    """How busy the processors were between two readings; a processor that came or went between them is left out."""
    spans = [(b.busy - a.busy, b.total - a.total) for a, b in zip(before, after, strict=False)]
    return CpuFigures(
        timestamp=now(),
        percent=percent(sum(busy for busy, _ in spans), sum(total for _, total in spans)),
        per_core=tuple(percent(busy, total) for busy, total in spans),
        load_average=tuple(round(number, 2) for number in load),
    )


def disk_figures(before: DiskCounters, after: DiskCounters, seconds: float) -> DiskFigures:
    """What the disks did between two readings."""

    def rate(first: int | None, second: int | None) -> float | None:
        return None if first is None or second is None else _rate(first, second, seconds)

    return DiskFigures(
        timestamp=now(),
        read_bytes_per_second=rate(before.read_bytes, after.read_bytes),
        written_bytes_per_second=rate(before.written_bytes, after.written_bytes),
        total_bytes=after.total_bytes,
        free_bytes=after.free_bytes,
        percent=percent(after.total_bytes - after.free_bytes, after.total_bytes),
    )


def network_figures(before: Mapping[str, Traffic], after: Mapping[str, Traffic], seconds: float) -> NetworkFigures:
    """What each interface did between two readings; one that has just come up starts at 0."""
    return NetworkFigures(
        timestamp=now(),
        interfaces={
            name: InterfaceFigures(
                received_bytes_per_second=_rate(before.get(name, it).received_bytes, it.received_bytes, seconds),
                sent_bytes_per_second=_rate(before.get(name, it).sent_bytes, it.sent_bytes, seconds),
                received_bytes=it.received_bytes,
                sent_bytes=it.sent_bytes,
            )
            for name, it in after.items()
        },
    )

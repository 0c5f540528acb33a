"""Streams of a machine's figures: one item an interval, the first one soon."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.demo import figures
from trio_streams.demo.figures import Source
from trio_streams.demo.proc import ProcSource
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router
from trio_streams.service.context import Context

__all__ = ["NoSourceError", "Sampling", "add_figures", "find_source"]

C = TypeVar("C")
F = TypeVar("F")

MIN_INTERVAL: Final = 0.05
"""Seconds: /proc counts processor time in hundredths, so that shorter spans say nothing."""
MAX_INTERVAL: Final = 3600.0
_FIRST: Final = 0.2
"""Seconds to the first item: it takes two readings, and nobody likes to wait an hour for a sign of life."""


class NoSourceError(Exception):
    """This system has no /proc, and psutil is not installed."""


@attrs.frozen
class Sampling:
    """What a client may ask for: the seconds between two items, 0.05 to 3600."""

    interval: float = 1.0

    def checked(self) -> float:
        """The interval, if it is within the limits.

        Raises:
          RpcError: INVALID_ARGUMENT; it names the field and its limits.
        """
        if MIN_INTERVAL <= self.interval <= MAX_INTERVAL:
            return self.interval
        message = f"interval is {MIN_INTERVAL:g} to {MAX_INTERVAL:g} seconds, not {self.interval:g}"
        limits = {"field": "interval", "minimum": MIN_INTERVAL, "maximum": MAX_INTERVAL}
        raise RpcError(Code.INVALID_ARGUMENT, message, limits)


@attrs.frozen(kw_only=True)
class SystemInfo:
    """What `system.info` answers."""

    system: str
    machine: str
    python: str
    cores: int
    memory_bytes: int
    source: str


@attrs.frozen(kw_only=True)
class TimeInfo:
    """What `time` answers."""

    utc: datetime
    unix: float


def find_source() -> Source:
    """What reads this machine's figures: psutil where it is installed, else /proc.

    Raises:
      NoSourceError: there is neither.
    """
    if importlib.util.find_spec("psutil") is not None:
        source: Source = importlib.import_module("trio_streams.demo.ps").PsutilSource()
        return source
    if Path("/proc/stat").exists():
        return ProcSource()
    raise NoSourceError(f"reading figures on {sys.platform} takes psutil: pip install 'trio_streams[demo]'")


def add_figures(router: Router, source: Source, note: Callable[[str], None]) -> None:
    """Enter `system.*` and `time` into a router.

    Args:
      router: gets the procedures.
      source: reads the figures.
      note: told, for the log, when a stream begins and ends.
    """

    def stream(
        name: str, output: type[F], description: str, read: Callable[[], C], derive: Callable[[C, C, float], F]
    ) -> None:
        declaration = router.stream(name, input=Sampling, output=output).description(description)
        declaration.handler(_sampler(read, derive, note))

    stream(
        "system.cpu",
        figures.CpuFigures,
        "How busy the processors are.",
        source.cpu,
        lambda before, after, _: figures.cpu_figures(before, after, source.load_average()),
    )
    stream(
        "system.memory",
        figures.MemoryFigures,
        "How much memory is in use.",
        source.memory,
        lambda _before, after, _: after,
    )
    stream("system.disk", figures.DiskFigures, "What the disks do.", source.disk, figures.disk_figures)
    stream("system.network", figures.NetworkFigures, "What the network does.", source.network, figures.network_figures)
    _add_calls(router, source)


def _add_calls(router: Router, source: Source) -> None:
    @router.call("system.info")
    async def info() -> SystemInfo:
        """What machine this is."""
        await trio.lowlevel.checkpoint()
        return SystemInfo(
            system=f"{platform.system()} {platform.release()}",
            machine=platform.machine(),
            python=platform.python_version(),
            cores=os.cpu_count() or 1,
            memory_bytes=source.memory().total_bytes,
            source=source.name,
        )

    @router.call("time")
    async def time() -> TimeInfo:
        """The time on this machine."""
        await trio.lowlevel.checkpoint()
        moment = figures.now()
        return TimeInfo(utc=moment, unix=moment.timestamp())


def _sampler(
    read: Callable[[], C], derive: Callable[[C, C, float], F], note: Callable[[str], None]
) -> Callable[[Sampling, Context], AsyncIterator[F]]:
    async def sample(input: Sampling, ctx: Context) -> AsyncIterator[F]:  # noqa: A002
        interval = input.checked()
        note(f"{ctx.procedure}: starts for {ctx.peer}, every {interval:g} s")
        count = 0
        try:
            before, read_at = read(), trio.current_time()
            due = read_at + min(interval, _FIRST)
            while True:
                await trio.sleep_until(due)
                after, at = read(), trio.current_time()
                yield derive(before, after, at - read_at)
                count += 1
                before, read_at = after, at
                # A reader who is slow gets the next item late, not all that it has missed in a burst.
                due = max(due + interval, trio.current_time())
        finally:
            note(f"{ctx.procedure}: ends for {ctx.peer} after {count} items")

    return sample

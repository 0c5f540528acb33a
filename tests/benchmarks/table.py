"""How benchmarks are described and printed: what ran where, interleaved rounds, medians, ratios from one run."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

__all__ = ["interleaved", "median", "options", "percentile", "print_head", "print_table"]


def options(doc: str | None, **more: str) -> argparse.Namespace:
    """The arguments that every benchmark takes, and texts that one alone takes: names and what to say of them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round with few items: shows that it runs")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--only", default="", help="only contestants whose name contains this")
    for name, help_ in more.items():
        parser.add_argument(f"--{name}", default="", metavar=name.upper(), help=help_)
    return parser.parse_args()


def print_head(title: str, *notes: str) -> None:
    """What is asked, with what, and where."""
    packages = ("trio", "trio-websocket", "websockets", "hypercorn", "msgspec")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(f"\n# {title}")
    print(f"Python {platform.python_version()}, {versions}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{_cpu()}, {os.cpu_count()} cores, load {load}; server and client are two processes on loopback")
    for note in notes:
        print(note)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def interleaved(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each contestant once a round, so that what else the machine does falls on all alike."""
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            measured[name].append(measure())
    return measured


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all values do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))


def stopwatch() -> Callable[[], float]:
    """Start counting seconds; call the result to read them."""
    started = perf_counter()
    return lambda: perf_counter() - started

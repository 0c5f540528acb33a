"""Where does the time go? One contestant of bench_wire.py under cProfile, server and client in turn.

cProfile makes every call dearer, so shares of small functions look larger than they are; only one side is watched at a
time, and the rate without it is printed beside.

    python -m tests.benchmarks.profile_wire "TCP, send_many / async for" [COUNT]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from pathlib import Path

import trio

from tests.benchmarks.child import running
from tests.benchmarks.clients import CONTESTANTS, Contestant, read_items
from tests.benchmarks.work import Work

_LINES = 28


def show(title: str, profile: cProfile.Profile | str, items: int) -> None:
    """The functions that take most time themselves, in microseconds an item."""
    stats = pstats.Stats(profile)
    print(f"\n{title}: own time, calls and time with callees, in µs an item")
    entries = sorted(stats.stats.items(), key=lambda entry: -entry[1][2])  # type: ignore[attr-defined]
    for (file, line, name), (_, calls, own, total, _) in entries[:_LINES]:
        where = f"{Path(file).parent.name}/{Path(file).name}:{line}" if line else ""
        print(f"{own / items * 1e6:7.3f}  {calls / items:6.2f}  {total / items * 1e6:8.3f}  {name} {where}")


def measure(contestant: Contestant, window: int, work: Work, *server: str) -> float:
    """Seconds of one run after a short one that warms up."""
    with running("tests.benchmarks.server", *server) as urls:
        url = urls[contestant.url]
        trio.run(read_items, contestant, url, window, Work(2_000, work.size), 1)
        return trio.run(read_items, contestant, url, window, work, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[contestant.name for contestant in CONTESTANTS])
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--window", type=int, default=256)
    chosen = parser.parse_args()
    contestant = next(contestant for contestant in CONTESTANTS if contestant.name == chosen.name)
    work = Work(chosen.count, chosen.size)
    seconds = measure(contestant, chosen.window, work)
    print(f"{contestant.name}: {seconds / work.count * 1e6:.2f} µs an item, {work.count / seconds / 1e3:,.0f} k/s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.prof"
        measure(contestant, chosen.window, work, "--profile", str(path))
        show("server", str(path), work.count)
    with cProfile.Profile() as profile:
        measure(contestant, chosen.window, work)
    show("client", profile, work.count)


if __name__ == "__main__":
    main()

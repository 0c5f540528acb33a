"""What does one event to a thousand readers cost, and what a reader who waits?

One server process a contestant, one after the other in every round, and a bare epoll client: 1,000 connections that read
server-sent events of 20 bytes, published one at a time and in bursts of ten. The others get a queue for each reader and a
`send` for each event, which is what one writes there. On two cores that others use, too, events per second also depend on
what the client gets of them, so the server's own CPU time is printed beside it.

    python -m tests.benchmarks.bench_fanout [--quick] [--rounds N] [--only NAME]
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Final

from tests.benchmarks.bench_http import open_sockets, request
from tests.benchmarks.child import cpu_seconds, resident_bytes, running
from tests.benchmarks.fanout_servers import EVENT, SERVERS
from tests.benchmarks.rlimit import raise_file_limit
from tests.benchmarks.table import median, options, print_head, print_table

KINDS: Final = {"single events": 1, "bursts of 10": 10}
LEAN: Final = "lean, Broadcast"
TARGETS: Final = {
    "single events": {"hypercorn": 5.0, "uvicorn": 1.3},
    "bursts of 10": {"hypercorn": 20.0, "uvicorn": 1.3},
}
MEMORY_TARGET_KIB: Final = 8.0

_WARM: Final = 100


def read_heads(sockets: dict[int, socket.socket]) -> None:
    for opened in sockets.values():
        while b"\r\n\r\n" not in opened.recv(65_536, socket.MSG_PEEK):
            pass
        opened.recv(65_536)


def opened_readers(url: str, count: int) -> dict[int, socket.socket]:
    """Readers whose answers have begun; a few at a time, for the sake of backlogs."""
    sockets: dict[int, socket.socket] = {}
    while len(sockets) < count:
        some = open_sockets(url, min(50, count - len(sockets)), request("/events"))
        read_heads(some)
        sockets.update(some)
    return sockets


@contextmanager
def readers(url: str, pid: int, count: int) -> Iterator[tuple[dict[int, socket.socket], float]]:
    """Readers, and the server's resident bytes for each of them while they wait."""
    warm = opened_readers(url, _WARM)
    sleep(0.2)
    before = resident_bytes(pid)
    sockets = opened_readers(url, count)
    sleep(0.2)
    each = (resident_bytes(pid) - before) / count
    for opened in warm.values():
        opened.close()
    sleep(1.5)  # until the server has given up those that left
    yield sockets, each
    for opened in sockets.values():
        opened.close()


def events(url: str, pid: int, sockets: dict[int, socket.socket], bursts: int, size: int) -> tuple[float, float]:
    """Events a second to all readers together, by the wall and by the server's CPU."""
    poll = select.epoll()
    for fd in sockets:
        poll.register(fd, select.EPOLLIN)
    started, busy = perf_counter(), cpu_seconds(pid)
    (control,) = open_sockets(url, 1, request(f"/publish?bursts={bursts}&size={size}", "POST")).values()
    expected, seen = len(sockets) * bursts * size, 0
    letters = expected * len(EVENT)
    while seen < letters:
        found = poll.poll(30)
        assert found, f"{seen} of {letters} bytes"
        for fd, _ in found:
            # Letters instead of lines: cheap to count, and no cut goes through one.
            seen += os.read(fd, 262_144).count(EVENT[:1])
    elapsed, busy = perf_counter() - started, cpu_seconds(pid) - busy
    control.close()
    poll.close()
    return expected / elapsed, expected / max(busy, 0.01)


def main() -> None:
    raise_file_limit()
    chosen = options(__doc__)
    rounds, count, total = (1, 200, 10_000) if chosen.quick else (chosen.rounds, 1_000, 40_000)
    print_head(
        "One publisher, many readers",
        f"{count} readers; medians of {rounds} interleaved rounds; ratios of the lean host are medians of each round's",
    )
    names = [name for name in SERVERS if chosen.only in name]
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {kind: {name: [] for name in names} for kind in KINDS}
    memory: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with running("tests.benchmarks.fanout_servers", name) as about:
                url, pid = about["http"], int(about["pid"])
                with readers(url, pid, count) as (sockets, each):
                    memory[name].append(each / 1_024)
                    for kind, size in KINDS.items():
                        # Enough that the CPU's clock, which ticks a hundred times a second, can tell.
                        repeats = (8 if "lean" in name else 1) * (3 if size > 1 and "Broadcast" in name else 1)
                        bursts = max(1, repeats * total // count // size)
                        figures[kind][name].append(events(url, pid, sockets, bursts, size))
    rows: list[list[str]] = []
    for kind, found in figures.items():
        for name, pairs in found.items():
            wall, busy = (median([pair[i] for pair in pairs]) for i in (0, 1))
            ratios = ["", ""]
            if LEAN in found and name != LEAN:
                ratios = [
                    f"{median([lean[i] / pair[i] for lean, pair in zip(found[LEAN], pairs, strict=True)]):.1f} x"
                    for i in (0, 1)
                ]
            target = TARGETS[kind].get(name)
            rows.append(
                [
                    f"{kind}, {name}",
                    f"{wall:,.0f}",
                    ratios[0],
                    f"{busy:,.0f}",
                    ratios[1],
                    f"{target} x" if target else "",
                ]
            )
    print_table(["events/s", "by the wall", "lean is", "by the server's CPU", "lean is", "target"], rows)
    print()
    kib = [
        [name, f"{median(values):.1f} KiB", f"{MEMORY_TARGET_KIB} KiB" if name == LEAN else ""]
        for name, values in memory.items()
    ]
    print_table([f"each of {count} idle readers", "resident", "target"], kib)


if __name__ == "__main__":
    main()

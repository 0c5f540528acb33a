"""How many items a second go from one process to another, over each transport, beside bare Trio?

The server sends one payload again and again (procedures: one item, encoded each time), the client counts. Each
contestant first shows how many items it moves in the time of a run.

    python -m tests.benchmarks.bench_wire [--quick] [--only NAME]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import trio

from tests.benchmarks.child import running
from tests.benchmarks.clients import BARE, CONTESTANTS, Contestant, asyncio_items, read_items
from tests.benchmarks.table import interleaved, median, options, print_head, print_table
from tests.benchmarks.work import Work

WINDOWS: Final = (16, 256)
SIZES: Final = (16, 1_024)
STREAMS: Final = (1, 100)

ASYNCIO: Final = "websockets on asyncio, one message an item"
TARGETS: Final[Mapping[str, int]] = {
    "TCP, send_many / async for": 300_000,
    "TCP, procedure": 300_000,
    "SSE, a stream in runs / SseParser": 300_000,
    "SSE, procedure": 300_000,
    "WebSocket, send_many / async for": 200_000,
    "WebSocket, procedure": 200_000,
}
"""Small items a second at a window of 256, on one stream."""

_CONNECTION_A_STREAM: Final = "bare contestants and SSE have a connection for each stream"


class _Measured:
    """A contestant that has found out how many items make a run of the wanted length."""

    def __init__(
        self,
        urls: Mapping[str, str],
        contestant: Contestant | None,
        window: int,
        size: int,
        streams: int,
        seconds: float,
    ) -> None:
        self._urls = urls
        self._contestant = contestant
        self._window = window
        self._size = size
        self._streams = streams
        self._count = max(1, 2_000 // streams)
        # Twice: short runs are mostly the opening of streams.
        self._count = max(1, int(seconds * self.rate() / streams))
        self._count = max(1, int(seconds * self.rate() / streams))

    def rate(self) -> float:
        """Items a second, in one run."""
        work = Work(self._count, self._size)
        if self._contestant is None:
            seconds = asyncio_items(self._urls, work, self._streams)
        else:
            url = self._urls[self._contestant.url]
            seconds = trio.run(read_items, self._contestant, url, self._window, work, self._streams)
        return self._count * self._streams / seconds


def measure(
    urls: Mapping[str, str], window: int, size: int, streams: int, *, rounds: int, seconds: float, only: str
) -> dict[str, list[float]]:
    """Rates by contestant, those without a window only at the largest one."""
    wanted = {
        contestant.name: contestant
        for contestant in CONTESTANTS
        if only in contestant.name and (contestant.has_window or window == WINDOWS[-1])
    }
    ready = {name: _Measured(urls, contestant, window, size, streams, seconds) for name, contestant in wanted.items()}
    if only in ASYNCIO and window == WINDOWS[-1]:
        ready[ASYNCIO] = _Measured(urls, None, window, size, streams, seconds)
    if BARE not in ready:
        bare = next(contestant for contestant in CONTESTANTS if contestant.name == BARE)
        ready[BARE] = _Measured(urls, bare, window, size, streams, seconds)
    return interleaved({name: measured.rate for name, measured in ready.items()}, rounds)


def show(rates_by_window: Mapping[int, dict[str, list[float]]], *, size: int, streams: int) -> None:
    """One table: rows are contestants, columns windows, each with its ratio to the bare baseline of the same round."""
    names = list(dict.fromkeys([contestant.name for contestant in CONTESTANTS] + [ASYNCIO]))
    rows: list[list[str]] = []
    for name in names:
        row = [name]
        for rates in rates_by_window.values():
            if name not in rates:
                row += ["-", "-"]
                continue
            ratios = [rate / bare for rate, bare in zip(rates[name], rates[BARE], strict=True)]
            row += [f"{median(rates[name]) / 1e3:,.1f} k/s", f"{median(ratios):.2f} x"]
        target = TARGETS.get(name) if size == min(SIZES) and streams == 1 else None
        row.append(f"{target / 1e3:,.0f} k/s" if target else "")
        if any(cell != "-" for cell in row[1:-1]):
            rows.append(row)
    head = [f"{size} B, {streams} streams" if streams > 1 else f"{size} B, 1 stream"]
    for window in rates_by_window:
        head += [f"window {window}", "ratio"]
    print()
    print_table([*head, "target"], rows)


def main() -> None:
    chosen = options(__doc__)
    rounds, seconds = (1, 0.02) if chosen.quick else (chosen.rounds, 0.3)
    print_head(
        "Items a second between two processes",
        f"medians of {rounds} interleaved rounds of about {seconds:g} s each; ratios to {BARE!r} of the same round",
        _CONNECTION_A_STREAM,
    )
    with running("tests.benchmarks.server") as ours, running("tests.benchmarks.server_asyncio") as others:
        urls = {**ours, **others}
        run = partial(measure, urls, rounds=rounds, seconds=seconds, only=chosen.only)
        for streams in STREAMS:
            for size in SIZES:
                show({window: run(window, size, streams) for window in WINDOWS}, size=size, streams=streams)


if __name__ == "__main__":
    main()

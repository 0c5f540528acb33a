"""The clients of a soak: `python -m tests.faults.soak_clients URL SEED STREAMS HEALTHY STALLED VANISHING LIFE`.

They come in two steps, so that the healthy ones can be measured alone first. The collector of cycles is off here: its
pauses would be measured as the server's.
"""

from __future__ import annotations

import gc
import random
import resource
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import urlsplit

import trio

from tests.benchmarks.table import percentile
from tests.faults.children import answer_lines
from tests.faults.http_visitors import HttpVisitors
from tests.faults.soak_server import make_config
from tests.faults.visitors import Tally, Visitors

_AT_ONCE = 50
_PACE_SECONDS = 1.0

Visit = Callable[[random.Random, Callable[[], None]], Awaitable[None]]


class _Crowd:
    def __init__(self, url: str, seed: int, streams: int, sizes: tuple[int, int, int], life: float) -> None:
        visitors: Visitors | HttpVisitors
        if urlsplit(url).scheme == "http":
            visitors = HttpVisitors(url, streams, pace=_PACE_SECONDS / 5)
        else:
            visitors = Visitors(url, streams, make_config(None, streams), pace=_PACE_SECONDS)
        self._tally: Tally = visitors.tally
        self._seed = seed
        self._sizes = sizes
        vanishing = partial(visitors.vanishing, life=life)
        self._kinds: tuple[Visit, ...] = (visitors.healthy, visitors.stalled, vanishing)
        self.scope = trio.CancelScope()
        self.nursery: trio.Nursery

    async def _enter(self, kind: int) -> None:
        """All clients of a kind, a few at a time; each has numbers of its own, so that the others change nothing."""
        limit = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as entering:
            for n in range(self._sizes[kind]):
                rng = random.Random(f"{self._seed} {kind} {n}")
                entering.start_soon(self._start, limit, self._kinds[kind], rng)

    async def _start(self, limit: trio.CapacityLimiter, visit: Visit, rng: random.Random) -> None:
        is_here = trio.Event()
        async with limit:
            self.nursery.start_soon(visit, rng, is_here.set)
            await is_here.wait()

    async def _measure(self, seconds: float) -> dict[str, object]:
        self._tally.seconds.clear()
        await trio.sleep(seconds)
        return await self.tell([])

    async def tell(self, _: list[float]) -> dict[str, object]:
        """What they have seen since they were last measured."""
        await trio.lowlevel.checkpoint()
        measured = self._tally.seconds or [0.0]
        return {
            "round_trips": len(self._tally.seconds),
            "p50": percentile(measured, 0.5),
            "p99": percentile(measured, 0.99),
            "deaths": self._tally.deaths,
            "dropped": self._tally.dropped,
            "silent": len(self._tally.held),
            "faults": self._tally.faults,
        }

    async def quiet(self, numbers: list[float]) -> dict[str, object]:
        """The healthy ones come, and are measured."""
        await self._enter(0)
        return await self._measure(numbers[0])

    async def faults(self, numbers: list[float]) -> dict[str, object]:
        """The others come; the healthy ones are measured among them."""
        await self._enter(1)
        await self._enter(2)
        return await self._measure(numbers[0])

    async def leave(self, _: list[float]) -> dict[str, object]:
        """All go but the silent ones, whose sockets stay open: those the server has to find by itself."""
        self.scope.cancel()
        await trio.lowlevel.checkpoint()
        return {"faults": self._tally.faults}


async def main(url: str, seed: int, streams: int, sizes: tuple[int, int, int], life: float) -> None:
    """Be the clients until the input ends."""
    crowd = _Crowd(url, seed, streams, sizes, life)

    async def stay(task_status: trio.TaskStatus[None]) -> None:
        with crowd.scope:
            async with trio.open_nursery() as crowd.nursery:
                task_status.started()
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(stay)
        await answer_lines({}, {"quiet": crowd.quiet, "faults": crowd.faults, "tell": crowd.tell, "leave": crowd.leave})
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    gc.disable()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    counts = [int(text) for text in sys.argv[2:7]]
    trio.run(main, sys.argv[1], counts[0], counts[1], (counts[2], counts[3], counts[4]), float(sys.argv[7]))

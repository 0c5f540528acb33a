"""A program: many connections with many streams, a third stalled, a third vanishing at random; what is left behind?

    python -m tests.faults.soak --seed 1 [--transport tcp] [--connections 1000] [--streams 10] [--seconds 120]

A server and its clients run in processes of their own. The last third measures its round trips first alone and then
among the others. Some of those that vanish share one process more, which is stopped with SIGSTOP, and later killed.
At the end all leave. Then the server must have no task, no descriptor, no handler and no object of a connection more
than before the first client, and its peak of memory must stay below the sum of the windows and a stated overhead.
Times are printed, and decide nothing: they measure the machine, too.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import attrs
import trio

from tests.benchmarks.table import print_head, print_table
from tests.faults.children import Child, open_child
from tests.faults.soak_server import WINDOW_BYTES

__all__ = ["main"]

TRANSPORTS: Final = ("tcp", "ws", "ws-lean", "ws-hypercorn", "http-lean", "http-hypercorn")

OVERHEAD_BYTES_PER_STREAM: Final = 12_288
"""A handler's task, its generators, both halves of a stream, and the items that are under way through them."""

OVERHEAD_BYTES_PER_CONNECTION: Final = 49_152
"""Two tasks, a machine, and what of its writes and reads is under way."""

FIXED_OVERHEAD_BYTES: Final = 16_777_216
"""What the interpreter loads and caches when the first client comes."""

PATIENCE_SECONDS: Final = 60.0
"""How long the server may take, beyond its timeouts, to notice that all have left. A fail-safe only."""


_OF_THE_ILL: Final = frozenset({"deaths", "dropped", "silent"})


@attrs.frozen
class Plan:
    """What a soak does."""

    transport: str
    seed: int
    connections: int
    streams: int
    seconds: float

    @property
    def is_http(self) -> bool:
        return self.transport.startswith("http")

    @property
    def idle_timeout(self) -> float:
        """Long enough for a busy machine, short enough to be met several times."""
        return max(5.0, min(15.0, self.seconds / 4))

    @property
    def quiet_seconds(self) -> float:
        return max(2.0, min(8.0, self.seconds / 4))

    @property
    def stopped(self) -> int:
        """How many live in the process that is stopped."""
        return max(1, self.connections // 50)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Healthy, stalled and vanishing clients."""
        third = self.connections // 3
        return self.connections - 2 * third, third, third - self.stopped

    @property
    def life(self) -> float:
        """The mean of a vanishing client's seconds."""
        return max(3.0, min(20.0, self.seconds / 4))

    @property
    def descriptors(self) -> int:
        """What a process needs: silent clients keep theirs to the end."""
        sockets = self.connections * (self.streams if self.is_http else 1)
        return 2 * sockets + int(sockets * self.seconds / self.life) + 200


@attrs.define
class _Soak:
    """One run, and what it finds."""

    plan: Plan
    url: str
    server: Child
    most: dict[str, int] = attrs.field(
        factory=lambda: dict.fromkeys(("connections", "handlers", "tasks", "descriptors"), 0)
    )
    stopped: int = 0

    def _clients(self, sizes: tuple[int, int, int], life: float) -> AbstractAsyncContextManager[Child]:
        numbers = (self.plan.seed, self.plan.streams, *sizes, life)
        return open_child("tests.faults.soak_clients", self.url, *map(str, numbers))

    async def _stop_and_kill(self) -> None:
        """Processes that stop answering, one after the other; the kernel goes on acknowledging for them."""
        plan = self.plan
        rng = random.Random(f"{plan.seed} stopped")
        while True:
            async with self._clients((0, 0, plan.stopped), 1e6) as child:
                await child.ask("faults", rng.uniform(0, plan.life))
                child.process.send_signal(signal.SIGSTOP)
                self.stopped += plan.stopped
                await trio.sleep(1.5 * plan.idle_timeout)

    async def _watch(self) -> None:
        while True:
            await trio.sleep(1)
            glance = await self.server.ask("glance")
            for name in self.most:
                self.most[name] = max(self.most[name], glance[name])

    async def run(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What the server held before, what the healthy saw alone and among others, and what the server holds after."""
        plan = self.plan
        healthy, stalled, vanishing = plan.sizes
        before = await self.server.ask("begin")
        # In a process of their own, so that the healthy ones' times are the server's doing as far as possible.
        async with (
            self._clients((healthy, 0, 0), plan.life) as well,
            self._clients((0, stalled, vanishing), plan.life) as ill,
        ):
            quiet = await well.ask("quiet", plan.quiet_seconds)
            await ill.ask("faults", 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_and_kill)
                nursery.start_soon(self._watch)
                during = await well.ask("faults", plan.seconds)
                nursery.cancel_scope.cancel()
            during |= {name: value for name, value in (await ill.ask("tell")).items() if name in _OF_THE_ILL}
            await well.ask("leave")
            await ill.ask("leave")
            # The sockets of silent clients are still open: nobody but the server's timeouts can end those.
            after = await self._settle(before)
        return before, quiet, during, after

    async def _settle(self, before: Mapping[str, Any]) -> dict[str, Any]:
        with trio.move_on_after(2 * self.plan.idle_timeout + PATIENCE_SECONDS):
            while True:
                glance = await self.server.ask("glance")
                if all(glance[name] <= before[name] for name in ("tasks", "descriptors", "handlers")):
                    break
                await trio.sleep(0.5)
        return await self.server.ask("report")


@attrs.frozen
class Figure:
    """One line of the table: what was measured, what it may be, and whether that decides."""

    name: str
    value: float
    limit: float | None = None
    unit: str = ""

    @property
    def is_kept(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def row(self) -> list[str]:
        shown = f"{self.value:,.1f}" if isinstance(self.value, float) else f"{self.value:,}"
        limit = "" if self.limit is None else f"≤ {self.limit:,.0f}"
        return [self.name, f"{shown} {self.unit}".strip(), limit, "" if self.is_kept else "PASSED"]


def judge(
    soak: _Soak,
    before: Mapping[str, Any],
    quiet: Mapping[str, Any],
    during: Mapping[str, Any],
    after: Mapping[str, Any],
) -> list[Figure]:
    """The figures of a run, with what they may be."""
    plan, most = soak.plan, soak.most
    connections = max(most["connections"], plan.connections)
    streams = max(most["handlers"], plan.connections * plan.streams)
    # A window each way: what a reader here did not take, and what a reader there did not.
    windows = 2 * WINDOW_BYTES * streams
    overhead = FIXED_OVERHEAD_BYTES + OVERHEAD_BYTES_PER_STREAM * streams + OVERHEAD_BYTES_PER_CONNECTION * connections
    ratio = during["p99"] / quiet["p99"] if quiet["p99"] else 0.0
    return [
        Figure("round trips, quiet and during", quiet["round_trips"] + during["round_trips"]),
        Figure("p50 quiet", quiet["p50"] * 1e3, unit="ms"),
        Figure("p50 during", during["p50"] * 1e3, unit="ms"),
        Figure("p99 quiet", quiet["p99"] * 1e3, unit="ms"),
        Figure("p99 during", during["p99"] * 1e3, unit="ms"),
        Figure("p99 during ÷ quiet (aim: 2)", ratio),
        Figure("faults of healthy clients", len(during["faults"]), 0),
        *(Figure(f"vanished: {how}", count) for how, count in during["deaths"].items()),
        Figure("vanished: in a stopped process", soak.stopped),
        Figure("stalled clients that the server dropped", during["dropped"]),
        *(Figure(f"most {name}", count) for name, count in most.items()),
        Figure("tasks left", after["tasks"] - before["tasks"], 0),
        Figure("descriptors left", after["descriptors"] - before["descriptors"], 0),
        Figure("handlers left", after["handlers"], 0),
        Figure("connections left", after["connections"], 0),
        Figure("streams left", after["streams"], 0),
        Figure("bytes left unread or queued", after["unread"] + after["queued"], 0),
        Figure("objects of connections left", sum(after["machinery"].values()), 0),
        Figure("blocks of memory left, thousands", (after["blocks"] - before["blocks"]) / 1e3),
        Figure("resident memory left", (after["resident"] - before["resident"]) / 2**20, unit="MiB"),
        Figure("sum of windows", windows / 2**20, unit="MiB"),
        Figure("peak of memory", (after["peak"] - before["resident"]) / 2**20, (windows + overhead) / 2**20, "MiB"),
    ]


async def main(plan: Plan) -> list[Figure]:
    """Run a soak, print its figures, and return them."""
    arguments = (plan.transport, str(plan.idle_timeout), str(plan.streams))
    async with open_child("tests.faults.soak_server", *arguments) as server:
        url: str = server.hello["url"]
        if plan.transport.startswith("ws-"):
            url = url.replace("http", "ws", 1)
        soak = _Soak(plan, url, server)
        before, quiet, during, after = await soak.run()
    figures = judge(soak, before, quiet, during, after)
    print_table(("figure", "value", "limit", ""), [figure.row() for figure in figures])
    left = after["machinery"] | {name: n for name, n in after["names"].items() if n > before["names"].get(name, 0)}
    for text in (*during["faults"][:10], *(f"{count} × {name} left" for name, count in left.items())):
        sys.stdout.write(f"! {text}\n")
    return figures


def _plan() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", choices=TRANSPORTS, default="tcp")
    parser.add_argument("--seed", type=int, default=1, help="decides who vanishes when and how (1)")
    parser.add_argument("--connections", type=int, default=1_000, help="clients (1000)")
    parser.add_argument("--streams", type=int, default=10, help="streams on each (10)")
    parser.add_argument("--seconds", type=float, default=120.0, help="with all of them there (120)")
    return Plan(**vars(parser.parse_args()))


def _run() -> int:
    plan = _plan()
    third = ", ".join(
        f"{count} {kind}" for count, kind in zip(plan.sizes, ("healthy", "stalled", "vanishing"), strict=True)
    )
    print_head(
        f"{plan.connections:,} connections × {plan.streams} streams over {plan.transport} for {plan.seconds:g} s",
        f"seed {plan.seed}; {third}, {plan.stopped} in a process that is stopped; idle_timeout {plan.idle_timeout:g} s",
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < plan.descriptors:
        sys.stdout.write(f"skipped: it needs {plan.descriptors:,} descriptors, the hard limit is {most:,}\n")
        return 0
    return 0 if all(figure.is_kept for figure in trio.run(main, plan)) else 1


if __name__ == "__main__":
    sys.exit(_run())

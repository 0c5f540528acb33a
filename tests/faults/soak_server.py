"""The server of a soak: `python -m tests.faults.soak_server TRANSPORT IDLE_TIMEOUT STREAMS`.

It has the collector's thresholds of `trio-streams serve`, and reports what it holds: tasks, descriptors, handlers, live
objects of connections, and memory.
"""

from __future__ import annotations

import ctypes
import logging
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal

import attrs
import trio

from tests.faults.children import answer_lines
from tests.faults.site import Site, count_descriptors, count_machinery, forget_peak, resident_bytes
from trio_streams import Connection, Router, serve
from trio_streams.cli.garbage import DEFAULT_THRESHOLDS, relieved_collector
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.procedures.http_server import http_handler
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.testing.peers import live_tasks
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http import serve_lean

__all__ = ["WINDOW_BYTES", "make_config"]

WINDOW_BYTES: Final = 8_192


def make_config(idle_timeout: float | None, streams: int) -> ConnectionConfig:
    """Small windows, so that a thousand full ones fit; patience that a busy machine does not exhaust."""
    return ConnectionConfig(
        stream=StreamLimits(window_items=64, window_bytes=WINDOW_BYTES),
        connection_window_bytes=2 * streams * WINDOW_BYTES,
        max_streams=2 * streams,
        max_send_buffer_bytes=streams * WINDOW_BYTES,
        connect_timeout=60.0,
        handshake_timeout=60.0,
        idle_timeout=idle_timeout,
        close_timeout=1.0,
    )


@attrs.define
class _Reporter:
    site: Site = attrs.field(factory=Site)
    connections: list[Connection] = attrs.field(factory=list[Connection])

    def add(self, connection: Connection) -> None:
        self.connections.append(connection)

    async def begin(self, _: list[float]) -> dict[str, object]:
        """What there is before anybody comes; the memory's peak starts anew."""
        report = await self.report([])
        forget_peak()
        return report

    def _forget_lost(self) -> list[Connection]:
        """The live ones; what is over shall be nobody's here."""
        self.connections = [one for one in self.connections if one.lost is None]
        return self.connections

    async def report(self, _: list[float]) -> dict[str, object]:
        """All that there is now; it takes its time."""
        live = self._forget_lost()
        machinery = count_machinery()
        ctypes.CDLL(None).malloc_trim(0)
        return {
            **await self.glance([]),
            "streams": sum(len(one.streams) for one in live),
            "unread": sum(one.statistics().unread_bytes for one in live),
            "queued": sum(one.statistics().queued_bytes for one in live),
            "machinery": machinery,
            "names": Counter(map(_describe, live_tasks())),
            "blocks": sys.getallocatedblocks(),
            "resident": resident_bytes(),
            "peak": resident_bytes("VmHWM"),
        }

    async def glance(self, _: list[float]) -> dict[str, object]:
        """What can be told without holding up those who are served."""
        await trio.lowlevel.checkpoint()
        return {
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "descriptors": count_descriptors(),
            "handlers": self.site.running,
            "connections": len(self._forget_lost()),
        }


def _describe(task: trio.lowlevel.Task) -> str:
    """A task, and where it waits."""
    frames = [frame.f_code.co_qualname for frame, _ in task.iter_await_frames()] if task.coro.cr_frame else []
    return " > ".join([task.name, *frames[1:]])


def _starter(
    transport: str, app: Router, config: ConnectionConfig, add: Callable[[Connection], None]
) -> Callable[..., Awaitable[None]]:
    if transport in {"tcp", "ws"}:
        return partial(serve, app, f"{transport}://127.0.0.1:0", config=config, on_connection=add)
    if transport in {"ws-lean", "ws-hypercorn"}:
        host: Literal["hypercorn", "lean"] = "lean" if transport == "ws-lean" else "hypercorn"
        return partial(serve, app, "http://127.0.0.1:0", config=config, on_connection=add, host=host)
    limits = ExchangeConfig(stall_timeout=config.idle_timeout, send_buffer_bytes=WINDOW_BYTES)
    hosts: dict[str, Callable[..., Awaitable[None]]] = {"http-lean": serve_lean, "http-hypercorn": serve_hypercorn}
    return partial(hosts[transport], http_handler(app), config=limits)


async def main(transport: str, idle_timeout: float, streams: int) -> None:
    """Serve until the input ends."""
    reporter = _Reporter()
    start = _starter(transport, reporter.site.router(), make_config(idle_timeout, streams), reporter.add)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(start)
        url = bound if isinstance(bound, str) else bound[0]
        commands = {"begin": reporter.begin, "report": reporter.report, "glance": reporter.glance}
        await answer_lines({"url": url}, commands)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.getLogger("trio_streams").setLevel(logging.CRITICAL)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with relieved_collector(DEFAULT_THRESHOLDS):
        trio.run(main, sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))

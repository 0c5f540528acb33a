"""The application that every fault strikes, and what its process still holds of it."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_streams import Router

__all__ = ["MACHINERY", "Site", "Upto", "count_descriptors", "count_machinery", "forget_peak", "resident_bytes"]

MACHINERY: Final = frozenset(
    {
        "Connection",
        "WireStream",
        "Mux",
        "StreamMachine",
        "ByteCarrier",
        "TlsCarrier",
        "WebSocketCarrier",
        "TrioWebSocketCarrier",
        "AsgiWebSocketCarrier",
        "HttpConnection",
        "HostedExchange",
    }
)
"""What exists for one connection or stream, and must be gone with it. No name of a kept thing is among them."""


@attrs.frozen
class Upto:
    """How far to count."""

    last: int


@attrs.define
class Site:
    """Procedures of every kind; how many of their handlers run and have ever begun, and what `flood` has produced."""

    running: int = 0
    started: int = 0
    produced: int = 0

    def router(self) -> Router:
        app = Router()
        app.stream("flood")(self.flood)
        app.stream("count")(self.count)
        app.stream("sink", direction="client")(self.sink)
        app.stream("echo", direction="bidi")(self.echo)
        app.call("say")(self.say)
        return app

    def _begin(self) -> None:
        self.running += 1
        self.started += 1

    async def flood(self) -> AsyncIterator[str]:
        """An endless stream of a thousand bytes an item."""
        self._begin()
        try:
            while True:
                self.produced += 1
                yield "x" * 998
        finally:
            self.running -= 1

    async def count(self, upto: Upto) -> AsyncIterator[int]:
        """The numbers up to a last one."""
        self._begin()
        try:
            for n in range(upto.last):
                yield n
        finally:
            self.running -= 1

    async def sink(self, items: AsyncIterable[str]) -> None:
        """Never reads what it is sent."""
        self._begin()
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1

    async def echo(self, items: AsyncIterable[str]) -> AsyncIterator[str]:
        """Every item back."""
        self._begin()
        try:
            async for item in items:
                yield item
        finally:
            self.running -= 1

    async def say(self, text: str) -> str:
        """The text back."""
        return text


def count_descriptors() -> int:
    """The open descriptors of this process, but the one that looks."""
    return len(list(Path("/proc/self/fd").iterdir())) - 1


def count_machinery() -> dict[str, int]:
    """The live objects that belong to some connection, by the names of their classes."""
    gc.collect()
    names = (type(one).__name__ for one in gc.get_objects() if type(one).__module__.startswith("trio_streams."))
    return {name: count for name, count in sorted(Counter(names).items()) if name in MACHINERY}


def resident_bytes(field: str = "VmRSS") -> int:
    """What the kernel counts as this process's memory: `VmRSS` now, `VmHWM` at its peak."""
    if not sys.platform.startswith("linux"):
        raise OSError("resident memory is read from /proc")
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1_024
    raise LookupError(field)


def forget_peak() -> None:
    """Let `VmHWM` start anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

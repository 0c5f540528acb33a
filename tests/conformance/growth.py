"""A program: how much a process grows while 100,000 items are attempted at a reader that never reads.

    python -m tests.conformance.growth TRANSPORT

It prints JSON: the growth in bytes (of both ends, which share the process), and the attempts of either kind.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import trio
import trio.testing

from tests.conformance.faces import FACES, open_client
from tests.conformance.transports import TRANSPORTS
from trio_streams import Router
from trio_streams.testing.peers import ByteItems, open_peers, until

ATTEMPTS: Final = 100_000
ITEM_BYTES: Final = 1_024


def _status(field: str) -> int:
    """A field of the kernel's account of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1_024
    raise LookupError(field)


class _Growth:
    """What the process holds at its peak, beyond what it held when this was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
        self._before = _status("VmRSS")

    def __int__(self) -> int:
        return _status("VmHWM") - self._before


async def _flood(stream: ByteItems) -> None:
    await stream.send_many(b"%0*d" % (ITEM_BYTES, n) for n in range(ATTEMPTS))


async def _never_read(stream: ByteItems) -> None:
    await trio.sleep_forever()


async def measure_streams(name: str) -> dict[str, int]:
    """Both directions of a stream connection, one waiting and one refused 100,000 times."""
    (transport,) = [transport for transport in TRANSPORTS if transport.name == name]
    async with open_peers(transport.make, {"flood": _flood, "sink": _never_read}) as peers:
        await peers.check_alive()
        growth = _Growth()
        async with peers.client.open_stream("flood"), peers.client.open_stream("sink") as up:
            await until(lambda: len(peers.server.streams) == 2)
            served = peers.served("flood")
            await until(lambda: served.statistics().tasks_waiting_send == 1)
            refused = 0
            for n in range(ATTEMPTS):
                try:
                    up.send_nowait(b"%0*d" % (ITEM_BYTES, n))
                except trio.WouldBlock:
                    refused += 1
            await peers.check_alive()
            return {"growth": int(growth), "waiting": served.statistics().items_sent, "refused": refused}


async def measure_events() -> dict[str, int]:
    """Server-sent events, behind a client that reads as far ahead as its mark and then no more."""
    app = Router()
    attempted = 0

    @app.stream("flood")
    async def flood() -> AsyncIterator[str]:
        nonlocal attempted
        for n in range(ATTEMPTS):
            attempted = n + 1
            yield f"{n:0{ITEM_BYTES}d}"

    @app.call("ping")
    async def ping() -> str:
        return "pong"

    async with open_client(FACES["http"], app) as client:
        await client.call("ping")
        growth = _Growth()
        async with client.stream("flood") as items:
            await items.receive()
            await trio.testing.wait_all_tasks_blocked(0.05)
            await client.call("ping")
            return {"growth": int(growth), "waiting": attempted, "refused": 0}


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        program = measure_events if sys.argv[1] == "http" else partial(measure_streams, sys.argv[1])
        result = trio.run(program)
    sys.stdout.write(json.dumps(result))

"""A client that names 100,000 distinct procedures: half of them nothing has, the other half a pattern has them all."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from tests.conformance.callers import WIRES, Wire, serving
from tests.conformance.raw import HELLO, RawPeer, frame, open_stream
from tests.procedures.envelope_site import open_envelopes
from trio_streams import Context, Router, ServerConfig
from trio_streams.core import records
from trio_streams.procedures.interceptors import RateLimit
from trio_streams.procedures.interceptors.metrics import PrometheusMetrics

BATCH: Final = 100
MAX_KEYS: Final = 100
WARM: Final = 2_000
MANY: Final = frozenset({"own-tcp", "rpc-lean"})
"""Wires that are quick enough for all of them; the same machines and handlers stand behind the others."""

Ask = Callable[[Sequence[str]], Awaitable[None]]
"""Name procedures, and wait until each has been answered."""


def names_of(wire: Wire) -> int:
    """How many are named."""
    if wire.name in MANY:
        return 100_000
    return 4_000 if wire.is_http and wire.host == "hypercorn" else 10_000


class Site:
    """An application that has everything that might remember a name."""

    def __init__(self) -> None:
        self.metrics = PrometheusMetrics()
        self.limit = RateLimit(1e9, 10, key=lambda it: it.context.params["name"], max_keys=MAX_KEYS)
        self.recorded = 0

    def router(self) -> Router:
        app = Router()
        app.use(self.metrics, self.limit)

        @app.call("any.[name]")
        async def call(ctx: Context) -> int:
            return len(ctx.params["name"])

        @app.stream("any-stream.[name]")
        async def stream(ctx: Context) -> AsyncIterator[int]:
            yield len(ctx.params["name"])

        return app

    def record(self, _: object) -> None:
        self.recorded += 1


@asynccontextmanager
async def open_own(url: str) -> AsyncGenerator[Ask, None]:
    next_id = 1

    async def ask(names: Sequence[str]) -> None:
        nonlocal next_id
        said = b""
        for name in names:
            said += open_stream(next_id, name) + frame(5, next_id, b"")
            next_id += 2
        await peer.send(said)
        for _ in names:
            await peer.find(records.End)

    async with RawPeer.connect(url) as peer:
        await peer.send(HELLO)
        yield ask


@asynccontextmanager
async def open_texts(url: str, is_rpc: bool) -> AsyncGenerator[Ask, None]:
    async def ask(names: Sequence[str]) -> None:
        if is_rpc:
            await client.say_raw(rpc_batch(names))
            assert len(await client.hear()) == len(names)
            return
        await client.say(*({"id": name, "type": "request", "procedure": name} for name in names))
        await client.hear_many(len(names))

    async with open_envelopes(url) as client:
        yield ask


def rpc_batch(names: Sequence[str]) -> bytes:
    return json.dumps([{"jsonrpc": "2.0", "id": n, "method": name} for n, name in enumerate(names)]).encode()


@asynccontextmanager
async def open_requests(wire: Wire, port: int) -> AsyncGenerator[Ask, None]:
    """Requests one behind the other, answered in order; hypercorn closes after a thousand, so each batch connects."""

    def request(name: str) -> bytes:
        if wire.dialect == "sse":
            return b"GET /streams/%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % name.encode()
        return b"POST /%s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n" % name.encode()

    async def ask(names: Sequence[str]) -> None:
        said = [request(name) for name in names]
        if wire.dialect == "rpc":
            body = rpc_batch(names)
            said = [b"POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)]
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"".join(said))
            heard = b""
            while heard.count(b"HTTP/1.1 ") < len(said):
                chunk = await stream.receive_some(65_536)
                assert chunk, heard[-500:]
                heard += chunk

    yield ask


@asynccontextmanager
async def open_wire(wire: Wire, url: str) -> AsyncGenerator[Ask, None]:
    authority = url.partition("://")[2]
    socket = url if wire.scheme == "tcp" else f"ws://{authority}"
    if wire.is_http:
        opened = open_requests(wire, urlsplit(url).port or 0)
    elif wire.dialect == "own":
        opened = open_own(socket)
    else:
        opened = open_texts(socket, wire.dialect == "rpc")
    async with opened as ask:
        yield ask


@pytest.mark.parametrize("wire", WIRES, ids=str)
async def test_distinct_names_are_not_remembered(wire: Wire) -> None:
    """Neither by metrics, limits, the access log, the page, nor by any cache: nothing that lives grows with them."""
    site = Site()
    count, known = names_of(wire), "any-stream" if wire.dialect == "sse" else "any"
    rules = ServerConfig(on_access=site.record)
    async with (
        serving(wire, site.router(), dashboard=wire.scheme == "http", server=rules, patience=300) as url,
        open_wire(wire, url) as ask,
    ):
        before = 0
        for first in range(0, count, BATCH):
            if first == WARM:  # what there is once, there is by now
                before = await live_blocks()
            await ask([f"{known}.x{n}" if n % 2 else f"nothing{n}" for n in range(first, first + BATCH)])
        grown = await live_blocks() - before
    assert wire.dialect == "rpc" or site.recorded >= count // 2
    samples = [sample for family in site.metrics.registry.collect() for sample in family.samples]
    assert {sample.labels["procedure"] for sample in samples} == {f"{known}.[name]"}
    assert len(site.limit._buckets) <= MAX_KEYS
    assert grown < (count - WARM) // 3, grown


async def live_blocks() -> int:
    """How many small objects live; a name that is remembered is one at least."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    gc.collect()
    return sys.getallocatedblocks()

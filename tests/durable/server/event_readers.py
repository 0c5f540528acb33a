"""Readers of event streams without a network, stores whose commits are late, and what a reader has seen."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.base import Change, StoreError
from trio_streams.durable.store.memory import MemoryStore
from trio_streams.service.exchange import ExchangeConfig, RequestHead
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange
from trio_streams.wire.sse import SseParser

NOW = 1_800_000_000.0


class SlowCommit:
    def __init__(self, change: Change) -> None:
        self.change = change
        self.done = trio.Event()
        self.is_failed = False

    async def wait(self) -> None:
        await self.done.wait()
        if self.is_failed:
            raise StoreError("the disk is full")


class SlowStore(MemoryStore):
    """Commits when it is told to; several commits of one turn may be heard of in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow: bool = False
        self.commits: list[SlowCommit] = []

    def submit(self, change: Change) -> SlowCommit | None:  # type: ignore[override]
        if not self.is_slow:
            super().submit(change)
            return None
        self.commits.append(SlowCommit(change))
        return self.commits[-1]

    def commit(self, *, backwards: bool = False, fails: bool = False) -> None:
        commits, self.commits = self.commits, []
        for each in commits:
            each.is_failed = fails
            if not fails:
                super().submit(each.change)
        for each in reversed(commits) if backwards else commits:
            each.done.set()


class EventReader:
    """One exchange that reads events, and what came of it.

    Attributes:
      is_paused: whether it takes nothing, as a client whose window is full.
      is_ended: whether the answer is over, and whole.
      pieces: the data events so far.
      controls: the control events so far.
      kinds: of all events, in order.
    """

    def __init__(self, server: DurableServer, path: str, config: ExchangeConfig | None = None, **headers: str) -> None:
        query = "&".join(f"{name}={value}" for name, value in {"live": "sse", **headers}.items())
        head = RequestHead(method="GET", path=f"/v1/stream/{path}", query_string=query)
        self.exchange = HostedExchange(head, config or ExchangeConfig())
        self._server = server
        self._parser = SseParser()
        self.is_paused: bool = False
        self._resumed = trio.Event()
        self.is_ended: bool = False
        self.pieces: list[bytes] = []
        self.controls: list[dict[str, Any]] = []
        self.kinds: list[str] = []

    def pause(self) -> None:
        if not self.is_paused:
            self.is_paused, self._resumed = True, trio.Event()

    def resume(self) -> None:
        self.is_paused = False
        self._resumed.set()

    async def run(self) -> None:
        self.exchange.feed_nowait(b"", is_last=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_handler, self.exchange, self._server.handle)
            head = await self.exchange.take_head()
            assert head is not None
            self.status = head.status
            self.headers = dict(head.headers)
            while (data := await self.exchange.take_body()) is not None:
                self._take(data)
                if self.is_paused:
                    await self._resumed.wait()
            self.is_ended = self.exchange.is_ended

    def _take(self, data: bytes) -> None:
        if self.headers["content-type"] != "text/event-stream":
            return
        for event in self._parser.receive(data):
            self.kinds.append(event.event)
            if event.event == "control":
                self.controls.append(json.loads(event.data))
                continue
            is_coded = self.headers.get("stream-sse-data-encoding") == "base64"
            self.pieces.append(b64decode(event.data) if is_coded else event.data)

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def offset(self) -> int:
        return int(self.controls[-1]["streamNextOffset"])


@asynccontextmanager
async def running(
    config: DurableConfig | None = None,
    *,
    store: SlowStore | None = None,
    random: Callable[[], float] = lambda: 0.5,
) -> AsyncIterator[tuple[DurableServer, trio.Nursery]]:
    """A server whose clock stands with Trio's, and a nursery for its readers, who are cancelled at the end."""
    async with (
        DurableServer(
            store or SlowStore(),
            config or DurableConfig(),
            clock=lambda: NOW + trio.current_time(),
            random_number=random,
        ) as server,
        trio.open_nursery() as nursery,
    ):
        yield server, nursery
        nursery.cancel_scope.cancel()


async def join(
    server: DurableServer, nursery: trio.Nursery, path: str, *, config: ExchangeConfig | None = None, **query: str
) -> EventReader:
    """A reader that has read what there is."""
    reader = EventReader(server, path, config, **{"offset": "-1", **query})
    nursery.start_soon(reader.run)
    await trio.testing.wait_all_tasks_blocked()
    return reader


def check_whole(reader: EventReader, whole: bytes, start: int = 0) -> None:
    """All bytes from a start on; a control event behind each data event; offsets that fit; the closure last."""
    assert reader.data == whole[start:]
    offsets = [int(control["streamNextOffset"]) for control in reader.controls]
    assert offsets == sorted(offsets)
    position, at = start, 0
    for kind, following in zip(reader.kinds, [*reader.kinds[1:], "end"], strict=True):
        if kind == "data":
            assert following == "control"
            position += len(reader.pieces[at])
            at += 1
        else:
            assert offsets.pop(0) == position
    *before, last = reader.controls
    assert last["streamClosed"] is True
    assert "streamCursor" not in last
    assert all("streamClosed" not in control and control["streamCursor"] for control in before)
    assert reader.is_ended

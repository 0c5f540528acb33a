"""Readers of events come, stall, go on and leave while others append: every order of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.durable.server.event_readers import EventReader, SlowStore, check_whole, running
from trio_streams.durable.server import live, live_feed
from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.service.exchange import ExchangeConfig

ACTIONS: Final = st.one_of(
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=60)),
    st.tuples(st.just("join"), st.sampled_from([b"-1", b"now"])),
    st.tuples(st.sampled_from(["pause", "resume", "leave"]), st.sampled_from([b"0", b"1", b"2", b"3"])),
    st.tuples(st.sampled_from(["commit", "settle"]), st.sampled_from([b"", b"backwards"])),
)


class Play:
    """A server, its slow store, and all who ever read one stream."""

    def __init__(self, server: DurableServer, nursery: trio.Nursery, store: SlowStore) -> None:
        self.server = server
        self._nursery = nursery
        self._store = store
        self.readers: list[tuple[EventReader, int]] = []
        self.left: set[EventReader] = set()
        self.whole = b""
        self._durable = 0

    async def append(self, data: bytes) -> None:
        self.whole += data
        self._nursery.start_soon(self.server.append, "a", data)
        await wait_all_tasks_blocked()

    async def join(self, offset: bytes) -> None:
        reader = EventReader(self.server, "a", ExchangeConfig(send_buffer_bytes=40), offset=offset.decode())
        self.readers.append((reader, 0 if offset == b"-1" else self._durable))
        self._nursery.start_soon(reader.run)
        await wait_all_tasks_blocked()

    async def commit(self, order: bytes) -> None:
        self._store.commit(backwards=bool(order))
        self._durable = len(self.whole)
        await wait_all_tasks_blocked()

    async def settle(self, _: bytes) -> None:
        # One turn alone: some have been written to, and others not yet.
        self._store.commit()
        self._durable = len(self.whole)
        await trio.lowlevel.checkpoint()

    async def pause(self, which: bytes) -> None:
        for reader in self._some(which):
            reader.pause()

    async def resume(self, which: bytes) -> None:
        for reader in self._some(which):
            reader.resume()

    async def leave(self, which: bytes) -> None:
        for reader in self._some(which):
            self.left.add(reader)
            reader.exchange.abandon()

    def _some(self, which: bytes) -> list[EventReader]:
        return [reader for reader, _ in self.readers[int(which) :: 4]]


async def play(actions: list[tuple[str, bytes]], slice_readers: int) -> None:
    store = SlowStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "_PIECE_BYTES", 50)
        patch.setattr(live_feed, "_SLICE_READERS", slice_readers)
        async with running(DurableConfig(live_window_bytes=300), store=store) as (server, nursery):
            await server.create("a")
            store.is_slow = True
            stage = Play(server, nursery, store)
            for name, value in actions:
                act: Callable[[bytes], Awaitable[None]] = getattr(stage, name)
                await act(value)
            store.is_slow = False
            store.commit()
            await wait_all_tasks_blocked()
            await server.close("a")
            for reader, _ in stage.readers:
                reader.resume()
            await wait_all_tasks_blocked()
            for reader, start in stage.readers:
                if reader not in stage.left:
                    check_whole(reader, stage.whole, start)
            assert server._running.readers.count == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.integers(1, 3))
def test_every_byte_once_and_in_order(actions: list[tuple[str, bytes]], slice_readers: int) -> None:
    """Commits come in groups and are heard of in any order; readers fall out of the window and come back into it."""
    trio.run(partial(play, actions, slice_readers), clock=MockClock(autojump_threshold=0))

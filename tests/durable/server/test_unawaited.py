"""What is decided without anybody waiting for it: retention, and when a stream was used last."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from trio_streams.durable import DurableConfig, DurableServer, RetentionGoneError
from trio_streams.durable.store.sqlite import SqliteConfig, open_sqlite_store


async def test_reads_behind_retention_are_at_their_offsets(tmp_path: Path) -> None:
    """What retention has dropped on the disk is not there for readers either: an offset is never one of other bytes."""
    config = DurableConfig(max_stream_bytes=20, sweep_interval=0.05)
    async with (
        open_sqlite_store(tmp_path, SqliteConfig(cache_bytes=300)) as store,
        DurableServer(store, config) as server,
    ):
        await server.create("a", content_type="text/plain")
        for number in range(40):
            await server.append("a", b"%03d " % number)
        with trio.fail_after(30):
            chunk = await server.read("a")
            while chunk.data.startswith(b"000 "):
                await trio.sleep(0.02)
                chunk = await server.read("a")
        assert chunk.data.endswith(b"039 ")
        assert (chunk.next_offset, chunk.is_up_to_date) == ("0000000000000160", True)
        with pytest.raises(RetentionGoneError):
            await server.read("a", "0000000000000004")


async def test_streams_that_were_read_can_be_forgotten(tmp_path: Path) -> None:
    """A read that is persisted for a time to live does not keep the stream in memory for ever."""
    now = 1_800_000_000.0
    config = DurableConfig(max_loaded_streams=5, sweep_interval=0.05)
    async with open_sqlite_store(tmp_path) as store, DurableServer(store, config, clock=lambda: now) as server:
        for number in range(50):
            await server.create(str(number), ttl_seconds=1000)
        now += 500
        for number in range(50):
            await server.read(str(number))
        registry = server._machine.registry
        with trio.fail_after(30):
            while any(state.pending is not None for state in registry._by_path.values()):
                await trio.sleep(0.02)
        for number in range(20):
            await server.create(f"new {number}")
        assert len(registry) <= 5

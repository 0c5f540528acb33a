"""Event streams of a whole server: every byte in order and once, whatever goes on meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.durable.server.event_readers import EventReader, SlowStore, check_whole, join, running
from trio_streams.durable.protocol import events
from trio_streams.durable.server import live, live_feed
from trio_streams.durable.server.config import DurableConfig


@pytest.mark.parametrize("count", [1, 5, live_feed._SLICE_READERS + 1, 200])
async def test_all_readers_get_everything(autojump_clock: MockClock, count: int) -> None:
    """However many there are, and however the appends come: one by one, or many before anybody has read."""
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain", body=b"before;")
        readers = [await join(server, nursery, "a") for _ in range(count)]
        whole = b"before;"
        for number in range(10):
            data = b"%d;" % number
            whole += data
            await server.append("a", data)
            if number % 3 == 0:
                await wait_all_tasks_blocked()
                assert {reader.data for reader in readers} == {whole}
        await server.close("a")
        await wait_all_tasks_blocked()
        for reader in readers:
            check_whole(reader, whole)


async def test_an_append_is_encoded_once(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred readers at the tail share its bytes, and nothing of it is kept when all have them."""
    encoded: list[bytes] = []

    def encode_data(pieces: Sequence[bytes], content_type: str) -> bytes:
        encoded.extend(pieces)
        return events.encode_data(pieces, content_type)

    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain")
        readers = [await join(server, nursery, "a") for _ in range(100)]
        monkeypatch.setattr(live_feed, "encode_data", encode_data)
        await server.append("a", b"once")
        await wait_all_tasks_blocked()
        assert encoded == [b"once"]
        assert {reader.data for reader in readers} == {b"once"}
        feed = server._machine.registry.get_nowait("a").follower  # type: ignore[union-attr]
        assert isinstance(feed, live_feed.LiveFeed)
        assert feed.log.retained_bytes == 0


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/png"])
async def test_bytes_come_in_base64(autojump_clock: MockClock, content_type: str) -> None:
    """Whatever they are, and each event by itself."""
    whole = bytes(range(256)) * 3
    async with running() as (server, nursery):
        await server.create("a", content_type=content_type, body=whole[:1])
        reader = await join(server, nursery, "a")
        for start, end in ((1, 2), (2, 5), (5, 300), (300, 768)):
            await server.append("a", whole[start:end])
        await server.close("a")
        await wait_all_tasks_blocked()
        assert reader.headers["stream-sse-data-encoding"] == "base64"
        check_whole(reader, whole)


async def test_line_ends_in_text(autojump_clock: MockClock) -> None:
    """Events have one kind of line end; nothing forges a field, an event, or the end of one."""
    texts = [b"a\rb", b"c\r\nd\n", b"\n\nevent: control\ndata: {}\n\n", b"data: x", b" led by a space"]
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain")
        reader = await join(server, nursery, "a")
        for text in texts:
            await server.append("a", text)
        await wait_all_tasks_blocked()
        assert reader.pieces == [text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for text in texts]
        assert reader.offset == sum(map(len, texts))


async def test_json_comes_in_arrays(autojump_clock: MockClock) -> None:
    """An append is an array of its messages, live and from the store, where several appends are one."""
    async with running() as (server, nursery):
        await server.create("a", content_type="application/json", body=b"[1,2]")
        first = await join(server, nursery, "a")
        await server.append("a", b'[{"a": 1}, "b"]')
        await server.append("a", b"3")
        await wait_all_tasks_blocked()
        second = await join(server, nursery, "a")
        assert [json.loads(piece) for piece in first.pieces] == [[1, 2], [{"a": 1}, "b"], [3]]
        assert [json.loads(piece) for piece in second.pieces] == [[1, 2, {"a": 1}, "b", 3]]
        assert first.controls[-1] == second.controls[-1]


async def test_a_large_append_comes_in_parts(autojump_clock: MockClock) -> None:
    """Each no larger than an entry, so that one reader costs no more; only the last one says that this is the tail."""
    whole = b"x" * 400_000
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain")
        reader = await join(server, nursery, "a")
        await server.append("a", whole)
        await server.close("a")
        await wait_all_tasks_blocked()
        check_whole(reader, whole)
        assert max(map(len, reader.pieces)) <= 262_144
        assert [control.get("upToDate", False) for control in reader.controls] == [True, False, True, True]


async def test_history_comes_in_bounded_pieces(autojump_clock: MockClock) -> None:
    """Many small appends are few events from the store, none of which is larger than it should be."""
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain")
        for _ in range(3_000):
            await server.append("a", b"x" * 100)
        reader = await join(server, nursery, "a")
        assert reader.data == b"x" * 300_000
        assert len(reader.pieces) == 5
        assert max(map(len, reader.pieces)) <= live._PIECE_BYTES
        assert [control.get("upToDate", False) for control in reader.controls] == [False] * 4 + [True]


async def test_only_what_is_durable_is_seen(autojump_clock: MockClock) -> None:
    """Nothing before its commit; all of it behind it, in order, also where later commits are heard of first."""
    store = SlowStore()
    async with running(store=store) as (server, nursery):
        await server.create("a", content_type="text/plain")
        readers = [await join(server, nursery, "a") for _ in range(3)]
        store.is_slow = True
        for number in range(5):
            nursery.start_soon(server.append, "a", b"%d" % number)
            await wait_all_tasks_blocked()
        assert {reader.data for reader in readers} == {b""}
        late = await join(server, nursery, "a")
        store.commit(backwards=True)
        await wait_all_tasks_blocked()
        assert {reader.data for reader in (*readers, late)} == {b"01234"}
        assert [len(reader.pieces) for reader in readers] == [5, 5, 5]


async def test_a_failed_commit_ends_the_readers(autojump_clock: MockClock) -> None:
    """They have seen nothing of it, and come again by offset."""
    store = SlowStore()
    async with running(store=store) as (server, nursery):
        await server.create("a", content_type="text/plain", body=b"kept")
        reader = await join(server, nursery, "a")
        store.is_slow = True

        async def append() -> None:
            with pytest.raises(Exception, match="can't reach"):
                await server.append("a", b"lost")

        nursery.start_soon(append)
        await wait_all_tasks_blocked()
        store.commit(fails=True)
        await wait_all_tasks_blocked()
        assert reader.is_ended
        assert reader.data == b"kept"
        store.is_slow = False
        await server.append("a", b", more")
        again = await join(server, nursery, "a", offset=f"{reader.offset:016d}")
        assert again.data == b", more"


async def test_a_deleted_stream_ends_its_readers(autojump_clock: MockClock) -> None:
    """At the tail, and one that reads nothing and is still in its history."""
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain", body=b"x" * 2_000_000)
        reader = await join(server, nursery, "a")
        stalled = EventReader(server, "a", offset="-1")
        stalled.pause()
        nursery.start_soon(stalled.run)
        await wait_all_tasks_blocked()
        await server.delete("a")
        stalled.resume()
        await wait_all_tasks_blocked()
        assert reader.is_ended
        assert stalled.is_ended
        assert len(stalled.data) < 2_000_000


async def test_an_answer_has_its_time(autojump_clock: MockClock) -> None:
    """Then it ends, whole, and its reader goes on by offset; others have their own time."""
    async with running(DurableConfig(sse_lifetime=60)) as (server, nursery):
        await server.create("a", content_type="text/plain", body=b"a")
        first = await join(server, nursery, "a")
        await trio.sleep(30)
        second = await join(server, nursery, "a")
        await trio.sleep(29.9)
        assert not first.is_ended
        await trio.sleep(0.2)
        assert first.is_ended
        assert not second.is_ended
        await server.append("a", b"b")
        again = await join(server, nursery, "a", offset=f"{first.offset:016d}")
        assert (first.data, second.data, again.data) == (b"a", b"ab", b"b")
        await trio.sleep(30)
        assert second.is_ended
        assert not again.is_ended


async def test_a_closed_stream_is_told_and_over(autojump_clock: MockClock) -> None:
    """To who comes later, with and without data, and to who was there when it was closed by its last append."""
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain", body=b"a")
        there = await join(server, nursery, "a")
        await server.append("a", b"b", is_closing=True)
        await wait_all_tasks_blocked()
        late = await join(server, nursery, "a")
        last = await join(server, nursery, "a", offset=f"{2:016d}")
        check_whole(there, b"ab")
        check_whole(late, b"ab")
        check_whole(last, b"ab", 2)
        assert there.kinds == ["data", "control", "data", "control"]


async def test_cursors(autojump_clock: MockClock) -> None:
    """All are told the current interval but those whose clients are ahead of it, until it has overtaken them."""
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain")
        plain = await join(server, nursery, "a")
        current = int(plain.controls[0]["streamCursor"])
        behind = await join(server, nursery, "a", cursor=str(current - 1))
        ahead = await join(server, nursery, "a", cursor=str(current))
        await server.append("a", b"x")
        await server.append("a", b"y")
        await wait_all_tasks_blocked()
        assert {reader.data for reader in (plain, behind, ahead)} == {b"xy"}
        assert {control["streamCursor"] for reader in (plain, behind) for control in reader.controls} == {str(current)}
        assert all(int(control["streamCursor"]) > current for control in ahead.controls)
        await trio.sleep(45)
        await server.append("a", b"z")
        await wait_all_tasks_blocked()
        assert {int(reader.controls[-1]["streamCursor"]) for reader in (plain, behind, ahead)} == {current + 2}


async def test_nobody_is_kept(autojump_clock: MockClock) -> None:
    """Readers that leave, at the tail or within their history, leave nothing behind."""
    async with running() as (server, _):
        await server.create("a", content_type="text/plain", body=b"x" * 500_000)
        state = server._machine.registry.get_nowait("a")
        assert state is not None
        async with trio.open_nursery() as nursery:
            await join(server, nursery, "a", offset="now")
            stalled = EventReader(server, "a", offset="-1")
            stalled.pause()
            nursery.start_soon(stalled.run)
            await wait_all_tasks_blocked()
            assert state.follower is not None
            assert state.listeners
            nursery.cancel_scope.cancel()
        assert state.follower is None
        assert not state.listeners
        assert server._running.readers.count == 0


async def test_too_many_readers(autojump_clock: MockClock) -> None:
    """One more than may be is 429; when one has left there is room again."""
    async with running(DurableConfig(max_waiting_readers=2)) as (server, nursery):
        await server.create("a", content_type="text/plain")
        first = await join(server, nursery, "a")
        await join(server, nursery, "a")
        assert (await join(server, nursery, "a")).status == 429
        first.exchange.abandon()
        await wait_all_tasks_blocked()
        assert (await join(server, nursery, "a")).status == 200


async def test_a_stalled_reader_costs_its_window(autojump_clock: MockClock) -> None:
    """While 100 MB are appended it holds less than 2 MiB, with the log; then it gets all of them, in order."""
    piece = b"0123456789abcdef" * 16_384
    count = 400
    async with running() as (server, nursery):
        await server.create("a", content_type="text/plain")
        reader = await join(server, nursery, "a")
        quick = await join(server, nursery, "a")
        reader.pause()
        state = server._machine.registry.get_nowait("a")
        assert state is not None
        feed = state.follower
        assert isinstance(feed, live_feed.LiveFeed)
        most = 0
        for _ in range(count):
            await server.append("a", piece)
            await wait_all_tasks_blocked()
            encoded = sum(len(run._data or b"") + len(run._chunk or b"") for run in feed.log._runs)
            waiting = reader.exchange._waiting_bytes + len(reader.exchange._joined)
            most = max(most, feed.log.retained_bytes + encoded + waiting)
        assert sum(map(len, quick.pieces)) == count * len(piece)
        quick.pieces.clear()
        assert 0 < most < 2 * 1_048_576
        assert feed.log.retained_bytes == 0  # it goes on from the store, and the log is for those at the tail
        reader.resume()
        await wait_all_tasks_blocked()
        assert reader.data == piece * count

"""One stream's feed, and those who take from it: what is kept, for whom, and until when."""

from __future__ import annotations

import attrs
import pytest
import trio

from trio_streams.durable.protocol.states import Step, StreamState
from trio_streams.durable.server import live_feed
from trio_streams.durable.server.live_feed import Cursor, LiveFeed, LiveReader
from trio_streams.durable.store.base import Entry, Stored, StreamRecord

RECORD = StreamRecord(stream_id=1, path="a", content_type="text/plain", created_at=0.0, touched_at=0.0)
WINDOW = 1_000


class Client:
    """Takes what its reader has, while it wants to."""

    def __init__(self, feed: LiveFeed, *, own: str | None = None, is_chunked: bool = False) -> None:
        self.reader = LiveReader(feed, Cursor(lambda: "7", None if own is None else lambda: own or ""), 0)
        self.writes: list[bytes] = []
        self.is_stalled = False
        self._is_chunked = is_chunked

    def join(self) -> Client:
        self.reader.join()
        self.reader.attach(self.pull)
        return self

    def pull(self) -> None:
        while not self.is_stalled and (data := self.reader.take_nowait(is_chunked=self._is_chunked)):
            self.writes.append(data)


def make(nursery: trio.Nursery) -> tuple[StreamState, LiveFeed]:
    state = StreamState(Stored(RECORD), ((1, 0, None),))
    return state, LiveFeed.of(state, nursery, lambda: "7", WINDOW)


def append(state: StreamState, *pieces: bytes, closes: bool = False) -> None:
    entries = []
    tail = state.record.tail
    for piece in pieces:
        entries.append(Entry(tail, piece, 0.0))
        tail += len(piece)
    step = Step(state, attrs.evolve(state.record, tail=tail, is_closed=closes))
    step.entries = entries
    step.apply()
    step.settle()


async def test_readers_share_bytes() -> None:
    """One encoding for all readers of one kind of host, and another one for the chunked coding."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            plain = [Client(feed).join() for _ in range(2)]
            chunked = [Client(feed, is_chunked=True).join() for _ in range(2)]
            append(state, b"x")
    text = b'event: data\ndata:x\n\nevent: control\ndata:{"streamNextOffset":"0000000000000001","streamCursor":"7","upToDate":true}\n\n'
    assert plain[0].writes == [text]
    assert plain[0].writes[0] is plain[1].writes[0]
    assert chunked[0].writes == [b"%x\r\n%b\r\n" % (len(text), text)]
    assert chunked[0].writes[0] is chunked[1].writes[0]


async def test_there_is_one_feed_while_somebody_follows() -> None:
    """It is the state's follower; with the last one it goes, and so does what it kept."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            with LiveFeed.of(state, nursery, lambda: "7", WINDOW) as same:
                assert same is feed
                client = Client(feed).join()
                client.is_stalled = True
                append(state, b"x")
                assert feed.log.retained_bytes == 65
            assert state.follower is feed
        assert state.follower is None
        assert not state.listeners
        assert feed.log.retained_bytes == 0


async def test_nothing_is_kept_for_nobody() -> None:
    """Who is on the way to the tail reads the store: what is appended meanwhile is not kept."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            append(state, b"x")
            assert feed.log.end_run == 0
            client = Client(feed).join()
            append(state, b"y")
            assert b"".join(client.writes).count(b"event: data") == 1


async def test_a_reader_between_joining_and_its_first_write() -> None:
    """What is appended then is kept for it."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            client = Client(feed)
            client.reader.join()
            append(state, b"x")
            append(state, b"y")
            client.reader.attach(client.pull)
            client.pull()
            assert client.writes[0].count(b"event: data") == 2
            assert client.reader.position == 2
            assert feed.log.retained_bytes == 0


async def test_a_reader_that_is_too_far_behind_leaves() -> None:
    """Its source ends where it is, others lose nothing, and what is kept stays within the window."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            stalled, quick = Client(feed).join(), Client(feed).join()
            append(state, b"first")
            stalled.is_stalled = True
            while not stalled.reader.is_ended:
                append(state, b"x" * 100)
                assert feed.log.retained_bytes <= WINDOW + 2 * 164
            assert (stalled.reader.position, stalled.reader.is_done) == (5, False)
            assert quick.reader.position == state.durable.tail
            assert feed.log.retained_bytes == 0
            assert feed.readers == 1
            assert stalled.reader.take_nowait(is_chunked=False) == b""


async def test_an_append_larger_than_the_window() -> None:
    """Nobody is given half of it from here: all go on from the store."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            client = Client(feed).join()
            append(state, *[b"x" * 500] * 10)
            assert client.reader.is_ended
            assert client.reader.position == 0
            assert not client.writes


async def test_the_end_of_a_stream() -> None:
    """With data or without, it is said once, and the source ends behind it."""
    for pieces in ((), (b"x", b"y")):
        async with trio.open_nursery() as nursery:
            state, feed = make(nursery)
            with feed:
                client, stalled = Client(feed).join(), Client(feed).join()
                stalled.is_stalled = True
                append(state, *pieces, closes=True)
                assert client.writes[-1].count(b"streamClosed") == 1
                assert b"".join(client.writes).endswith(b'"streamClosed":true,"upToDate":true}\n\n')
                assert client.reader.is_ended
                assert client.reader.is_done
                stalled.is_stalled = False
                stalled.pull()
                assert stalled.writes == [b"".join(client.writes)]


async def test_a_client_that_is_ahead_has_its_own_cursor() -> None:
    """It gets the same data; who is told what all are told shares their bytes from then on."""
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            ahead, even, plain = Client(feed, own="9").join(), Client(feed, own="7").join(), Client(feed).join()
            append(state, b"x")
            chunked = Client(feed, own="9", is_chunked=True).join()
            append(state, b"y")
    assert [write.replace(b'"9"', b'"7"') for write in ahead.writes] == plain.writes
    assert all(b'"streamCursor":"9"' in write for write in ahead.writes)
    assert even.writes[0] is plain.writes[0]
    assert chunked.writes == [b"%x\r\n%b\r\n" % (len(ahead.writes[1]), ahead.writes[1])]


async def test_many_readers_are_written_to_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The appender does not wait for them, what comes meanwhile is joined, and a cancelled server leaves no half state."""
    monkeypatch.setattr(live_feed, "_SLICE_READERS", 2)
    async with trio.open_nursery() as nursery:
        state, feed = make(nursery)
        with feed:
            clients = [Client(feed).join() for _ in range(5)]
            append(state, b"x")
            assert not any(client.writes for client in clients)
            append(state, b"y")
            await trio.testing.wait_all_tasks_blocked()
            assert [b"".join(client.writes).count(b"event: data") for client in clients] == [2] * 5
            assert feed.log.retained_bytes == 0
            append(state, b"z")
            nursery.cancel_scope.cancel()


async def test_leaving_and_finishing() -> None:
    """Both end the source; a finished reader's answer is over, too, also while it is not at the tail."""
    async with trio.open_nursery() as nursery:
        _, feed = make(nursery)
        with feed:
            left, finished, away = Client(feed).join(), Client(feed).join(), Client(feed)
            left.reader.leave()
            left.reader.leave()
            finished.reader.finish()
            away.reader.finish()
            assert [client.reader.is_done for client in (left, finished, away)] == [False, True, True]
            assert all(client.reader.is_ended for client in (left, finished, away))
            assert feed.readers == 0
            left.join()
            assert feed.readers == 1

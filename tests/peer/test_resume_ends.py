"""What ends a session of peers: each call and stream with one clear error, and no handler twice."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peer.cuts import Books, PeerSite, open_peer_site, peer_of
from tests.resuming.site import CONFIG
from tests.resuming.test_sessions import hello
from trio_streams.config import ResumeOptions
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.session import RESUME
from trio_streams.errors import ConnectionLost
from trio_streams.peer import RpcPeer
from trio_streams.resuming.sessions import Sessions
from trio_streams.transports.memory import MemoryCarrier
from trio_streams.wire.binary import BinaryWire
from trio_streams.wire.signal_names import STREAM, STREAM_ID


class Slow:
    """What takes for ever, and says what became of it.

    Attributes:
      begun: the calls that have begun.
      ended: those that were cancelled.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def declare(self, peer: RpcPeer) -> None:
        @peer.method("wait")
        async def wait() -> None:
            self.begun.append("wait")
            try:
                await trio.sleep_forever()
            finally:
                self.ended.append("wait")

        @peer.method("numbers")
        async def numbers() -> AsyncIterator[int]:
            try:
                for number in range(5):
                    yield number
                await trio.sleep_forever()
            finally:
                self.ended.append("numbers")


class Busy:
    """A call, a stream that is sent and one that is received, under way when their connection is lost.

    Attributes:
      errors: how each of them ended.
      items: what was received.
    """

    def __init__(self, peer: RpcPeer) -> None:
        self.errors: dict[str, Exception] = {}
        self.items: list[int] = []
        self._peer = peer

    async def run(self) -> None:
        """Do all three until each has its error."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._call)
            nursery.start_soon(self._send)
            nursery.start_soon(self._receive)

    async def _call(self) -> None:
        try:
            await self._peer.request({"method": "wait"})
        except ConnectionLost as exc:
            self.errors["call"] = exc

    async def _send(self) -> None:
        async def items() -> AsyncIterator[int]:
            yield 1
            await trio.sleep_forever()

        try:
            await self._peer.send_stream(items())
        except ConnectionLost as exc:
            self.errors["send"] = exc

    async def _receive(self) -> None:
        answer = await self._peer.request({"method": "numbers"})
        try:
            async for item in self._peer.receive_stream(answer.data["streamId"], int)[1]:  # type: ignore[index]
                self.items.append(item)
        except ConnectionLost as exc:
            self.errors["receive"] = exc


def _too_late(site: PeerSite) -> None:
    site.is_down = True


def _restarted(site: PeerSite) -> None:
    site.sessions = Sessions(ResumeOptions(), CONFIG, site.nursery)


def _stolen(site: PeerSite) -> None:
    site.principal = "mallory"


@pytest.mark.parametrize(
    ("happen", "why"),
    [
        (_too_late, r"max_session_age of 30 s has passed \(nobody is there\)"),
        (_restarted, "could not be resumed"),
        (_stolen, "could not be resumed"),
    ],
)
async def test_each_ends_with_one_error(autojump_clock: MockClock, happen: object, why: str) -> None:
    """A session that is too old, that its server has lost, or that is another principal's: all that was under way ends."""
    slow = Slow()
    async with (
        open_peer_site(slow.declare, ResumeOptions(max_session_age=30)) as site,
        peer_of(site, ResumeOptions(max_session_age=30)) as peer,
        trio.open_nursery() as nursery,
    ):
        busy = Busy(peer)
        nursery.start_soon(busy.run)
        await wait_all_tasks_blocked()
        happen(site)  # type: ignore[operator]
        site.cut()
        with trio.fail_after(31):
            await peer.wait_closed()
        await wait_all_tasks_blocked()
        assert set(busy.errors) == {"call", "send", "receive"}
        for error in busy.errors.values():
            assert str(error).startswith("Connection closed: ")
            with pytest.raises(ConnectionLost, match=why):
                raise error
        assert busy.items == [0, 1, 2, 3, 4]
        with pytest.raises(ConnectionLost, match=why):
            await peer.request({"method": "wait"})
        assert slow.begun == ["wait"]
        await trio.sleep(61)
        assert sorted(slow.ended) == ["numbers", "wait"]
        assert site.peers[0].streams.statistics().sending == ()


async def test_a_server_that_waits_less_long(autojump_clock: MockClock) -> None:
    """A client that comes back after the server's `max_session_age` gets one clear error."""
    slow = Slow()
    async with open_peer_site(slow.declare, ResumeOptions(max_session_age=5)) as site, peer_of(site) as peer:
        async with trio.open_nursery() as nursery:
            busy = Busy(peer)
            nursery.start_soon(busy.run)
            await wait_all_tasks_blocked()
            site.is_down = True
            site.cut()
            await trio.sleep(8)
            assert sorted(slow.ended) == ["numbers", "wait"]
            assert not busy.errors
            site.is_down = False
        assert len(busy.errors) == 3
        assert "could not be resumed" in str(busy.errors["call"])


async def test_a_call_that_is_cancelled_meanwhile(autojump_clock: MockClock) -> None:
    """Its handler is cancelled once there is a connection again, and others go on."""
    slow, books = Slow(), Books()

    def declare(peer: RpcPeer) -> None:
        slow.declare(peer)
        books.declare(peer)

    async with open_peer_site(declare) as site, peer_of(site) as peer:
        with trio.move_on_after(3) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.request, {"method": "wait"})
                await wait_all_tasks_blocked()
                site.is_down = True
                site.cut()
        assert scope.cancelled_caught
        site.is_down = False
        answer = await peer.request({"method": "call", "params": [4]})
        assert (answer.data, books.calls) == (8, [4])
        await wait_all_tasks_blocked()
        assert slow.ended == ["wait"]


async def test_a_sender_waits_while_nobody_acknowledges(autojump_clock: MockClock) -> None:
    """What is kept for a connection to come is bounded; then the producer stands still, and nothing is dropped."""
    made = 0
    options = ResumeOptions(max_retained_bytes=131_072)

    async def items() -> AsyncIterator[str]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield "x" * 100_000

    async with open_peer_site(lambda _: None) as site, peer_of(site, options) as peer, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        site.is_down = True
        site.cut()
        stream_id = await nursery.start(peer.send_stream, items())
        await trio.sleep(20)
        assert made < 20
        assert peer.connection.statistics().retained_bytes < 300_000
        site.is_down = False
        _, stream = site.peers[0].receive_stream(stream_id, str)
        assert [len(item) async for item in stream] == [100_000] * 100


async def test_without_sessions_a_cut_closes(autojump_clock: MockClock) -> None:
    """A server that knows none makes no difference until the connection is lost; then everything ends at once."""
    slow = Slow()
    async with open_peer_site(slow.declare) as site:
        site.is_plain = True
        async with peer_of(site) as peer, trio.open_nursery() as nursery:
            busy = Busy(peer)
            nursery.start_soon(busy.run)
            await wait_all_tasks_blocked()
            site.cut()
            await wait_all_tasks_blocked()
            assert len(busy.errors) == 3
            assert all(str(error) == "Connection closed: the memory link was cut" for error in busy.errors.values())
            assert len(site.tries) == 1


@asynccontextmanager
async def _stranger(site: PeerSite, *frames: tuple[int, records.Record | Piece]) -> AsyncGenerator[MemoryCarrier, None]:
    """Whoever greets properly and then says what it likes."""
    wire = BinaryWire()
    async with site.open_carrier():
        near = site.links[-1][0].inner
        await near.send(hello("stranger", 0, RESUME))
        for stream_id, frame in frames:
            if isinstance(frame, Piece):
                await near.send(b"".join(wire.encode_piece(stream_id, frame)))
            else:
                await near.send(wire.encode(stream_id, frame))
        yield near
        await near.aclose()


async def _goodbye(near: MemoryCarrier) -> str:
    data = b""
    with trio.move_on_after(10):
        while chunk := await near.receive():
            data += chunk
    (frame,) = [frame for _, frame in BinaryWire().decode(data) if isinstance(frame, records.GoAway)]
    return frame.reason


_ITEM = 1 << 30
_OPEN = records.Open(STREAM, metadata={STREAM_ID: "s"})


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([(1, _OPEN), (1, Piece(b"x" * 1_000, _ITEM))], "1073741824.*max_item_bytes"),
        ([(0, records.Ack(1_000_000))], "acknowledges 1000000 frames"),
        ([(1, records.End())], "stream 1"),
        ([(2, _OPEN)], "stream 2"),
        ([(1, _OPEN), (1, records.End()), (1, _OPEN)], "stream 1"),
    ],
    ids=["1 GiB", "ack of nothing", "no such stream", "foreign number", "number twice"],
)
async def test_who_breaks_the_rules_is_told(
    autojump_clock: MockClock, frames: list[tuple[int, records.Record | Piece]], why: str
) -> None:
    """The session of such a client ends with a reason, others notice nothing, and nobody may come back to it."""
    books = Books()
    async with open_peer_site(books.declare) as site, peer_of(site) as peer:
        async with _stranger(site, *frames) as near:
            assert re.search(why, await _goodbye(near))
        await wait_all_tasks_blocked()
        assert site.sessions.count == 1
        assert (await peer.request({"method": "call", "params": [1]})).data == 2

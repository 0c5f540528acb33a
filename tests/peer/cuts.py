"""Peers on sessions whose network is cut at chosen bytes: what the tests of resuming peers share."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from tests.fake_carrier import FakeCarrier
from tests.resuming.site import AT_ONCE, CONFIG, Site, connected
from trio_streams.carrier import Carrier
from trio_streams.config import ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.driver import run_connection
from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer import BatchOptions, PeerReceiveStream, RpcPeer
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.sessions import Sessions
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair
from trio_streams.wire.binary import PREFACE

__all__ = ["Books", "Cut", "PeerSite", "converse", "open_peer_site", "peer_of", "random_cuts"]

_HEADER_BYTES = 12
_EVERYTHING = 1 << 40


@attrs.frozen
class Cut:
    """Where a connection is cut.

    Attributes:
      is_upwards: whether the direction to the server is looked at; the other one breaks at the same moment.
      frames: whole frames that arrive in it before.
      more_bytes: of the next one.
      max_piece: the most bytes that arrive at once.
    """

    is_upwards: bool
    frames: int
    more_bytes: int = 0
    max_piece: int = 65_536


class _Frames:
    """Finds where frames end in bytes that come in pieces."""

    def __init__(self) -> None:
        self._position = 0
        self._next = len(PREFACE)
        self._header = b""
        self.ends: list[int] = []

    def feed(self, data: bytes) -> None:
        for byte in data:
            if self._position >= self._next:
                self._header += bytes((byte,))
                if len(self._header) == _HEADER_BYTES:
                    self._next += _HEADER_BYTES + int.from_bytes(self._header[2:4], "big")
                    self._header = b""
                    self.ends.append(self._next)
            self._position += 1


class _CutCarrier(FakeCarrier):
    """Receives in pieces, and breaks once so many frames and bytes have come."""

    def __init__(
        self, inner: MemoryCarrier, cut: Cut | None, max_piece: int, chance: random.Random, site: PeerSite
    ) -> None:
        super().__init__(inner)
        self._site = site
        self._cut = cut
        self._max_piece = max_piece
        self._chance = chance
        self._frames = _Frames()
        self._waiting = b""
        self._delivered = 0

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._left() == 0:
            self.inner.lose("the line was cut")
        if not self._waiting or self._left() == 0:
            self._waiting = await super().receive()
            self._frames.feed(self._waiting)
        size = min(self._chance.randint(1, self._max_piece), self._left())
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        self._delivered += len(piece)
        return piece

    def _left(self) -> int:
        """How many bytes may still arrive."""
        cut, ends = self._cut, self._frames.ends
        if cut is None or not self._site.has_begun:
            return _EVERYTHING
        # The end of a frame is known from its header on, which comes after that of the one before.
        starts = [len(PREFACE), *ends]
        if cut.frames >= len(starts):
            return _EVERYTHING
        return max(0, starts[cut.frames] + cut.more_bytes - self._delivered)


@attrs.define(eq=False)
class PeerSite(Site):
    """A server of peers that knows sessions.

    Attributes:
      declare: says what each peer answers.
      cuts: where each connection in turn is cut; whole afterwards.
      seed: of the pieces.
      peers: those that there have been.
      has_begun: whether the client has been greeted; a line that is cut before is no session's yet.
    """

    declare: Callable[[RpcPeer], None] = attrs.field(default=lambda _: None)
    cuts: Iterator[Cut] = attrs.field(factory=lambda: iter(()))
    seed: int = 0
    peers: list[RpcPeer] = attrs.Factory(list)
    has_begun: bool = False

    @asynccontextmanager
    async def open_carrier(self) -> AsyncIterator[Carrier]:
        """Connect, over a line that will be cut."""
        self.tries.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise ConnectionLost("nobody is there")
        cut = next(self.cuts, None)
        piece = 65_536 if cut is None else cut.max_piece
        chance = random.Random(f"{self.seed} {len(self.links)}")
        left, right = memory_carrier_pair()
        near = _CutCarrier(left, None if cut is None or cut.is_upwards else cut, piece, chance, self)
        far = _CutCarrier(right, cut if cut is not None and cut.is_upwards else None, piece, chance, self)
        self.links.append((near, far))
        self.nursery.start_soon(self._serve, far, self.principal)
        yield near

    async def _serve(self, carrier: FakeCarrier, principal: Hashable) -> None:
        if self.is_plain:
            await self._talk(carrier, None, self.connections.append)
        else:
            await super()._serve(carrier, principal)

    async def _run(self, carrier: ResumingCarrier) -> None:
        def began(connection: Connection) -> None:
            carrier.drive(connection.kick)
            self.connections.append(connection)

        await self._talk(carrier, lambda: carrier.machine, began)

    async def _talk(
        self, carrier: Carrier, make_machine: Callable[[], Mux] | None, began: Callable[[Connection], None]
    ) -> None:
        async with (
            run_connection(
                carrier, is_client=False, config=self.config, make_machine=make_machine, on_connection=began
            ) as connection,
            RpcPeer(connection) as peer,
        ):
            self.declare(peer)
            self.peers.append(peer)
            await peer.wait_closed()


@asynccontextmanager
async def open_peer_site(
    declare: Callable[[RpcPeer], None],
    resume: ResumeOptions | None = None,
    cuts: Iterator[Cut] | None = None,
    seed: int = 0,
) -> AsyncGenerator[PeerSite, None]:
    """A server of peers for as long as the block; then it is cancelled."""
    async with open_bare_nursery() as nursery:
        sessions = Sessions(resume or ResumeOptions(), CONFIG, nursery)
        yield PeerSite(sessions, nursery, CONFIG, declare=declare, cuts=cuts or iter(()), seed=seed)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def peer_of(
    site: PeerSite, resume: ResumeOptions | None = None, reconnect: ReconnectOptions = AT_ONCE
) -> AsyncGenerator[RpcPeer, None]:
    """A client of such a site."""
    async with connected(site, resume, reconnect) as connection, RpcPeer(connection) as peer:
        site.has_begun = True
        yield peer


def random_cuts(chance: random.Random, most: int, max_frames: int = 30) -> Iterator[Cut]:
    """Where so many connections in turn are cut."""
    for _ in range(most):
        yield Cut(
            chance.random() < 0.5,
            chance.randint(0, max_frames),
            chance.choice([0, 0, 1, 5, 11, 12, 13, 20, 40]),
            chance.choice([1, 7, 100, 65_536]),
        )


class Books:
    """What the handlers of one side have done, so that whatever is lost or comes twice is seen.

    Attributes:
      calls: the data of the calls that were answered.
      told: of those that nobody answers.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.told: list[int] = []

    def declare(self, peer: RpcPeer) -> None:
        """Have a peer write into them."""

        @peer.method("call")
        async def call(number: int) -> int:
            self.calls.append(number)
            await trio.lowlevel.checkpoint()
            return number * 2

        @peer.method("tell")
        async def tell(number: int) -> None:
            self.told.append(number)

        @peer.method("count")
        async def count(most: int) -> AsyncIterator[int]:
            for number in range(most):
                yield number


async def converse(peer: RpcPeer, other: RpcPeer, *, calls: int, items: int) -> None:
    """Calls, and streams in both directions; they are checked as they come.

    Args:
      peer: has the conversation.
      other: sees to it that its streams are read.
      calls: how many of each kind.
      items: of each stream.
    """

    async def call() -> None:
        for number in range(calls):
            answer = await peer.request({"method": "call", "params": [number]})
            assert answer.data == number * 2
            await peer.send({"method": "tell", "params": [number]})

    async def download() -> None:
        answer = await peer.request({"method": "count", "params": [items]})
        _, stream = peer.receive_stream(answer.data["streamId"], int)  # type: ignore[index]
        assert [item async for item in stream] == list(range(items))

    async def upload(name: str, **options: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check, other.receive_stream(name, str)[1])
            assert await peer.send_stream((f"item {n}" for n in range(items)), name, **options) == name

    async def check(stream: PeerReceiveStream[str]) -> None:
        assert [item async for item in stream] == [f"item {n}" for n in range(items)]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        nursery.start_soon(download)
        nursery.start_soon(upload, f"{id(peer)} plain")
        await upload(f"{id(peer)} small", batch=BatchOptions(max_items=3), compression="deflate")

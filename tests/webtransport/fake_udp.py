"""A network in memory, on Trio's clock, whose sockets an endpoint takes for UDP's: so endpoints run in virtual time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import trio

from trio_streams.webtransport.driven import Address

__all__ = ["DELAY", "FakeNetwork", "FakeSocket", "Fate"]

DELAY: Final = 0.01

Fate: TypeAlias = Callable[[bytes, Address, Address], Sequence[float]]
"""Of a datagram, where it comes from and where it goes to: seconds until each of its copies arrives; none if it is lost."""


class FakeNetwork:
    """Carries datagrams; `run` has to run in a task.

    Attributes:
      fate: what becomes of each datagram.
      sent: every datagram that was sent, and to where.
    """

    def __init__(self, fate: Fate = lambda datagram, source, to: (DELAY,)) -> None:
        self.fate = fate
        self.sent: list[tuple[bytes, Address]] = []
        self._sockets: dict[Address, FakeSocket] = {}
        self._ports = itertools.count(40_000)
        self._arrivals: list[tuple[float, int, bytes, Address, Address]] = []
        self._numbers = itertools.count()
        self._changed = trio.Event()

    def bind(self, addr: Address | None = None, peer: Address | None = None) -> FakeSocket:
        """A socket that is bound to an address or to one of its own, and connected to a peer if there is one."""
        addr = addr or ("192.0.2.1", next(self._ports))
        self._sockets[addr] = socket = FakeSocket(self, addr, peer)
        return socket

    def forget(self, addr: Address) -> None:
        """A socket was closed: whoever is connected to its address hears that nobody listens."""
        self._sockets.pop(addr, None)

    def rename(self, socket: FakeSocket, addr: Address) -> None:
        """Give a socket another address, as an address translator does that has forgotten the first one."""
        del self._sockets[socket.address]
        socket.address = addr
        self._sockets[addr] = socket

    def carry(self, datagram: bytes, source: Address, to: Address) -> None:
        """Let a datagram go."""
        self.sent.append((datagram, to))
        for delay in self.fate(datagram, source, to):
            heapq.heappush(self._arrivals, (trio.current_time() + delay, next(self._numbers), datagram, source, to))
        self._changed.set()

    async def run(self) -> None:
        """Deliver, until it is cancelled."""
        while True:
            with trio.CancelScope(deadline=self._arrivals[0][0] if self._arrivals else math.inf):
                await self._changed.wait()
            self._changed = trio.Event()
            while self._arrivals and self._arrivals[0][0] <= trio.current_time():
                _, _, datagram, source, to = heapq.heappop(self._arrivals)
                self._deliver(datagram, source, to)

    def _deliver(self, datagram: bytes, source: Address, to: Address) -> None:
        socket = self._sockets.get(to)
        if socket is not None and socket.peer in (None, source):
            socket.deliver(datagram, source)
        elif source in self._sockets and self._sockets[source].peer == to:
            self._sockets[source].refuse()


class FakeSocket:
    """A `DatagramSocket` of the network.

    Attributes:
      address: where it is bound to.
      peer: whom it is connected to.
      room: how many datagrams it takes before it is full; None for any number.
    """

    def __init__(self, network: FakeNetwork, address: Address, peer: Address | None) -> None:
        self.address = address
        self.peer = peer
        self.room: int | None = None
        self.is_closed = False
        self._network = network
        self._inbox: deque[tuple[bytes, Address]] = deque()
        self._is_refused = False
        self._readable = trio.lowlevel.ParkingLot()
        self._writable = trio.lowlevel.ParkingLot()

    def deliver(self, datagram: bytes, source: Address) -> None:
        self._inbox.append((datagram, source))
        self._readable.unpark_all()

    def refuse(self) -> None:
        self._is_refused = True
        self._readable.unpark_all()

    def make_room(self, items: int | None) -> None:
        self.room = items
        self._writable.unpark_all()

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self._inbox and not self._is_refused:
            await self._readable.park()

    def receive_nowait(self) -> list[tuple[bytes, Address]]:
        return [self._inbox.popleft() for _ in range(min(64, len(self._inbox)))]

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.room == 0:
            await self._writable.park()

    def send_nowait(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        assert not self.is_closed
        taken = len(datagrams) if self.room is None else min(self.room, len(datagrams))
        if self.room is not None:
            self.room -= taken
        for datagram, to in datagrams[:taken]:
            self._network.carry(datagram, self.address, to)
        return taken

    def take_refusal(self) -> bool:
        was_refused, self._is_refused = self._is_refused, False
        return was_refused

    def close(self) -> None:
        self.is_closed = True
        self._network.forget(self.address)

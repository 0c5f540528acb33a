"""A relay between clients and a server on loopback: an address translator that can forget, and a path that can lose."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.udp import UdpSocket, bind_udp

__all__ = ["Relay", "open_relay"]


class Relay:
    """What `open_relay` gives.

    Attributes:
      address: where a client sends to.
      outside: the address that the server sees.
      loss: the share of datagrams that are lost, in both directions.
      carried_bytes: the size up to which datagrams pass.
    """

    def __init__(self, nursery: trio.Nursery, server: Address, loss: float, seed: int) -> None:
        self._nursery = nursery
        self._server = server
        self._inside = bind_udp("127.0.0.1", 0)
        self._outside = bind_udp("127.0.0.1", 0)
        self._client: Address = None
        self._rng = random.Random(seed)
        self._scopes: list[trio.CancelScope] = []
        self.loss = loss
        self.carried_bytes = 65_535
        self.address: Address = self._inside.address

    @property
    def outside(self) -> Address:
        return self._outside.address

    def start(self) -> None:
        self._nursery.start_soon(self._carry, self._inside, True)
        self._nursery.start_soon(self._carry, self._outside, False)

    def change_port(self) -> None:
        """Forget the client: what it sends next comes from another port."""
        self._outside = bind_udp("127.0.0.1", 0)
        self._nursery.start_soon(self._carry, self._outside, False)

    def vanish(self) -> None:
        """Close its sockets: nobody listens there any more."""
        for scope in self._scopes:
            scope.cancel()

    async def _carry(self, socket: UdpSocket, is_outward: bool) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                while True:
                    await socket.wait_readable()
                    self._pass_all(socket, is_outward)
            finally:
                socket.close()

    def _pass_all(self, socket: UdpSocket, is_outward: bool) -> None:
        for datagram, addr in socket.receive_nowait():
            if is_outward:
                self._client = addr
            self._pass(datagram, is_outward)

    def _pass(self, datagram: bytes, is_outward: bool) -> None:
        if len(datagram) > self.carried_bytes or self._rng.random() < self.loss:
            return
        if is_outward:
            self._outside.send_nowait([(datagram, self._server)])
        elif self._client is not None:
            self._inside.send_nowait([(datagram, self._client)])


@asynccontextmanager
async def open_relay(server: Address, *, loss: float = 0.0, seed: int = 0) -> AsyncIterator[Relay]:
    """Relay to a server for as long as the block."""
    async with trio.open_nursery() as nursery:
        relay = Relay(nursery, server, loss, seed)
        relay.start()
        yield relay
        nursery.cancel_scope.cancel()

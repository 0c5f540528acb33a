"""A relay for datagrams on loopback that loses, doubles and delays them as a seed says, and changes its port when told to.

What becomes of a datagram is decided as in virtual time, by a `Link` of `tests.webtransport.quic_pair`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import trio

from tests.webtransport.quic_pair import Fate, Link

__all__ = ["UdpProxy", "at_once", "open_udp_proxy"]

MAX_DATAGRAM_BYTES: Final = 65_536
BUFFER_BYTES: Final = 4 * 1_048_576
"""Of a socket in the kernel, as far as it lets us, so that what is lost is lost by the seed."""

Address: TypeAlias = tuple[str, int]


def at_once() -> Fate:
    """A link that delays and loses nothing."""
    return Fate((0.0,))


class UdpProxy:
    """A running relay.

    Attributes:
      port: where clients send.
      passed: datagrams that were passed on, copies included.
      lost: datagrams that were not.
    """

    def __init__(self, nursery: trio.Nursery, front: trio.socket.SocketType, server: Address, link: Link) -> None:
        self.port: int = front.getsockname()[1]
        self.passed = 0
        self.lost = 0
        self.link = link
        self._nursery = nursery
        self._front = front
        self._server = server
        self._backs: dict[Address, trio.socket.SocketType] = {}

    async def move(self) -> None:
        """Let each client come from a new port from now on; what the server sends to the old one is still passed on."""
        for client in list(self._backs):
            self._backs[client] = await self._open_back(client)

    async def run(self) -> None:
        """Pass on what clients send."""
        while True:
            data, client = await self._front.recvfrom(MAX_DATAGRAM_BYTES)
            if client not in self._backs:
                self._backs[client] = await self._open_back(client)
            self._pass_on(data, self._backs[client], self._server)

    async def _open_back(self, client: Address) -> trio.socket.SocketType:
        back = await _open_socket()
        self._nursery.start_soon(self._run_back, back, client)
        return back

    async def _run_back(self, back: trio.socket.SocketType, client: Address) -> None:
        with back:
            while True:
                try:
                    data = await back.recv(MAX_DATAGRAM_BYTES)
                except ConnectionError:  # the server's port is closed, and the kernel says so
                    continue
                self._pass_on(data, self._front, client)

    def _pass_on(self, data: bytes, through: trio.socket.SocketType, to: Address) -> None:
        delays = self.link().delays
        self.lost += not delays
        for delay in delays:
            self.passed += 1
            self._nursery.start_soon(self._send, data, through, to, delay)

    @staticmethod
    async def _send(data: bytes, through: trio.socket.SocketType, to: Address, delay: float) -> None:
        await trio.sleep(delay)
        try:
            await through.sendto(data, to)
        except OSError:
            pass  # as on any network


async def _open_socket() -> trio.socket.SocketType:
    made = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    made.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, BUFFER_BYTES)
    await made.bind(("127.0.0.1", 0))
    return made


@asynccontextmanager
async def open_udp_proxy(server_port: int, link: Link = at_once) -> AsyncGenerator[UdpProxy]:
    """Stand between clients and a server on loopback for as long as the block.

    Args:
      server_port: of the server.
      link: asked what becomes of each datagram, in both directions.
    """
    with await _open_socket() as front:
        async with trio.open_nursery() as nursery:
            proxy = UdpProxy(nursery, front, ("127.0.0.1", server_port), link)
            nursery.start_soon(proxy.run)
            yield proxy
            nursery.cancel_scope.cancel()

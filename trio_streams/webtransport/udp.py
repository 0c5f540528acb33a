"""A UDP socket that takes and gives many datagrams a system call, where the kernel can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trio_streams.webtransport.driven import Address

__all__ = ["DatagramSocket", "bind_udp", "connect_udp"]


class DatagramSocket(Protocol):
    """What an endpoint asks of its socket: tests have one without a network."""

    @property
    def address(self) -> Address:
        """Where it is bound to."""
        ...

    async def wait_readable(self) -> None:
        """Wait until there may be something to receive."""
        ...

    def receive_nowait(self) -> list[tuple[bytes, Address]]:
        """Take what is here, at most about 64 datagrams; empty where nothing is.

        Raises:
          ConnectionRefusedError: on a connected socket: nobody listens at the peer's port.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until there may be room to send."""
        ...

    def send_nowait(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send from the start of a list, until the kernel has no more room; what fails in other ways counts as sent, and lost.

        Returns:
          How many are done with.
        """
        ...

    def close(self) -> None:
        """Close it, which wakes whoever waits with `trio.ClosedResourceError`."""
        ...


def bind_udp(host: str, port: int) -> DatagramSocket:
    """A server's socket.

    Args:
      host: an address, or a name of this machine.
      port: 0 for a free one.

    Raises:
      OSError: it can't be bound.
    """
    raise NotImplementedError


def connect_udp(addr: Address) -> DatagramSocket:
    """A client's socket: only its peer's datagrams are received, and that nobody listens there is noticed.

    Raises:
      OSError: there is no way to the address.
    """
    raise NotImplementedError

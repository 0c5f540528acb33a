"""What a connection needs of the world: bytes in order, both ways, and a goodbye.

A carrier knows nothing of streams, frames or credit. Only the driver's two loops call it: one task receives, another
one sends. That is the whole discipline, so a carrier needs no conflict detector and its users never meet it.
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

__all__ = ["MOST_RECEIVE_BYTES", "RECEIVE_BYTES", "Carrier", "GatheringCarrier", "PromptCarrier", "next_read_bytes"]

RECEIVE_BYTES: Final = 65_536
"""What one read of a socket takes: enough for whoever sends little, and a larger buffer would only be allocated to stay
empty."""

MOST_RECEIVE_BYTES: Final = 262_144
"""What a read grows to, doubling, while reads come back full; what is made of one is made without a schedule point."""


def next_read_bytes(asked: int, received: int) -> int:
    """How much the next read should ask for.

    Args:
      asked: what the last one asked for, in bytes.
      received: what it got.

    Returns:
      Twice as much after a full read, at most `MOST_RECEIVE_BYTES`; the least after one that the least would have held, else the same.
    """
    if received >= asked:
        return min(2 * asked, MOST_RECEIVE_BYTES)
    return asked if received > RECEIVE_BYTES else RECEIVE_BYTES


@runtime_checkable
class Carrier(Protocol):
    """Bytes in order, both ways; owned by the driver alone.

    Boundaries between sends mean nothing: the other side may receive them joined or cut anywhere.
    """

    @property
    def peer(self) -> str:
        """Who is on the other side, for people: `127.0.0.1:5123`."""
        ...

    async def receive(self) -> bytes:
        """Take the next bytes, waiting until there are some.

        Answers that the carrier itself owes the peer (such as a WebSocket's pongs) go out from here.

        Returns:
          At least one byte; or `b""` once the peer has closed cleanly, and from then on.

        Raises:
          ConnectionLost: the world broke the connection.
          RemoteProtocolError: the peer broke the rules of the carrier's own protocol.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic; a cancelled call loses nothing.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Send all of `data`, in as few system calls as possible, waiting while the peer takes no more.

        Only ever called by one task at a time.

        Raises:
          ConnectionLost: the world broke the connection, or the peer has closed it.
          trio.ClosedResourceError: this side was closed.
        Cancellation: the peer may get all, part or none of `data`, so the connection is of no further use. The
          driver cancels a send only to kill its connection.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until the kernel would take bytes now, so that what is urgent can be chosen at the last moment.

        Called by the task that sends. May return early, never late.

        Raises:
          ConnectionLost: the world broke the connection.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        ...

    async def aclose(self) -> None:
        """Say goodbye if there is a way to, and close. Idempotent.

        Never raises for the peer's misbehaviour; a goodbye that the peer does not answer is bounded.

        Cancellation: closes at once, without the goodbye.
        """
        ...


@runtime_checkable
class PromptCarrier(Carrier, Protocol):
    """A carrier that can tell without waiting whether it takes bytes; what is sent into a silence so saves a round."""

    def is_writable(self) -> bool:
        """Whether `wait_writable` would return at once. False where that is not known."""
        ...


@runtime_checkable
class GatheringCarrier(Carrier, Protocol):
    """A carrier that takes what lies in several places; a long write so spares the copy into one."""

    async def send_chunks(self, chunks: list[bytes | memoryview]) -> None:
        """Send all of `chunks`, in order, as `send` would send them joined.

        Args:
          chunks: none of them empty; the list is the carrier's from now on.

        Raises:
          Exception: as `send`.
        Cancellation: as `send`.
        """
        ...

"""What an endpoint and the connections on it ask of each other. Neither knows what is spoken.

An endpoint owns a socket and the clock. A `Driven` is one connection: it is given datagrams and deadlines, and gives
datagrams back. All its methods are called by the endpoint's tasks, between schedule points, and never wait. What a user's
task does to a connection is followed by `Attachment.kick`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import attrs

__all__ = ["Accept", "Address", "Attachment", "Driven", "Opening"]

Address: TypeAlias = Any
"""Where a UDP datagram comes from or goes to, as the socket has it; it is only compared and handed back."""


class Attachment(Protocol):
    """A connection's place at its endpoint. Once the connection is detached, all of it does nothing."""

    def kick(self) -> None:
        """Ask for a flush: once, however often it is asked for, when nobody has asked again for a scheduler tick or two.

        It does not wait for long: after a few ticks, or a millisecond, the flush comes in any case.
        """
        ...

    def hurry(self) -> None:
        """Ask for a flush in the next scheduler tick: nothing is to be added, and somebody is to hear of it at once."""
        ...

    def add_connection_id(self, connection_id: bytes) -> None:
        """Let datagrams to an id reach this connection: its first one, and each that `ConnectionIdIssued` names."""
        ...

    def remove_connection_id(self, connection_id: bytes) -> None:
        """Let datagrams to an id that the peer retired reach it no more."""
        ...

    def note_handshake(self) -> None:
        """Say that the handshake is complete, so that the connection does not count as half-open any more."""
        ...


class Driven(Protocol):
    """One connection, as its endpoint sees it.

    Whatever one of its methods raises ends this connection and no other: it is logged, and `lose` is called.
    """

    @property
    def is_over(self) -> bool:
        """Whether nothing will be sent or received any more; the endpoint then forgets the connection."""
        ...

    def attach(self, attachment: Attachment) -> None:
        """Learn of its place, once, before any other call; tell the first connection id there."""
        ...

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        """Take a datagram that was sent to one of its ids, from wherever."""
        ...

    def dispatch(self) -> None:
        """Take the machine's events, and tell whom they concern: after each run of `receive`, each `handle_deadline` and each
        `datagrams_to_send`.
        """
        ...

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent at once, and to where."""
        ...

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, on Trio's clock; None for never."""
        ...

    def handle_deadline(self, now: float) -> None:
        """Note that time has passed."""
        ...

    def close(self) -> None:
        """The endpoint is being left: say goodbye. The next flush sends it, and is the last one."""
        ...

    def lose(self, error: Exception) -> None:
        """The connection is gone, and nothing is received any more. Called at most once, and not after `is_over`.

        Whatever still waits on the connection has to be told. If `datagrams_to_send` can say goodbye to the peer, that is
        sent once.

        Args:
          error: why: what one of its methods raised, or a `ConnectionLost` where the socket or the peer is gone.
        """
        ...


@attrs.frozen
class Opening:
    """What a server's endpoint knows of a connection before it exists.

    Attributes:
      original_destination_connection_id: where the client's very first packet was sent to.
      retry_source_connection_id: the id that its Retry was sent with; None where there was none.
      addr: where the client is.
    """

    original_destination_connection_id: bytes
    retry_source_connection_id: bytes | None
    addr: Address


Accept: TypeAlias = Callable[[Opening], Driven | None]
"""Make the connection of a client; None refuses it: the client is told."""

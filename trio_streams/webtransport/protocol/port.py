"""What the machines of HTTP/3 and WebTransport ask of QUIC: the methods of `Quic` that they use, and no more.

A fake one that keeps what it is told is enough to test them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

from trio_streams.webtransport.quic_events import Event

__all__ = ["Address", "DrivenQuic", "QuicPort"]

Address: TypeAlias = Any
"""Where a UDP datagram comes from or goes to, as the socket has it; it is only compared and handed back."""


class QuicPort(Protocol):
    """The streams and datagrams of one connection. `Quic` says what each method does; here is what to remember."""

    @property
    def is_closing(self) -> bool:
        """Whether the connection is over, or about to be."""
        ...

    @property
    def max_datagram_size(self) -> int | None:
        """The largest datagram that may be sent now, in bytes; None where the peer takes none."""
        ...

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection with a code of HTTP/3."""
        ...

    # Opening and priorities.

    def streams_available(self, *, unidirectional: bool = False) -> int:
        """How many streams may be opened now."""
        ...

    def open_stream(self, *, unidirectional: bool = False) -> int:
        """Open a stream; its id."""
        ...

    def set_priority(self, stream_id: int, priority: int, *, group: int = 0, is_urgent: bool = False) -> None:
        """Who sends first: urgent streams, then one group after the other by bytes, and in a group the higher priority."""
        ...

    # Our half.

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """How many bytes were taken; `Writable` comes if not all were."""
        ...

    def send_room(self, stream_id: int) -> int:
        """How many bytes `send` would take now; 0 where our half is over."""
        ...

    def want_room(self, stream_id: int) -> None:
        """Let `Writable` come once there is room again, as if `send` had not taken all it was given."""
        ...

    def end(self, stream_id: int) -> None:
        """End our half behind what it took; `Delivered` comes when the peer has acknowledged all of it."""
        ...

    def reset(self, stream_id: int, code: int, *, after_bytes: int = 0) -> bool:
        """Abandon our half, once so many bytes from its start were acknowledged; False if that is later: `ResetSent`."""
        ...

    def unsent_bytes(self, stream_id: int) -> int:
        """What a stream took and never sent."""
        ...

    def sent_bytes(self, stream_id: int) -> int:
        """How many bytes from the start of our half were sent at least once: its final size if it is reset now."""
        ...

    def unacknowledged_bytes(self, stream_id: int) -> int:
        """What a stream took and the peer has not acknowledged."""
        ...

    # The peer's half.

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half; what comes on it is `Discarded`, and its credit goes back."""
        ...

    def consumed(self, stream_id: int, size: int) -> None:
        """Let the peer send as much more. A stream whose half was reset, stopped or released is no matter."""
        ...

    def unread_bytes(self, stream_id: int) -> int:
        """What arrived in order and was not consumed."""
        ...

    # Both.

    def release(self, stream_id: int, code: int = 0) -> None:
        """Be done with a stream, once for each; no event names it any more. Our half is to be ended or reset before."""
        ...

    def send_datagram(self, data: bytes, now: float, *, group: int = 0) -> None:
        """Let a datagram leave. Groups take turns, and the one that has most waiting loses its oldest if there is too much."""
        ...

    def drop_datagrams(self, group: int) -> None:
        """Drop what a group still has waiting."""
        ...


class DrivenQuic(QuicPort, Protocol):
    """What whoever drives the connection needs, too."""

    @property
    def host_connection_id(self) -> bytes:
        """The first connection id of this side."""
        ...

    @property
    def wants_flush(self) -> bool:
        """Whether the next flush has something to say beside acknowledgements and datagrams."""
        ...

    @property
    def round_trip(self) -> float | None:
        """Seconds there and back, smoothed; None before the first measurement."""
        ...

    def ping(self) -> None:
        """Make the peer answer."""
        ...

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        """Take a UDP datagram."""
        ...

    def events(self) -> Iterator[Event]:
        """Take what has happened, in order."""
        ...

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent at once, and to where."""
        ...

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called."""
        ...

    def handle_deadline(self, now: float) -> None:
        """Note that time has passed."""
        ...

"""What the machines ask of a QUIC connection."""

from __future__ import annotations

from typing import Protocol

__all__ = ["QuicPort"]


class QuicPort(Protocol):
    """The part of `quic.Quic` that a machine above it calls; the methods mean what they mean there."""

    def open_stream(self, *, unidirectional: bool = False) -> int:
        """Open a stream, and say its id."""
        ...

    def streams_available(self, *, unidirectional: bool = False) -> int:
        """How many streams may be opened now."""
        ...

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Let a stream take bytes, as many as there is room for; if not all were taken, `Writable` comes."""
        ...

    def send_room(self, stream_id: int) -> int:
        """How many bytes `send` would take now."""
        ...

    def end(self, stream_id: int) -> None:
        """End our half of a stream."""
        ...

    def reset(self, stream_id: int, code: int, *, after_bytes: int = 0) -> None:
        """Abandon our half of a stream."""
        ...

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half of a stream."""
        ...

    def release(self, stream_id: int, code: int = 0) -> None:
        """Be done with a stream."""
        ...

    def consumed(self, stream_id: int, size: int) -> None:
        """Let the peer send as much more."""
        ...

    def set_priority(self, stream_id: int, priority: int, *, group: int = 0, is_urgent: bool = False) -> None:
        """Let a stream go before others."""
        ...

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection."""
        ...

"""What a stream on a connection asks of the machine under it, and what the connection asks of it beside that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from trio_streams.codes import Code
from trio_streams.core import events, records
from trio_streams.core.stream_machine import StreamMachine

__all__ = ["Machine", "Multiplexer"]


class Machine(Protocol):
    """What a stream asks of its connection's machine: our own `Mux`, or what stands on QUIC's or HTTP/2's streams."""

    def send(self, stream_id: int, payloads: Sequence[bytes]) -> int:
        """Queue items while credit allows; how many were taken."""
        ...

    def is_writable(self, stream_id: int) -> bool:
        """Whether an item would be taken now; if not, a `Writable` event follows."""
        ...

    def send_header(self, stream_id: int, metadata: Mapping[str, str]) -> None:
        """Queue the head of our half."""
        ...

    def end(self, stream_id: int, status: records.Status = ..., trailers: Mapping[str, str] = ...) -> None:
        """End our half behind its items."""
        ...

    def reset(self, stream_id: int, code: Code = ..., reason: str = ...) -> None:
        """Abandon our half."""
        ...

    def stop(self, stream_id: int, code: Code = ..., reason: str = ...) -> None:
        """Refuse more of the peer's half."""
        ...

    def consume(self, stream_id: int, items: int, size: int) -> None:
        """Count what was taken."""
        ...

    def release(self, stream_id: int) -> None:
        """The application is done with the stream."""
        ...


class Multiplexer(Machine, Protocol):
    """What a connection asks: our own `Mux`, or what stands in its place where a foreign protocol brings the streams."""

    @property
    def carries_metadata(self) -> bool:
        """Whether a stream opens with metadata of the application's."""
        ...

    @property
    def has_addresses(self) -> bool:
        """Whether several are on the other side, so that a stream may be for one of them."""
        ...

    @property
    def client_id(self) -> str | None:
        """What the other side calls us."""
        ...

    @property
    def can_open(self) -> bool:
        """Whether a stream can be opened now."""
        ...

    @property
    def peer_went_away(self) -> bool:
        """Whether the peer takes no new streams."""
        ...

    @property
    def queued_bytes(self) -> int:
        """What waits to be sent in all streams."""
        ...

    @property
    def unread_bytes(self) -> int:
        """What arrived in all streams and was not taken, at its cost."""
        ...

    @property
    def round_trip(self) -> float | None:
        """Seconds that the last ping took."""
        ...

    def note_wish_to_open(self) -> None:
        """Ask for a `StreamsAllowed` event when a stream can be opened."""
        ...

    def open(
        self,
        name: str,
        *,
        metadata: Mapping[str, str] = ...,
        priority: int = ...,
        timeout_ms: int | None = ...,
        window_items: int | None = ...,
        window_bytes: int | None = ...,
    ) -> int:
        """Open a stream, and tell its number."""
        ...

    def get(self, stream_id: int) -> StreamMachine | None:
        """The machine of a live stream."""
        ...

    def ping(self, now: float) -> int:
        """Ask for a sign of life; the number that `Ponged` will carry."""
        ...

    def go_away(self, code: Code = ..., reason: str = ...) -> None:
        """Tell the peer to open no more streams."""
        ...

    def events(self) -> Iterator[events.Event]:
        """Take the events that have happened, in order."""
        ...

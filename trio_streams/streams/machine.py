"""What a stream on a connection asks of the machine under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from trio_streams.codes import Code
from trio_streams.core import records

__all__ = ["Machine"]


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

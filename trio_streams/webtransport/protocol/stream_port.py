"""What procedures ask of the session under them: its streams, by their numbers, and to end well."""

from __future__ import annotations

from typing import Protocol

__all__ = ["StreamPort"]


class StreamPort(Protocol):
    """One session. A stream that is over, or whose session is, is no matter to any of these: `send` takes nothing then.

    What the session tells its user is told to `SessionMux` in turn: streams that the peer opens, what arrives on them, how
    they end, when they take bytes again.
    """

    def can_open(self, *, is_unidirectional: bool) -> bool:
        """Whether a stream may be opened now; if not, `SessionMux.allowed` is called later."""
        ...

    def open_stream(self, *, is_unidirectional: bool, priority: int = 0) -> int:
        """Open a stream and tell its number; higher priorities go first. It is to be released once."""
        ...

    def set_priority(self, stream_id: int, priority: int) -> None:
        """Let a stream go before those with a lower priority."""
        ...

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        """How many bytes a stream takes; where not all, `SessionMux.writable` is called later."""
        ...

    def end(self, stream_id: int) -> None:
        """End our half behind what it took."""
        ...

    def reset(self, stream_id: int, code: int) -> None:
        """Abandon our half."""
        ...

    def stop(self, stream_id: int, code: int) -> None:
        """Refuse more of the peer's half; nothing of it is heard any more."""
        ...

    def consumed(self, stream_id: int, size: int) -> None:
        """So many bytes are no longer held: the peer may send as many more."""
        ...

    def release(self, stream_id: int) -> None:
        """Be done with a stream: what our half took and its end still leave."""
        ...

    def drain(self) -> None:
        """Ask the peer to come to an end."""
        ...

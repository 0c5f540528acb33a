"""Requests for sessions that came before the client's SETTINGS, and what came behind them.

Spec: draft-ietf-webtrans-http3 §3.1.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from trio_streams.webtransport.protocol.http3_events import (
    BodyReceived,
    HeadReceived,
    MessageReset,
    MessageStopped,
    TrailersReceived,
)

__all__ = ["Waiting", "WaitingRequests"]

_EVENT_BYTES: Final = 256
"""What an event costs beside what it holds, so that small ones are not free."""

Waiting: TypeAlias = HeadReceived | BodyReceived | TrailersReceived | MessageReset | MessageStopped


class WaitingRequests:
    """What is to be done once the SETTINGS are here.

    Args:
      max_requests: how many may wait.
      max_bytes: of content behind one of them.
    """

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._waiting: dict[int, list[Waiting]] = {}
        self._sizes: dict[int, int] = {}

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, event: Waiting) -> bool:
        """Keep an event of a request; the first one is its head.

        Returns:
          Whether there was room; if not, the request is forgotten.
        """
        stream_id = event.stream_id
        if stream_id not in self._waiting:
            if len(self._waiting) >= self._max_requests:
                return False
            self._waiting[stream_id] = []
            self._sizes[stream_id] = 0
        if isinstance(event, BodyReceived):
            self._sizes[stream_id] += event.size + _EVENT_BYTES
            if self._sizes[stream_id] > self._max_bytes:
                self.forget(stream_id)
                return False
        self._waiting[stream_id].append(event)
        return True

    def forget(self, stream_id: int) -> None:
        """A request was given up."""
        del self._waiting[stream_id], self._sizes[stream_id]

    def take(self) -> list[Waiting]:
        """All that waits, in the order of its requests."""
        found = [event for held in self._waiting.values() for event in held]
        self._waiting.clear()
        self._sizes.clear()
        return found

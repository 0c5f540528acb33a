"""A stream of envelopes: its items are messages, so none is ever cut."""

from __future__ import annotations

from trio_streams.core.stream_machine import Pulled, StreamMachine

__all__ = ["EnvelopeStream"]


class EnvelopeStream(StreamMachine):
    """A stream whose items may be larger than a turn of the scheduler."""

    __slots__ = ()

    def pull(self, max_bytes: int, connection_room: int) -> Pulled | None:
        """The next content; a single item may pass `max_bytes`."""
        if self._queue:
            max_bytes = max(max_bytes, len(self._queue[0]) + 2)
        return super().pull(max_bytes, connection_room)

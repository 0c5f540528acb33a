"""The limits of a peer's streams."""

from __future__ import annotations

import attrs

from trio_streams.config import ConnectionConfig, StreamLimits, positive

__all__ = ["StreamOptions"]


@attrs.frozen(kw_only=True)
class StreamOptions:
    """What a `StreamManager` may hold.

    Past a limit a stream is refused with an error at both ends; an item is never dropped by itself.

    Attributes:
      max_buffered_bytes: bytes of items, each at its length plus 64, that wait here in streams which nobody has claimed
        yet. Where `open_peer` or `serve_peers` makes the connection, it is also what one stream may hold for a slow
        reader, and what may be queued for the carrier before senders wait.
      max_unclaimed_streams: streams of the peer that nobody has claimed yet.
      unclaimed_timeout: seconds that such a stream waits.
    """

    max_buffered_bytes: int = attrs.field(default=1_048_576, validator=positive)
    max_unclaimed_streams: int = attrs.field(default=100, validator=positive)
    unclaimed_timeout: float = attrs.field(default=10.0, validator=positive)

    def connection_config(self) -> ConnectionConfig:
        """The configuration of a connection that these options make, if no other is given."""
        limits = StreamLimits(window_bytes=self.max_buffered_bytes)
        window = max(16 * self.max_buffered_bytes, ConnectionConfig().connection_window_bytes)
        return ConnectionConfig(
            stream=limits, max_send_buffer_bytes=self.max_buffered_bytes, connection_window_bytes=window
        )

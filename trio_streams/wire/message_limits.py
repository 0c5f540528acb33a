"""What a client of JSON envelopes may take; each limit with its unit in its name."""

from __future__ import annotations

import attrs

from trio_streams.config import positive

__all__ = ["MessageLimits"]


@attrs.frozen(kw_only=True)
class MessageLimits:
    """What the dialect adds to `ConnectionConfig`, since its clients grant and heed no credit.

    Attributes:
      max_message_bytes: the longest envelope; a longer one ends the connection.
      max_text_bytes: the same on a WebSocket. Both are the original's.
      max_id_bytes: of a client's name for a stream, which every envelope repeats.
      max_name_bytes: of a procedure, a channel and an event, as above.
      max_metadata_bytes: of an envelope's metadata as strings.
      overflow_bytes: what one stream may hold unread, items at their cost. Beyond it reading pauses.
      stall_timeout: seconds that reading pauses, at most; then the streams that hold too much are ended, for a
        client's `cancel` must never be locked out.
      message_timeout: seconds for a whole message, from its first byte; None for any time.
      send_window_items: answers of one stream that wait for the carrier before its handler has to.
      send_window_bytes: the same in bytes, items at their cost.
      max_channel_messages: messages about channels that wait to be taken, or JSON-RPC texts; beyond it reading pauses.
    """

    max_message_bytes: int = attrs.field(default=16_777_216, validator=[positive, attrs.validators.le(0xFFFF_FFFF)])
    max_text_bytes: int = attrs.field(default=1_048_576, validator=[positive, attrs.validators.le(0xFFFF_FFFF)])
    max_id_bytes: int = attrs.field(default=256, validator=positive)
    max_name_bytes: int = attrs.field(default=1_024, validator=positive)
    max_metadata_bytes: int = attrs.field(default=16_384, validator=positive)
    overflow_bytes: int = attrs.field(default=1_048_576, validator=positive)
    stall_timeout: float = attrs.field(default=10.0, validator=positive)
    message_timeout: float | None = attrs.field(default=60.0, validator=positive)
    send_window_items: int = attrs.field(default=128, validator=positive)
    send_window_bytes: int = attrs.field(default=65_536, validator=positive)
    max_channel_messages: int = attrs.field(default=1_024, validator=positive)

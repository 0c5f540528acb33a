"""Limits and timeouts, each with its unit in its name.

Every buffer of the library is bounded by a field here; defaults are for a service that meets strangers.
Configurations are frozen and validated when they are made, so that a wrong one fails where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

import attrs

__all__ = [
    "ITEM_OVERHEAD_BYTES",
    "MAX_FRAME_PAYLOAD_BYTES",
    "ConnectionConfig",
    "ReconnectOptions",
    "ResumeOptions",
    "StreamLimits",
    "at_least",
    "positive",
]

ITEM_OVERHEAD_BYTES: Final = 64
"""What an item costs beyond its bytes: CPython spends 33 bytes on a `bytes` object and up to 31 around it.

Credit counts an item as its length plus this, so that a million empty items are not free.
"""

MAX_FRAME_PAYLOAD_BYTES: Final = 16_384
"""The most payload one frame carries: what HTTP/2 defaults to, and a fraction of a millisecond of a slow link."""


def positive(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    """A validator of attrs: a limit is more than 0, or None where that means no limit."""
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value!r}")


def at_least(minimum: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """A validator of attrs: a limit is this much or more."""

    def check(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
        if value != value or value < minimum:
            raise ValueError(f"{attribute.name} must be at least {minimum}, not {value!r}")

    return check


@attrs.frozen(kw_only=True)
class StreamLimits:
    """What one receive half may hold for a reader that does not read.

    Attributes:
      window_items: items the peer may send beyond what was consumed.
      window_bytes: bytes (each item costs its length plus 64) the peer may send beyond what was consumed. The
        item that crosses the limit is still taken, so that an item larger than the window can pass.
    """

    window_items: int = attrs.field(default=256, validator=at_least(1))
    window_bytes: int = attrs.field(default=1_048_576, validator=at_least(1))


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """Limits and timeouts of one connection.

    Attributes:
      stream: the windows a new stream starts with.
      connection_window_bytes: bytes that all streams together may hold unread. Keep it well above a stream's
        `window_bytes`, or one stream that nobody reads stops all the others.
      max_streams: streams the peer may have open at once; one counts until its handler's `finally` is done.
      max_item_bytes: the largest item accepted from the peer or sent to it.
      max_send_buffer_bytes: bytes queued for the carrier before senders wait; a stream with nothing queued may
        always queue one item, so that a full buffer never locks out a more urgent stream.
      max_control_bytes: bytes of answers owed to the peer (pongs, resets, grants); past them, reading pauses.
      connect_timeout: seconds to establish a carrier.
      handshake_timeout: seconds for the peer's hello.
      idle_timeout: seconds of silence after which the connection is lost; None for never. A ping goes out at
        half of it.
      close_timeout: seconds for the last bytes to leave when a connection closes.
    """

    stream: StreamLimits = attrs.field(factory=StreamLimits)
    connection_window_bytes: int = attrs.field(default=16_777_216, validator=at_least(1))
    max_streams: int = attrs.field(default=1_024, validator=at_least(1))
    # A frame announces an item's size in 32 bits.
    max_item_bytes: int = attrs.field(default=16_777_216, validator=[at_least(1), attrs.validators.le(0xFFFF_FFFF)])
    max_send_buffer_bytes: int = attrs.field(default=1_048_576, validator=at_least(1))
    max_control_bytes: int = attrs.field(default=262_144, validator=at_least(1_024))
    connect_timeout: float = attrs.field(default=10.0, validator=at_least(0))
    handshake_timeout: float = attrs.field(default=10.0, validator=at_least(0))
    idle_timeout: float | None = attrs.field(
        default=60.0,
        validator=attrs.validators.optional(at_least(0.001)),  # type: ignore[arg-type]
    )
    close_timeout: float = attrs.field(default=2.0, validator=at_least(0))


@attrs.frozen(kw_only=True)
class ResumeOptions:
    """How a session outlives its carrier.

    Attributes:
      max_retained_bytes: of what this side has written and the peer has not acknowledged; a write costs its length plus
        64. While so much is retained, senders wait.
      max_session_age: seconds after the loss of a carrier in which another one has to take its place.
      max_detached_sessions: on a server, sessions that wait for their clients; one more ends the one that has waited
        longest.
      identify: on a server, says who the client on an accepted `Carrier` is: only the same principal may go on with its
        session. None for what the carrier vouches for: a certificate, a user of this machine; where there is neither, the
        session's id is all that it takes.
    """

    # A peer acknowledges after 32 KiB or 256 frames at the latest; less than a few times that would stop the stream.
    max_retained_bytes: int = attrs.field(default=1_048_576, validator=at_least(131_072))
    max_session_age: float = attrs.field(default=60.0, validator=at_least(0))
    max_detached_sessions: int = attrs.field(default=1_024, validator=at_least(1))
    identify: Callable[[Any], Hashable] | None = None


@attrs.frozen(kw_only=True)
class ReconnectOptions:
    """How a client looks for another carrier: with exponential backoff and full jitter.

    The n-th attempt comes after a random time between 0 and `initial_delay * factor ** (n - 1)`, but no more than
    `max_delay`: clients that lose a server together so come back one by one.

    Attributes:
      initial_delay: seconds at most before the first attempt.
      max_delay: seconds at most before any.
      factor: how much longer the next one may take.
      max_attempts: in a row; None for as many as fit into the session's age.
      retries_first: whether the first connection is tried again, too, as often and as long.
      seed: for the jitter; None for a different one each time.
    """

    # Nothing at all would stay nothing however often it is multiplied.
    initial_delay: float = attrs.field(default=1.0, validator=at_least(0.001))
    max_delay: float = attrs.field(default=30.0, validator=at_least(0.001))
    factor: float = attrs.field(default=2.0, validator=at_least(1))
    max_attempts: int | None = attrs.field(default=None, validator=attrs.validators.optional(at_least(1)))
    retries_first: bool = False
    seed: int | None = None

"""The seven records that every dialect speaks, and those that a connection speaks about itself.

DATA is missing on purpose: it is the hot path and travels as runs of payloads (lists of bytes), with no object per
item. What is optional on some wires (priorities, deadlines, windows) has a default here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from trio_streams.codes import Code

__all__ = [
    "NO_FEATURES",
    "NO_METADATA",
    "Ack",
    "ConnectionCredit",
    "Credit",
    "End",
    "GoAway",
    "Header",
    "Hello",
    "Open",
    "Ping",
    "Pong",
    "Record",
    "Reset",
    "Status",
    "Stop",
]

NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
NO_FEATURES: Final[frozenset[str]] = frozenset()


@attrs.frozen
class Status:
    """How a half ended: a code's name, words for people, and a JSON value for programs."""

    code: str = "OK"
    message: str = ""
    details: object = None

    @property
    def is_ok(self) -> bool:
        """Whether the half ended as it should."""
        return self.code == "OK"


OK: Final = Status()


@attrs.frozen
class Open:
    """Start a stream.

    Attributes:
      name: what is asked for: a procedure, a path, a topic.
      metadata: string pairs for the handler.
      priority: higher goes first, -128 to 127.
      timeout_ms: what is left of the caller's deadline, in milliseconds; None for none. (A clock's reading would be
        wrong on another machine.)
      window_items, window_bytes: the credit that the opener grants for the answer.
    """

    name: str
    metadata: Mapping[str, str] = NO_METADATA
    priority: int = 0
    timeout_ms: int | None = None
    window_items: int = 0
    window_bytes: int = 0


@attrs.frozen
class Header:
    """The head of an answer: metadata before the first item."""

    metadata: Mapping[str, str] = NO_METADATA


@attrs.frozen
class End:
    """The half is complete: nothing follows, and `status` says how it went."""

    status: Status = OK
    trailers: Mapping[str, str] = NO_METADATA


@attrs.frozen
class Reset:
    """The sender abandons its half; what was not delivered is dropped."""

    code: Code = Code.CANCELLED
    reason: str = ""


@attrs.frozen
class Stop:
    """The receiver refuses more."""

    code: Code = Code.OK
    reason: str = ""


@attrs.frozen
class Credit:
    """Absolute limits of one stream: how many items and bytes its sender may have sent since the start."""

    items: int
    bytes: int


@attrs.frozen
class ConnectionCredit:
    """Absolute limits of a connection: bytes of all streams, and streams that may ever have been opened."""

    bytes: int
    streams: int


@attrs.frozen
class Hello:
    """The first record of each side.

    Attributes:
      session_id: names the session, so that another carrier can go on with it.
      frames_received: how many counted frames of the peer this side has; 0 in a new session.
      window_items, window_bytes: the credit granted to each stream that the peer will open.
      connection_bytes: the first limit of all streams together.
      max_streams: how many streams the peer may open.
      max_item_bytes: the largest item this side takes.
      idle_timeout_ms: after how long a silence this side gives up; 0 for never.
      agent: the software, for people.
      features: optional parts of the protocol that this side offers; unknown ones are ignored.
    """

    session_id: str
    frames_received: int = 0
    window_items: int = 0
    window_bytes: int = 0
    connection_bytes: int = 0
    max_streams: int = 0
    max_item_bytes: int = 0
    idle_timeout_ms: int = 0
    agent: str = ""
    features: frozenset[str] = NO_FEATURES


@attrs.frozen
class Ping:
    """Ask for a sign of life; the number comes back."""

    number: int


@attrs.frozen
class Pong:
    """The answer to a ping."""

    number: int


@attrs.frozen
class Ack:
    """How many counted frames this side has received since the session began."""

    frames: int


@attrs.frozen
class GoAway:
    """No new streams, please; those at or below `last_stream` are being served."""

    code: Code = Code.OK
    reason: str = ""
    last_stream: int = 0


Record: TypeAlias = Open | Header | End | Reset | Stop | Credit | ConnectionCredit | Hello | Ping | Pong | Ack | GoAway

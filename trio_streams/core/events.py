"""What a machine tells its driver: edges, named by past participles. Rare ones are frozen classes; `Received`
carries every item of one chunk for one stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import attrs

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.errors import ProtocolError

__all__ = [
    "Ended",
    "Event",
    "Failed",
    "Greeted",
    "Headed",
    "Opened",
    "Ponged",
    "Received",
    "Reset",
    "Stopped",
    "StreamsAllowed",
    "WentAway",
    "Writable",
]


@attrs.frozen
class Greeted:
    """The peer's hello arrived: streams can be opened."""

    hello: records.Hello


@attrs.frozen
class Opened:
    """The peer opened a stream."""

    stream_id: int
    open: records.Open


@attrs.frozen
class Headed:
    """The head of an answer arrived."""

    stream_id: int
    metadata: Mapping[str, str]


@attrs.define
class Received:
    """Items arrived, in order: all those of one chunk of input that belong to one stream without a gap."""

    stream_id: int
    items: list[bytes]


@attrs.frozen
class Ended:
    """The peer's half is complete; no item follows those already reported."""

    stream_id: int
    status: records.Status
    trailers: Mapping[str, str]


@attrs.frozen
class Reset:
    """The peer abandoned its half."""

    stream_id: int
    code: Code
    reason: str


@attrs.frozen
class Stopped:
    """The peer refuses more of our half."""

    stream_id: int
    code: Code
    reason: str


@attrs.frozen
class Writable:
    """A stream that had to refuse items takes some again."""

    stream_id: int


@attrs.frozen
class StreamsAllowed:
    """A stream can be opened again after the limit was reached."""


@attrs.frozen
class Ponged:
    """A ping came back.

    Attributes:
      number: the ping's number.
      round_trip: seconds since it was queued.
    """

    number: int
    round_trip: float


@attrs.frozen
class WentAway:
    """The peer takes no new streams."""

    code: Code
    reason: str


@attrs.frozen
class Failed:
    """The connection is over by somebody's fault; always the last event."""

    error: ProtocolError


Event: TypeAlias = (
    Greeted
    | Opened
    | Headed
    | Received
    | Ended
    | Reset
    | Stopped
    | Writable
    | StreamsAllowed
    | Ponged
    | WentAway
    | Failed
)

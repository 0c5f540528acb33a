"""What an operation of the machine waits for. Whoever drives it does that, and sends back what is named under "Sends".

What fails is thrown into the operation: `StoreError`, a cancellation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs

from trio_streams.durable.protocol.states import Listener, Pending

__all__ = [
    "ROOM",
    "Count",
    "Expired",
    "Find",
    "Get",
    "Listing",
    "Need",
    "NewId",
    "ReadEntries",
    "Room",
    "Running",
    "Settle",
    "Wait",
]

T = TypeVar("T")


class Watched(Protocol):
    """What tells of its changes."""

    listeners: set[Listener]


@attrs.frozen
class Find:
    """`Store.find`. Sends `Stored | None`."""

    path: str


@attrs.frozen
class Get:
    """`Store.get`. Sends `Stored | None`."""

    stream_id: int


@attrs.frozen
class NewId:
    """`Store.new_id`. Sends the number."""


@attrs.frozen
class ReadEntries:
    """`Store.read`. Sends the entries."""

    stream_id: int
    start: int
    end: int
    max_bytes: int


@attrs.frozen
class Room:
    """`Store.wait_room`. Sends None."""


ROOM = Room()


@attrs.frozen
class Settle:
    """Wait for the commit, and tell the machine: `settle` or `fail`. Sends None."""

    pending: Pending


@attrs.frozen
class Wait:
    """Wait until `is_ready`, asked again whenever a listener of `watched` is called. Sends whether it is.

    Attributes:
      watched: what tells of changes.
      is_ready: whether what is waited for is so.
      timeout: seconds; None for ever.
      is_reader: whether it counts for the limit of waiting readers.
    """

    watched: Watched
    is_ready: Callable[[], bool]
    timeout: float | None = None
    is_reader: bool = False


@attrs.frozen
class Listing:
    """`Store.list_records`. Sends the records."""

    prefix: str
    after: str
    limit: int


@attrs.frozen
class Count:
    """`Store.count_records`. Sends the number."""


@attrs.frozen
class Expired:
    """`Store.list_expired`. Sends the records."""

    now: float
    limit: int


Need: TypeAlias = Find | Get | NewId | ReadEntries | Room | Settle | Wait | Listing | Count | Expired

Running: TypeAlias = Generator[Need, Any, T]
"""An operation under way: yields what it needs, returns its result."""

"""What can be asked of a server, parsed and checked, whoever asks.

Spec: Durable Streams §5.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Literal, TypeAlias

import attrs

__all__ = ["Append", "Create", "Delete", "Fork", "Head", "List", "Live", "Operation", "Read", "Start"]

Live: TypeAlias = Literal["long-poll", "sse"]


class Start(Enum):
    """Where a read begins that names no position."""

    BEGINNING = "-1"
    NOW = "now"


@attrs.frozen
class Fork:
    """Where a stream to be created branches off.

    Attributes:
      source: the source's path.
      offset: of the divergence, as the request worded it; None for the source's tail.
      sub_offset: messages (JSON) or bytes that it lies behind `offset`.
    """

    source: str
    offset: str | None = None
    sub_offset: int = 0


@attrs.frozen
class Create:
    """PUT.

    Attributes:
      path: of the stream.
      content_type: None for the source's, or bytes.
      ttl_seconds: None for no time to live.
      expires_at: Unix seconds; None for never.
      is_closed: whether it is closed at once.
      fork: None for a stream of its own.
    """

    path: str
    content_type: str | None = None
    ttl_seconds: int | None = None
    expires_at: float | None = None
    is_closed: bool = False
    fork: Fork | None = None

    action: ClassVar[Literal["create"]] = "create"


@attrs.frozen
class Append:
    """POST.

    Attributes:
      path: of the stream.
      content_type: None where none is given.
      is_closing: whether nothing may follow.
      producer: its id, epoch and sequence number; None for a plain append.
      stream_seq: None for none.
      if_match: as the header said it; None for no condition.
    """

    path: str
    content_type: str | None = None
    is_closing: bool = False
    producer: tuple[str, int, int] | None = None
    stream_seq: str | None = None
    if_match: str | None = None

    action: ClassVar[Literal["append"]] = "append"


@attrs.frozen
class Read:
    """GET.

    Attributes:
      path: of the stream.
      start: a position, or one that has a name.
      live: how to go on at the tail; None for not at all.
      cursor: as the client sent it.
      if_none_match: as the header said it.
    """

    path: str
    start: int | Start = Start.BEGINNING
    live: Live | None = None
    cursor: str | None = None
    if_none_match: str | None = None

    action: ClassVar[Literal["read"]] = "read"


@attrs.frozen
class Head:
    """HEAD."""

    path: str

    action: ClassVar[Literal["head"]] = "head"


@attrs.frozen
class Delete:
    """DELETE."""

    path: str

    action: ClassVar[Literal["delete"]] = "delete"


@attrs.frozen
class List:
    """GET of the root: an extension.

    Attributes:
      prefix: of the paths.
      after: the path behind which to go on.
      limit: paths in one answer.
      path: always empty.
    """

    prefix: str = ""
    after: str = ""
    limit: int = 100
    path: str = ""

    action: ClassVar[Literal["list"]] = "list"


Operation: TypeAlias = Create | Append | Read | Head | Delete | List

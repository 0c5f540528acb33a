"""What a document says beside the procedures: its title, and which content types streams have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

__all__ = ["INPUT", "ContentTypes", "DocumentInfo"]

INPUT: Final = "input"
"""The name, in a query, of an input that has no fields."""


def _tuple(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen
class ContentTypes:
    """The content types of streams where a stream's own declaration says nothing.

    Attributes:
      default: what items are.
      supported: what they may be asked for as.
    """

    default: str = "application/json"
    supported: tuple[str, ...] = attrs.field(default=("application/json",), converter=_tuple)


@attrs.frozen(kw_only=True)
class DocumentInfo:
    """What a document says of the application as a whole.

    Attributes:
      title: what it is called.
      version: of the application's interface.
      description: in words; CommonMark.
      streams: content types of streams.
    """

    title: str = "API"
    version: str = "1.0.0"
    description: str = ""
    streams: ContentTypes = attrs.field(factory=ContentTypes)

    def as_json(self) -> dict[str, object]:
        """The `info` object that all three kinds of document have."""
        info: dict[str, object] = {"title": self.title, "version": self.version}
        return {**info, "description": self.description} if self.description else info

"""What a call gives."""

from __future__ import annotations

from typing import TypeVar

import attrs

from trio_streams.codecs import json_codec

__all__ = ["Response"]

T = TypeVar("T")


@attrs.frozen
class Response:
    """The answer of a call.

    Attributes:
      data: what the handler returned, as JSON's own types.
    """

    data: object

    def decode(self, type: type[T]) -> T:  # noqa: A002 - as in `receive_stream`
        """The data as a declared type.

        Args:
          type: whatever `json_codec` takes.

        Raises:
          CodecError: the data is not of that type; `path` says where.
        """
        return json_codec(type).decode(json_codec(object).encode(self.data))

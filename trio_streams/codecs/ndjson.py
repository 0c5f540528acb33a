"""Runs of items as newline-delimited JSON: one text per line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Generic, TypeVar, overload

from trio_streams.codecs.json import DEFAULT_MAX_DEPTH, JsonCodec, resolve
from trio_streams.errors import CodecError

__all__ = ["DEFAULT_MAX_LINE_BYTES", "NdjsonCodec", "NdjsonReader", "ndjson"]

T = TypeVar("T")

DEFAULT_MAX_LINE_BYTES: Final = 1_048_576
"""The longest line a reader buffers while its end has not come."""


class NdjsonCodec(Generic[T]):
    """Turns a run of items into lines and back; made by `ndjson`."""

    content_type: str = "application/x-ndjson"

    def __init__(self, item: JsonCodec[T]) -> None:
        self._item = item

    def encode(self, items: Iterable[T]) -> bytes:
        """Turn items into lines, each with its newline; nothing for no items.

        Raises:
          CodecError: `path` starts with the item's index, as in `$[3].price`.
        """
        encode = self._item.encode
        lines: list[bytes] = []
        try:
            for item in items:
                lines.append(encode(item))  # noqa: PERF401 - the count places the error
        except CodecError as exc:
            raise _in_line(exc, len(lines)) from exc
        lines.append(b"")
        return b"\n".join(lines)

    def decode(self, data: bytes) -> list[T]:
        """Turn lines into items; empty lines are skipped, and the last newline may be missing.

        Raises:
          CodecError: `path` starts with the item's index, as in `$[3].price`.
        """
        decode = self._item.decode
        items: list[T] = []
        try:
            for line in data.split(b"\n"):
                if line and not line.isspace():
                    items.append(decode(line))  # noqa: PERF401 - the count places the error
        except CodecError as exc:
            raise _in_line(exc, len(items)) from exc
        return items

    def reader(self, *, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES) -> NdjsonReader[T]:
        """A reader of chunks that end anywhere."""
        return NdjsonReader(self, max_line_bytes)


def _in_line(exc: CodecError, index: int) -> CodecError:
    path = f"$[{index}]{exc.path[1:]}"
    return CodecError(f"{path}{str(exc)[len(exc.path) :]}", path=path)


class NdjsonReader(Generic[T]):
    """Splits chunks into lines and decodes them, in time linear in the bytes; made by `NdjsonCodec.reader`."""

    def __init__(self, codec: NdjsonCodec[T], max_line_bytes: int) -> None:
        self._codec = codec
        self._max_line_bytes = max_line_bytes
        self._parts: list[bytes] = []
        self._pending_bytes = 0

    def receive(self, chunk: bytes) -> list[T]:
        """Take a chunk; return the items of the lines that it completes.

        Raises:
          CodecError: a line does not decode, or is longer than the limit.
        """
        end = chunk.rfind(b"\n") + 1
        first = chunk.find(b"\n") if end else len(chunk)
        if self._pending_bytes + first > self._max_line_bytes or len(chunk) - end > self._max_line_bytes:
            raise CodecError(f"$: a line is longer than {self._max_line_bytes} bytes")
        if not end:
            self._parts.append(chunk)
            self._pending_bytes += len(chunk)
            return []
        data = b"".join([*self._parts, chunk[:end]])
        self._parts = [chunk[end:]]
        self._pending_bytes = len(chunk) - end
        return self._codec.decode(data)

    def end(self) -> list[T]:
        """The bytes are over: return the item of a last line without a newline, if there is one.

        Raises:
          CodecError: it does not decode.
        """
        data = b"".join(self._parts)
        self._parts = []
        self._pending_bytes = 0
        return self._codec.decode(data)


@overload
def ndjson(  # pyright: ignore[reportOverlappingOverload] - a type is an object too
    type: type[T], *, forbid_extra_keys: bool = ..., max_depth: int = ...
) -> NdjsonCodec[T]: ...
@overload
def ndjson(type: object = ..., *, forbid_extra_keys: bool = ..., max_depth: int = ...) -> NdjsonCodec[object]: ...
def ndjson(
    type: object = object,  # noqa: A002 - the word that callers read
    *,
    forbid_extra_keys: bool = False,
    max_depth: int = DEFAULT_MAX_DEPTH,
) -> NdjsonCodec[Any]:
    """The codec of runs of items of a declared type; options as in `json_codec`.

    Raises:
      TypeError: the type can't be told from JSON.
    """
    return NdjsonCodec(resolve(type, forbid_extra_keys=forbid_extra_keys, max_depth=max_depth))

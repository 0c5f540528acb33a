"""MessagePack payloads of a declared type: what JSON means, in fewer bytes, and bytes as they are.

Dates, UUIDs and decimals travel as the text that JSON has for them. Spec: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast, overload

import cattrs
import msgspec

from trio_streams.codecs.base import Codec
from trio_streams.codecs.convert import make_converter
from trio_streams.codecs.document import check_finite
from trio_streams.codecs.failure import Mismatch, to_codec_error
from trio_streams.codecs.json import DEFAULT_MAX_DEPTH, encode_error
from trio_streams.errors import CodecError

__all__ = ["MsgpackCodec", "msgpack_codec"]

T = TypeVar("T")

_parse: Final = msgspec.msgpack.Decoder().decode


class MsgpackCodec(Generic[T]):
    """The codec of one declared type; made by `msgpack_codec`."""

    content_type: str = "application/msgpack"

    def __init__(self, type_: object, *, max_depth: int, converter: cattrs.Converter) -> None:
        self._type = type_
        self._max_depth = max_depth
        self._structure: Callable[[object, object], T] = converter.get_structure_hook(type_)
        self._unstructure: Callable[[T], object] = converter.get_unstructure_hook(type_)

    def decode(self, data: bytes) -> T:
        """Turn a payload into a value of the declared type.

        Raises:
          CodecError: it is not MessagePack, is nested too deeply, or does not fit the type; `path` says where.
        """
        try:
            document: object = _parse(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
            raise CodecError(f"$: MessagePack is malformed: {exc}") from None
        except RecursionError:
            raise CodecError("$: nested deeper than the interpreter's stack allows") from None
        self._check(document)
        try:
            return self._structure(document, self._type)
        except Exception as exc:  # noqa: BLE001 - hooks and validators of users may raise anything
            raise to_codec_error(exc) from (None if isinstance(exc, Mismatch) else exc)

    def encode(self, value: T) -> bytes:
        """Turn a value of the declared type into a payload.

        Raises:
          CodecError: a number is not finite or does not fit into 64 bits, the value nests too deeply, or it is not of the
            declared type.
        """
        try:
            tree: object = msgspec.to_builtins(self._unstructure(value), builtin_types=(bytes,), str_keys=False)
            self._check(tree)
            return msgspec.msgpack.encode(tree)
        except CodecError:
            raise
        except OverflowError:
            raise CodecError("$: an integer of more than 64 bits can't be encoded") from None
        except Exception as exc:
            raise encode_error(exc, value) from exc

    def _check(self, document: object) -> None:
        """Refuse what JSON would refuse: numbers that are not finite, and deep nests."""
        check_finite(document)
        level, depth = [document], 0
        while level := [item for part in level for item in _parts(part)]:
            depth += 1
            if depth > self._max_depth:
                raise CodecError(f"$: nested deeper than {self._max_depth} levels")

    def __repr__(self) -> str:
        return f"msgpack_codec({self._type!r})"


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[object, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


@overload
def msgpack_codec(type: type[T], *, max_depth: int = ...) -> Codec[T]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def msgpack_codec(type: object = ..., *, max_depth: int = ...) -> Codec[object]: ...
def msgpack_codec(
    type: object = object,  # noqa: A002 - the word that callers read
    *,
    max_depth: int = DEFAULT_MAX_DEPTH,
) -> Codec[Any]:
    """The MessagePack codec of a declared type; one and the same for each.

    Args:
      type: as for `json_codec`.
      max_depth: how deep arrays and objects may nest.

    Raises:
      TypeError: the type can't be told from MessagePack, such as `bytes | str`.
    """
    return _cached(type, max_depth)


@functools.lru_cache(maxsize=1_024)
def _cached(type_: object, max_depth: int) -> MsgpackCodec[Any]:
    try:
        return MsgpackCodec(type_, max_depth=max_depth, converter=_converter())
    except cattrs.errors.StructureHandlerNotFoundError as exc:
        raise TypeError(f"no codec for {type_!r}: {exc}") from exc


@functools.cache
def _converter() -> cattrs.Converter:
    converter = make_converter()
    in_json = converter.get_structure_hook(bytes)

    def structure_bytes(value: object, type_: object) -> bytes:
        return value if isinstance(value, bytes) else cast("bytes", in_json(value, type_))

    converter.register_structure_hook(bytes, structure_bytes)
    return converter

"""JSON payloads of a declared type: the converter's semantics at msgspec's speed where the two agree.

Integers are exact up to 4,300 digits. Floats are finite. Dates and times are ISO 8601, bytes base64, enums their
values. Fields that a type does not declare are ignored unless `forbid_extra_keys` is set. Encoding goes by the
declared type: a subclass is written with the fields that were declared; scalars are trusted to be what they claim.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, overload

import cattrs
import msgspec

from trio_streams.codecs.base import Codec
from trio_streams.codecs.convert import make_converter
from trio_streams.codecs.document import check_depth, check_finite, check_utf8, parse
from trio_streams.codecs.failure import Mismatch, to_codec_error
from trio_streams.codecs.plain import plan_for
from trio_streams.errors import CodecError

__all__ = ["DEFAULT_MAX_DEPTH", "JsonCodec", "encode_error", "json_codec"]

T = TypeVar("T")

DEFAULT_MAX_DEPTH: Final = 64
"""How deep arrays and objects may nest: far beyond real payloads, far within every parser's stack."""

_FAST_FAILURES: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, TypeError)


class JsonCodec(Generic[T]):
    """The codec of one declared type; made by `json_codec`."""

    content_type: str = "application/json"

    def __init__(
        self, type_: object, *, max_depth: int, converter: cattrs.Converter, allow_fast_path: bool = True
    ) -> None:
        self._type = type_
        self._max_depth = max_depth
        self._structure: Callable[[object, object], T] = converter.get_structure_hook(type_)
        self._unstructure: Callable[[T], object] = converter.get_unstructure_hook(type_)
        plan = plan_for(type_)
        self._exact_class = plan.exact_class
        self._has_bounded_depth = plan.has_bounded_depth
        self._encodes_fast = plan.encodes and allow_fast_path
        self._encode_tree: Callable[[object], bytes] = msgspec.json.Encoder(enc_hook=_enc_hook).encode
        self._decode_fast: Callable[[bytes], T] | None = None
        if plan.decodes and allow_fast_path:
            self._decode_fast = _fast_decoder(type_)

    @property
    def has_fast_path(self) -> bool:
        """Whether msgspec decodes the type; the answers are the same, only later, if not."""
        return self._decode_fast is not None

    def decode(self, data: bytes) -> T:
        """Turn JSON text into a value of the declared type.

        Raises:
          CodecError: the text is not JSON, is nested too deeply, or does not fit the type; `path` says where.
        Spec: RFC 8259.
        """
        # Text nested n deep has 2 n brackets, so short text need not be counted.
        if len(data) > 2 * self._max_depth and data.count(b"[") + data.count(b"{") > self._max_depth:
            check_depth(data, self._max_depth)
        if self._decode_fast is not None:
            if not data.isascii():
                check_utf8(data)
            try:
                return self._decode_fast(data)
            except _FAST_FAILURES:
                pass  # the converter decides, and words the error
        return self.structure(parse(data))

    def structure(self, document: object) -> T:
        """Turn parsed JSON into a value of the declared type.

        Raises:
          CodecError: it does not fit the type; `path` says where.
        """
        try:
            return self._structure(document, self._type)
        except Exception as exc:  # noqa: BLE001 - hooks and validators of users may raise anything
            raise to_codec_error(exc) from (None if isinstance(exc, Mismatch) else exc)

    def encode(self, value: T) -> bytes:
        """Turn a value of the declared type into JSON text.

        Raises:
          CodecError: a number is not finite, the value nests too deeply, or it is not of the declared type.
        Spec: RFC 8259.
        """
        try:
            if self._encodes_fast and (self._exact_class is None or type(value) is self._exact_class):
                data = self._encode_tree(value)
                # msgspec writes NaN as null: only where there is a null can there have been one (`find`: twice as
                # fast as `in`).
                if data.find(b"null") >= 0:
                    check_finite(self._unstructure(value))
            else:
                tree = self._unstructure(value)
                data = self._encode_tree(tree)
                if data.find(b"null") >= 0:
                    check_finite(tree)
        except CodecError:
            raise
        except Exception as exc:
            raise encode_error(exc, value) from exc
        if not self._has_bounded_depth and len(data) > 2 * self._max_depth:  # as in `decode`
            check_depth(data, self._max_depth)
        return data

    def __repr__(self) -> str:
        return f"json_codec({self._type!r})"


def _fast_decoder(type_: object) -> Callable[[bytes], Any] | None:
    try:
        return msgspec.json.Decoder(type_, strict=True).decode
    except (TypeError, NotImplementedError):
        return None


def _enc_hook(value: object) -> object:
    # Subclasses of builtins, which msgspec refuses.
    for base in (str, int, float):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise Mismatch("a value that JSON can hold", value)


def encode_error(exc: BaseException, value: object) -> CodecError:
    """What a failure to encode a value is to those who asked for it."""
    match exc:
        case Mismatch():
            return CodecError(f"$: {exc}")
        case RecursionError():
            return CodecError("$: nested too deeply to encode, or it contains itself")
        case UnicodeEncodeError():
            return CodecError(f"$: a string of {len(exc.object)} characters holds a lone surrogate at {exc.start}")
        case ValueError():
            return CodecError("$: an integer of more than 4,300 digits can't be encoded")
        case _:
            pass
    return CodecError(f"$: a {type(value).__name__} can't be encoded as the declared type ({type(exc).__name__})")


@overload
def json_codec(  # pyright: ignore[reportOverlappingOverload] - a type is an object too
    type: type[T], *, forbid_extra_keys: bool = ..., max_depth: int = ..., converter: cattrs.Converter | None = ...
) -> Codec[T]: ...
@overload
def json_codec(
    type: object = ..., *, forbid_extra_keys: bool = ..., max_depth: int = ..., converter: cattrs.Converter | None = ...
) -> Codec[object]: ...
def json_codec(
    type: object = object,  # noqa: A002 - the word that callers read
    *,
    forbid_extra_keys: bool = False,
    max_depth: int = DEFAULT_MAX_DEPTH,
    converter: cattrs.Converter | None = None,
) -> Codec[Any]:
    """The JSON codec of a declared type; one and the same for each type and set of options.

    Args:
      type: an attrs class, dataclass, TypedDict, enum, builtin, or a list, dict, tuple, union of these; `object` is
        any JSON, and encodes also classes, dates and enums by what they are.
      forbid_extra_keys: refuse fields that the type does not declare, instead of ignoring them.
      max_depth: how deep arrays and objects may nest.
      converter: a `make_converter()` with hooks of your own; it rules alone, there is no fast path beside it.

    Raises:
      TypeError: the type can't be told from JSON, such as `bytes | str`.
    """
    return resolve(type, forbid_extra_keys=forbid_extra_keys, max_depth=max_depth, converter=converter)


def resolve(
    type_: object, *, forbid_extra_keys: bool, max_depth: int, converter: cattrs.Converter | None = None
) -> JsonCodec[Any]:
    """The cached codec behind `json_codec`, with all its methods."""
    return _cached(type_, forbid_extra_keys, max_depth, converter)


def _make(type_: object, forbid_extra_keys: bool, max_depth: int, converter: cattrs.Converter | None) -> JsonCodec[Any]:
    rules = _shared_converter(forbid_extra_keys) if converter is None else converter
    allow_fast_path = converter is None and not forbid_extra_keys
    try:
        return JsonCodec(type_, max_depth=max_depth, converter=rules, allow_fast_path=allow_fast_path)
    except cattrs.errors.StructureHandlerNotFoundError as exc:
        raise TypeError(f"no codec for {type_!r}: {exc}") from exc


# Bounded, since a program may make types without end; 1,024 are more than a service has procedures.
_cached = functools.lru_cache(maxsize=1_024)(_make)


@functools.cache
def _shared_converter(forbid_extra_keys: bool) -> cattrs.Converter:
    return make_converter(forbid_extra_keys=forbid_extra_keys)

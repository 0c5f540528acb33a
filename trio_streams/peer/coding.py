"""How the items of a peer's stream become what travels, and back; the stream's metadata says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, cast

import attrs

from trio_streams.codecs import Codec, json_codec, raw
from trio_streams.codes import Code
from trio_streams.errors import LocalProtocolError, RpcError
from trio_streams.peer.deflate import Deflater, Inflater
from trio_streams.wire.signal_names import CONTENT_ENCODING, CONTENT_TYPE

__all__ = [
    "BYTES",
    "JSON",
    "NDJSON",
    "CompressionName",
    "ContentType",
    "Decoding",
    "Encoding",
    "any_json",
    "not_carried",
]

T = TypeVar("T")

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
NDJSON: Final = "application/x-ndjson"

ContentType: TypeAlias = Literal["application/json", "application/octet-stream"]
CompressionName: TypeAlias = Literal["deflate"]

any_json: Final[Codec[object]] = json_codec(object)

_base64: Final[Codec[Any]] = json_codec(bytes)


def not_carried(field: str) -> LocalProtocolError:
    """Why an option of a stream is refused where the dialect has no metadata."""
    text = f"{field}= can't be sent: this dialect carries one message for each item, and says nothing else of a stream"
    return LocalProtocolError(text, code=Code.UNIMPLEMENTED, field=field)


@attrs.frozen
class Encoding:
    """How one stream is sent.

    Attributes:
      encode: an item to its payload; where items are batched, before they are.
      pack: what is done to each payload of the wire behind that; None for nothing.
      metadata: what tells the receiver.
    """

    encode: Callable[[object], bytes]
    pack: Callable[[bytes], bytes] | None
    metadata: Mapping[str, str]

    @classmethod
    def choose(cls, content_type: str | None, compression: str | None, *, is_batched: bool) -> Encoding:
        """Choose by what a sender asks for.

        Raises:
          LocalProtocolError: there is no such type or compression, or bytes are to be batched.
        """
        kind = content_type or JSON
        if kind not in {JSON, BYTES}:
            raise LocalProtocolError(f"content_type is {JSON} or {BYTES}, not {kind[:64]!r}", field="content_type")
        if compression not in {None, "deflate"}:
            raise LocalProtocolError(f"compression is 'deflate' or None, not {compression!r}", field="compression")
        if is_batched and kind == BYTES:
            raise LocalProtocolError("bytes can't be batched: a batch is lines of JSON", field="batch")
        metadata = {CONTENT_TYPE: NDJSON} if is_batched else {CONTENT_TYPE: BYTES} if kind == BYTES else {}
        encode = cast("Callable[[object], bytes]", raw.encode) if kind == BYTES else any_json.encode
        if compression is None:
            return cls(encode, None, metadata)
        return cls(encode, Deflater().compress, {**metadata, CONTENT_ENCODING: compression})

    @classmethod
    def choose_plain(cls, content_type: str | None, compression: str | None, *, is_batched: bool) -> Encoding:
        """The same where the dialect carries JSON and nothing that says how it was made: bytes are base64 there.

        Raises:
          LocalProtocolError: as `choose`; or UNIMPLEMENTED: batches and compression can't be carried.
        """
        if compression is not None:
            raise not_carried("compression")
        if is_batched:
            raise not_carried("batch")
        chosen = cls.choose(content_type, None, is_batched=False)
        return cls(_base64.encode, None, {}) if chosen.metadata else chosen

    def encode_whole(self, item: object) -> bytes:
        """An item to what travels, where something is done behind `encode` and items are not batched."""
        assert self.pack is not None
        return self.pack(self.encode(item))


@attrs.frozen
class Decoding(Generic[T]):
    """How one stream is received.

    Attributes:
      decode: a payload to its item; where items are batched, a line of it.
      unpack: what is done to each payload of the wire before that; None for nothing.
      is_batched: whether a payload holds a line for each of several items.
    """

    decode: Callable[[bytes], T]
    unpack: Callable[[bytes], bytes] | None
    is_batched: bool

    @classmethod
    def choose(cls, type_: object, metadata: Mapping[str, str], max_item_bytes: int) -> Decoding[T]:
        """Choose by what the sender says and the receiver wants.

        Raises:
          RpcError: INVALID_ARGUMENT or UNIMPLEMENTED: the two don't fit, or the sender uses what we don't know.
        """
        kind, encoding = metadata.get(CONTENT_TYPE, JSON), metadata.get(CONTENT_ENCODING)
        if kind not in {JSON, BYTES, NDJSON}:
            raise RpcError(Code.UNIMPLEMENTED, f"content-type is {JSON}, {BYTES} or {NDJSON}, not {kind[:64]!r}")
        if encoding is not None and encoding != "deflate":
            raise RpcError(Code.UNIMPLEMENTED, f"content-encoding is deflate, not {encoding[:64]!r}")
        if kind == BYTES and type_ not in {bytes, object}:
            raise RpcError(Code.INVALID_ARGUMENT, f"the items are bytes, not {type_!r}")
        codec = raw if kind == BYTES else json_codec(type_)
        unpack = None if encoding is None else Inflater(max_item_bytes).inflate
        return cls(cast("Codec[T]", codec).decode, unpack, kind == NDJSON)

    def decode_whole(self, payload: bytes) -> T:
        """What travelled to its item, where something is done before `decode` and items are not batched."""
        assert self.unpack is not None
        return self.decode(self.unpack(payload))

    def split(self, payload: bytes) -> list[bytes]:
        """The lines of a batch; blank ones are nothing."""
        text = payload if self.unpack is None else self.unpack(payload)
        return [line for line in text.split(b"\n") if line and not line.isspace()]

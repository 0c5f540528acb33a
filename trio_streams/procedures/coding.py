"""How items travel on our dialect: as JSON unless the caller says otherwise when it opens the stream.

The metadata `content-type` says what the caller sends, `accept` what it wants to get: JSON, MessagePack, or bytes as they
are where a procedure's items are declared as `bytes`. (In JSON those are base64.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trio_streams.codecs import Codec, json_codec, msgpack_codec, raw
from trio_streams.codes import Code
from trio_streams.errors import RpcError

__all__ = ["ACCEPT", "BYTES", "CONTENT_TYPE", "JSON", "MSGPACK", "any_codec", "asked_for", "codec_of"]

CONTENT_TYPE: Final = "content-type"
ACCEPT: Final = "accept"

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
BYTES: Final = "application/octet-stream"


def asked_for(metadata: Mapping[str, str]) -> tuple[str, str]:
    """What a caller sends and what it wants to get."""
    return metadata.get(CONTENT_TYPE, JSON), metadata.get(ACCEPT, JSON)


def codec_of(type_: object, media_type: str) -> Codec[Any]:
    """The codec of a declared type as a caller asks for it.

    Raises:
      RpcError: INVALID_ARGUMENT: the type has no such form.
    """
    if media_type == JSON:
        return json_codec(type_)
    if media_type == MSGPACK:
        return msgpack_codec(type_)
    if media_type == BYTES and type_ is bytes:
        return raw
    known = f"{JSON}, {MSGPACK} or {BYTES}" if type_ is bytes else f"{JSON} or {MSGPACK}"
    raise RpcError(Code.INVALID_ARGUMENT, f"items travel as {known} here, not as {media_type[:64]!r}")


def any_codec(media_type: str) -> Codec[Any]:
    """The codec of whatever a caller has, by what it is.

    Raises:
      ValueError: there is no such media type.
    """
    try:
        return codec_of(bytes if media_type == BYTES else object, media_type)
    except RpcError as exc:
        raise ValueError(f"content_type is {JSON}, {MSGPACK} or {BYTES}, not {media_type[:64]!r}") from exc

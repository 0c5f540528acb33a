"""What a codec is, and the one that leaves bytes as they are."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from trio_streams.errors import CodecError

__all__ = ["Codec", "RawCodec", "raw"]

T = TypeVar("T")


class Codec(Protocol[T]):
    """Turns items into payloads and back. Stateless, so that one serves every stream.

    How large a payload may be is the caller's matter: the connection limits items before a codec sees them.
    """

    @property
    def content_type(self) -> str:
        """The media type of one payload."""
        ...

    def encode(self, value: T) -> bytes:
        """Turn a value into a payload.

        Raises:
          CodecError: the value does not fit the declared type; `path` says where.
        """
        ...

    def decode(self, data: bytes) -> T:
        """Turn a payload into a value.

        Raises:
          CodecError: the payload does not fit the declared type; `path` says where.
        """
        ...


class RawCodec:
    """Bytes as they are."""

    content_type: str = "application/octet-stream"

    def encode(self, value: bytes) -> bytes:
        """Return the bytes; a bytearray or memoryview is copied, since its owner may change it.

        Raises:
          CodecError: the value is not bytes.
        """
        if type(value) is bytes:
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
            return bytes(value)
        raise CodecError(f"$: expected bytes, got a {type(value).__name__}")

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return data

    def __repr__(self) -> str:
        return "raw"


raw: Final[Codec[bytes]] = RawCodec()
"""The codec of streams that carry plain bytes."""

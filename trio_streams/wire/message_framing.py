"""Envelopes on a carrier of bytes: each is a message behind its length, four bytes in network byte order.

That is how Raffel puts them on TCP. It is also the seam to a WebSocket, where each envelope is a text message of its
own: the machine always speaks length-prefixed messages, and a carrier of messages takes the prefixes off (`split`) and
puts them on (`frame`). So one machine and one driver serve both.
"""

from __future__ import annotations

import struct
from typing import Final

from trio_streams.codes import Code
from trio_streams.core.buffer import FrameBuffer
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["PREFIX_BYTES", "MessageBuffer", "frame", "is_envelope_start", "split"]

PREFIX_BYTES: Final = 4

_PREFIX: Final = struct.Struct(">I")
_TLS_HANDSHAKE: Final = 22  # RFC 8446 §5.1


def frame(message: bytes) -> bytes:
    """A message behind its length.

    Args:
      message: one envelope, in UTF-8.
    """
    return _PREFIX.pack(len(message)) + message


def split(frames: bytes) -> list[bytes]:
    """The messages of whole frames, such as `to_send` gives: what a WebSocket sends as texts.

    Raises:
      LocalProtocolError: the last frame is not whole.
    """
    messages: list[bytes] = []
    position, size = 0, len(frames)
    while position < size:
        start = position + PREFIX_BYTES
        position = start + _PREFIX.unpack_from(frames, position)[0] if start <= size else size + 1
        messages.append(frames[start:position])
    if position > size:
        raise LocalProtocolError(f"can't split {size} bytes: the last frame is not whole", field="length", size=size)
    return messages


def is_envelope_start(data: bytes) -> bool:
    """Whether a connection's first bytes begin a framed envelope, for a port that serves several dialects.

    The first one tells: our own dialect (`trio-streams.v1`) and HTTP begin with a letter, TLS with 22, and as a length
    each of them would announce a third of a gibibyte or more.

    Args:
      data: what has arrived so far, at least a byte.
    """
    first = data[0]
    return first == 0x7F or (first < 0x20 and first != _TLS_HANDSHAKE)


class MessageBuffer:
    """Cuts a carrier's bytes into messages.

    Args:
      max_message_bytes: a longer message is refused by its length, before any of it is kept.
    """

    __slots__ = ("_buffer", "_max_message_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = FrameBuffer(PREFIX_BYTES + max_message_bytes, "max_message_bytes")

    def __len__(self) -> int:
        return len(self._buffer)

    def decode(self, chunk: bytes, messages: list[bytes]) -> None:
        """Take a chunk.

        Args:
          chunk: what arrived.
          messages: each message that is complete with it is put behind these.

        Raises:
          RemoteProtocolError: the next message is longer than allowed; those before it are in `messages`.
        """
        data = self._buffer.join(chunk)
        if data is None:
            return
        position, size = 0, len(data)
        needed = PREFIX_BYTES
        while size - position >= PREFIX_BYTES:
            length: int = _PREFIX.unpack_from(data, position)[0]
            if length > self._max_message_bytes:
                raise _too_large(length, self._max_message_bytes)
            end = position + PREFIX_BYTES + length
            if end > size:
                needed = PREFIX_BYTES + length
                break
            messages.append(data[position + PREFIX_BYTES : end])
            position = end
        self._buffer.keep(data[position:], needed)


def _too_large(size: int, limit: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"a message of {size} bytes exceeds the maximum size, max_message_bytes, of {limit}",
        code=Code.MESSAGE_TOO_LARGE,
        field="max_message_bytes",
        size=size,
        limit=limit,
    )

"""What is known of hypercorn's insides, and nothing else here may know. Tests fail when it moves."""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, TypeAlias, cast

import trio
from hypercorn.protocol.h2 import StreamBuffer
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer, WSStream
from wsproto.events import Message as Part

from trio_streams.transports.asgi_types import Send

__all__ = ["MessageWatch", "abort", "carrier_of", "drained", "has_said_goodbye", "held", "let_go", "watch_messages"]

_SecureStream: TypeAlias = "trio.SSLStream[trio.SocketStream]"

_SCOPES: Final[dict[trio.SocketStream, trio.CancelScope]] = {}
"""Of the connections that hypercorn has."""

_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 seconds: closing drops what was not sent and resets the connection."""


def carrier_of(send: Send) -> trio.SocketStream | None:
    """The connection below hypercorn's `send`; None under another host, or another hypercorn.

    `HTTPStream.app_send` → its `send`, `H11Protocol.stream_send` → its `send`, `TCPServer.protocol_send` → its
    `stream`. A test fails when hypercorn moves them.
    """
    owner: object = getattr(send, "__self__", None)
    for _ in range(2):
        owner = getattr(getattr(owner, "send", None), "__self__", None)
    stream: object = getattr(owner, "stream", None)
    if isinstance(stream, trio.SSLStream):
        stream = cast("_SecureStream", stream).transport_stream
    return stream if isinstance(stream, trio.SocketStream) else None


async def drained(send: Send) -> None:
    """Wait until hypercorn has written a stream's body on HTTP/2, where its `send` buffers without a bound.

    Its pause is undone by each attempt to write into a closed window. A test fails when the names move.
    """
    stream: object = getattr(send, "__self__", None)
    protocol: object = getattr(getattr(stream, "send", None), "__self__", None)
    buffers: object = getattr(protocol, "stream_buffers", None)
    if isinstance(buffers, dict):
        buffer = cast("dict[object, StreamBuffer]", buffers).get(getattr(stream, "stream_id", None))
        if buffer is not None:
            await buffer.drain()


@contextmanager
def held(carrier: trio.SocketStream) -> Generator[None, None, None]:
    """Run hypercorn's tasks of a connection, until `let_go` at the latest."""
    with trio.CancelScope() as scope:
        _SCOPES[carrier] = scope
        try:
            yield
        finally:
            del _SCOPES[carrier]


def abort(carrier: trio.SocketStream) -> None:
    """Cut a connection: nobody's write on it waits any longer."""
    if carrier.socket.fileno() >= 0:
        with suppress(OSError):
            carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        # Wakes who waits in it with ClosedResourceError, which hypercorn takes for a lost client.
        carrier.socket.close()


def let_go(carrier: trio.SocketStream | None) -> None:
    """End hypercorn's tasks of a connection that has been cut, when what ran on it is done.

    Its reader may be waiting for an exchange that is over to ask for more, which nothing but a cancellation ends: so it is
    when a client pipelines behind a long answer, and then leaves.
    """
    if carrier is not None and carrier.socket.fileno() < 0 and (scope := _SCOPES.get(carrier)) is not None:
        scope.cancel()


def has_said_goodbye(send: Send) -> bool:
    """Whether the client of a WebSocket has sent a close frame; hypercorn reports 1006 all the same.

    `WSStream.app_send` → its `connection`, which is wsproto's.
    """
    connection: object = getattr(getattr(send, "__self__", None), "connection", None)
    state: object = getattr(connection, "state", None)
    return getattr(state, "name", "") in {"CLOSED", "REMOTE_CLOSING"}


class MessageWatch(Protocol):
    """Told of a WebSocket's messages before they are whole."""

    def begun(self) -> None:
        """The first bytes of a message are here."""
        ...

    def completed(self) -> None:
        """It is whole."""
        ...

    def refused(self) -> None:
        """It is too long, and its sender has been told so."""
        ...


class _Watched(WebsocketBuffer):
    """One message as it comes in. hypercorn's own says 1009 for a longer one, and then keeps what still comes of it, for as
    long as the client likes, and tells nobody."""

    def __init__(self, max_length: int, watch: MessageWatch) -> None:
        super().__init__(max_length)
        self._watch = watch
        self._is_refused = False

    def extend(self, event: Part[Any]) -> None:
        if self._is_refused:
            raise FrameTooLargeError
        if self.value is None:
            self._watch.begun()
        try:
            super().extend(event)
        except FrameTooLargeError:
            self._is_refused = True
            self.clear()
            self._watch.refused()
            raise
        if event.message_finished:
            self._watch.completed()


def watch_messages(send: Send, max_bytes: int, watch: MessageWatch) -> None:
    """Limit the messages of a WebSocket that was not accepted yet, and hear of them; nothing under another host.

    `WSStream.app_send` → its `buffer`. A test fails when hypercorn moves it.

    Args:
      send: ASGI's.
      max_bytes: of one message; of a text, characters.
      watch: is told, from hypercorn's task.
    """
    stream: object = getattr(send, "__self__", None)
    if isinstance(stream, WSStream):
        stream.buffer = _Watched(max_bytes, watch)

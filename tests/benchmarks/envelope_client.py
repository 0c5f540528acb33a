"""A blocking client of JSON envelopes and event streams, the same for every server.

It decodes nothing while a clock runs: what has arrived is counted afterwards, so that the client costs little and the
server is what is measured.
"""

from __future__ import annotations

import array
import fcntl
import json
import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

__all__ = ["Client", "EnvelopeClient", "EventClient", "connected"]

_HEARD: Final = bytearray(1 << 26)
"""Written over by every run: fresh memory would cost the client more than reading."""

_UPGRADE: Final = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Client:
    """A connection, and what was heard on it since the last `start`.

    Args:
      url: where to.
      heard: is written over; of its own where several are read at once.
    """

    def __init__(self, url: str, heard: bytearray = _HEARD) -> None:
        self.parts = urlsplit(url)
        assert self.parts.hostname is not None
        self.socket = socket.create_connection((self.parts.hostname, self.parts.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard = heard
        self.end = 0
        self._view = memoryview(heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.socket.close()

    def start(self, procedure: str, **payload: object) -> None:
        """Ask for a stream."""
        raise NotImplementedError

    def hear_until_end(self) -> None:
        """Read the stream to its end."""
        raise NotImplementedError

    def count(self) -> int:
        """The items among what was heard."""
        raise NotImplementedError

    def hear(self) -> int:
        """Read what there is, waiting for something; 0 at the end."""
        size = self.socket.recv_into(self._view[self.end : self.end + (1 << 18)])
        self.end += size
        return size

    def hear_until(self, end: bytes) -> None:
        """Read until these bytes have come."""
        start = self.end
        while self.hear():
            if self.heard.find(end, max(0, start - len(end)), self.end) >= 0:
                return
            start = self.end
        raise ConnectionError(f"the server left before {end!r}")

    def unread_bytes(self) -> int:
        """What the kernel holds for this client."""
        size = array.array("i", [0])
        fcntl.ioctl(self.socket, termios.FIONREAD, size)
        return size[0]


class EnvelopeClient(Client):
    """Envelopes on TCP or on a WebSocket."""

    def __init__(self, url: str, heard: bytearray = _HEARD) -> None:
        super().__init__(url, heard)
        self.is_websocket = self.parts.scheme == "ws"
        if self.is_websocket:
            self.socket.sendall(f"GET {self.parts.path or '/'} HTTP/1.1\r\nHost: localhost\r\n{_UPGRADE}\r\n".encode())
            self.hear_until(b"\r\n\r\n")
            assert self.heard.startswith(b"HTTP/1.1 101"), bytes(self.heard[: self.end])

    def frame(self, envelope: dict[str, Any]) -> bytes:
        """An envelope as it travels."""
        message = json.dumps(envelope, separators=(",", ":")).encode()
        size = len(message)
        if not self.is_websocket:
            return size.to_bytes(4, "big") + message
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        return b"\x81" + length + bytes(4) + message  # a mask of zeros is a mask

    def say(self, envelope: dict[str, Any]) -> None:
        self.socket.sendall(self.frame(envelope))

    def start(self, procedure: str, **payload: object) -> None:
        self.end = 0
        self.say({"type": "stream:start", "id": "s", "procedure": procedure, "payload": payload})

    def hear_until_end(self) -> None:
        self.hear_until(b'"type":"stream:end"')

    def count(self) -> int:
        return self.heard.count(b'"type":"stream:data"', 0, self.end)

    def call(self, procedure: str, **payload: object) -> bytes:
        """Call and read the answer."""
        self.end = 0
        self.say({"id": "c", "type": "request", "procedure": procedure, "payload": payload})
        self.hear_until(b'"metadata":{}}')  # the last field of either's
        return bytes(self.heard[: self.end])

    def upload(self, procedure: str, item: object, count: int, end: bytes) -> None:
        """Send items while what comes back is read until `end`."""
        self.end = 0
        data = self.frame({"type": "stream:data", "id": "s", "payload": item}) * count
        self.say({"type": "stream:start", "id": "s", "procedure": procedure})
        sender = threading.Thread(
            target=self.socket.sendall, args=(data + self.frame({"type": "stream:end", "id": "s"}),)
        )
        sender.start()
        self.hear_until(end)
        sender.join()


class EventClient(Client):
    """An event stream of named events. Its end is told by its last event: Raffel leaves the connection open."""

    def start(self, procedure: str, **payload: object) -> None:
        self.end = 0
        query = "&".join(f"{name}={value}" for name, value in payload.items())
        self.socket.sendall(
            f"GET /streams/{procedure}?events=named&{query} HTTP/1.1\r\n"
            "Host: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n".encode()
        )

    def hear_until_end(self) -> None:
        self.hear_until(b"event: end")

    def count(self) -> int:
        return self.heard.count(b"event: data\n", 0, self.end)


@contextmanager
def connected(url: str, heard: bytearray = _HEARD) -> Iterator[Client]:
    """The client that a URL wants."""
    kind = EventClient if url.startswith("http") else EnvelopeClient
    with kind(url, heard) as client:
        yield client

"""Durable streams over bare sockets: prepared requests on connections that stay, and answers that are hardly looked at.

It is the same for every server and cheaper than each of them, so that the server is what is measured; the floors of
`bench_durable` show how far it is from being the bottleneck.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import BufferedReader
from itertools import repeat
from math import inf
from time import perf_counter
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

import attrs

from tests.benchmarks.child import cpu_seconds

__all__ = ["MARK", "MESSAGE", "TEXT", "Answer", "Connection", "Server", "Start", "hammer", "json_batch"]

MARK: Final = b"~"
"""Once in each message, and in nothing else that a server sends: counting messages is counting these."""

MESSAGE: Final = MARK + b"x" * 99
TEXT: Final = "text/plain"

_ROOM: Final = memoryview(bytearray(1 << 20))
"""Bodies go here, of all connections: nobody looks at them."""

_FILLERS: Final = 10
_FILLER: Final = "something has happened that is worth a line"


def json_batch(count: int) -> bytes:
    """An array of messages of 100 bytes."""
    messages = (f'{{"n":{n:06},"level":"info","message":"~{_FILLER:<56}"}}'.replace(":0", ":1") for n in range(count))
    return ("[" + ",".join(messages) + "]").encode()


@attrs.frozen
class Answer:
    """A whole answer; the names of its headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body_bytes: int
    first_byte_at: float

    @property
    def next_offset(self) -> str:
        return self.headers["stream-next-offset"]


class Connection:
    """A connection that stays, for requests one at a time."""

    def __init__(self, port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file: BufferedReader = self.socket.makefile("rb", buffering=65_536)  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def ask(self, request: bytes) -> Answer:
        """Send a request and read the answer to its end; what is in the body is not looked at."""
        self.socket.sendall(request)
        status = int(self._file.readline()[9:12])
        headers: dict[str, str] = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if status == 204 or headers.get("content-length") == "0" or request.startswith(b"HEAD"):
            return Answer(status, headers, 0, perf_counter())
        self._file.peek(1)
        first_byte_at = perf_counter()
        return Answer(status, headers, self._skip_body(headers), first_byte_at)

    def _skip_body(self, headers: Mapping[str, str]) -> int:
        if headers.get("transfer-encoding") != "chunked":
            return self._skip(int(headers["content-length"]))
        total = 0
        while size := int(self._file.readline(), 16):
            total += self._skip(size)
            self._file.readline()
        self._file.readline()
        return total

    def _skip(self, size: int) -> int:
        left = size
        while left:
            got = self._file.readinto(_ROOM[:left])
            assert got, f"{left} of {size} bytes are missing"
            left -= got
        return size


Start: TypeAlias = Callable[[], AbstractContextManager[Mapping[str, str]]]
"""Runs a server's process, and says where it listens, as `child.running` does."""


@attrs.frozen
class Server:
    """A server under test.

    Attributes:
      name: in the tables.
      url: below which it has streams.
      pid: whose memory and CPU are looked at.
      start: runs another one like it.
      base: the name of the server that it is compared with; empty for none.
    """

    name: str
    url: str
    pid: int
    start: Start
    base: str = ""

    @classmethod
    @contextmanager
    def started(cls, name: str, start: Start, base: str = "") -> Iterator[Self]:
        """A new one, for as long as the block."""
        with start() as about:
            yield cls(name, about["url"], int(about["pid"]), start, base)

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def request(
        self,
        method: str,
        stream: str,
        query: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """A request as it goes over the wire."""
        lines = [f"{method} {urlsplit(self.url).path}/{stream}{query} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")

    def append(self, stream: str, body: bytes, content_type: str = TEXT, **headers: str) -> bytes:
        """The request that appends; underscores in the names of headers are hyphens."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", stream, body=body, headers={"Content-Type": content_type, **more})

    @contextmanager
    def stream(self, name: str, content_type: str = TEXT) -> Iterator[str]:
        """A stream of this name for as long as the block."""
        with Connection(self.port) as control:
            created = control.ask(self.request("PUT", name, body=b"", headers={"Content-Type": content_type}))
            assert created.status // 100 == 2, f"{self.name} answered {created.status} to a creation"
        yield name
        with Connection(self.port) as control:
            control.ask(self.request("DELETE", name))

    def tail(self, stream: str) -> str:
        """The stream's last offset."""
        with Connection(self.port) as control:
            return control.ask(self.request("HEAD", stream)).next_offset

    def fill(self, stream: str, body: bytes, count: int, content_type: str = TEXT) -> None:
        """Append the same many times."""
        request = self.append(stream, body, content_type)
        parts = [count // _FILLERS + (n < count % _FILLERS) for n in range(_FILLERS)]
        hammer(self, [repeat(request, part) for part in parts if part], inf)


def hammer(server: Server, sources: Sequence[Iterable[bytes]], seconds: float) -> Mapping[str, float]:
    """Send requests for a while, or to the sources' ends, each source on a connection of its own, one at a time.

    The answers have no bodies.

    Returns:
      `rate`, requests a second, and `cost`, seconds of the server's CPU for each.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(Connection(server.port)).socket for _ in sources]
        before, began = cpu_seconds(server.pid), perf_counter()
        if not sockets:
            count = 0
        elif len(sockets) == 1:
            count = _hammer_one(server.name, sockets[0], iter(sources[0]), began + seconds)
        else:
            count = _hammer_many(server.name, sockets, sources, began + seconds)
        seconds = perf_counter() - began
        return {"rate": count / seconds, "cost": (cpu_seconds(server.pid) - before) / max(1, count)}


def _hammer_one(name: str, opened: socket.socket, requests: Iterator[bytes], until: float) -> int:
    send, receive, count = opened.sendall, opened.recv, 0
    for request in requests:
        send(request)
        answer = receive(65_536)
        if answer[9:11] != b"20" or answer[-4:] != b"\r\n\r\n":
            raise AssertionError(f"{name} answered {answer!r}")
        count += 1
        if perf_counter() > until:
            break
    return count


def _hammer_many(name: str, sockets: Sequence[socket.socket], sources: Sequence[Iterable[bytes]], until: float) -> int:
    known = {
        opened.fileno(): (opened.sendall, opened.recv, iter(source))
        for opened, source in zip(sockets, sources, strict=True)
    }
    count, flying = 0, len(known)
    with select.epoll() as poll:
        for fd, (send, _, source) in known.items():
            poll.register(fd, select.EPOLLIN)
            send(next(source))
        wait = poll.poll
        while flying:
            found = wait()
            is_over = perf_counter() > until
            for fd, _ in found:
                send, receive, source = known[fd]
                answer = receive(65_536)
                if answer[9:11] != b"20" or answer[-4:] != b"\r\n\r\n":
                    raise AssertionError(f"{name} answered {answer!r}")
                count += 1
                request = None if is_over else next(source, None)
                if request is None:
                    flying -= 1
                else:
                    send(request)
    return count

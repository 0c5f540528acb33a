"""An `HttpClient` without a network: a function answers each request, in Trio's time, which tests may own.

What it hands out are the client's own classes over bytes that a test wrote, so that what is read of them, and how it is
closed, is what happens on a socket.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import httpcore2
import trio

from trio_streams.carrier import Carrier
from trio_streams.errors import ConnectionLost
from trio_streams.transports.exchange import Headers
from trio_streams.transports.http_client import ClientExchange, HttpClient, HttpClientConfig
from trio_streams.transports.http_get import HttpGet

__all__ = ["Asked", "Chunk", "Reply", "ScriptedHttp"]

Chunk = bytes | float | Exception
"""Bytes; seconds to wait before what follows; or how the connection breaks."""


@attrs.frozen
class Asked:
    """A request."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float


@attrs.define
class Reply:
    """An answer.

    Attributes:
      status: as a number.
      headers: of it.
      chunks: its body, as it comes.
      is_closed: whether whoever asked has closed it.
    """

    status: int = 200
    headers: dict[str, str] = attrs.Factory(dict)
    chunks: tuple[Chunk, ...] = ()
    is_closed: bool = False


Script = Callable[[Asked], Awaitable[Reply]]


class ScriptedHttp(HttpClient):
    """Answers by a script.

    Attributes:
      asked: all requests so far.
      replies: their answers.
    """

    def __init__(self, script: Script) -> None:
        super().__init__(HttpClientConfig())
        self.asked: list[Asked] = []
        self.replies: list[Reply] = []
        self._script = script

    async def start_exchange(
        self, method: str, url: str, *, headers: Headers = (), body: bytes | AsyncIterable[bytes] | None = None
    ) -> ClientExchange:
        """Answer by the script, on a pooled connection."""
        reply = await self._reply(method, url, headers, body)
        raw = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        return ClientExchange(url, httpcore2.Response(reply.status, headers=raw, content=_Body(reply)), 1_000_000)

    async def open_get(self, url: str, *, headers: Headers = ()) -> HttpGet:
        """Answer by the script, on a connection of its own."""
        reply = await self._reply("GET", url, headers, None)
        get = HttpGet(url, _Carrier(reply))
        await get.request(b"")
        return get

    @property
    def open_replies(self) -> int:
        """How many answers nobody has closed."""
        return sum(not reply.is_closed for reply in self.replies)

    async def _reply(self, method: str, url: str, headers: Headers, body: object) -> Reply:
        await trio.lowlevel.checkpoint()
        parts = urlsplit(url)
        asked = Asked(
            method,
            parts.path,
            dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in headers},
            body if isinstance(body, bytes) else b"",
            trio.current_time(),
        )
        self.asked.append(asked)
        reply = await self._script(asked)
        self.replies.append(reply)
        return reply


class _Body(AsyncIterable[bytes]):
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._reply.chunks:
            if isinstance(chunk, Exception):
                raise httpcore2.ReadError(str(chunk)) from chunk
            if isinstance(chunk, bytes):
                await trio.lowlevel.checkpoint()
                yield chunk
            else:
                await trio.sleep(chunk)

    async def aclose(self) -> None:
        self._reply.is_closed = True


class _Carrier(Carrier):
    """The bytes of an answer on a connection of its own; a read that is cancelled takes nothing."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
        body_head = "" if reply.status == 204 else "transfer-encoding: chunked\r\n"
        self._chunks: list[Chunk] = [f"HTTP/1.1 {reply.status} x\r\n{head}{body_head}\r\n".encode()]
        for chunk in reply.chunks:
            self._chunks.append(b"%x\r\n%b\r\n" % (len(chunk), chunk) if isinstance(chunk, bytes) else chunk)
        self._chunks.append(b"0\r\n\r\n")

    @property
    def peer(self) -> str:
        return "a script"

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send(self, data: Any) -> None:  # noqa: ANN401 - the protocol's, of no interest
        await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        while self._chunks:
            chunk = self._chunks[0]
            if isinstance(chunk, bytes):
                await trio.lowlevel.checkpoint()
                return bytes(self._chunks.pop(0))  # type: ignore[arg-type]
            if isinstance(chunk, Exception):
                raise ConnectionLost(str(chunk)) from chunk
            until = trio.current_time() + chunk
            with trio.CancelScope() as scope:
                await trio.sleep_until(until)
            assert not scope.cancelled_caught
            self._chunks.pop(0)
        await trio.sleep(math.inf)
        return b""

    async def aclose(self) -> None:
        self._reply.is_closed = True

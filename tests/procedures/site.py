"""A listener that answers as a test chose, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_streams.procedures.http_client import HttpProcedureClient
from trio_streams.transports.http_client import HttpClient
from trio_streams.wire.event_source import EventSourceConfig

__all__ = ["EVENTS", "Site", "client_of"]

EVENTS = "text/event-stream"


class Site:
    """A listener that answers each request with bytes that a test chose, and keeps what was asked."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answer = b""
        self.is_held = False

    async def serve(self, stream: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = await stream.receive_some()
            if not chunk:
                return
            received += chunk
        self.requests.append(received)
        await stream.send_all(self.answer)
        if self.is_held:
            await trio.sleep_forever()
        await stream.aclose()

    def respond(self, status: int, body: bytes, length: int | None = None, content_type: str = EVENTS) -> None:
        length = len(body) if length is None else length
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close"
        self.answer = head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def client_of(
    site: Site, reconnect: EventSourceConfig | None = None
) -> AsyncGenerator[HttpProcedureClient, None]:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, site.serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        async with HttpClient() as http:
            more = {} if reconnect is None else {"reconnect": reconnect}
            yield HttpProcedureClient(f"http://127.0.0.1:{port}/", http, **more)
        nursery.cancel_scope.cancel()

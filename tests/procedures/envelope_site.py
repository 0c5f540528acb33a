"""An application served to clients of JSON envelopes, and plain clients of it: trio-websocket's, and a TCP socket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import trio
import trio_websocket

from trio_streams import Router, RpcError, serve

__all__ = ["FACES", "Envelopes", "Handled", "Message", "make_router", "open_envelopes", "serving"]

FACES: Final = ("ws", "tcp")
"""What carries envelopes; the other schemes are either of them at heart."""

Message: TypeAlias = dict[str, Any]


@attrs.define
class Handled:
    """What handlers did."""

    produced: int = 0
    closed: list[str] = attrs.field(factory=list[str])
    heard: list[object] = attrs.field(factory=list[object])
    changed: trio.Event = attrs.field(factory=trio.Event)

    def close(self, name: str) -> None:
        self.closed.append(name)
        self.changed.set()


@attrs.frozen
class Number:
    n: int


def make_router(handled: Handled) -> Router:
    """The procedures of the captures, and those that show what the original gets wrong."""
    router = Router()
    _add_server_streams(router, handled)

    @router.call("ping")
    async def ping(input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        return {"pong": input}

    @router.event("log")
    async def log(input: str) -> None:  # noqa: A002
        handled.heard.append(input)
        handled.close("log")

    @router.stream("sum", direction="client")
    async def total(items: AsyncIterable[dict[str, int]]) -> dict[str, int]:
        return {"sum": sum([item["value"] async for item in items])}

    @router.stream("echo", direction="bidi")
    async def echo(items: AsyncIterable[Number]) -> AsyncIterator[Number]:
        async for item in items:
            yield item

    return router


def _add_server_streams(router: Router, handled: Handled) -> None:
    @router.stream("counter")
    async def counter(input: dict[str, int]) -> AsyncIterator[Number]:  # noqa: A002
        for n in range(input["count"]):
            yield Number(n)

    @router.stream("fail")
    async def fail() -> AsyncIterator[Number]:
        yield Number(0)
        raise RuntimeError("boom")

    @router.stream("failcoded")
    async def failcoded() -> AsyncIterator[Number]:
        yield Number(0)
        raise RpcError("PERMISSION_DENIED", "no", {"why": "x"})

    @router.stream("typed")
    async def typed(input: dict[str, int]) -> AsyncIterator[Number]:  # noqa: A002
        yield Number(input["count"])
        yield "not an object"  # type: ignore[misc]

    @router.stream("flood")
    async def flood(input: dict[str, int]) -> AsyncIterator[str]:  # noqa: A002
        item = "x" * input["bytes"]
        for _ in range(input["count"]):
            handled.produced += 1
            yield item

    @router.stream("stuck")
    async def stuck() -> AsyncIterator[Number]:
        try:
            yield Number(0)
            await trio.sleep_forever()
        finally:
            handled.close("stuck")


class Envelopes:
    """A client that says JSON and hears JSON; it knows nothing of our code."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[str | bytes]]) -> None:
        self._send = send
        self._receive = receive

    async def say(self, *envelopes: object) -> None:
        for envelope in envelopes:
            await self._send(json.dumps(envelope).encode())

    async def say_raw(self, message: bytes) -> None:
        await self._send(message)

    async def hear(self) -> Any:  # noqa: ANN401 - any JSON
        with trio.fail_after(30):
            return json.loads(await self._receive())

    async def hear_many(self, count: int) -> list[Any]:
        return [await self.hear() for _ in range(count)]

    async def hear_until(self, type_: str) -> list[Any]:
        """All messages up to the first of a type, that one included."""
        heard = [await self.hear()]
        while heard[-1]["type"] != type_:
            heard.append(await self.hear())
        return heard

    async def hear_end(self) -> None:
        """Wait until the server has ended the connection."""
        with trio.fail_after(30):
            try:
                while True:
                    await self._receive()
            except (EOFError, trio_websocket.ConnectionClosed):
                return


@asynccontextmanager
async def _over_websocket(stream: trio.SocketStream, host: str) -> AsyncGenerator[Envelopes, None]:
    # The stream is ours to close: trio-websocket leaves it open when the server says goodbye first.
    async with stream, trio.open_nursery() as nursery:
        ws = await trio_websocket.wrap_client_stream(nursery, stream, host, "/", max_message_size=1 << 25)

        async def send(message: bytes) -> None:
            try:
                await ws.send_message(message.decode())
            except UnicodeDecodeError:
                await ws.send_message(message)  # trio-websocket makes no text of it

        async def receive() -> str | bytes:
            message: str | bytes = await ws.get_message()
            return message

        yield Envelopes(send, receive)
        await ws.aclose()


@asynccontextmanager
async def _over_bytes(stream: trio.SocketStream) -> AsyncGenerator[Envelopes, None]:
    received = bytearray()

    async def take(size: int) -> bytes:
        while len(received) < size:
            chunk = await stream.receive_some(65_536)
            if not chunk:
                raise EOFError
            received.extend(chunk)
        taken = bytes(received[:size])
        del received[:size]
        return taken

    async def receive() -> bytes:
        return await take(int.from_bytes(await take(4), "big"))

    async def send(message: bytes) -> None:
        await stream.send_all(len(message).to_bytes(4, "big") + message)

    async with stream:
        yield Envelopes(send, receive)


@asynccontextmanager
async def open_envelopes(url: str) -> AsyncGenerator[Envelopes, None]:
    """A client of a URL's server."""
    scheme, _, rest = url.partition("://")
    if scheme.startswith("unix:"):
        opened = _over_bytes(await trio.open_unix_socket(url.removeprefix("unix:")))
    else:
        host, _, port = rest.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        opened = _over_bytes(stream) if scheme == "tcp" else _over_websocket(stream, rest)
    async with opened as client:
        yield client


@asynccontextmanager
async def serving(router: Router, face: str = "ws", **options: Any) -> AsyncGenerator[str, None]:
    """A server; its URL."""
    asked = face if ":" in face else f"{face}://127.0.0.1:0"
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, router, asked, **options))
        try:
            yield url
        finally:
            nursery.cancel_scope.cancel()

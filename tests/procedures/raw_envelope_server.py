"""A server of envelopes written from the description of the original's wire alone: it knows nothing of our code.

It answers each envelope as a script says, and keeps what it heard.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio
import trio_websocket

__all__ = ["Message", "RawServer", "as_the_original", "serving_raw"]

Message: TypeAlias = dict[str, Any]
Script: TypeAlias = Callable[[Message], list[Message | bytes]]


@attrs.define
class RawServer:
    """What one server has heard, and how it answers."""

    script: Script
    url: str = ""
    heard: list[Message] = attrs.field(factory=list[Message])
    changed: trio.Event = attrs.field(factory=trio.Event)

    def answer(self, text: bytes | str) -> list[bytes]:
        message = json.loads(text)
        self.heard.append(message)
        self.changed.set()
        self.changed = trio.Event()
        return [one if isinstance(one, bytes) else json.dumps(one).encode() for one in self.script(message)]

    async def wait_heard(self, type_: str, name: str | None = None) -> Message:
        """Wait for the first message of a type, about any procedure or that one."""
        with trio.fail_after(30):
            while True:
                for message in self.heard:
                    if message["type"] == type_ and name in {None, message.get("procedure")}:
                        return message
                await self.changed.wait()

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        buffer = b""
        async with stream:
            try:
                async for chunk in stream:
                    buffer += chunk
                    while len(buffer) >= 4 and len(buffer) >= (end := 4 + int.from_bytes(buffer[:4], "big")):
                        answers = self.answer(buffer[4:end])
                        buffer = buffer[end:]
                        await stream.send_all(b"".join(len(one).to_bytes(4, "big") + one for one in answers))
            except trio.BrokenResourceError:
                return

    async def serve_websocket(self, request: trio_websocket.WebSocketRequest) -> None:
        ws = await request.accept()
        async with ws:
            try:
                while True:
                    for one in self.answer(await ws.get_message()):
                        await self._send(ws.send_message, one)
            except trio_websocket.ConnectionClosed:
                return

    async def _send(self, send: Callable[[str | bytes], Awaitable[None]], message: bytes) -> None:
        try:
            await send(message.decode())
        except UnicodeDecodeError:
            await send(message)


def as_the_original(asked: Message) -> list[Message | bytes]:
    """Its answers as captured: ids with a suffix, the time behind data, empty metadata."""
    id_, name, kind = asked.get("id"), asked.get("procedure", ""), asked["type"]
    if kind == "cancel":
        return [_envelope(id_, "stream:error", "", {"code": "CANCELLED", "message": "Stream cancelled"})]
    if name == "nope":
        what = {"request": "Procedure", "event": "Event"}.get(kind, "Stream")
        body = {"code": "NOT_FOUND", "status": 404, "message": f"{what} '{name}' not found"}
        return [_envelope(id_, "error", name, body)]
    if kind == "event":
        return [_envelope(id_, "response", name, {"received": True})]
    if kind == "request":
        return [] if name == "slow" else [_envelope(id_, "response", name, {"pong": asked.get("payload")})]
    if kind in {"stream:data", "stream:end"} or name == "refuse":
        body = {"code": "INVALID_ARGUMENT", "status": 400, "message": "Stream payload must be an async iterable"}
        return [_envelope(id_, "error", name, body)]
    answers: list[Message | bytes] = [_envelope(id_, "stream:start", name, None)]
    late = f"{id_}:stream:data:1795165744973"
    answers += [{**_envelope(id_, "stream:data", name, {"n": n}), "id": late} for n in range(asked["payload"]["count"])]
    if name == "fail":
        body = {"code": "PERMISSION_DENIED", "status": 403, "message": "no", "details": {"why": "x"}}
        return [*answers, _envelope(id_, "stream:error", name, body)]
    return answers if name == "endless" else [*answers, _envelope(id_, "stream:end", name, None)]


def _envelope(id_: object, kind: str, name: str, payload: object) -> Message:
    return {"id": f"{id_}:{kind}", "procedure": name, "type": kind, "payload": payload, "metadata": {}}


@asynccontextmanager
async def serving_raw(face: str, script: Script = as_the_original) -> AsyncGenerator[RawServer, None]:
    """Serve a script at `tcp://` or `ws://` for as long as the block."""
    server = RawServer(script)
    async with trio.open_nursery() as nursery:
        if face == "tcp":
            (listener,) = await nursery.start(partial(trio.serve_tcp, server.serve_tcp, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
        else:
            serve = trio_websocket.serve_websocket
            port = (await nursery.start(serve, server.serve_websocket, "127.0.0.1", 0, None)).port
        server.url = f"{face}://127.0.0.1:{port}"
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()

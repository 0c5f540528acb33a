"""Servers that we did not write, and a client that puts raw bytes to any server and reads its answers as they are."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import attrs
import trio
import uvicorn

from tests.conformance.http.raw_cases import Case
from trio_streams.service.exchange import Exchange, respond

__all__ = ["OTHERS", "Answer", "Outcome", "put", "running", "tell"]

OTHERS: Final = ("h11", "httptools")
"""uvicorn over each of its parsers: h11, and llhttp, which is Node's."""


async def tell(exchange: Exchange) -> None:
    """Answer with what was seen, the way that the path asks for."""
    request = exchange.request
    if request.path == "/empty":
        await respond(exchange, 204, b"")
        return
    body = b"" if request.path == "/unread" else await exchange.receive_body()
    answer = _seen(request.method, request.path, request.query_string, body)
    if request.path != "/stream":
        await respond(exchange, 200, answer, [("x-method", request.method)])
        return
    await exchange.send_head(200, [("x-method", request.method)])
    await exchange.send(answer[:4])
    await exchange.send(answer[4:])
    exchange.end()


def _seen(method: str, path: str, query: str, body: bytes) -> bytes:
    return json.dumps([method, path, query, body.decode("latin-1")]).encode()


_Message = MutableMapping[str, Any]


async def _application(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """`tell` for ASGI, without a line of ours below it."""
    path, method = scope["path"], scope["method"]
    if path == "/empty":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        return await send({"type": "http.response.body"})
    body = b""
    while path != "/unread":
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message.get("more_body"):
            break
    answer = _seen(method, path, scope["query_string"].decode("latin-1"), body)
    headers = [(b"x-method", method.encode())]
    if path != "/stream":
        headers.append((b"content-length", str(len(answer)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer[:4], "more_body": True})
    return await send({"type": "http.response.body", "body": answer[4:]})


@contextmanager
def running(parser: str) -> Iterator[int]:
    """Uvicorn over one of `OTHERS`, in a thread; its port."""
    config = uvicorn.Config(
        _application, http=parser, ws="none", lifespan="off", loop="asyncio", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@attrs.frozen
class Answer:
    """One final answer.

    Attributes:
      status: as it came.
      seen: what the application saw; empty where it was not asked.
      framing: `length`, `chunked`, `close`, `none` for what has no body, or `cut` where it ends too early.
    """

    status: int
    seen: str
    framing: str


@attrs.frozen
class Outcome:
    """What a server made of a case, as far as servers have to agree.

    Attributes:
      answers: to the case, in order.
      goes_on: whether the probe behind it was answered.
      interim: how many 100 were sent.
    """

    answers: tuple[Answer, ...]
    goes_on: bool
    interim: int

    def __str__(self) -> str:
        words = [str(answer.status) for answer in self.answers] or ["nothing"]
        return " ".join(words) + ("+" if self.goes_on else "")

    @property
    def agreed(self) -> tuple[object, ...]:
        """What is compared: a refusal's status by its class, since 400, 414 and 431 overlap."""
        answers = [(a.status // 100, a.seen, a.framing) if a.seen else a.status // 100 for a in self.answers]
        return answers, self.goes_on, self.interim


async def put(port: int, case: Case) -> Outcome:
    """Send a case and read all that comes until the server closes."""
    first, second = case.parts
    received = b""
    may_go_on = trio.Event()
    with trio.fail_after(60):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_send, stream, first, may_go_on, second, case.leaves)
            try:
                async for part in stream:
                    received += part
                    if case.waits_for in received:
                        may_go_on.set()
            except trio.BrokenResourceError:
                pass  # closed before it had read everything; what it said before is here
            nursery.cancel_scope.cancel()
    return _read(received)


async def _send(stream: trio.SocketStream, first: bytes, may_go_on: trio.Event, second: bytes, leaves: bool) -> None:
    try:
        await stream.send_all(first)
        if second:
            await may_go_on.wait()
            await stream.send_all(second)
        if leaves:
            await stream.send_eof()
    except trio.BrokenResourceError:
        pass  # it has heard enough


class _Wire(io.BytesIO):
    """What `http.client` takes for a socket."""

    def makefile(self, mode: str) -> _Wire:
        return self

    def close(self) -> None:
        """An answer closes its file behind itself; the next one is in it, too."""


def _read(data: bytes) -> Outcome:
    wire = _Wire(data)
    answers: list[Answer] = []
    interim = 0
    while (start := wire.tell()) < len(data):
        head = data[start : data.find(b"\r\n\r\n", start)].lower()
        if head.startswith(b"http/1.1 100"):
            interim += 1
            wire.seek(start + len(head) + 4)
            continue
        response = http.client.HTTPResponse(wire, method="HEAD" if b"\r\nx-method: head" in head else "GET")  # type: ignore[arg-type]
        response.begin()
        framing = "none" if response.length == 0 else "chunked" if response.chunked else "length"
        if response.length is None and not response.chunked:
            framing = "close"
        try:
            body = response.read()
        except http.client.IncompleteRead:
            body, framing = b"", "cut"
        seen = response.getheader("x-method", "") and (body.decode() or "nothing")
        answers.append(Answer(response.status, seen, framing))
    goes_on = bool(answers) and '"/probe"' in answers[-1].seen
    return Outcome(tuple(answers[:-1] if goes_on else answers), goes_on, interim)

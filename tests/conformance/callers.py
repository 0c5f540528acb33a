"""Every wire that a call can come by, as a stranger's program has it: bare sockets, and what comes back as it was said.

The payload goes as the bytes that a test chose, however wrong. None of our own clients is asked, for they would refuse most
of it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import attrs
import h11
import trio

from tests.conformance.raw import HELLO, RawPeer, frame
from tests.procedures.envelope_site import Envelopes, open_envelopes
from trio_streams import Router, serve
from trio_streams.core import records
from trio_streams.urls.server import HostName
from trio_streams.wire.binary import BinaryWire

__all__ = ["WIRES", "Answer", "Caller", "HttpPeer", "Wire", "answered", "open_caller", "serving"]

Dialect: TypeAlias = Literal["own", "envelopes", "http", "sse", "rpc"]

PATIENCE: Final = 60


@attrs.frozen
class Wire:
    """One way to call a server.

    Attributes:
      name: as tests show it.
      dialect: what is spoken.
      scheme: of the server's URL.
      host: of `http`.
    """

    name: str
    dialect: Dialect
    scheme: str
    host: HostName = "hypercorn"

    @property
    def is_http(self) -> bool:
        """Whether a call is a request of its own."""
        return self.dialect in {"http", "sse"} or (self.dialect == "rpc" and self.scheme == "http")

    def __str__(self) -> str:
        return self.name


WIRES: Final = (
    Wire("own-tcp", "own", "tcp"),
    Wire("own-ws", "own", "ws"),
    Wire("own-ws-hypercorn", "own", "http"),
    Wire("own-ws-lean", "own", "http", "lean"),
    Wire("envelopes-tcp", "envelopes", "tcp"),
    Wire("envelopes-ws", "envelopes", "ws"),
    Wire("envelopes-hypercorn", "envelopes", "http"),
    Wire("envelopes-lean", "envelopes", "http", "lean"),
    Wire("http-hypercorn", "http", "http"),
    Wire("http-lean", "http", "http", "lean"),
    Wire("sse-hypercorn", "sse", "http"),
    Wire("sse-lean", "sse", "http", "lean"),
    Wire("rpc-hypercorn", "rpc", "http"),
    Wire("rpc-lean", "rpc", "http", "lean"),
    Wire("rpc-ws", "rpc", "ws"),
)


@attrs.frozen
class Answer:
    """What a server said to a call.

    Attributes:
      code: of the error; empty for a result. JSON-RPC's is a number, as text.
      text: the error as it came, for words to be found in.
      result: what came of it.
    """

    code: str = ""
    text: str = ""
    result: object = None


def _failed(error: Mapping[str, Any]) -> Answer:
    return Answer(str(error["code"]), json.dumps(error))


class Caller(Protocol):
    """Calls, one after the other, on one connection."""

    async def __call__(self, name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
        """Call a procedure, and wait for what it is answered."""
        ...


@asynccontextmanager
async def serving(wire: Wire, app: Router, *, patience: float = PATIENCE, **options: Any) -> AsyncGenerator[str, None]:
    """Serve an application for as long as the block; its URL."""
    with trio.fail_after(patience):
        async with trio.open_nursery() as nursery:
            url = f"{wire.scheme}://127.0.0.1:0"
            (bound,) = await nursery.start(partial(serve, app, url, host=wire.host, **options))
            yield bound
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_caller(wire: Wire, url: str) -> AsyncGenerator[Caller, None]:
    """Connect to a server as the wire has it."""
    authority = url.partition("://")[2]
    if wire.is_http:
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as stream:
            yield {"http": _post, "sse": _get, "rpc": _rpc_post}[wire.dialect](HttpPeer(stream))
    elif wire.dialect == "own":
        async with RawPeer.connect(url if wire.scheme == "tcp" else f"ws://{authority}") as peer:
            await peer.send(HELLO)
            yield _Own(peer)
    else:
        async with open_envelopes(url if wire.scheme == "tcp" else f"ws://{authority}") as client:
            yield partial(_rpc_text if wire.dialect == "rpc" else _envelope, client)


class _Own:
    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer
        self._next_id = 1

    async def __call__(self, name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
        number, self._next_id = self._next_id, self._next_id + 2
        opening = records.Open(name, dict(metadata), window_items=1_000, window_bytes=1 << 30)
        assert len(payload) < 16_000, "a longer item is cut into pieces"
        await self._peer.send(BinaryWire().encode(number, opening) + frame(4, number, payload) + frame(5, number, b""))
        said = await self._peer.find(object, lambda one: isinstance(one, list | records.End | records.GoAway))
        if isinstance(said, list):
            end = await self._peer.find(records.End)
            assert end.status.code == "OK"
            return Answer(result=json.loads(said[0]))
        if isinstance(said, records.End):
            return Answer(said.status.code, f"{said.status.message} {json.dumps(said.status.details)}")
        assert isinstance(said, records.GoAway)
        return Answer(said.code.name, said.reason)


async def _envelope(client: Envelopes, name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
    head = json.dumps({"id": "r", "type": "request", "procedure": name, "metadata": dict(metadata)})
    await client.say_raw(b'%s,"payload":%s}' % (head.encode()[:-1], payload or b"null"))
    heard = await client.hear()
    return _failed(heard["payload"]) if heard["type"] == "error" else Answer(result=heard["payload"])


def _rpc(name: str, payload: bytes) -> bytes:
    is_bare = payload[:1] != b"{"
    head = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name}).encode()[:-1]
    return head + (b',"params":[%s]}' if is_bare else b',"params":%s}') % payload


def _rpc_answer(heard: Mapping[str, Any]) -> Answer:
    return _failed(heard["error"]) if "error" in heard else Answer(result=heard["result"])


async def _rpc_text(client: Envelopes, name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
    """Metadata has no place here: it belongs to envelopes, and to requests."""
    await client.say_raw(_rpc(name, payload))
    heard = await client.hear()
    # What is no JSON is no JSON-RPC either, and answered as an envelope.
    return _failed(heard["payload"]) if "payload" in heard else _rpc_answer(heard)


class HttpPeer:
    """One connection of HTTP/1.1, spoken by h11."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._machine = h11.Connection(h11.CLIENT)

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Say one request and read its answer to the end; a server that left in between is status 0."""
        given = {"host": "localhost", "content-length": str(len(body)), **(headers or {})}
        said = self._machine.send(h11.Request(method=method, target=target, headers=list(given.items())))
        said = (said or b"") + (self._machine.send(h11.Data(body)) or b"")
        said += self._machine.send(h11.EndOfMessage()) or b""
        try:
            await self.stream.send_all(said)
            return await self._read()
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            return 0, b""

    async def _read(self) -> tuple[int, bytes]:
        status, body = 0, b""
        while True:
            event = self._machine.next_event()
            if event is h11.NEED_DATA:
                self._machine.receive_data(bytes(await self.stream.receive_some(65_536)))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if self._machine.states[h11.SERVER] is h11.DONE:
                    self._machine.start_next_cycle()
                return status, body


def answered(status: int, body: bytes) -> Answer:
    """What an answer of HTTP says."""
    if status == 200:
        return Answer(result=json.loads(body))
    return _failed(json.loads(body)["error"])


def _post(peer: HttpPeer) -> Caller:
    async def call(name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
        return answered(*await peer.ask("POST", f"/{name}", payload, metadata))

    return call


def _rpc_post(peer: HttpPeer) -> Caller:
    async def call(name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
        _, body = await peer.ask("POST", "/rpc", _rpc(name, payload), metadata)
        return _rpc_answer(json.loads(body))

    return call


def _get(peer: HttpPeer) -> Caller:
    """The payload is a query, and the procedure a stream of one item."""

    async def call(name: str, payload: bytes, metadata: Mapping[str, str]) -> Answer:
        status, body = await peer.ask("GET", f"/streams/{name}?{payload.decode()}", b"", metadata)
        if status != 200:
            return answered(status, body)
        first, *_ = body.decode().split("\n\n")
        if first.startswith("event: error"):
            return _failed(json.loads(first.partition("data: ")[2]))
        return Answer(result=json.loads(first.removeprefix("data: ")))

    return call

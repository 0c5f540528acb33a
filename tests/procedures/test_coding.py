"""How items travel: as JSON, as MessagePack, and bytes as they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio

from trio_streams.connection import Connection
from trio_streams.driver import run_client, run_server
from trio_streams.errors import CodecError, RpcError
from trio_streams.procedures import ConnectionClient, Router
from trio_streams.procedures.server import prepare
from trio_streams.transports.memory import memory_carrier_pair

BYTES = "application/octet-stream"
MSGPACK = "application/msgpack"


@attrs.frozen
class Reading:
    name: str
    at: dt.datetime
    data: bytes = b""


READING = Reading("a", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), b"\x00\xff" * 8)


def make_app() -> Router:
    app = Router()

    @app.call("reverse")
    async def reverse(data: bytes) -> bytes:
        return data[::-1]

    @app.call("same")
    async def same(reading: Reading) -> Reading:
        return reading

    @app.stream("size", direction="client")
    async def size(chunks: AsyncIterable[bytes]) -> int:
        return sum([len(chunk) async for chunk in chunks])

    @app.stream("echo", direction="bidi")
    async def echo(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk

    @app.stream("readings")
    async def readings(count: int) -> AsyncIterator[Reading]:
        for _ in range(count):
            yield READING

    return app


@asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, make_app()))
        async with run_client(left) as connection:
            yield connection


async def test_bytes_go_as_they_are() -> None:
    """A megabyte takes a megabyte on the wire, both ways; over JSON it is base64, a third more."""
    data = b"\x00\xff" * 500_000
    async with connected() as connection:
        client = ConnectionClient(connection)
        assert await client.call("reverse", data, returns=bytes) == data[::-1]
        raw = connection.bytes_sent
        assert len(data) < raw < 1.01 * len(data)
        assert await client.upload("size", [data], content_type=BYTES) == len(data)
        assert connection.bytes_sent - raw < 1.01 * len(data)
        before = connection.bytes_sent
        assert await client.upload("size", [data]) == len(data)
        assert connection.bytes_sent - before > 1.3 * len(data)
        async with client.bidi("echo", returns=bytes, content_type=BYTES) as stream:
            await stream.send(b"\x00")
            assert await stream.receive() == b"\x00"


async def test_messagepack_where_it_is_asked_for() -> None:
    """A client that prefers it uses it for everything, with the same types and fewer bytes."""
    async with connected() as connection:
        in_json, packed = ConnectionClient(connection), ConnectionClient(connection, content_type=MSGPACK)
        assert await packed.call("same", READING, returns=Reading) == READING
        assert await in_json.call("same", READING, returns=Reading) == READING
        received: list[int] = []
        for client in (in_json, packed):
            before = connection.bytes_received
            async with client.stream("readings", 100, returns=Reading) as items:
                assert [item async for item in items] == [READING] * 100
            received.append(connection.bytes_received - before)
        assert received[1] < 0.8 * received[0]
        assert await packed.call("reverse", b"ab", returns=bytes) == b"ba"
        async with packed.bidi("echo", returns=bytes, content_type=BYTES) as stream:
            await stream.send(b"x")
            assert await stream.receive() == b"x"


async def test_what_cannot_be_is_told() -> None:
    """Bytes for a record, an unknown type from a stranger, a wrong one from the user."""
    async with connected() as connection:
        client = ConnectionClient(connection)
        with pytest.raises(RpcError, match="items travel as application/json or application/msgpack here") as caught:
            await client.call("same", b"bytes")
        assert caught.value.code == "INVALID_ARGUMENT"
        with pytest.raises(RpcError, match="not as 'text/x'"):
            await client.call("size", metadata={"accept": "text/x"})
        with pytest.raises(CodecError, match="expected bytes"):
            await client.upload("size", ["text"], content_type=BYTES)
        with pytest.raises(ValueError, match="content_type is application/json"):
            ConnectionClient(connection, content_type="text/html")

"""Our client against servers of envelopes: ours on every transport, and one written from the original's description."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.procedures.envelope_site import Handled, make_router, serving
from tests.procedures.raw_envelope_server import Message, RawServer, serving_raw
from trio_streams import ConnectionConfig, Router, connect
from trio_streams.core.mux import Mux
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError, RpcError, StreamStopped
from trio_streams.procedures import Client
from trio_streams.procedures.envelope_client import EnvelopeClient
from trio_streams.testing.peers import until
from trio_streams.urls.connecting import Dialect
from trio_streams.wire.message_limits import MessageLimits

CONFIG = ConnectionConfig(idle_timeout=None)

on_every_face = pytest.mark.parametrize("face", ["ws", "tcp", "unix"])
on_both_wires = pytest.mark.parametrize("face", ["ws", "tcp"])


@contextlib.asynccontextmanager
async def client_of(router: Router, face: str, path: Path, **options: Any) -> AsyncGenerator[Client, None]:
    url = f"unix:{path}/s" if face == "unix" else face
    with trio.fail_after(60):
        async with serving(router, url) as served, connect(served, dialect="envelopes", **options) as client:
            yield client


@contextlib.asynccontextmanager
async def client_of_raw(face: str, **options: Any) -> AsyncGenerator[tuple[Client, RawServer], None]:
    with trio.fail_after(60):
        async with (
            serving_raw(face, **options) as server,
            connect(server.url, dialect="envelopes", config=CONFIG) as client,
        ):
            yield client, server


# -- our server -----------------------------------------------------------------------------------------------------


@on_every_face
async def test_all_that_a_client_can_do(face: str, tmp_path: Path) -> None:
    """Calls, events, server streams, uploads and conversations, one after the other on one connection."""
    handled = Handled()
    async with client_of(make_router(handled), face, tmp_path) as client:
        assert await client.call("ping", {"a": 1}) == {"pong": {"a": 1}}
        await client.event("log", "said")
        assert handled.heard == ["said"]
        async with client.stream("counter", {"count": 3}) as items:
            assert [item async for item in items] == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert await client.upload("sum", [{"value": n} for n in range(1_000)], returns=dict[str, int]) == {
            "sum": 499_500
        }
        async with client.bidi("echo") as conversation:
            await conversation.send({"n": 1})
            assert await conversation.receive() == {"n": 1}
            conversation.end()
            assert [item async for item in conversation] == []


@on_every_face
async def test_errors_have_codes_and_details(face: str, tmp_path: Path) -> None:
    """Bare RpcErrors, after the items before them; the connection goes on."""
    async with client_of(make_router(Handled()), face, tmp_path) as client:
        with pytest.raises(RpcError, match="NOT_FOUND"):
            await client.call("nope")
        with pytest.raises(RpcError, match="NOT_FOUND"):
            await client.event("nope")
        with pytest.raises(RpcError, match="NOT_FOUND"):
            await client.upload("nope", [1])
        with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
            await client.call("ping", 5)
        with pytest.raises(RpcError, match="NOT_FOUND"):
            await client.call("counter", {"count": 1})
        async with client.stream("failcoded") as items:
            assert await items.receive() == {"n": 0}
            with pytest.raises(RpcError, match="PERMISSION_DENIED: no") as caught:
                await items.receive()
        assert caught.value.details == {"why": "x"}
        assert await client.call("ping", {}) == {"pong": {}}


@on_every_face
async def test_leaving_a_stream_stops_its_handler(face: str, tmp_path: Path) -> None:
    """Though it waits for something else; its `finally` runs."""
    handled = Handled()
    async with client_of(make_router(handled), face, tmp_path) as client:
        async with client.stream("stuck") as items:
            await items.receive()
        await handled.changed.wait()
        assert handled.closed == ["stuck"]
        assert await client.call("ping", {}) == {"pong": {}}


@on_both_wires
async def test_bytes_are_base64(face: str, tmp_path: Path) -> None:
    """As input, item and result, though JSON has no bytes; other forms than JSON are refused by name."""
    router = Router()

    @router.call("reverse")
    async def reverse(data: bytes) -> bytes:
        return data[::-1]

    @router.stream("parts")
    async def parts(data: bytes) -> AsyncIterator[bytes]:
        yield data[:1]

    async with client_of(router, face, tmp_path) as client:
        assert await client.call("reverse", b"\x00\xff", returns=bytes) == b"\xff\x00"
        async with client.stream("parts", b"ab", returns=bytes) as items:
            assert [item async for item in items] == [b"a"]
        with pytest.raises(RpcError, match="INVALID_ARGUMENT: items travel as application/json"):
            await client.upload("sum", [], content_type="application/msgpack")


async def test_a_client_that_reads_nothing_is_bounded(tmp_path: Path) -> None:
    """The dialect has no credit: reading stops, the producer is held up by the sockets, and everything arrives later."""
    handled = Handled()
    limits = MessageLimits(overflow_bytes=100_000)
    async with client_of(make_router(handled), "tcp", tmp_path, envelopes=limits) as client:
        assert isinstance(client, EnvelopeClient)
        machine = client.connection.machine
        assert isinstance(machine, Mux)
        async with client.stream("flood", {"count": 30_000, "bytes": 1_000}) as items:
            await until(lambda: not machine.wants_input)
            produced = -1
            while produced != handled.produced:
                produced = handled.produced
                await trio.sleep(0.2)
            assert machine.unread_bytes < 100_000 + 3 * 131_072
            assert produced < 30_000
            assert sum([1 async for _ in items]) == 30_000


async def test_a_deadline_reaches_the_handler(tmp_path: Path) -> None:
    """As a time of day in `x-deadline`, and the handler is cancelled by it."""
    async with serving_raw("tcp") as server, connect(server.url, dialect="envelopes", config=CONFIG) as client:
        with trio.move_on_after(0.2):
            await client.call("slow")
        await server.wait_heard("cancel")
        (asked,) = [one for one in server.heard if one["type"] == "request"]
        assert int(asked["metadata"]["x-deadline"]) > 1_600_000_000_000


# -- a server of the original's wire ---------------------------------------------------------------------------------


@on_both_wires
async def test_calls_streams_and_events_of_the_original(face: str) -> None:
    """Its captured answers, times as suffixes and all."""
    async with client_of_raw(face) as (client, server):
        assert await client.call("ping", {"a": "ü"}, metadata={"k": "v"}) == {"pong": {"a": "ü"}}
        assert await client.call("ping") == {"pong": None}
        await client.event("log", 1)
        async with client.stream("counter", {"count": 3}, returns=dict[str, int]) as items:
            assert [item["n"] async for item in items] == [0, 1, 2]
        async with client.stream("counter", {"count": 0}) as items:
            assert [item async for item in items] == []
    first = server.heard[0]
    assert first == {
        "id": "1",
        "procedure": "ping",
        "type": "request",
        "payload": {"a": "ü"},
        "metadata": {"k": "v", "x-deadline": first["metadata"]["x-deadline"]},
    }
    assert all(one["procedure"] for one in server.heard), "the original refuses envelopes without one"


@on_both_wires
async def test_errors_of_the_original(face: str) -> None:
    """`error` and `stream:error`, before and after items, and for what it does not have."""
    async with client_of_raw(face) as (client, _):
        with pytest.raises(RpcError, match="NOT_FOUND: Procedure 'nope' not found"):
            await client.call("nope")
        with pytest.raises(RpcError, match="NOT_FOUND: Event 'nope' not found"):
            await client.event("nope")
        async with client.stream("fail", {"count": 1}) as items:
            assert await items.receive() == {"n": 0}
            with pytest.raises(RpcError, match="PERMISSION_DENIED: no") as caught:
                await items.receive()
        assert caught.value.details == {"why": "x"}
        with pytest.raises(RpcError, match="INVALID_ARGUMENT: Stream payload must be an async iterable"):
            await client.upload("refuse", [1, 2, 3])
        async with client.bidi("refuse") as conversation:
            with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
                await conversation.receive()
            with pytest.raises(StreamStopped):
                await conversation.send(1)
        assert await client.call("ping", 1) == {"pong": 1}


@on_both_wires
async def test_cancelling_says_so_and_the_connection_goes_on(face: str) -> None:
    """A call that nobody waits for, and a stream that is left; what crosses on the wire is dropped."""
    async with client_of_raw(face) as (client, server):
        async with client.stream("endless", {"count": 2}) as items:
            assert await items.receive() == {"n": 0}
        assert (await server.wait_heard("cancel"))["id"] == "1"
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await server.wait_heard("request", "slow")
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up)
            await client.call("slow")
        assert nursery.cancel_scope.cancelled_caught
        assert await client.call("ping", 1) == {"pong": 1}
        assert [one["id"] for one in server.heard if one["type"] == "cancel"] == ["1", "3"]


def _says(*answers: Message | bytes) -> Any:  # noqa: ANN401 - a script
    return lambda asked: list(answers)


@on_both_wires
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"{nope", "Invalid JSON"),
        (b'{"id":"1","type":"response","payload":"\xff"}', "UTF-8"),
        ({"id": "9:response", "type": "response"}, "never asked"),
        ({"id": "9:stream:end", "type": "stream:end"}, "never asked"),
        ({"id": "x7", "type": "error", "payload": {"code": "PARSE_ERROR", "message": "Invalid JSON"}}, "PARSE_ERROR"),
        ({"id": "1", "type": "surprise"}, "type is 'surprise'"),
    ],
)
async def test_a_server_that_breaks_the_rules_loses_its_client(face: str, answer: Message | bytes, words: str) -> None:
    """Whoever waits gets one error whose cause says what was wrong; later calls fail at once."""
    async with client_of_raw(face, script=_says(answer)) as (client, _):
        with pytest.raises(ConnectionLost, match=words) as caught:
            await client.call("ping", 1)
        assert isinstance(caught.value.__cause__, RemoteProtocolError)
        with pytest.raises(ConnectionLost):
            await client.call("ping", 1)


@on_both_wires
async def test_a_second_answer_is_refused(face: str) -> None:
    """While the first one is still there to be told from it: what it said stands, and the connection is over."""
    twice = {"id": "1:response", "type": "response", "payload": 1}
    script = _says({**twice, "type": "stream:data"}, twice, twice)
    async with client_of_raw(face, script=script) as (client, _), client.stream("counter") as items:
        assert isinstance(client, EnvelopeClient)
        await until(lambda: client.connection.lost is not None)
        assert [await items.receive(), await items.receive()] == [1, 1]
        with pytest.raises(trio.EndOfChannel):
            await items.receive()
        assert "had ended" in str(client.connection.lost)


async def test_an_answer_that_is_too_large_names_the_limit() -> None:
    """Of an item, for that call alone; of a message, for the connection."""
    config = ConnectionConfig(idle_timeout=None, max_item_bytes=1_000)
    limits = MessageLimits(max_message_bytes=5_000)
    async with (
        serving_raw("tcp") as server,
        connect(server.url, dialect="envelopes", config=config, envelopes=limits) as client,
    ):
        with pytest.raises(RpcError, match=r"MESSAGE_TOO_LARGE: an item of \d+ bytes passes max_item_bytes of 1000"):
            await client.call("ping", "x" * 996)
        assert await client.call("ping", 1) == {"pong": 1}
        with pytest.raises(LocalProtocolError, match="max_item_bytes"):
            await client.call("ping", "x" * 2_000)
        server.script = _says(b"x" * 6_000)
        with pytest.raises(ConnectionLost, match="max_message_bytes"):
            await client.call("ping", 1)


# -- connecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "field"),
    [
        ("tcp://127.0.0.1:1", {"dialect": "morse"}, "dialect"),
        ("http://127.0.0.1:1", {"dialect": "envelopes"}, "dialect"),
        ("process:true", {"dialect": "envelopes"}, "dialect"),
        ("ws://127.0.0.1:1", {"dialect": "envelopes", "carrier": "trio-websocket"}, "carrier"),
    ],
)
async def test_what_cannot_be_spoken_is_refused(url: str, options: dict[str, Any], field: str) -> None:
    """Before anything is opened, with what could be instead."""
    with pytest.raises(LocalProtocolError) as caught:
        async with connect(url, **options):
            pytest.fail("connected")
    assert caught.value.field == field


@pytest.mark.parametrize("dialect", ["trio-streams", "envelopes"])
async def test_one_server_for_both_dialects(dialect: Dialect) -> None:
    """The same calls at the same URL."""
    async with serving(make_router(Handled()), "tcp") as url, connect(url, dialect=dialect) as client:
        assert await client.call("ping", {"a": 1}) == {"pong": {"a": 1}}

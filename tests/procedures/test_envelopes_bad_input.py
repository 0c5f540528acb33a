"""Clients of JSON envelopes that break the rules: each row is answered by a name, and the next call is served."""

from __future__ import annotations

import json
from typing import Final

import attrs
import pytest
import trio

from tests.procedures.envelope_site import FACES, Handled, make_router, open_envelopes, serving
from trio_streams import ConnectionConfig

PING: Final = {"id": "after", "type": "request", "procedure": "ping", "payload": {}}

on_every_face = pytest.mark.parametrize("face", FACES)


@attrs.frozen
class Row:
    """What a client says, and how each message is answered: the id, and the error's code."""

    name: str
    said: tuple[object, ...]
    answers: tuple[tuple[str, str], ...]


def start(id_: str, procedure: str, **more: object) -> dict[str, object]:
    return {"type": "stream:start", "id": id_, "procedure": procedure, **more}


ROWS: Final = (
    Row("unknown type", ({"id": "x", "type": "nope", "procedure": "ping"},), (("x:error", "INVALID_TYPE"),)),
    Row("no type", ({"id": "x", "procedure": "ping"},), (("x:error", "INVALID_ENVELOPE"),)),
    Row("no procedure", ({"id": "x", "type": "request"},), (("x:error", "INVALID_ENVELOPE"),)),
    Row("type is a number", ({"id": "x", "type": 5},), (("x:error", "INVALID_ENVELOPE"),)),
    Row("id is a list", ({"id": [1], "type": "request"},), ((":error", "INVALID_ENVELOPE"),)),
    Row(
        "id too long",
        ({"id": "x" * 257, "type": "request", "procedure": "ping"},),
        ((f"{'x' * 64}:error", "MESSAGE_TOO_LARGE"),),
    ),
    Row("unknown call", ({"id": "x", "type": "request", "procedure": "nope"},), (("x:error", "NOT_FOUND"),)),
    Row("a stream as a call", ({"id": "x", "type": "request", "procedure": "counter"},), (("x:error", "NOT_FOUND"),)),
    Row("no JSON", (b"{nope",), ((":error", "PARSE_ERROR"),)),
    Row("nothing", (b"",), ((":error", "PARSE_ERROR"),)),
    Row("not an object", (b"5",), ((":error", "INVALID_ENVELOPE"),)),
    Row(
        "invalid UTF-8",
        (b'{"id":"x","type":"request","procedure":"ping","payload":"\xff"}',),
        ((":error", "PARSE_ERROR"),),
    ),
    Row("deep envelope", (b'{"metadata":' + b"[" * 100_000,), ((":error", "PARSE_ERROR"),)),
    Row(
        "deep payload",
        (b'{"id":"x","type":"request","procedure":"ping","payload":' + b'{"a":' * 900 + b"1" + b"}" * 901,),
        (("x:error", "INVALID_ARGUMENT"),),
    ),
    Row(
        "huge float",
        (b'{"id":"x","type":"request","procedure":"ping","payload":{"a":1e999}}',),
        (("x:error", "INVALID_ARGUMENT"),),
    ),
    Row(
        "huge integer",
        (b'{"id":"x","type":"stream:start","procedure":"counter","payload":{"count":1' + b"0" * 10_000 + b"}}",),
        (("x:stream:start", ""), ("x:stream:error", "INVALID_ARGUMENT")),
    ),
    Row(
        "large metadata",
        (start("x", "counter", metadata={"a": "x" * 17_000}),),
        (("x:stream:error", "MESSAGE_TOO_LARGE"),),
    ),
    Row(
        "duplicate id",
        (start("x", "echo"), start("x", "echo"), {"type": "stream:end", "id": "x"}),
        (("x:stream:start", ""), ("x:error", "ALREADY_EXISTS"), ("x:stream:end", "")),
    ),
    Row("items for nothing", ({"type": "stream:data", "id": "x", "payload": 1}, {"type": "cancel", "id": "x"}), ()),
)


@on_every_face
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_bad_message_is_answered(face: str, row: Row) -> None:
    """By an error that names what is wrong, and the connection goes on."""
    async with serving(make_router(Handled()), face) as url, open_envelopes(url) as client:
        # On TCP the first byte tells the dialect, and a row begins with its length.
        for said in row.said:
            await client.say_raw(said if isinstance(said, bytes) else json.dumps(said).encode())
        heard = [
            (one["id"], one["payload"].get("code", "") if one["payload"] else "")
            for one in await client.hear_many(len(row.answers))
        ]
        assert tuple(heard) == row.answers
        await client.say(PING)
        assert await client.hear_many(1) == [
            {"id": "after:response", "procedure": "ping", "type": "response", "payload": {"pong": {}}, "metadata": {}}
        ]


async def test_an_envelope_of_17_mib_on_tcp() -> None:
    """Refused by its length, with the limit's name, and the connection's end; nothing of it is read."""
    async with serving(make_router(Handled()), "tcp") as url:
        for length in (17 << 20, 0x7FFFFFFF):
            host, _, port = url.removeprefix("tcp://").rpartition(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(length.to_bytes(4, "big"))
                with trio.fail_after(30):
                    heard = b"".join([chunk async for chunk in stream])
            answer = json.loads(heard[4:])
            assert answer["payload"]["code"] == "MESSAGE_TOO_LARGE"
            assert "max_message_bytes, of 16777216" in answer["payload"]["message"]


async def test_a_text_of_17_mib_on_a_websocket() -> None:
    """Past 1 MiB, the original's limit, the WebSocket is closed with 1009; up to it, texts are served."""
    async with serving(make_router(Handled()), "ws") as url:
        async with open_envelopes(url) as client:
            large = {"a": "x" * 1_000_000}
            await client.say({"id": "r", "type": "request", "procedure": "ping", "payload": large})
            assert (await client.hear())["payload"] == {"pong": large}
        async with open_envelopes(url) as client, trio.open_nursery() as nursery:

            async def say() -> None:
                await client.say_raw(b" " * (17 << 20))

            nursery.start_soon(say)
            await client.hear_end()
            nursery.cancel_scope.cancel()


async def test_a_hundred_thousand_distinct_procedures() -> None:
    """Each is refused, and nothing remembers its name."""
    router = make_router(Handled())
    known = len(router)
    asked = [b'{"id":"%d","type":"request","procedure":"p%d"}' % (n, n) for n in range(100_000)]
    asked.append(json.dumps(PING).encode())
    frames = b"".join(len(one).to_bytes(4, "big") + one for one in asked)
    async with serving(router, "tcp") as url, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        async with stream:
            nursery.start_soon(stream.send_all, frames)
            heard = bytearray()
            with trio.fail_after(60):
                while b'"after:response"' not in heard[-1_000:]:
                    heard += await stream.receive_some(1 << 20)
    assert heard.count(b'"code":"NOT_FOUND"') == 100_000
    assert len(router) == known


@on_every_face
async def test_one_stream_too_many(face: str) -> None:
    """Past `max_streams` a start is refused with the limit's name; when one has ended there is room again."""
    config = ConnectionConfig(max_streams=2)
    async with serving(make_router(Handled()), face, config=config) as url, open_envelopes(url) as client:
        await client.say(start("a", "echo"), start("b", "echo"), start("c", "echo"))
        *_, refused = await client.hear_until("stream:error")
        assert (refused["id"], refused["payload"]["code"]) == ("c:stream:error", "RESOURCE_EXHAUSTED")
        assert refused["payload"]["details"] == {"field": "max_streams", "size": 3, "limit": 2}
        await client.say({"type": "stream:end", "id": "a"})
        await client.hear_until("stream:end")
        await client.say(PING)
        await client.hear()
        await client.say(start("c", "counter", payload={"count": 0}))
        assert (await client.hear_until("stream:end"))[-1]["id"] == "c:stream:end"

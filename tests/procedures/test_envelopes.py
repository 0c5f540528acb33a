"""JSON envelopes over real sockets: what the original documents, and what it does not do, on each of its transports."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.procedures.envelope_site import FACES, Envelopes, Handled, make_router, open_envelopes, serving
from trio_streams import ConnectionConfig, Drain, connect, serve

on_every_face = pytest.mark.parametrize("face", FACES)


@asynccontextmanager
async def client_of(face: str, **options: Any) -> AsyncGenerator[tuple[Envelopes, Handled, str], None]:
    handled = Handled()
    async with serving(make_router(handled), face, **options) as url, open_envelopes(url) as client:
        yield client, handled, url


def bodies(heard: list[Any]) -> list[tuple[str, object]]:
    return [(one["type"], one["payload"]) for one in heard]


@on_every_face
async def test_calls_and_server_streams(face: str) -> None:
    """The envelopes of the captures, ids and all, but for a counter where the original has the time."""
    async with client_of(face) as (client, _, _):
        await client.say({"id": "r1", "procedure": "ping", "type": "request", "payload": {"a": 1}})
        assert await client.hear() == {
            "id": "r1:response",
            "procedure": "ping",
            "type": "response",
            "payload": {"pong": {"a": 1}},
            "metadata": {},
        }
        await client.say({"type": "stream:start", "id": "stream_1", "procedure": "counter", "payload": {"count": 2}})
        common = {"procedure": "counter", "metadata": {}}
        assert await client.hear_many(4) == [
            {"id": "stream_1:stream:start", "type": "stream:start", "payload": None, **common},
            {"id": "stream_1:stream:data:0", "type": "stream:data", "payload": {"n": 0}, **common},
            {"id": "stream_1:stream:data:1", "type": "stream:data", "payload": {"n": 1}, **common},
            {"id": "stream_1:stream:end", "type": "stream:end", "payload": None, **common},
        ]


@pytest.mark.parametrize("host", ["hypercorn", "lean"])
async def test_both_hosts_of_http_have_them_on_websockets(host: str) -> None:
    """A WebSocket without a subprotocol at an `http://` URL speaks envelopes, calls and streams alike."""
    async with client_of("http", host=host) as (client, _, _):
        await client.say({"type": "stream:start", "id": "s", "procedure": "counter", "payload": {"count": 300}})
        heard = await client.hear_until("stream:end")
        assert [one["payload"]["n"] for one in heard[1:-1]] == list(range(300))
        await client.say({"id": "r1", "procedure": "ping", "type": "request", "payload": {"a": "ü"}})
        assert (await client.hear())["payload"] == {"pong": {"a": "ü"}}


async def test_unix_sockets_have_them_too(tmp_path: Path) -> None:
    """As TCP: the first bytes tell."""
    async with client_of(f"unix:{tmp_path / 'socket'}") as (client, _, _):
        await client.say({"id": "r1", "procedure": "ping", "type": "request", "payload": {}})
        assert (await client.hear())["payload"] == {"pong": {}}


@on_every_face
async def test_our_own_dialect_is_served_beside_them(face: str) -> None:
    """One listener, two dialects: ours where it is offered."""
    async with client_of(face) as (client, _, url), connect(url) as own:
        assert await own.call("ping", {"a": 1}) == {"pong": {"a": 1}}
        await client.say({"id": "r1", "procedure": "ping", "type": "request", "payload": {"a": 1}})
        assert (await client.hear())["payload"] == {"pong": {"a": 1}}


@on_every_face
async def test_errors(face: str) -> None:
    """Items first, then why: code, status, message, details; a failed start says so in the way that clients heed."""
    async with client_of(face) as (client, _, _):
        await client.say({"type": "stream:start", "id": "s2", "procedure": "fail"})
        *_, last = await client.hear_until("stream:error")
        assert (last["id"], last["payload"]["code"], last["payload"]["status"]) == (
            "s2:stream:error",
            "STREAM_ERROR",
            500,
        )
        await client.say({"type": "stream:start", "id": "s3", "procedure": "failcoded"})
        assert bodies(await client.hear_many(3)) == [
            ("stream:start", None),
            ("stream:data", {"n": 0}),
            ("stream:error", {"code": "PERMISSION_DENIED", "status": 403, "message": "no", "details": {"why": "x"}}),
        ]
        await client.say({"type": "stream:start", "id": "s4", "procedure": "nope"})
        missing = await client.hear()
        assert (missing["type"], missing["payload"]["code"], missing["payload"]["status"]) == (
            "stream:error",
            "NOT_FOUND",
            404,
        )


@on_every_face
async def test_an_event_is_fire_and_forget(face: str) -> None:
    """Its handler runs on although the client is gone; with an id it is acknowledged when it has begun."""
    handled = Handled()
    async with serving(make_router(handled), face) as url:
        async with open_envelopes(url) as client:
            await client.say({"id": "e", "type": "event", "procedure": "log", "payload": "first"})
            assert (await client.hear())["payload"] == {"received": True}
            await client.say({"type": "event", "procedure": "log", "payload": "second"})
            await client.say({"id": "r", "procedure": "ping", "type": "request", "payload": {}})
            assert (await client.hear())["id"] == "r:response"
        with trio.fail_after(30):
            while handled.heard != ["first", "second"]:
                handled.changed = trio.Event()
                await handled.changed.wait()


# -- what the original documents and does not do -------------------------------------------------------------------


@on_every_face
async def test_client_streams(face: str) -> None:
    """The original answers INVALID_ARGUMENT; here the items arrive, and a response comes of them."""
    async with client_of(face) as (client, _, _):
        await client.say(
            {"type": "stream:start", "id": "c1", "procedure": "sum"},
            {"type": "stream:data", "id": "c1", "payload": {"value": 1}},
            {"type": "stream:data", "id": "c1", "procedure": "sum", "payload": {"value": 2}},
            {"type": "stream:end", "id": "c1", "procedure": "sum"},
        )
        answer = await client.hear()
        assert (answer["type"], answer["payload"]) == ("response", {"sum": 3})


@on_every_face
async def test_bidirectional_streams(face: str) -> None:
    """Each item is answered before the next one is sent."""
    async with client_of(face) as (client, _, _):
        await client.say({"type": "stream:start", "id": "b1", "procedure": "echo"})
        assert (await client.hear())["type"] == "stream:start"
        for n in range(3):
            await client.say({"type": "stream:data", "id": "b1", "procedure": "echo", "payload": {"n": n}})
            assert (await client.hear())["payload"] == {"n": n}
        await client.say({"type": "stream:end", "id": "b1"})
        assert (await client.hear())["type"] == "stream:end"


@on_every_face
@pytest.mark.parametrize(
    ("procedure", "items"),
    [("sum", [{"value": 1}, {"value": "NaN"}]), ("echo", [{"n": 1}, {"n": []}])],
)
async def test_types_hold_for_each_item(face: str, procedure: str, items: list[object]) -> None:
    """A wrong item ends the stream with a code and the path of the field; the original takes anything."""
    async with client_of(face) as (client, _, _):
        await client.say({"type": "stream:start", "id": "t", "procedure": procedure})
        await client.say(*({"type": "stream:data", "id": "t", "payload": item} for item in items))
        last = (await client.hear_until("stream:error"))[-1]["payload"]
        assert (last["code"], last["status"]) == ("INVALID_ARGUMENT", 400)
        assert last["details"]["path"] in ("$.value", "$.n")


@on_every_face
async def test_types_hold_for_input_and_output(face: str) -> None:
    """A wrong input starts nothing; a wrong item from the handler is our fault, and never reaches the client."""
    async with client_of(face) as (client, _, _):
        await client.say({"type": "stream:start", "id": "s6", "procedure": "typed", "payload": {"count": "NaN"}})
        heard = bodies(await client.hear_until("stream:error"))
        assert [kind for kind, _ in heard] == ["stream:start", "stream:error"]
        assert heard[-1][1]["code"] == "INVALID_ARGUMENT"  # type: ignore[index]
        await client.say({"type": "stream:start", "id": "s7", "procedure": "typed", "payload": {"count": 5}})
        heard = bodies(await client.hear_until("stream:error"))
        assert heard[1] == ("stream:data", {"n": 5})
        assert heard[2][1]["code"] == "STREAM_ERROR"  # type: ignore[index]


@on_every_face
async def test_a_reader_that_reads_nothing(face: str) -> None:
    """Of 100,000 items of 64 KiB at most 300 are made; of tiny ones, what the kernel buffers comes on top."""
    async with client_of(face) as (client, handled, url), open_envelopes(url) as other:
        flood = {"count": 100_000, "bytes": 65_536}
        await client.say({"type": "stream:start", "id": "f", "procedure": "flood", "payload": flood})
        for n in range(100):
            await other.say({"id": n, "procedure": "ping", "type": "request", "payload": {}})
            await other.hear()
        assert 1 < handled.produced <= 300


@on_every_face
@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_a_handler_blocked_in_an_await_is_closed(face: str, how: str) -> None:
    """On a cancel and when the client has gone; the original never closes it."""
    handled = Handled()
    async with serving(make_router(handled), face) as url:
        async with open_envelopes(url) as client:
            await client.say({"type": "stream:start", "id": "k", "procedure": "stuck"})
            await client.hear_many(2)
            if how == "cancel":
                await client.say({"type": "cancel", "id": "k"})
                last = await client.hear()
                assert (last["id"], last["procedure"]) == ("k:stream:error", "")
                assert last["payload"]["code"] == "CANCELLED"
        with trio.fail_after(30):
            await handled.changed.wait()
        assert handled.closed == ["stuck"]


@on_every_face
async def test_a_deadline_holds_while_a_handler_runs(face: str) -> None:
    """`x-deadline` is a time of day in milliseconds; the original looks at it once, at the start."""
    async with client_of(face) as (client, handled, _):
        deadline = {"X-Deadline": int(time.time() * 1_000) + 300}
        await client.say({"type": "stream:start", "id": "d", "procedure": "stuck", "metadata": deadline})
        last = (await client.hear_until("stream:error"))[-1]["payload"]
        assert (last["code"], last["status"]) == ("DEADLINE_EXCEEDED", 504)
        with trio.fail_after(30):
            await handled.changed.wait()
        await client.say({"type": "request", "id": "e", "procedure": "ping", "metadata": {"x-deadline": 1}})
        assert (await client.hear())["payload"]["code"] == "DEADLINE_EXCEEDED"


@on_every_face
async def test_a_flood_does_not_stall_another_connection(face: str) -> None:
    """Fifty calls of another client are answered while one takes 200,000 items; the original stalls it till the end."""
    async with client_of(face) as (client, handled, url), open_envelopes(url) as other, trio.open_nursery() as nursery:
        flood = {"count": 200_000, "bytes": 10}
        await client.say({"type": "stream:start", "id": "f", "procedure": "flood", "payload": flood})
        nursery.start_soon(client.hear_until, "stream:end")
        for n in range(50):
            await other.say({"id": n, "procedure": "ping", "type": "request", "payload": {}})
            assert (await other.hear())["id"] == f"{n}:response"
        assert 1 < handled.produced < 200_000
        nursery.cancel_scope.cancel()


@on_every_face
async def test_a_reader_that_writes_first_and_reads_later(face: str) -> None:
    """An upload that had to wait goes on when its handler reads, although nobody takes what another stream has sent."""
    handled, go = Handled(), trio.Event()
    router = make_router(handled)

    @router.stream("late", direction="client")
    async def late(items: AsyncIterable[str]) -> int:
        await go.wait()
        return len([item async for item in items])

    async with serving(router, face) as url, open_envelopes(url) as client, open_envelopes(url) as other:
        flood = {"count": 300, "bytes": 65_536}
        await client.say({"type": "stream:start", "id": "f", "procedure": "flood", "payload": flood})
        await client.say({"type": "stream:start", "id": "u", "procedure": "late"})
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 60

            async def upload() -> None:
                item = {"type": "stream:data", "id": "u", "payload": "x" * 1_000}
                for _ in range(12_000):
                    await client.say(item)
                await client.say({"type": "stream:end", "id": "u"})

            nursery.start_soon(upload)
            for n in range(200):
                await other.say({"id": n, "procedure": "ping", "type": "request", "payload": {}})
                await other.hear()
            go.set()
        assert not nursery.cancel_scope.cancelled_caught
        found = {one["id"]: one["payload"] for one in await client.hear_many(303)}
        assert found["u:response"] == 12_000
        assert "f:stream:end" in found


# -- JSON-RPC ------------------------------------------------------------------------------------------------------


@on_every_face
async def test_json_rpc_texts_share_the_connection(face: str) -> None:
    """Calls, batches, notifications and faults are answered as JSON-RPC, streams refused with a URL that carries them."""
    async with client_of(face) as (client, handled, _):
        await client.say({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": 1}})
        assert await client.hear() == {"jsonrpc": "2.0", "id": 1, "result": {"pong": {"a": 1}}}
        await client.say({"jsonrpc": "2.0", "method": "log", "params": ["unheard"]})
        await client.say(
            [
                {"jsonrpc": "2.0", "id": "a", "method": "ping", "params": {}},
                {"jsonrpc": "2.0", "id": "b", "method": "nope"},
                {"jsonrpc": "2.0", "id": "c", "method": "counter", "params": {"count": 1}},
            ]
        )
        first, second, third = await client.hear()
        assert first == {"jsonrpc": "2.0", "id": "a", "result": {"pong": {}}}
        assert second["error"]["code"] == -32601
        assert "GET /streams/counter" in third["error"]["message"]
        with trio.fail_after(30):
            await handled.changed.wait()
        assert handled.heard == ["unheard"]


async def test_json_rpc_calls_run_a_few_at_once() -> None:
    """A hundred calls that wait hold up nothing else, and end with their connection."""
    handled = Handled()
    router = make_router(handled)

    @router.call("wait")
    async def wait() -> None:
        handled.produced += 1
        try:
            await trio.sleep_forever()
        finally:
            handled.close("wait")

    async with serving(router) as url:
        async with open_envelopes(url) as client:
            await client.say(*({"jsonrpc": "2.0", "id": n, "method": "wait"} for n in range(100)))
            await client.say({"id": "r", "procedure": "ping", "type": "request", "payload": {}})
            assert (await client.hear())["id"] == "r:response"
            assert handled.produced == 16
        with trio.fail_after(30):
            while len(handled.closed) < 16:
                handled.changed = trio.Event()
                await handled.changed.wait()


# -- the server around ---------------------------------------------------------------------------------------------


async def test_a_client_that_says_nothing_is_not_waited_for() -> None:
    """After `handshake_timeout` a silent TCP client is told in our own dialect, and let go."""
    router = make_router(Handled())
    async with serving(router, "tcp", config=ConnectionConfig(handshake_timeout=0.1)) as url:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        async with stream:
            with trio.fail_after(30):
                heard = b"".join([chunk async for chunk in stream])
        assert heard.startswith(b"trio-streams.v1")
        assert b"0.1 s" in heard


@on_every_face
async def test_a_drain_ends_their_connections(face: str) -> None:
    """Streams under way get their time; a connection without any is ended at once."""
    drain = Drain()
    async with trio.open_nursery() as nursery:
        served = partial(serve, make_router(Handled()), f"{face}://127.0.0.1:0", drain=drain)
        (url,) = await nursery.start(served)
        async with open_envelopes(url) as client:
            await client.say({"type": "stream:start", "id": "b", "procedure": "echo"})
            await client.hear()
            drain.begin()
            await client.say({"type": "stream:data", "id": "b", "payload": {"n": 1}}, {"type": "stream:end", "id": "b"})
            heard = await client.hear_until("stream:end")
            assert ("stream:data", {"n": 1}) in bodies([one for one in heard if "payload" in one])
            await client.hear_end()

"""The server as its clients see it, and what the reference server gets wrong."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.durable.server.asking import HeldStore, ask, begin
from trio_streams.codes import Code
from trio_streams.durable.server.access import require_bearer
from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.errors import RpcError
from trio_streams.service.exchange import RequestHead
from trio_streams.transports.answer import run_handler

TEXT: dict[str, Any] = {"content_type": "text/plain"}
JSON: dict[str, Any] = {"content_type": "application/json"}


def make(**config: Any) -> DurableServer:
    """A server whose clock is Trio's."""
    return DurableServer(config=DurableConfig(**config), clock=lambda: 1.8e9 + trio.current_time())


async def test_all_operations() -> None:
    """A stream is created, appended to, read, looked at, closed and deleted."""
    async with make() as server:
        created = await ask(server, "PUT", "a/b", host="example.org", **TEXT)
        assert (created.status, created.headers["location"]) == (201, "http://example.org/v1/stream/a/b")
        appended = await ask(server, "POST", "a/b", b"hello", **TEXT)
        assert (appended.status, appended.headers["stream-next-offset"]) == (204, "0000000000000005")
        read = await ask(server, "GET", "a/b")
        assert (read.status, read.body, read.headers["stream-up-to-date"]) == (200, b"hello", "true")
        assert (await ask(server, "GET", "a/b", if_none_match=read.headers["etag"])).status == 304
        assert (await ask(server, "HEAD", "a/b")).headers["stream-next-offset"] == "0000000000000005"
        assert (await ask(server, "POST", "a/b", stream_closed="TRUE")).headers["stream-closed"] == "true"
        assert (await ask(server, "POST", "a/b", b"more", **TEXT)).status == 409
        assert (await ask(server, "DELETE", "a/b")).status == 204
        assert (await ask(server, "GET", "a/b")).status == 404


async def test_json_keeps_its_bytes() -> None:
    """What no number type can hold, and a key that comes twice, is read as it was written."""
    async with make() as server:
        await ask(server, "PUT", "a", b"[]", **JSON)
        await ask(server, "POST", "a", b'[12345678901234567890, 1.10,{"a":1,"a":2}]', **JSON)
        assert (await ask(server, "GET", "a")).body == b'[12345678901234567890,1.10,{"a":1,"a":2}]'


async def test_events_of_a_closed_stream() -> None:
    """Each data event is followed by a control event; the last says that the stream is closed, and the answer ends."""
    async with make(max_read_bytes=4) as server:
        await ask(server, "PUT", "a", b"[1,2]", **JSON)
        await ask(server, "POST", "a", b"3", stream_closed="true", **JSON)
        reply = await ask(server, "GET", "a", query="offset=-1&live=sse")
        assert [event.event for event in reply.events] == ["data", "control"] * 2
        assert [event.data for event in reply.events if event.event == "data"] == [b"[1,2]", b"[3]"]
        assert [control.get("streamClosed", False) for control in reply.controls] == [False, True]
        assert "streamCursor" not in reply.controls[-1]


async def test_events_come_as_they_happen(autojump_clock: MockClock) -> None:
    """A reader of events hears at once where it is, then of each append, and comes again after the connection's time."""
    async with make(sse_lifetime=60) as server, trio.open_nursery() as nursery:
        await ask(server, "PUT", "a", **TEXT)

        async def write() -> None:
            await trio.sleep(10)
            await server.append("a", b"x")
            await trio.sleep(10)
            await server.append("a", b"y")

        nursery.start_soon(write)
        reply = await ask(server, "GET", "a", query="offset=now&live=sse&cursor=77")
        assert trio.current_time() == pytest.approx(60, abs=0.1)
        assert [event.data for event in reply.events if event.event == "data"] == [b"x", b"y"]
        assert [control["streamNextOffset"][-1] for control in reply.controls] == ["0", "1", "2"]
        assert all(control["upToDate"] and int(control["streamCursor"]) > 77 for control in reply.controls)


@pytest.mark.parametrize("has_fork", [False, True])
@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_readers_of_a_deleted_stream_end(live: str, has_fork: bool, autojump_clock: MockClock) -> None:
    """Who waits for a stream that is deleted is let go, which the reference server never does."""
    async with make() as server, trio.open_nursery() as nursery:
        await ask(server, "PUT", "a", **TEXT)
        if has_fork:
            await server.fork("a", "f")
        nursery.start_soon(_later, 5, server.delete, "a")
        reply = await ask(server, "GET", "a", query=f"offset=now&live={live}")
        assert trio.current_time() == pytest.approx(5, abs=0.1)
        expected = 200 if live == "sse" else 410 if has_fork else 404
        assert reply.status == expected


async def _later(seconds: float, fn: Any, *args: object) -> None:  # noqa: ANN401 - any function
    await trio.sleep(seconds)
    await fn(*args)


async def test_long_polls(autojump_clock: MockClock) -> None:
    """A long-poll waits for data, or in vain."""
    async with make(long_poll_timeout=20) as server, trio.open_nursery() as nursery:
        await ask(server, "PUT", "a", **TEXT)
        assert (await ask(server, "GET", "a", query="offset=now&live=long-poll")).status == 204
        assert trio.current_time() == pytest.approx(20, abs=0.1)
        nursery.start_soon(_later, 5, server.append, "a", b"x")
        assert (await ask(server, "GET", "a", query="offset=now&live=long-poll")).body == b"x"
        assert trio.current_time() == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_waiting_readers_are_bounded(live: str, autojump_clock: MockClock) -> None:
    """So many may wait; one more is told when to come again, and there is room when one has left."""
    async with make(max_waiting_readers=1) as server, trio.open_nursery() as nursery:
        await ask(server, "PUT", "a", **TEXT)
        first = begin("GET", "a", query=f"offset=now&live={live}")
        nursery.start_soon(run_handler, first, server.handle)
        await trio.testing.wait_all_tasks_blocked()
        refused = await ask(server, "GET", "a", query=f"offset=now&live={live}")
        assert (refused.status, refused.json["error"]["details"]["field"]) == (429, "max_waiting_readers")
        first.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(server, "GET", "a", query=f"offset=now&live={live}")).status in {200, 204}


async def test_large_bodies() -> None:
    """A body beyond the limit is 413, and says which limit that is."""
    async with make(max_append_bytes=10) as server:
        await ask(server, "PUT", "a", **TEXT)
        for method in ("POST", "PUT"):
            reply = await ask(server, method, "a", b"x" * 11, **TEXT)
            assert reply.status == 413
            assert reply.json["error"]["details"] == {"field": "body", "size": 11, "limit": 10}
            assert reply.headers["x-content-type-options"] == "nosniff"


async def test_appends_are_rated(autojump_clock: MockClock) -> None:
    """A client that appends too often is told when to come again; others are not disturbed."""
    async with make(max_appends_per_second=2) as server:
        await ask(server, "PUT", "a", **TEXT)
        statuses = [(await ask(server, "POST", "a", b"x", **TEXT)).status for _ in range(3)]
        assert statuses == [204, 204, 429]
        refused = await ask(server, "POST", "a", b"x", peer="10.0.0.1:2", **TEXT)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert (await ask(server, "POST", "a", b"x", peer="10.0.0.2:1", **TEXT)).status == 204
        await trio.sleep(1)
        assert (await ask(server, "POST", "a", b"x", **TEXT)).status == 204


async def test_listing() -> None:
    """Streams are listed below the root."""
    async with make() as server:
        for path in ("b", "a/1", "a/2"):
            await ask(server, "PUT", path, **TEXT)
        reply = await ask(server, "GET", "", query="prefix=a/&limit=1")
        assert [stream["path"] for stream in reply.json["streams"]] == ["a/1"]
        reply = await ask(server, "GET", "", query=f"prefix=a/&after={reply.json['next']}")
        assert ([stream["path"] for stream in reply.json["streams"]], reply.json["next"]) == (["a/2"], None)


async def test_bearer_tokens() -> None:
    """Without a token nothing is told, with one for reading nothing is changed; answers are no public cache's."""
    async with make(authenticate=require_bearer(["all"], read_tokens=["read"])) as server:
        refused = await ask(server, "PUT", "a", **TEXT)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await ask(server, "PUT", "a", authorization="Bearer read", **TEXT)).status == 403
        assert (await ask(server, "PUT", "a", authorization="Bearer all", **TEXT)).status == 201
        reply = await ask(server, "GET", "a", authorization="bearer read")
        assert (reply.status, reply.headers["cache-control"].partition(",")[0]) == (200, "private")


async def test_forks_need_their_source() -> None:
    """Who may not read a source may not fork it either."""

    async def check(_: RequestHead, action: str, path: str) -> None:
        if (action, path) == ("read", "secret"):
            raise RpcError(Code.PERMISSION_DENIED, "no")

    async with make(authenticate=check) as server:
        await ask(server, "PUT", "secret", b"x", **TEXT)
        assert (await ask(server, "PUT", "f", stream_forked_from="/v1/stream/secret")).status == 403
        assert (await ask(server, "GET", "f")).status == 404


async def test_other_origins() -> None:
    """Pages of other origins may read answers and refusals, and their preflights are answered."""
    async with make() as server:
        reply = await ask(server, "GET", "a", origin="https://example.org")
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (404, "*")
        assert "Stream-Next-Offset" in reply.headers["access-control-expose-headers"]
        preflight: dict[str, Any] = {
            "access_control_request_method": "PUT",
            "access_control_request_headers": "if-none-match",
        }
        reply = await ask(server, "OPTIONS", "a", origin="https://example.org", **preflight)
        assert (reply.status, reply.headers["access-control-allow-headers"]) == (204, "if-none-match")
        assert (await ask(server, "OPTIONS", "a")).headers["allow"] == "DELETE, GET, HEAD, POST, PUT, OPTIONS"
    async with make(cors=None) as server:
        assert "access-control-allow-origin" not in (await ask(server, "GET", "a", origin="https://x.org")).headers


async def test_expired_streams_go_by_themselves(autojump_clock: MockClock) -> None:
    """What has expired is deleted, and what is too old dropped, without being asked for."""
    async with make(sweep_interval=1, max_age=30) as server:
        await server.create("a", ttl_seconds=5)
        await server.create("b", content_type="text/plain", body=b"x")
        await trio.sleep(7)
        assert list(await server.list()) == ["b"]
        await trio.sleep(30)
        assert (await server.read("b")).data == b""


async def test_a_store_that_fails() -> None:
    """Who waits for what will never be durable is told that the server can't, and the next one finds what is."""
    store = HeldStore()
    async with DurableServer(store) as server:
        await server.create("a", content_type="text/plain", body=b"x")
        store.is_held = store.is_broken = True
        store.gate.set()
        assert (await ask(server, "POST", "a", b"y", **TEXT)).status == 503
        store.is_held = False
        assert (await ask(server, "GET", "a")).body == b"x"


async def test_a_sweep_that_fails(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """A store that fails for a while does not end the server."""
    store = HeldStore()
    config = DurableConfig(sweep_interval=1)
    async with DurableServer(store, config, clock=lambda: 1.8e9 + trio.current_time()) as server:
        await server.create("a", ttl_seconds=1)
        store.is_held = store.is_broken = True
        store.gate.set()
        await trio.sleep(1.5)
        assert "could not look for expired streams" in caplog.text
        store.is_held = False
        await trio.sleep(1)
        assert list(await server.list()) == []


async def test_a_server_counts_what_it_finds() -> None:
    """A limit of streams holds over the store's, not this run's."""
    store = HeldStore()
    await _fill(store)
    async with DurableServer(store, DurableConfig(max_streams=1)) as server:
        assert (await ask(server, "PUT", "b")).status == 429


async def _fill(store: HeldStore) -> None:
    class Kept(HeldStore):
        async def aclose(self) -> None: ...

    kept = Kept()
    kept.__dict__ = store.__dict__
    async with DurableServer(kept) as server:
        await server.create("a")


async def test_a_server_that_does_not_run() -> None:
    """Before and after its block a server does nothing."""
    server = make()
    with pytest.raises(trio.ClosedResourceError):
        await server.head("a")
    async with server:
        await server.create("a")
    with pytest.raises(trio.ClosedResourceError):
        await server.head("a")

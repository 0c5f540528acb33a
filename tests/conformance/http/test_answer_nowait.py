"""Requests that are answered without their handler, in between those that are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.conformance.http.hosts import read_all, read_until
from trio_streams.service.exchange import Exchange, RequestHead, respond
from trio_streams.transports.http import AccessRecord, NowaitAnswer, NowaitHandler, WholeAnswer, serve_lean
from trio_streams.wire.http1_fields import Fields

MANY = 50


def at_once(head: RequestHead) -> NowaitAnswer | None:
    """Answers what is below `/now` and, a moment later, `/soon`."""
    if head.path.startswith("/soon"):
        return partial(soon, head)
    return partial(said, "now", head) if head.path.startswith("/now") else None


async def soon(head: RequestHead, body: bytes) -> WholeAnswer:
    await trio.lowlevel.checkpoint()
    return said("soon", head, body)


def said(who: str, head: RequestHead, body: bytes) -> WholeAnswer:
    text = f"{who} {head.path} ".encode() + body + b"!"
    return 200, Fields([("content-length", str(len(text)))]), text


async def later(exchange: Exchange) -> None:
    """Answers the rest."""
    body = await exchange.receive_body()
    await respond(exchange, 200, f"later {exchange.request.path} ".encode() + body + b"!")


def post(path: str, body: bytes = b"") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def connected(
    answer_nowait: NowaitHandler = at_once, on_access: Callable[[AccessRecord], None] | None = None
) -> AsyncIterator[trio.SocketStream]:
    serve = partial(serve_lean, later, answer_nowait=answer_nowait, on_access=on_access)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(serve)
            async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as stream:
                yield stream
            nursery.cancel_scope.cancel()


async def test_each_request_gets_its_own_answer() -> None:
    """In order, one at a time, whoever answers."""
    async with connected() as stream:
        for path in ("/now/1", "/later/2", "/soon/3", "/now/4", "/now/5", "/soon/6", "/soon/7", "/later/8"):
            await stream.send_all(post(path, b"body"))
            wanted = f"{path[1:].partition('/')[0]} {path} body!".encode()
            assert (await read_until(stream, wanted)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "who",
    [
        ("now",),
        ("soon",),
        ("now", "later"),
        ("soon", "later"),
        ("now", "soon"),
        ("now", "now", "soon", "later", "soon"),
    ],
    ids=" ".join,
)
async def test_pipelined_requests_are_answered_in_order(who: tuple[str, ...]) -> None:
    """However many there are, and whoever answers."""
    paths = [f"/{who[n % len(who)]}/{n}" for n in range(MANY)]
    async with connected() as stream:
        await stream.send_all(b"".join(post(path) for path in paths))
        got = await read_until(stream, f"{paths[-1]} !".encode())
    places = [got.find(f" {path} !".encode()) for path in paths]
    assert -1 not in places
    assert places == sorted(places)


async def test_a_body_in_pieces_is_for_the_handler() -> None:
    """Only what is here as a whole is answered without one."""
    async with connected() as stream:
        request = post("/now", b"body")
        await stream.send_all(request[:-2])
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(request[-2:])
        await read_until(stream, b"later /now body!")


async def test_a_client_that_has_ended_its_side_is_answered() -> None:
    """Its request is not the last thing that it said, so it is for the handler."""
    async with connected() as stream:
        await stream.send_all(post("/now", b"body"))
        await stream.send_eof()
        assert (await read_all(stream)).endswith(b"/now body!")


async def test_a_connection_may_be_closed_behind_an_answer() -> None:
    """As the client asks for it."""
    async with connected() as stream:
        await stream.send_all(b"GET /now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await read_all(stream)).endswith(b"now /now !")


@pytest.mark.parametrize("who", ["now", "soon"])
async def test_what_is_answered_without_a_handler_is_logged(who: str) -> None:
    """The access log has a record of it, like of any other."""
    records: list[AccessRecord] = []
    async with connected(on_access=records.append) as stream:
        await stream.send_all(post(f"/{who}", b"body"))
        await read_until(stream, f"{who} /{who} body!".encode())
    (record,) = records
    assert (record.method, record.path, record.status) == ("POST", f"/{who}", 200)
    assert record.sent_bytes == len(f"{who} /{who} body!")


async def test_a_client_that_leaves_before_its_answer() -> None:
    """What was begun for it goes on, and its connection ends with the answer."""
    begun, go_on, done = trio.Event(), trio.Event(), trio.Event()

    async def late(head: RequestHead, body: bytes) -> WholeAnswer:
        begun.set()
        await go_on.wait()
        done.set()
        return said("late", head, body)

    async with connected(lambda head: partial(late, head)) as stream:
        await stream.send_all(post("/late"))
        await begun.wait()
        await stream.aclose()
        go_on.set()
        await done.wait()


async def test_a_shutdown_that_takes_too_long_cancels_an_answer() -> None:
    """Like that of a handler."""
    begun, ended = trio.Event(), trio.Event()

    async def endless(_: bytes) -> WholeAnswer:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with connected(lambda _: endless) as stream:
        await stream.send_all(post("/endless"))
        await begun.wait()
    assert ended.is_set()


async def test_a_fault_ends_the_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What it has done nobody knows, so it is not asked again; the next connection is served."""

    def fail(_: bytes) -> None:
        raise RuntimeError("a fault")

    async with connected(lambda _: fail) as stream:
        await stream.send_all(post("/now"))
        assert await read_all(stream) == b""
    assert "a connection failed" in caplog.text


async def test_a_head_is_asked_about_once() -> None:
    """As long as it comes again and again; after another one it is a new one."""
    heads: list[str] = []
    bodies: list[bytes] = []

    def choose(head: RequestHead) -> NowaitAnswer | None:
        heads.append(head.path)

        def answer(body: bytes) -> WholeAnswer | None:
            bodies.append(body)
            return None if body == b"none" else said("now", head, body)

        return answer

    async with connected(choose) as stream:
        for path, body in (("/1", b"aaaa"), ("/1", b"bbbb"), ("/2", b"cccc"), ("/2", b"none"), ("/2", b"dddd")):
            await stream.send_all(post(path, body))
            await read_until(stream, f"{path} {body.decode()}!".encode())
    assert heads == ["/1", "/2", "/2"]
    assert bodies == [b"aaaa", b"bbbb", b"cccc", b"none", b"dddd"]

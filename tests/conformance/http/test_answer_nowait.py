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
from trio_streams.transports.http import AccessRecord, NowaitHandler, serve_lean
from trio_streams.wire.http1_fields import Fields

MANY = 50


def at_once(head: RequestHead, body: bytes) -> tuple[int, Fields, bytes] | None:
    """Answers what is below `/now`."""
    if not head.path.startswith("/now"):
        return None
    said = f"now {head.path} ".encode() + body + b"!"
    return 200, Fields([("content-length", str(len(said)))]), said


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
        for path in ("/now/1", "/later/2", "/now/3", "/now/4", "/later/5"):
            await stream.send_all(post(path, b"body"))
            said = f"{path[1:].partition('/')[0]} {path} body!".encode()
            assert (await read_until(stream, said)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("every", [1, 2, 7], ids=["all at once", "every other", "one in seven"])
async def test_pipelined_requests_are_answered_in_order(every: int) -> None:
    """However many there are, and whoever answers."""
    paths = [f"/{'now' if n % every == 0 else 'later'}/{n}" for n in range(MANY)]
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


async def test_what_is_answered_at_once_is_logged() -> None:
    """The access log has a record of it, like of any other."""
    records: list[AccessRecord] = []
    async with connected(on_access=records.append) as stream:
        await stream.send_all(post("/now", b"body"))
        await read_until(stream, b"now /now body!")
    (record,) = records
    assert (record.method, record.path, record.status) == ("POST", "/now", 200)
    assert record.sent_bytes == len(b"now /now body!")


async def test_a_fault_ends_the_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    """What it has done nobody knows, so it is not asked again; the next connection is served."""

    def fail(_: RequestHead, __: bytes) -> None:
        raise RuntimeError("a fault")

    async with connected(fail) as stream:
        await stream.send_all(post("/now"))
        assert await read_all(stream) == b""
    assert "a connection failed" in caplog.text

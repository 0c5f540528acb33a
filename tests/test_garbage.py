"""What is over is freed at once: nothing of ours waits for the collector of cycles."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.garbage import Garbage
from tests.serving import HOSTED, OWN, Face, serving
from trio_streams import Router, open_stream
from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import RpcError, StreamsError
from trio_streams.procedures.client import Client
from trio_streams.service.interceptor import Invocation, Proceed
from trio_streams.streams.local import LocalStream

TIMES: Final = 100

LEAN: Final = Face("http", "lean")

FACES: Final = [face for face in (*OWN, *HOSTED) if face.carrier == "websockets" and "hypercorn" not in str(face)]
"""Ours. hypercorn and trio-websocket leave cycles of their own, which hold what they hold."""

Use = Callable[[Client], Coroutine[Any, Any, None]]


def _make_router() -> Router:
    app = Router()

    async def pass_on(invocation: Invocation, proceed: Proceed) -> object:
        return await proceed()

    app.use(pass_on)
    _add_calls(app)
    _add_streams(app)
    return app


def _add_calls(app: Router) -> None:

    @app.call("say")
    async def say(text: str) -> str:
        return text

    @app.call("fail")
    async def fail() -> None:
        raise RpcError(Code.INVALID_ARGUMENT, "as it should")

    @app.call("crash")
    async def crash() -> None:
        raise ZeroDivisionError

    @app.event("note")
    async def note(text: str) -> None:
        await trio.lowlevel.checkpoint()


def _add_streams(app: Router) -> None:
    @app.stream("flood")
    async def flood() -> AsyncIterator[str]:
        while True:
            yield "x" * 998

    @app.stream("count")
    async def count() -> AsyncIterator[int]:
        for n in range(3):
            yield n

    @app.stream("sum", direction="client")
    async def sum_up(items: AsyncIterable[int]) -> int:
        return sum([item async for item in items])

    @app.stream("echo", direction="bidi")
    async def echo(items: AsyncIterable[str]) -> AsyncIterator[str]:
        async for item in items:
            yield item


@pytest.fixture(autouse=True)
def quiet() -> object:
    """A log that is captured would keep the exceptions that are told to it."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _count_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def _until_left(tasks: int) -> None:
    """Wait until the server has noticed that its clients are gone."""
    while _count_tasks() > tasks:  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.001)


# What clients do with a connection.


async def _call(client: Client) -> None:
    assert await client.call("say", "hello", returns=str) == "hello"


async def _be_refused(client: Client) -> None:
    for name in ("fail", "crash", "nobody"):
        with pytest.raises(RpcError):
            await client.call(name)


async def _notify(client: Client) -> None:
    await client.event("note", "hello")


async def _read_all(client: Client) -> None:
    async with client.stream("count", returns=int) as items:
        assert [item async for item in items] == [0, 1, 2]


async def _read_some(client: Client) -> None:
    async with client.stream("flood", returns=str) as items:
        await items.receive()


async def _be_cancelled(client: Client) -> None:
    with trio.CancelScope() as scope:
        async with client.stream("flood", returns=str) as items:
            await items.receive()
            scope.cancel()
            await items.receive()


async def _upload(client: Client) -> None:
    assert await client.upload("sum", [1, 2, 3], returns=int) == 6


async def _talk(client: Client) -> None:
    async with client.bidi("echo", returns=str) as stream:
        await stream.send("a")
        assert await stream.receive() == "a"
        stream.end()
        with suppress(trio.EndOfChannel):
            await stream.receive()


USES: Final = (_call, _be_refused, _notify, _read_all, _read_some, _be_cancelled, _upload)


KEPT: Final = pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="contextlib's generator managers keep what passes through them from Python 3.12 on",
)
"""Such managers are Trio's, around a socket that its peer has left, and ours, where a caller is cancelled in its block."""


def _kept(use: Use) -> object:
    return pytest.param(use, marks=KEPT) if use is _be_cancelled else use


@pytest.mark.parametrize("use", [*map(_kept, USES), _talk])
async def test_streams_leave_no_garbage(use: Use, tmp_path: Path) -> None:
    """On our dialect, whatever a stream was and however it ended, neither side's objects outlive it as garbage."""
    async with serving(_make_router(), Face("tcp"), tmp_path) as served, served.connect() as client:
        with Garbage() as garbage:
            assert not await garbage.of(TIMES, partial(use, client))


@pytest.mark.parametrize("use", [*map(_kept, USES)])
async def test_exchanges_leave_no_garbage(use: Use, tmp_path: Path) -> None:
    """In the lean host, whatever an exchange was and however it ended, neither side's objects outlive it as garbage."""
    async with serving(_make_router(), LEAN, tmp_path) as served, served.connect() as client:
        with Garbage() as garbage:
            assert not await garbage.of(TIMES, partial(use, client))


@pytest.mark.parametrize("face", FACES, ids=str)
async def test_connections_leave_no_garbage(face: Face, tmp_path: Path) -> None:
    """A connection that was opened, used and closed leaves nothing on either side."""
    async with serving(_make_router(), face, tmp_path) as served:
        tasks = _count_tasks()

        async def visit() -> None:
            async with served.connect() as client:
                await _call(client)
            await _until_left(tasks)

        with Garbage() as garbage:
            assert not await garbage.of(TIMES // 5, visit)


@pytest.mark.parametrize("torn", [pytest.param(b"", marks=KEPT, id="silent"), pytest.param(b"\x04\x00\x10", id="torn")])
@pytest.mark.parametrize("face", [Face("tcp"), Face("ws"), LEAN], ids=str)
async def test_strangers_leave_no_garbage(face: Face, torn: bytes, tmp_path: Path) -> None:
    """Nor does one that says nothing, or something senseless, and leaves."""
    async with serving(_make_router(), face, tmp_path) as served:
        tasks = _count_tasks()

        async def visit() -> None:
            async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
                if torn:
                    await stream.send_all(torn)
            await _until_left(tasks)

        with Garbage() as garbage:
            assert not await garbage.of(TIMES // 5, visit)


@pytest.mark.parametrize("how", ["end", "fail", "reset", "stop", "cancel", "leave"])
async def test_local_streams_leave_no_garbage(how: str) -> None:
    """A stream inside a process is freed with its last reference, however it ended, and used after its end.

    But for `error(exc)`: an exception that is the caller's own gathers the frames of whoever it is raised to.
    """
    ends: dict[str, Callable[[LocalStream[int]], None]] = {
        "end": LocalStream.end,
        "fail": lambda stream: stream.end(Status("ABORTED", "no more")),
        "reset": LocalStream.reset,
        "stop": LocalStream.stop,
        "cancel": LocalStream.cancel,
        "leave": lambda _: None,
    }

    async def use() -> None:
        async with open_stream[int]() as stream:
            await stream.send(1)
            ends[how](stream)
            with suppress(StreamsError, trio.EndOfChannel, trio.ClosedResourceError):
                while how != "leave":
                    await stream.receive()
            if how != "leave":
                with pytest.raises((StreamsError, trio.ClosedResourceError)):
                    await stream.send(2)

    with Garbage() as garbage:
        assert not await garbage.of(TIMES, use)

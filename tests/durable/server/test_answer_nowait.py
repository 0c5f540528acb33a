"""Appends that are answered at once, beside the same ones that are handled: nobody can tell which was which."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.base import Change, Commit
from trio_streams.durable.store.memory import MemoryStore
from trio_streams.service.exchange import RequestHead
from trio_streams.transports.exchange import HostedExchange
from trio_streams.transports.exchange_head import ExchangeConfig
from trio_streams.transports.http import WholeAnswer
from trio_streams.wire.http1_fields import Fields

TEXT = ("content-type", "text/plain")
JSON = ("content-type", "application/json")
CLOSING = ("stream-closed", "true")

Told = tuple[int, tuple[tuple[str, str], ...], bytes]


def producer(epoch: int, seq: int) -> tuple[tuple[str, str], ...]:
    return (("producer-id", "p"), ("producer-epoch", str(epoch)), ("producer-seq", str(seq)))


def head(path: str, *headers: tuple[str, str], method: str = "POST") -> RequestHead:
    return RequestHead(method=method, path=f"/v1/stream/{path}", headers=headers)


class LateCommit:
    """Durable one turn later."""

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()


class LateStore:
    """A store whose changes are durable a moment later."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def submit(self, change: Change) -> Commit:
        self._store.submit(change)
        return LateCommit()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the other one has
        return getattr(self._store, name)


async def handled(server: DurableServer, request: RequestHead, body: bytes) -> Told:
    exchange = HostedExchange(request, ExchangeConfig())
    exchange.feed_nowait(body, is_last=True)
    await server.handle(exchange)
    answer = exchange.head
    assert answer is not None
    return answer.status, answer.headers, bytes(exchange.take_nowait())


NOWHERE = [(head("elsewhere", TEXT), b"x")]


def asked(
    server: DurableServer, request: RequestHead, body: bytes
) -> WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None:
    """What is answered without an exchange."""
    answer = server.answer_nowait(request)
    return None if answer is None else answer(body)


async def told(server: DurableServer, request: RequestHead, body: bytes) -> WholeAnswer:
    """What the handler answers, in the same form."""
    status, headers, said = await handled(server, request, body)
    return status, Fields(headers), said


APPENDS = [
    *NOWHERE,
    (head("text", TEXT), b"one"),
    (head("text", ("content-type", "TEXT/Plain; charset=utf-8")), b"two"),
    (head("text", JSON), b"[]"),
    (head("text", TEXT), b""),
    (head("text"), b"no type"),
    (head("text", TEXT, ("stream-seq", "b")), b"three"),
    (head("text", TEXT, ("stream-seq", "a")), b"behind"),
    (head("text", TEXT, *producer(0, 0)), b"four"),
    (head("text", TEXT, *producer(0, 0)), b"four"),
    (head("text", TEXT, *producer(0, 2)), b"a gap"),
    (head("text", TEXT, *producer(1, 0)), b"five"),
    (head("text", TEXT, *producer(0, 1)), b"stale"),
    (head("text", TEXT, *producer(1, 1)[:2]), b"not all"),
    (head("text", TEXT, ("if-match", '"0"')), b"no match"),
    (head("text", TEXT, CLOSING), b"the last"),
    (head("text", TEXT, CLOSING), b""),
    (head("text", TEXT), b"too late"),
    (head("json", JSON), b'[{"a": 1.10}, 2]'),
    (head("json", JSON), b"[]"),
    (head("json", JSON), b"no JSON"),
    (head("json", JSON, CLOSING, *producer(0, 0)), b"3"),
]


@asynccontextmanager
async def running(config: DurableConfig | None = None, *, is_late: bool = False) -> AsyncIterator[DurableServer]:
    store = LateStore() if is_late else MemoryStore()
    async with DurableServer(store, config or DurableConfig(), clock=lambda: 1_000.0) as server:
        for path, kind in (("text", TEXT), ("json", JSON)):
            status, _, _ = await handled(server, head(path, kind, method="PUT"), b"")
            assert status == 201
        yield server


@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "late"])
async def test_the_same_answers_and_the_same_streams(is_late: bool) -> None:
    """Status, headers and bodies are those of the handler, and so is what can be read afterwards."""
    waited: list[RequestHead] = []
    malformed: list[RequestHead] = []
    async with running(is_late=is_late) as one, running() as other:
        for request, body in APPENDS:
            answered = asked(one, request, body)
            if answered is None:
                malformed.append(request)
                answered = await told(one, request, body)
            if inspect.iscoroutine(answered):
                answered = await answered
                waited.append(request)
            assert isinstance(answered, tuple)
            status, headers, said = await handled(other, request, body)
            assert answered[0] == status
            assert answered[1].lines == Fields(headers).lines
            assert answered[2] == said
        for path in ("text", "json"):
            wanted = await handled(other, head(path, method="GET"), b"")
            got = await handled(one, head(path, method="GET"), b"")
            assert got[2] == wanted[2]
    assert len(malformed) == 1
    assert len(waited) == (len(APPENDS) - 1 if is_late else len(NOWHERE))


@pytest.mark.parametrize(
    ("request_head", "body"),
    [
        (head("text", method="GET"), b""),
        (head("text", TEXT, method="PUT"), b""),
        (head("text", TEXT, ("origin", "https://a.example")), b"x"),
        (head("text", TEXT), b"x" * 101),
    ],
    ids=["a read", "a creation", "another origin", "too large"],
)
async def test_what_is_left_to_the_handler(request_head: RequestHead, body: bytes) -> None:
    """Whatever is no append to a stream that is known, or needs more than that."""
    async with running(DurableConfig(max_append_bytes=100)) as server:
        assert asked(server, request_head, body) is None


async def test_a_limit_on_appends_is_the_handlers() -> None:
    """It counts each request once."""
    async with running(DurableConfig(max_appends_per_second=5)) as server:
        assert asked(server, head("text", TEXT), b"x") is None


async def test_a_stream_that_has_expired_is_waited_for() -> None:
    """It has to be removed, which may take a while."""
    now = 0.0
    async with DurableServer(clock=lambda: now) as server:
        await handled(server, head("text", TEXT, ("stream-ttl", "10"), method="PUT"), b"")
        assert asked(server, head("text", TEXT), b"x") is not None
        now = 20.0
        late = asked(server, head("text", TEXT), b"x")
        assert inspect.iscoroutine(late)
        assert (await late)[0] == 404


async def test_a_store_that_takes_nothing() -> None:
    """It is answered as the handler would."""
    store = MemoryStore()
    async with DurableServer(store) as server:
        await handled(server, head("text", TEXT, method="PUT"), b"")
        await store.aclose()
        answered = asked(server, head("text", TEXT), b"x")
        assert isinstance(answered, tuple)
        assert answered[0] == 503

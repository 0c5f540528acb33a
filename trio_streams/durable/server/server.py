"""The server: its streams, its exchange handler, and its operations for the same process."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Coroutine
from functools import partial
from time import time
from types import TracebackType
from typing import Any, Final, Self

import trio

from trio_streams.codes import Code, http_status
from trio_streams.durable.protocol import answers
from trio_streams.durable.protocol.cursor import next_cursor
from trio_streams.durable.protocol.machine import Machine, MachineLimits
from trio_streams.durable.protocol.operations import Append, Create, Delete, Head, List, Operation, Read
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.requests import METHODS, parse_request
from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.driver import Driver
from trio_streams.durable.server.live import EventStreams
from trio_streams.durable.server.local import LocalOperations
from trio_streams.durable.server.rates import AppendRate
from trio_streams.durable.server.replay import StreamLogs
from trio_streams.durable.store.base import Store
from trio_streams.durable.store.memory import MemoryStore
from trio_streams.errors import RpcError
from trio_streams.nursery import open_bare_nursery
from trio_streams.service.cors import with_cors
from trio_streams.service.exchange import Exchange, RequestHead
from trio_streams.service.replay_log import ReplayLog
from trio_streams.transports.http import NowaitAnswer, WholeAnswer
from trio_streams.wire.http1_fields import Fields

__all__ = ["DurableServer"]

_LOG: Final = logging.getLogger("trio_streams")
_DEFAULT: Final = DurableConfig()
_BODILESS: Final = frozenset({204, 304})
_SAFE: Final = Fields(answers.SAFE)
_EMPTY: Final = Fields([("content-length", "0")])


class DurableServer(LocalOperations):
    """Serves the streams of a store: `async with DurableServer(store) as server`, and `server.handle` is its handler.

    Args:
      store: one that nobody else uses; None for a new one in memory. It is closed at the end.
      config: limits and policies.
      clock: Unix seconds; for tests.
      random_number: from [0, 1), for cursors; for tests.
    """

    def __init__(
        self,
        store: Store | None = None,
        config: DurableConfig = _DEFAULT,
        *,
        clock: Callable[[], float] = time,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        self.config: DurableConfig = config
        self._store: Store = MemoryStore() if store is None else store
        self._clock = clock
        self._random = random_number
        limits = MachineLimits(
            max_read_bytes=config.max_read_bytes,
            max_streams=config.max_streams,
            max_loaded_streams=config.max_loaded_streams,
            max_producers_per_stream=config.max_producers_per_stream,
            long_poll_timeout=config.long_poll_timeout,
            max_stream_bytes=config.max_stream_bytes,
            max_age=config.max_age,
        )
        super().__init__(Machine(self._store, limits, clock))
        self._commits_at_once = isinstance(self._store, MemoryStore)
        # Who has to be asked for each append, or counts them, has to see the exchange.
        self._is_plain = config.authenticate is None and not config.max_appends_per_second
        self._manager = open_bare_nursery()
        self._with_cors = self._handle if config.cors is None else with_cors(self._handle, config.cors)
        self._allows = AppendRate(config.max_appends_per_second).allows if config.max_appends_per_second else None

    async def __aenter__(self) -> Self:
        nursery = await self._manager.__aenter__()
        self._driver = Driver(self._store, self._machine.registry, nursery, self.config.max_waiting_readers)
        self._events = EventStreams(
            self._machine,
            self._driver,
            self._cursor,
            lifetime=self.config.sse_lifetime,
            window_bytes=self.config.live_window_bytes,
        )
        if self.config.max_streams is not None:
            await self._driver.run(self._machine.count_streams())
        nursery.start_soon(self._sweep)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        driver = self._running
        self._driver = None
        try:
            await self._store.aclose()
        finally:
            driver.nursery.cancel_scope.cancel()
            is_handled = await self._manager.__aexit__(kind, exc, traceback)
        return is_handled

    def replay_log(self, prefix: str = "") -> ReplayLog:
        """A log for the runs of durable procedures: `serve(app, url, replay_log=server.replay_log("runs/"))`.

        Whoever may append to these streams over HTTP can break a run, though not forge a place in it: let the application
        alone write below `prefix`.

        Args:
          prefix: before the path of each log, such as `runs/`.
        """
        return StreamLogs(self._machine, self._do, prefix)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(self.config.sweep_interval)
            driver = self._driver
            if driver is None:
                return
            try:
                await driver.run(self._machine.upkeep.sweep())
                await driver.run(self._machine.upkeep.trim())
            except Refused as exc:
                _LOG.warning("could not look for expired streams: %s", exc.__cause__ or exc)

    # HTTP.

    async def handle(self, exchange: Exchange) -> None:
        """Handle one exchange: an `ExchangeHandler`.

        Cancellation: what is decided stays decided, and becomes durable; its answer is lost.
        """
        for name, _ in exchange.request.headers:
            if name == "origin":
                return await self._with_cors(exchange)
        return await self._handle(exchange)

    def answer_nowait(self, request: RequestHead) -> NowaitAnswer | None:
        """Answer appends without an exchange: a `NowaitHandler`.

        Whatever is less common than a plain append is left to `handle`.
        """
        if request.method != "POST" or not self._is_plain or request.header("origin") is not None:
            return None
        try:
            operation = parse_request(request, self.config.root)
        except Refused:
            return None
        assert isinstance(operation, Append)
        return partial(self._append_whole, operation)

    def _append_whole(self, operation: Append, body: bytes) -> WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None:
        if len(body) > self.config.max_append_bytes:
            return None
        if not self._commits_at_once:
            return self._append_later(operation, body)
        try:
            appended = self._running.run_nowait(self._machine.append(operation, body))
        except Refused as exc:
            return _whole(answers.refused(exc))
        if appended is None:
            return self._append_later(operation, body)
        return _whole(answers.appended(appended, operation))

    async def _append_later(self, operation: Append, body: bytes) -> WholeAnswer:
        try:
            appended = await self._running.run(self._machine.append(operation, body))
        except Refused as exc:
            return _whole(answers.refused(exc))
        return _whole(answers.appended(appended, operation))

    async def _handle(self, exchange: Exchange) -> None:
        try:
            answer = await self._answer(exchange)
        except Refused as exc:
            answer = answers.refused(exc)
        except RpcError as exc:
            if exchange.has_head:
                raise
            answer = answers.refused(_as_refused(exc))
        if answer is None:
            return
        status, headers, body = answer
        if status in _BODILESS:
            await exchange.send_head(status, headers)
        else:
            await exchange.send_head(status, (*headers, ("content-length", str(len(body)))))
            if body:
                await exchange.send(body)
        exchange.end()

    async def _answer(self, exchange: Exchange) -> answers.Answer | None:
        request = exchange.request
        if request.method == "OPTIONS":
            return answers.options(", ".join((*METHODS, "OPTIONS")))
        operation = parse_request(request, self.config.root)
        if self.config.authenticate is not None:
            await self._authenticate(request, operation)
        driver, machine = self._running, self._machine
        match operation:
            case Append():
                if self._allows is not None:
                    self._allows(request.peer, trio.current_time())
                body = await exchange.receive_body(max_bytes=self.config.max_append_bytes)
                return answers.appended(await driver.run(machine.append(operation, body)), operation)
            case Read(live="sse"):
                following = await driver.run(machine.follow(operation))
                assert self._events is not None
                await self._events.follow(exchange, following, operation.cursor)
                return None
            case Read():
                chunk = await driver.run(machine.read(operation))
                return answers.read(chunk, operation, self._cursor(operation.cursor), self.config.cache_control)
            case Create():
                body = await exchange.receive_body(max_bytes=self.config.max_append_bytes)
                return answers.created(await driver.run(machine.create(operation, body)), request)
            case Head():
                return answers.found(await driver.run(machine.head(operation.path)))
            case Delete():
                await driver.run(machine.delete(operation.path))
                return answers.deleted()
            case List():
                return answers.listed(await driver.run(machine.list_streams(operation)), operation)

    async def _authenticate(self, request: RequestHead, operation: Operation) -> None:
        authenticate = self.config.authenticate
        assert authenticate is not None
        await authenticate(request, operation.action, operation.path)
        if isinstance(operation, Create) and operation.fork is not None:
            await authenticate(request, "read", operation.fork.source)

    def _cursor(self, asked: str | None) -> str:
        return next_cursor(asked, self._clock(), self._random)


def _as_refused(error: RpcError) -> Refused:
    """What authentication and bodies raise, as an answer with the headers that every answer has."""
    headers = [("www-authenticate", "Bearer")] if error.known_code is Code.UNAUTHENTICATED else []
    details = error.details if isinstance(error.details, dict) else None
    return Refused(http_status(error.code), error.code, error.message, headers, details)


def _whole(answer: answers.Answer) -> WholeAnswer:
    status, headers, body = answer
    fields = _SAFE.joined(Fields(headers[len(answers.SAFE) :]))
    if status not in _BODILESS:
        fields = fields.joined(Fields([("content-length", str(len(body)))]) if body else _EMPTY)
    return status, fields, body

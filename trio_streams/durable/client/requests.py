"""Sends the protocol's requests: one place for URLs, headers, what errors mean, and trying again.

An `Endpoint` is one stream's URL and how to ask it. Handles and readers have one each, or share one. It has no task: its
pool of connections is opened by the request that needs it, in whatever Trio run that is, and closed by `aclose`. A process
that was forked starts with an empty pool, for two processes on one connection would mix up their answers.

Spec: Durable Streams §5, §10.1 (order of query parameters).
"""

from __future__ import annotations

import inspect
import os
import random as _random
import ssl
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import attrs
import trio

from trio_streams.durable.errors import DurableStreamError, FetchError
from trio_streams.durable.protocol.failures import Operation, find_refusal, public_url
from trio_streams.durable.protocol.retry import Attempts, Repeat, RetryOptions, is_passing
from trio_streams.durable.types import ErrorHandler, HeadersLike, ParamsLike
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from trio_streams.transports.exchange import Headers
from trio_streams.transports.http_client import ClientExchange, HttpClient, HttpResponse, NotConnected
from trio_streams.transports.http_get import HttpGet
from trio_streams.wire.retry_after import seconds_to_wait

__all__ = ["Endpoint", "Failure", "Refusable", "Repeat", "RetryOptions", "find_failure", "find_lost", "in_query_order"]

_MAX_REFUSAL_BYTES: Final = 4_096
"""As much of a refusal's body as is read to explain it."""

_UNENCODED: Final = {"accept-encoding": "identity"}
"""Without it a cache on the way may compress what it likes."""

_EVENTS: Final = {"accept": "text/event-stream", "cache-control": "no-store"}

Refusable = ClientExchange | HttpGet
"""An answer, whose body may explain its status."""


@attrs.frozen
class Failure:
    """An attempt that brought no success.

    Attributes:
      error: what to raise, if nothing helps.
      retry_after: seconds that the server asks to be left alone.
      was_sent: False where nobody was reached.
    """

    error: DurableStreamError | FetchError
    retry_after: float = 0.0
    was_sent: bool = True


class Endpoint:
    """One stream's URL, and how it is asked.

    Attributes:
      url: as it was given.
      retry: how often and when to try again.

    Args:
      url: absolute, `http` or `https`; a query is kept.
      headers: of each request; callables are asked anew for each.
      params: query parameters of each request, likewise.
      on_error: told of an error before it is raised; may change headers and parameters, and have it tried again.
      retry: how often and when to try again.
      http: makes connections, and is left open; None for a pool of its own.
      tls: of that pool, for https; None for the context that all clients share, which trusts what the system trusts.
      random: a number from 0 up to 1, which spreads waits.

    Raises:
      LocalProtocolError: the URL is not one that can be asked.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: HeadersLike | None = None,
        params: ParamsLike | None = None,
        on_error: ErrorHandler | None = None,
        retry: RetryOptions | None = None,
        http: HttpClient | None = None,
        tls: ssl.SSLContext | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._is_closed = True  # until it is whole, for `__del__`
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LocalProtocolError(f"not an absolute http or https URL: {public_url(url)!r}", field="url")
        self.url: str = url
        self.retry: RetryOptions = RetryOptions() if retry is None else retry
        self._parts = parts
        self._headers: dict[str, Any] = {}
        self._params: dict[str, Any] = {}
        self._change(headers, params)
        self._on_error = on_error
        self._shared_http = http
        self._tls = tls
        self._own_http: HttpClient | None = None
        self._pid = 0
        self._random = random
        self._is_closed = False

    def attempts(self) -> Attempts:
        """Counts the failures of something that is tried here."""
        return Attempts(self.retry, self._random)

    async def request(
        self,
        method: str,
        operation: Operation,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        repeat: Repeat = Repeat.ALWAYS,
    ) -> HttpResponse:
        """Send a request and take the whole answer, trying again where that is safe.

        Args:
          method: in upper case.
          operation: what is asked for: conflicts mean different things.
          headers: of this request; they win over those of the endpoint.
          params: query parameters, likewise.
          body: what is sent.
          repeat: what the request may be sent again after.

        Returns:
          The answer, whose status is 200 to 299.

        Raises:
          DurableStreamError: the server refuses; the subclass and `code` say what.
          FetchError: no answer came, or one that is not the protocol's.
          LocalProtocolError: the URL or a header can't be sent.
          trio.ClosedResourceError: this endpoint was closed.
        Cancellation: whether the server acted is unknown, unless the request is still to be sent.
        """
        attempts = self.attempts()
        while True:
            answer = await self.attempt(method, operation, headers=headers, params=params, body=body)
            if isinstance(answer, HttpResponse):
                return answer
            await self._settle(answer, attempts, repeat)

    async def attempt(
        self,
        method: str,
        operation: Operation,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HttpResponse | Failure:
        """As `request`, but once: what failed is returned, for who decides about it elsewhere."""
        return await self._attempt(method, operation, headers or {}, params or {}, body)

    async def open_exchange(self, params: Mapping[str, str]) -> ClientExchange:
        """Send one GET on a pooled connection, once; the caller closes the answer, whatever its status.

        Raises:
          ConnectionLost, RemoteProtocolError, LocalProtocolError: as `HttpClient.request`.
        Cancellation: the connection is closed.
        """
        url, pairs = await self._resolve(_UNENCODED, params)
        return await self._http().start_exchange("GET", url, headers=pairs)

    async def open_events(self, params: Mapping[str, str]) -> HttpGet:
        """As `open_exchange`, on a connection of its own, for events: reads of it can be cancelled without a loss."""
        url, pairs = await self._resolve({**_EVENTS, **_UNENCODED}, params)
        return await self._http().open_get(url, headers=pairs)

    async def ask_on_error(self, error: Exception, attempts: Attempts) -> bool:
        """Whether `on_error` has it tried again; what it returns is kept for all later requests.

        Args:
          error: what would be raised.
          attempts: bounds how often that is asked.
        """
        if self._on_error is None or not attempts.recover():
            return False
        changes = self._on_error(error)
        if inspect.isawaitable(changes):
            changes = await changes
        if changes is None:
            return False
        self._change(changes.get("headers"), changes.get("params"))
        return True

    async def aclose(self) -> None:
        """Close the connections; nothing can be asked any more. Idempotent.

        Cancellation: closes all the same.
        """
        self._is_closed = True
        http, self._own_http = self._own_http, None
        if http is not None and self._pid == os.getpid():
            await http.aclose()
        await trio.lowlevel.checkpoint()

    @property
    def open_connections(self) -> int:
        """How many connections its own pool holds."""
        return 0 if self._own_http is None or self._pid != os.getpid() else self._own_http.open_connections

    def abandon(self) -> None:
        """Nobody will use it any more, and somebody else warns that it was not closed."""
        self._is_closed = True

    def __del__(self) -> None:
        if not self._is_closed and (count := self.open_connections):
            where = public_url(self.url)
            warnings.warn(
                f"the client of {where} was never closed, and has {count} connections: use `async with`, or `aclose`",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def _http(self) -> HttpClient:
        if self._is_closed:
            raise trio.ClosedResourceError(f"the client of {public_url(self.url)} was closed here")
        if self._shared_http is not None:
            return self._shared_http
        if self._own_http is None or self._pid != os.getpid():
            self._own_http, self._pid = HttpClient(tls=self._tls), os.getpid()
        return self._own_http

    async def _attempt(
        self,
        method: str,
        operation: Operation,
        headers: Mapping[str, str],
        params: Mapping[str, str],
        body: bytes | None,
    ) -> HttpResponse | Failure:
        url, pairs = await self._resolve(headers, params)
        try:
            exchange = await self._http().start_exchange(method, url, headers=pairs, body=body)
            try:
                if 200 <= exchange.status < 300:
                    return HttpResponse(exchange.status, exchange.headers, await exchange.receive_body())
                return await find_failure(operation, self.url, exchange)
            finally:
                await exchange.aclose()
        except (ConnectionLost, RemoteProtocolError) as exc:
            return find_lost(operation, self.url, exc)

    async def _settle(self, failure: Failure, attempts: Attempts, repeat: Repeat) -> None:
        """Wait for the next attempt, or have `on_error` change something; else raise."""
        error = failure.error
        if is_passing(error.status, repeat, was_sent=failure.was_sent):
            delay = attempts.fail(failure.retry_after)
            if delay is not None:
                await trio.sleep(delay)
                return
        if not await self.ask_on_error(error, attempts):
            raise error

    def _change(self, headers: HeadersLike | None, params: ParamsLike | None) -> None:
        self._headers.update((name.lower(), value) for name, value in (headers or {}).items())
        self._params.update(params or {})

    async def _resolve(self, headers: Mapping[str, str], params: Mapping[str, str]) -> tuple[str, Headers]:
        """The URL and the headers of one request."""
        own = {name.lower(): _checked_header(name, value) for name, value in headers.items()}
        pairs = [
            (name, _checked_header(name, await _resolved(value)))
            for name, value in self._headers.items()
            if name not in own
        ]
        query = dict(parse_qsl(self._parts.query, keep_blank_values=True))
        for name, value in self._params.items():
            found = await _resolved(value)
            if found is not None:
                query[name] = _checked_text("parameter", name, found)
        return in_query_order(self.url, query | dict(params)), [*pairs, *own.items()]


def in_query_order(url: str, params: Mapping[str, str]) -> str:
    """A URL with these query parameters, in the order of their names, in place of its own query; no fragment."""
    parts = urlsplit(url)
    query = urlencode(sorted(params.items()), quote_via=quote, safe="")
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


async def find_failure(operation: Operation, url: str, answer: Refusable) -> Failure:
    """What an answer that refuses means; reads the beginning of its body, and leaves it open."""
    text = b""
    while len(text) < _MAX_REFUSAL_BYTES and (chunk := await _next_chunk(answer)):
        text += chunk
    fields = dict(answer.headers)
    error = find_refusal(operation, url, answer.status, fields, text[:_MAX_REFUSAL_BYTES].decode("utf-8", "replace"))
    return Failure(error, retry_after=seconds_to_wait(fields))


def find_lost(operation: Operation, url: str, exc: Exception) -> Failure:
    """What a request that brought no whole answer means."""
    error = FetchError(f"can't {operation} {public_url(url)}: {exc}", code="NETWORK_ERROR")
    error.__cause__ = exc
    return Failure(error, was_sent=not isinstance(exc, NotConnected))


async def _next_chunk(answer: Refusable) -> bytes:
    return await (answer.receive() if isinstance(answer, HttpGet) else anext(answer, b""))


async def _resolved(value: object) -> object:
    if callable(value):
        value = value()
        if inspect.isawaitable(value):
            value = await value
    return value


def _checked_header(name: str, value: object) -> str:
    text = _checked_text("header", name, value)
    try:
        text.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"header {name} holds what HTTP can't send", field=name) from exc
    return text


def _checked_text(kind: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise LocalProtocolError(f"{kind} {name} is a str, not {type(value).__name__}", field=name)
    return value

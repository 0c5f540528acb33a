"""Calls procedures over HTTP: calls by POST, server streams by server-sent events.

A reader of its own takes the events from the connection, as far ahead as the high-water mark: so cancelling a
`receive` loses nothing, which the HTTP library under it could not promise.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Final, NoReturn
from urllib.parse import quote, urlencode

import msgspec
import trio
from typing_extensions import TypeVar  # its `default` is in typing from 3.13 on

from trio_streams.codes import Code
from trio_streams.core.records import NO_METADATA, Status
from trio_streams.errors import (
    CodecError,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
    StreamError,
    StreamsError,
)
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.client import any_json, result_codec
from trio_streams.procedures.http_server import LONGEST_MS, TIMEOUT_HEADER
from trio_streams.streams import LocalStream, ReceiveStream, Stream, open_stream
from trio_streams.streams.mapped import MappedReceiveStream
from trio_streams.transports.http_client import ClientExchange, HttpClient
from trio_streams.wire.sse import SseParser

__all__ = ["HttpProcedureClient"]

T = TypeVar("T", default=object)
R = TypeVar("R", default=object)

_DEFAULT_MARK: Final = 256


class HttpProcedureClient:
    """A client over HTTP.

    Args:
      base_url: of the server, without a path's trailing slash.
      http: does the I/O; whoever made it closes it.
    """

    def __init__(self, base_url: str, http: HttpClient) -> None:
        self._base_url = base_url.rstrip("/")
        self._http = http

    async def call(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[T] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> T:
        """Call a procedure; see `Client.call`."""
        codec = result_codec(returns)
        body = b"" if input is None else any_json.encode(input)
        headers = [*_headers(metadata), ("content-type", "application/json")]
        response = await self._http.request("POST", f"{self._base_url}/{quote(name)}", headers=headers, body=body)
        if response.status != 200:
            raise _error(response.status, response.body)
        return codec.decode(response.body)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AsyncIterator[ReceiveStream[R]]:
        """Start a server stream; see `Client.stream`. An HTTP server knows no priorities.

        Raises:
          CodecError: the input is not an object, so it can't be a query.
        """
        codec = result_codec(returns)
        url = f"{self._base_url}/streams/{quote(name)}{_query(input)}"
        headers = [*_headers(metadata), ("accept", "text/event-stream")]
        mark = _DEFAULT_MARK if high_water_mark is None else high_water_mark
        async with self._http.open_exchange("GET", url, headers=headers) as exchange:
            if exchange.status != 200:
                raise _error(exchange.status, await exchange.receive_body())
            async with open_bare_nursery() as nursery, open_stream[bytes](high_water_mark=mark) as events:
                reader = _Reader(exchange, events)
                nursery.start_soon(reader.run)
                yield MappedReceiveStream(events, codec.decode, reader.find_failure)
                nursery.cancel_scope.cancel()

    async def upload(
        self,
        name: str,
        items: Iterable[object] | AsyncIterable[object],
        *,
        returns: type[T] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        priority: int = 0,
    ) -> T:
        """Refused: HTTP carries no client streams here."""
        await trio.lowlevel.checkpoint()
        self._refuse(name, "client")

    @contextlib.asynccontextmanager
    async def bidi(
        self,
        name: str,
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AsyncIterator[Stream[object, R]]:
        """Refused: HTTP carries no bidirectional streams."""
        await trio.lowlevel.checkpoint()
        self._refuse(name, "bidirectional")
        yield  # pragma: no cover - makes this a generator

    def _refuse(self, name: str, kind: str) -> NoReturn:
        raise RpcError(
            Code.UNIMPLEMENTED,
            f"{name!r}: {self._base_url} can't carry a {kind} stream; connect to the server's tcp:// or ws:// URL",
        )


class _Reader:
    """Takes events from the connection into an in-process stream."""

    def __init__(self, exchange: ClientExchange, events: LocalStream[bytes]) -> None:
        self._exchange = exchange
        self._events = events
        self._failure: Exception | None = None

    def find_failure(self) -> Exception | None:
        """What ended the stream instead of its `end` event."""
        return self._failure

    async def run(self) -> None:
        """Read until the end, an error, or a reader who wants no more."""
        try:
            await self._read()
        except (StreamError, trio.ClosedResourceError):
            pass  # the reader of the items has stopped, or has closed its end
        except StreamsError as exc:
            self._failure = exc
            self._events.end()

    async def _read(self) -> None:
        parser = SseParser()
        async for chunk in self._exchange:
            run: list[bytes] = []
            for event in parser.receive(chunk):
                if event.event in {"message", "data"}:
                    run.append(event.data)
                    continue
                await self._events.send_many(run)
                run = []
                if event.event == "end":
                    self._events.end()
                    return
                if event.event == "error":
                    error = _parse_error(event.data, 500)
                    self._events.end(Status(error.code, error.message, error.details))
                    return
            if run:
                await self._events.send_many(run)
        raise ConnectionLost(f"{self._exchange.url} ended before the stream's end")


def _headers(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for key, value in metadata.items():
        if not key.isascii() or max(value, default="") > "\xff":
            raise LocalProtocolError(f"can't send the metadata {key!r} over HTTP: not ISO 8859-1", field=key)
        headers.append((key.lower(), value))
    deadline = trio.current_effective_deadline()
    if not math.isinf(deadline):
        left = min(max(0, math.ceil((deadline - trio.current_time()) * 1000)), LONGEST_MS)
        headers.append((TIMEOUT_HEADER, str(left)))
    return headers


def _query(value: object) -> str:
    """An input as a query: what is text goes as it is, the rest as JSON."""
    if value is None:
        return ""
    document = msgspec.json.decode(any_json.encode(value))
    if not isinstance(document, dict):
        raise CodecError(f"over HTTP a stream's input is an object, not a {type(value).__name__}")
    pairs: list[tuple[str, str]] = []
    for key, item in document.items():
        if item is None:
            continue
        singles = item if isinstance(item, list) else [item]
        pairs += [(key, s if isinstance(s, str) else msgspec.json.encode(s).decode()) for s in singles]
    return f"?{urlencode(pairs)}" if pairs else ""


def _error(status: int, body: bytes) -> RpcError:
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["error"]
    except (KeyError, msgspec.DecodeError):
        return RpcError(Code.UNKNOWN, f"HTTP status {status}, with {len(body)} bytes that are not our error")
    return _parse_error(bytes(fields), status)


class _ErrorFields(msgspec.Struct):
    code: str
    message: str = ""
    details: object = None


def _parse_error(data: bytes, status: int) -> RpcError:
    try:
        fields = msgspec.json.decode(data, type=_ErrorFields)
    except msgspec.DecodeError as exc:
        raise RemoteProtocolError(
            f"an error of {len(data)} bytes with status {status} can't be read: {exc}", field="error", size=len(data)
        ) from exc
    return RpcError(fields.code, fields.message, fields.details)

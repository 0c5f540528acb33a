"""Calls procedures over HTTP: calls and events by POST, uploads as its body, server streams by server-sent events."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import Final, NoReturn, cast
from urllib.parse import quote, urlencode

import attrs
import msgspec
import trio
from typing_extensions import TypeVar  # its `default` is in typing from 3.13 on

from trio_streams.codecs import raw
from trio_streams.codes import Code
from trio_streams.core.records import NO_METADATA
from trio_streams.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
)
from trio_streams.procedures.client import any_json, result_codec
from trio_streams.procedures.coding import BYTES
from trio_streams.procedures.documents.content import INPUT
from trio_streams.procedures.durable.following import DurableItems, Numbered, not_durable
from trio_streams.procedures.durable.path import new_run_id
from trio_streams.procedures.durable.place import PLACE_KEY, RUN_KEY
from trio_streams.procedures.http_server import LONGEST_MS, TIMEOUT_HEADER
from trio_streams.service.ndjson import NDJSON
from trio_streams.streams import ReceiveStream, Stream
from trio_streams.streams.mapped import MappedReceiveStream
from trio_streams.transports.event_source import EventReader, EventStream
from trio_streams.transports.exchange import Headers
from trio_streams.transports.http_client import HttpClient
from trio_streams.transports.http_get import HttpGet
from trio_streams.wire.event_source import EventSourceConfig, EventSourceMachine
from trio_streams.wire.sse import Event

__all__ = ["NEVER", "RECONNECT", "HttpProcedureClient"]

T = TypeVar("T", default=object)
R = TypeVar("R", default=object)

RECONNECT: Final = EventSourceConfig(idle_timeout=None)
"""A server that sends no heartbeats may be silent for good reasons; who knows that it does sets a time."""

_CHUNK_BYTES: Final = 16_384

NEVER: Final = EventSourceConfig(idle_timeout=None, max_attempts=1)
"""Fail where the first connection does."""


class HttpProcedureClient:
    """A client over HTTP.

    Args:
      base_url: of the server, without a path's trailing slash.
      http: does the I/O; whoever made it closes it.
      reconnect: how streams whose items have ids are resumed; `NEVER` for one connection to each.
    """

    def __init__(self, base_url: str, http: HttpClient, *, reconnect: EventSourceConfig = RECONNECT) -> None:
        self._base_url = base_url.rstrip("/")
        self._http = http
        # A procedure is where it is: an answer that leads elsewhere is an error, as it is for calls.
        self._reconnect = attrs.evolve(reconnect, max_redirects=0)

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
        headers = [*_headers(metadata, trio.current_effective_deadline()), ("content-type", "application/json")]
        response = await self._http.request("POST", f"{self._base_url}/{quote(name)}", headers=headers, body=body)
        if response.status != 200:
            raise _error(response.status, response.body)
        return codec.decode(response.body)

    async def event(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        """Tell of an event; see `Client.event`."""
        body = b"" if input is None else any_json.encode(input)
        headers = [*_headers(metadata, trio.current_effective_deadline()), ("content-type", "application/json")]
        response = await self._http.request(
            "POST", f"{self._base_url}/events/{quote(name)}", headers=headers, body=body
        )
        if response.status != 202:
            raise _error(response.status, response.body)

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
        """Start a server stream; see `Client.stream`. HTTP knows no priorities and no marks: what is sent ahead is what
        fits into the connection.

        A stream whose items have ids (`router.stream(…, id_of=…)`) goes on behind the last item if its connection is
        lost or renewed; any other one fails with `ConnectionLost`.

        """
        codec = result_codec(returns)
        machine = self._machine(name, input, None)
        items = _Items(machine)
        reader = EventReader(
            machine,
            self._http,
            may_resume=lambda: machine.last_event_id != "",
            find_headers=_find_headers(metadata),
            explain=self._explain,
        )
        try:
            stream = EventStream(reader, items.take)
            await stream.wait_open()
            yield MappedReceiveStream(stream, codec.decode)
        finally:
            await reader.aclose()

    @contextlib.asynccontextmanager
    async def durable_stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        after: str | None = None,
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AsyncIterator[DurableItems[R]]:
        """Read a durable stream; see `Client.durable_stream`. It comes back as `reconnect` says, marks mean nothing."""
        codec = result_codec(returns)
        machine = self._machine(name, input, after)
        items = _Items(machine)
        places: list[str] = []

        def check_head(headers: Headers) -> Exception | None:
            places.append(dict(headers).get(PLACE_KEY, ""))
            return None if places[-1] else not_durable(name)

        reader = EventReader(
            machine,
            self._http,
            # A run that is asked for by its own id can be joined, even where nothing of it has arrived.
            find_headers=_find_headers({**metadata, RUN_KEY: new_run_id()}),
            explain=self._explain,
            check_head=check_head,
        )
        try:
            stream = EventStream(reader, items.take_numbered)
            await stream.wait_open()
            yield DurableItems(stream, codec.decode, places[0] if places else after or "")
        finally:
            await reader.aclose()

    def _machine(self, name: str, value: object, after: str | None) -> EventSourceMachine:
        url = f"{self._base_url}/streams/{quote(name)}{_query(value)}"
        now = trio.current_time()
        return EventSourceMachine(url, self._reconnect, now=now, random=random.random, last_event_id=after or "")

    async def _explain(self, answer: HttpGet) -> Exception | None:
        if answer.status == 200:
            return None  # something else than events, and perhaps without an end
        body = await answer.receive_body(self._http.config.max_body_bytes)
        try:
            return _error(answer.status, body)
        except RemoteProtocolError as exc:
            return exc

    async def upload(
        self,
        name: str,
        items: Iterable[object] | AsyncIterable[object],
        *,
        returns: type[T] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        priority: int = 0,
        content_type: str | None = None,
    ) -> T:
        """Run a client stream; see `Client.upload`. The answer is read when all has been sent, or the server takes no more.

        Items travel as lines of JSON, or with `application/octet-stream` as bytes, which the server may receive joined or
        cut elsewhere. An HTTP server knows no priorities.
        """
        codec = result_codec(returns)
        is_raw = content_type == BYTES
        headers = [
            *_headers(metadata, trio.current_effective_deadline()),
            ("content-type", BYTES if is_raw else NDJSON),
        ]
        url = f"{self._base_url}/streams/{quote(name)}"
        response = await self._http.request("POST", url, headers=headers, body=_chunks(items, is_raw=is_raw))
        if response.status != 200:
            raise _error(response.status, response.body)
        return codec.decode(response.body)

    @contextlib.asynccontextmanager
    async def bidi(
        self,
        name: str,
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        high_water_mark: int | None = None,
        priority: int = 0,
        content_type: str | None = None,
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


class _Items:
    """Makes payloads of events, and of the last one the end of the stream."""

    def __init__(self, machine: EventSourceMachine) -> None:
        self._machine = machine

    def take(self, events: list[Event]) -> list[bytes]:
        """What events hold; what comes behind the stream's end means nothing."""
        return [event.data for event in self._until_end(events)]

    def take_numbered(self, events: list[Event]) -> list[Numbered]:
        """The same with their ids."""
        return [(event.id, event.data) for event in self._until_end(events)]

    def _until_end(self, events: list[Event]) -> list[Event]:
        items: list[Event] = []
        for event in events:
            if event.event in {"message", "data"}:
                items.append(event)
            elif event.event in {"end", "error"}:
                self._machine.close(None if event.event == "end" else _read_error(event.data, 500))
                break
        return items


def _read_error(data: bytes, status: int) -> Exception:
    try:
        return _parse_error(data, status)
    except RemoteProtocolError as exc:
        return exc


async def _chunks(items: Iterable[object] | AsyncIterable[object], *, is_raw: bool) -> AsyncGenerator[bytes, None]:
    """Items as the chunks of a body; those that are there without waiting go together."""

    def encode(item: object) -> bytes:
        return raw.encode(cast("bytes", item)) if is_raw else any_json.encode(item) + b"\n"

    if isinstance(items, AsyncIterable):
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(items, AsyncGenerator):
                await stack.enter_async_context(contextlib.aclosing(cast("AsyncGenerator[object, None]", items)))
            async for item in items:
                if data := encode(item):
                    yield data
        return
    waiting: list[bytes] = []
    size = 0
    for item in items:
        waiting.append(encode(item))
        size += len(waiting[-1])
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _find_headers(metadata: Mapping[str, str]) -> Callable[[], Headers]:
    """What makes the headers of each attempt; what can't be sent is refused before a connection is made."""
    find_headers = partial(_headers, metadata, trio.current_effective_deadline())
    find_headers()
    return find_headers


def _headers(metadata: Mapping[str, str], deadline: float) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for key, value in metadata.items():
        if not key.isascii() or max(value, default="") > "\xff":
            raise LocalProtocolError(f"can't send the metadata {key!r} over HTTP: not ISO 8859-1", field=key)
        headers.append((key.lower(), value))
    if not math.isinf(deadline):
        left = min(max(0, math.ceil((deadline - trio.current_time()) * 1000)), LONGEST_MS)
        headers.append((TIMEOUT_HEADER, str(left)))
    return headers


def _query(value: object) -> str:
    """An input as a query: fields by name, text as it is and the rest as JSON; what has no fields as a single `input`."""
    if value is None:
        return ""
    document = msgspec.json.decode(any_json.encode(value))
    if not isinstance(document, dict):
        return f"?{urlencode({INPUT: msgspec.json.encode(document).decode()})}"
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

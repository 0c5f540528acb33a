"""Our client of Durable Streams as the protocol's client suite knows clients: one JSON line in, one JSON line out.

`python -m tests.conformance.durable_client_adapter [--blocking]`. Nothing is worked around here: where the client raises,
the answer is an error.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import trio

from tests.conformance.durable_client_faces import BlockingFace, Face, Reading, TrioFace
from tests.conformance.durable_client_producers import Producer, Producers
from trio_streams.durable import (
    AsyncDurableStream,
    DurableStreamError,
    FetchError,
    IdempotentProducer,
    ProducerOptions,
    RetryOptions,
    SeqConflictError,
    StreamClosedError,
    StreamExistsError,
    StreamNotFoundError,
)
from trio_streams.errors import CodecError, LocalProtocolError

Message: TypeAlias = dict[str, Any]
Values: TypeAlias = Mapping[str, Callable[[], str]]

FEATURES: Final = (
    "batching", "sse", "longPoll", "auto", "streaming", "dynamicHeaders", "retryOptions", "batchItems",
    "strictZeroValidation",
)  # fmt: skip

CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (StreamNotFoundError, "NOT_FOUND"),
    (StreamExistsError, "CONFLICT"),
    (StreamClosedError, "STREAM_CLOSED"),
    (SeqConflictError, "SEQUENCE_CONFLICT"),
    (ValueError, "INVALID_ARGUMENT"),
    (LocalProtocolError, "INVALID_ARGUMENT"),
    (CodecError, "INVALID_ARGUMENT"),
)
WORDS: Final = {"PARSE_ERROR": "PARSE_ERROR", "BAD_REQUEST": "INVALID_OFFSET"}
"""The suite's words for what our errors' codes say."""

SPELLINGS: Final = {
    "max_retries": "maxRetries",
    "initial_delay": "initialDelayMs",
    "max_delay": "maxDelayMs",
    "max_batch_bytes": "maxBatchBytes",
    "max_batch_items": "maxBatchItems",
}
"""Options, as the suite spells them in the messages that it looks for."""


def error_code(error: Exception) -> str:
    """What the suite calls an error."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    if not isinstance(error, DurableStreamError | FetchError):
        return "INTERNAL_ERROR"
    if error.status is None and isinstance(error, FetchError):
        return "NETWORK_ERROR"
    return WORDS.get(error.code or "", "CONFLICT" if error.status == 409 else "UNEXPECTED_STATUS")


def failure(command: Message, error: Exception) -> Message:
    """The answer that says what went wrong."""
    message = str(error)
    for ours, theirs in SPELLINGS.items():
        message = message.replace(ours, theirs)
    answer = {"type": "error", "success": False, "commandType": command["type"]}
    return answer | {"errorCode": error_code(error), "message": message, "status": getattr(error, "status", None)}


def _changing_value(kind: str, initial: str) -> Callable[[], str]:
    """What a header or parameter is, each time it is asked for."""
    numbers = itertools.count(1)
    if kind == "counter":
        return lambda: str(next(numbers))
    return (lambda: initial) if kind == "token" else (lambda: str(time.time_ns() // 1_000_000))


class _Recorded:
    """Values that are asked for each request, and what they were last."""

    def __init__(self, values: Values, constant: Mapping[str, str] | None = None) -> None:
        self.last: dict[str, str] = {}
        self.callables: dict[str, Any] = {name: self._record(name, value) for name, value in values.items()}
        self.callables |= constant or {}

    def _record(self, name: str, value: Callable[[], str]) -> Callable[[], str]:
        def ask() -> str:
            self.last[name] = value()
            return self.last[name]

        return ask


class Adapter:
    """Answers commands.

    Args:
      face: the form of the client that is judged.
      producers: the suite's idempotent producers, which live from one command to the next.
    """

    def __init__(self, face: Face, producers: Producers) -> None:
        self._face = face
        self._producers = producers
        self._server_url = ""
        self._content_types: dict[str, str] = {}
        self._headers: dict[str, Callable[[], str]] = {}
        self._params: dict[str, Callable[[], str]] = {}

    async def answer(self, command: Message) -> Message:
        """The answer to a command; what the client raises is one, too."""
        commands: dict[str, Callable[[Message], Awaitable[Message]]] = {
            "init": self._init,
            "create": self._create,
            "connect": self._connect,
            "append": self._append,
            "read": self._read,
            "head": self._head,
            "delete": self._delete,
            "close": self._close,
            "idempotent-append": self._producer_append,
            "idempotent-append-batch": self._producer_batch,
            "idempotent-close": self._producer_close,
            "idempotent-detach": self._producer_detach,
            "set-dynamic-header": self._set_header,
            "set-dynamic-param": self._set_param,
            "clear-dynamic": self._clear_dynamic,
            "validate": self._validate,
            "shutdown": self._shutdown,
        }
        try:
            answer = await commands[command["type"]](command)
        except Exception as error:  # noqa: BLE001 - whatever it is, the suite is to judge it
            return failure(command, error)
        return {"type": command["type"], "success": True} | answer

    def _url(self, command: Message) -> str:
        return f"{self._server_url}{command['path']}"

    def _content_type(self, command: Message) -> str | None:
        return self._content_types.get(command["path"])

    async def _init(self, command: Message) -> Message:
        self._server_url = command["serverUrl"]
        features = dict.fromkeys(FEATURES, True)
        return {"clientName": "trio_streams", "clientVersion": version("trio_streams"), "features": features}

    async def _create(self, command: Message) -> Message:
        url, headers = self._url(command), command.get("headers")
        try:
            await self._face.head(url, headers)
            status = 200
        except DurableStreamError:
            status = 201
        content_type = command.get("contentType", "application/octet-stream")
        body = command.get("data")
        await self._face.create(
            url,
            content_type,
            headers,
            ttl_seconds=command.get("ttlSeconds"),
            expires_at=command.get("expiresAt"),
            body=None if body is None else body.encode(),
            closed=command.get("closed", False),
        )
        self._content_types[command["path"]] = content_type
        return {"status": status, "offset": (await self._face.head(url, headers)).offset}

    async def _connect(self, command: Message) -> Message:
        found = await self._face.connect(self._url(command), command.get("headers"))
        return {"status": 200, "offset": found.offset}

    async def _append(self, command: Message) -> Message:
        data = base64.b64decode(command["data"]) if command.get("binary") else command["data"].encode()
        headers, params = _Recorded(self._headers, command.get("headers")), _Recorded(self._params)
        seq = command.get("seq")
        result = await self._face.append(
            self._url(command),
            data,
            self._content_type(command),
            headers.callables,
            params.callables,
            seq=None if seq is None else str(seq),
        )
        sent = {"headersSent": headers.last, "paramsSent": params.last}
        return {"status": 200, "offset": result.next_offset, "duplicate": result.duplicate} | sent

    async def _read(self, command: Message) -> Message:
        headers, params = _Recorded(self._headers, command.get("headers")), _Recorded(self._params)
        reading = Reading(
            offset=command.get("offset"),
            live=command.get("live", False),
            timeout=command.get("timeoutMs", 5_000) / 1000,
            max_chunks=command.get("maxChunks", 100),
            waits_for_tail=command.get("waitForUpToDate", False),
            headers=headers.callables,
            params=params.callables,
        )
        found = await self._face.read(self._url(command), reading)
        return {
            "status": found.status,
            "chunks": found.chunks,
            "offset": found.offset,
            "upToDate": found.is_up_to_date,
            "streamClosed": found.is_closed,
            "headersSent": headers.last,
            "paramsSent": params.last,
        }

    async def _head(self, command: Message) -> Message:
        found = await self._face.head(self._url(command), command.get("headers"))
        answer = {"status": 200, "offset": found.offset, "contentType": found.content_type}
        return answer | {"streamClosed": found.is_closed, "ttlSeconds": found.ttl_seconds}

    async def _delete(self, command: Message) -> Message:
        await self._face.delete(self._url(command), command.get("headers"))
        self._content_types.pop(command["path"], None)
        return {"status": 200}

    async def _close(self, command: Message) -> Message:
        data = command.get("data")
        content_type = command.get("contentType", self._content_type(command))
        result = await self._face.close(self._url(command), None if data is None else data.encode(), content_type)
        return {"finalOffset": result.next_offset}

    async def _producer_append(self, command: Message) -> Message:
        producer = await self._producer(command)
        await producer.append(command["data"].encode())
        await producer.flush()
        return {"status": 200}

    async def _producer_batch(self, command: Message) -> Message:
        # More than one at a time are wanted to overtake each other: then each message is a batch of its own.
        in_flight = command.get("maxInFlight", 1)
        sizes = {"max_in_flight": in_flight} | ({"max_batch_bytes": 1, "linger": 0} if in_flight > 1 else {})
        producer = self._producers.make(self._url(command), self._content_type(command), command, **sizes)
        async with producer:
            for item in command["items"]:
                await producer.append(item.encode())
            await producer.detach()
        return {"status": 200}

    async def _producer_close(self, command: Message) -> Message:
        data = command.get("data")
        result = await (await self._producer(command)).close(None if data is None else data.encode())
        return {"status": 200, "finalOffset": result.next_offset}

    async def _producer_detach(self, command: Message) -> Message:
        await (await self._producer(command)).detach()
        await self._producers.end(self._url(command), command)
        return {"status": 200}

    async def _producer(self, command: Message) -> Producer:
        return await self._producers.find(self._url(command), self._content_type(command), command)

    async def _set_header(self, command: Message) -> Message:
        self._headers[command["name"]] = _changing_value(command["valueType"], command.get("initialValue", ""))
        return {}

    async def _set_param(self, command: Message) -> Message:
        self._params[command["name"]] = _changing_value(command["valueType"], "")
        return {}

    async def _clear_dynamic(self, command: Message) -> Message:
        self._headers.clear()
        self._params.clear()
        return {}

    async def _validate(self, command: Message) -> Message:
        target = command["target"]
        if target["target"] == "retry-options":
            units = {"initialDelayMs": 1000, "maxDelayMs": 1000}
            given = {ours: target[theirs] for ours, theirs in SPELLINGS.items() if theirs in target}
            RetryOptions(
                **{
                    name: value / units.get(SPELLINGS[name], 1) if "delay" in name else value
                    for name, value in given.items()
                },
                **({"multiplier": target["multiplier"]} if "multiplier" in target else {}),
            )
            return {}
        handle = AsyncDurableStream(f"{self._server_url}/nowhere", content_type="text/plain")
        options = {"max_batch_items": target["maxBatchItems"]} if "maxBatchItems" in target else {}
        sizes = {"max_batch_bytes": target["maxBatchBytes"]} if "maxBatchBytes" in target else {}
        IdempotentProducer(
            handle, target["producerId"], epoch=target.get("epoch", 0), options=ProducerOptions(**options), **sizes
        )
        return {}

    async def _shutdown(self, command: Message) -> Message:
        return {}


async def main(*, blocking: bool) -> None:
    """Answer commands until there are no more."""
    stdin = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    async with trio.open_nursery() as nursery:
        adapter = Adapter(BlockingFace() if blocking else TrioFace(), Producers(nursery, blocking=blocking))
        received = b""
        async for chunk in stdin:
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                answer = await adapter.answer(json.loads(line))
                sys.stdout.write(json.dumps({key: value for key, value in answer.items() if value is not None}) + "\n")
                sys.stdout.flush()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(lambda: main(blocking="--blocking" in sys.argv[1:]))

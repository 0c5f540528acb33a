"""The server's operations for whoever is in the same process: no HTTP, the same decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import attrs
import trio

from trio_streams.durable.errors import (
    DurableStreamError,
    RetentionGoneError,
    SeqConflictError,
    SequenceGapError,
    StaleEpochError,
    StreamClosedError,
    StreamExistsError,
    StreamNotFoundError,
)
from trio_streams.durable.headers import BEGINNING
from trio_streams.durable.protocol import answers
from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.machine import Chunk, Machine
from trio_streams.durable.protocol.needs import Running, Wait
from trio_streams.durable.protocol.offsets import format_offset
from trio_streams.durable.protocol.operations import Append, Create, Fork, List, Read, Start
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.requests import parse_start
from trio_streams.durable.server.driver import Driver
from trio_streams.durable.store.base import StreamRecord
from trio_streams.durable.types import AppendResult, HeadResult, Offset

__all__ = ["LocalOperations", "StreamChunk", "as_error"]

T = TypeVar("T")

_ERRORS: Final[Mapping[str, type[DurableStreamError]]] = {
    "NOT_FOUND": StreamNotFoundError,
    "GONE": RetentionGoneError,
    "RETENTION_GONE": RetentionGoneError,
    "STREAM_EXISTS": StreamExistsError,
    "STREAM_CLOSED": StreamClosedError,
    "CONTENT_TYPE_MISMATCH": SeqConflictError,
    "SEQ_CONFLICT": SeqConflictError,
    "STALE_EPOCH": StaleEpochError,
    "SEQUENCE_GAP": SequenceGapError,
}


@attrs.frozen(slots=True)
class StreamChunk:
    """A part of a stream.

    Attributes:
      data: bytes; of a JSON stream, an array of messages.
      next_offset: go on here.
      is_up_to_date: whether it was the tail.
      is_closed: whether nothing more will come.
    """

    data: bytes
    next_offset: Offset
    is_up_to_date: bool
    is_closed: bool


class LocalOperations:
    """What a running server does without HTTP. Paths are relative to its root: `chat/1`.

    Every method raises the errors of `trio_streams.durable`, and `trio.ClosedResourceError` where the server does not run.
    Cancellation: what is decided stays decided, and becomes durable; the result is lost. So an append that is repeated
    after a cancellation is repeated as a producer.

    Args:
      machine: whose operations these are.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._driver: Driver | None = None

    @property
    def _running(self) -> Driver:
        if self._driver is None:
            raise trio.ClosedResourceError("the server is not running: it is entered with `async with`")
        return self._driver

    async def _do(self, operation: Running[T]) -> T:
        await trio.lowlevel.checkpoint()
        try:
            return await self._running.run(operation)
        except Refused as exc:
            raise as_error(exc) from None

    async def create(
        self,
        path: str,
        *,
        content_type: str | None = None,
        ttl_seconds: int | None = None,
        expires_at: float | None = None,
        body: bytes = b"",
        is_closed: bool = False,
    ) -> HeadResult:
        """Create a stream, or find it as it is wanted.

        Args:
          path: of the stream.
          content_type: None for `application/octet-stream`.
          ttl_seconds: seconds without a read or write after which it expires.
          expires_at: Unix seconds at which it expires.
          body: its first bytes; of a JSON stream, a message or an array of some.
          is_closed: whether nothing may follow.

        Raises:
          StreamExistsError: there is another one.
          DurableStreamError: the body is no JSON, or a limit is reached.
        """
        operation = Create(path, content_type, ttl_seconds, expires_at, is_closed)
        return _head((await self._do(self._machine.create(operation, body))).record)

    async def fork(
        self, source: str, path: str, *, offset: Offset | None = None, sub_offset: int = 0, body: bytes = b""
    ) -> HeadResult:
        """Create a stream that begins as another one.

        Args:
          source: path of the other one.
          path: of the new one.
          offset: where it branches off; None for the source's tail.
          sub_offset: messages (JSON) or bytes behind `offset`.
          body: its first own bytes.

        Raises:
          StreamNotFoundError: there is no source.
          StreamExistsError: there is another stream at `path`, or the source is deleted.
          DurableStreamError: there is no such place in the source.
        """
        operation = Create(path, fork=Fork(source, offset, sub_offset))
        return _head((await self._do(self._machine.create(operation, body))).record)

    async def append(
        self,
        path: str,
        data: bytes,
        *,
        producer: tuple[str, int, int] | None = None,
        seq: str | None = None,
        is_closing: bool = False,
    ) -> AppendResult:
        """Append to a stream, which is durable on return.

        Args:
          path: of the stream.
          data: at least one byte; of a JSON stream, a message or an array of some.
          producer: id, epoch and sequence number of an idempotent producer.
          seq: greater than the last one.
          is_closing: whether nothing may follow.

        Raises:
          StreamNotFoundError: there is no such stream.
          StreamClosedError: it takes nothing more.
          SeqConflictError, StaleEpochError, SequenceGapError: see there.
          DurableStreamError: the data is no JSON.
        """
        return await self._do(self._append(path, data, producer, seq, is_closing))

    def _append(
        self, path: str, data: bytes, producer: tuple[str, int, int] | None, seq: str | None, is_closing: bool
    ) -> Running[AppendResult]:
        state = yield from self._machine.find(path)
        operation = Append(path, state.record.content_type, is_closing, producer, seq)
        result = yield from self._machine.append(operation, data)
        return AppendResult(format_offset(result.tail), result.is_duplicate)

    async def close(self, path: str) -> AppendResult:
        """Close a stream: nothing may follow. Idempotent."""
        result = await self._do(self._machine.append(Append(path, is_closing=True), b""))
        return AppendResult(format_offset(result.tail), result.is_duplicate)

    async def read(self, path: str, offset: Offset = BEGINNING) -> StreamChunk:
        """Read what follows an offset, up to `max_read_bytes`, and one append's entry at least.

        Raises:
          StreamNotFoundError: there is no such stream.
          RetentionGoneError: what is there is not kept any more.
          DurableStreamError: it is no offset.
        """
        return _chunk(await self._do(self._machine.read(Read(path, _start(offset)))))

    async def wait(self, path: str, offset: Offset, *, timeout: float | None = None) -> bool:
        """Wait until a stream has more than an offset to tell: data, or its closure.

        Args:
          path: of the stream.
          offset: of what is known.
          timeout: seconds; None for ever.

        Returns:
          Whether it has.

        Raises:
          StreamNotFoundError: there is no such stream, or not any more.
        """
        return await self._do(self._wait(Read(path, _start(offset)), timeout))

    def _wait(self, operation: Read, timeout: float | None) -> Running[bool]:
        state, position = yield from self._machine.follow(operation)
        is_ready: bool = yield Wait(state, self._machine.growth(state, position), timeout)
        self._machine.leave(state)
        yield from self._machine.find(operation.path)
        return is_ready

    async def head(self, path: str) -> HeadResult:
        """What is known about a stream."""
        return _head(await self._do(self._machine.head(path)))

    async def delete(self, path: str) -> None:
        """Delete a stream; while forks read from it, its bytes stay for them."""
        await self._do(self._machine.delete(path))

    async def list(self, prefix: str = "", *, after: str = "", limit: int = 100) -> Sequence[str]:
        """Paths of streams, in order.

        Args:
          prefix: of the paths.
          after: the path behind which to begin.
          limit: how many at most.
        """
        records = await self._do(self._machine.list_streams(List(prefix, after, limit)))
        return [record.path for record in records]


def _start(offset: Offset) -> int | Start:
    try:
        return parse_start(offset)
    except Refused as refused:
        raise as_error(refused) from None


def _head(record: StreamRecord) -> HeadResult:
    return HeadResult(
        content_type=record.content_type,
        offset=format_offset(record.tail),
        is_closed=record.is_closed,
        ttl_seconds=record.ttl_seconds,
        expires_at=None if record.expires_at is None else answers.format_time(record.expires_at),
    )


def _chunk(chunk: Chunk) -> StreamChunk:
    data = to_array(chunk.pieces) if chunk.state.is_json else b"".join(chunk.pieces)
    return StreamChunk(data, format_offset(chunk.end), chunk.is_up_to_date, chunk.is_closed)


def as_error(refused: Refused) -> DurableStreamError:
    """A refusal as the error that a client would raise for it."""
    kind = _ERRORS.get(refused.code, DurableStreamError)
    error = kind(refused.message, status=refused.status, code=refused.code)
    fields = dict(refused.headers)
    if isinstance(error, StreamClosedError):
        error.final_offset = fields.get("stream-next-offset")
    elif isinstance(error, StaleEpochError):
        error.current_epoch = int(fields["producer-epoch"])
    elif isinstance(error, SequenceGapError):
        error.expected_seq = int(fields["producer-expected-seq"])
        error.received_seq = int(fields["producer-received-seq"])
    return error

"""Durable streams as the logs of procedures' runs: one stream for each, its items the messages.

A writer is an idempotent producer whose every append also says where it is to be: so neither a writer that was replaced
nor a stranger's append can get between its items, whoever is first.

A position is a stream's, so that of a batch's end is an offset that any reader of the stream knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from trio_streams.codes import Code
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.machine import Machine, check_alive, read_range
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.durable.protocol.needs import Running, Settle, Wait
from trio_streams.durable.protocol.offsets import format_offset
from trio_streams.durable.protocol.operations import Append, Create, Read
from trio_streams.durable.protocol.refusals import not_found
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.store.base import StreamRecord
from trio_streams.errors import RpcError
from trio_streams.service.replay_log import LogItems, LogState, RunLog

__all__ = ["StreamLogs"]

T = TypeVar("T")

_JSON: Final = "application/json"
_PRODUCER: Final = "run"
_messages: Final = msgspec.json.Decoder(list[msgspec.Raw])

_CODES: Final = {
    "NOT_FOUND": Code.NOT_FOUND,
    "GONE": Code.NOT_FOUND,
    "RETENTION_GONE": Code.OUT_OF_RANGE,
    "STREAM_EXISTS": Code.ALREADY_EXISTS,
    "STREAM_CLOSED": Code.ABORTED,
    "STALE_EPOCH": Code.ABORTED,
    "SEQUENCE_GAP": Code.ABORTED,
    "PRECONDITION_FAILED": Code.ABORTED,
    "CONTENT_TYPE_MISMATCH": Code.FAILED_PRECONDITION,
    "INVALID_ARGUMENT": Code.INVALID_ARGUMENT,
    "RESOURCE_EXHAUSTED": Code.RESOURCE_EXHAUSTED,
}


class _Do(Protocol):
    """Runs an operation; raises as `LocalOperations`."""

    async def __call__(self, operation: Running[T], /) -> T: ...


class StreamLogs:
    """A `ReplayLog` on the streams of a server.

    Args:
      machine: whose operations these are.
      do: runs them.
      prefix: before each path.
    """

    def __init__(self, machine: Machine, do: _Do, prefix: str) -> None:
        self._machine = machine
        self._do_it = do
        self._prefix = prefix

    async def do(self, operation: Running[T]) -> T:
        """Run an operation, with the errors that `ReplayLog` has.

        Raises:
          RpcError: it was refused, or the server does not run.
        """
        try:
            return await self._do_it(operation)
        except DurableStreamError as exc:
            raise RpcError(_CODES.get(exc.code or "", Code.UNAVAILABLE), exc.message) from exc
        except trio.ClosedResourceError as exc:
            raise RpcError(Code.UNAVAILABLE, "the server of the runs' logs does not run") from exc

    async def find(self, path: str) -> RunLog | None:
        """See `ReplayLog.find`."""
        path = self._prefix + path
        try:
            record = await self.do(self._machine.head(path))
        except RpcError as exc:
            if exc.known_code is Code.NOT_FOUND:
                return None
            raise
        return self._log(record)

    async def create(self, path: str, *, keep_seconds: int | None) -> tuple[RunLog, bool]:
        """See `ReplayLog.create`. One that is there keeps the time to live that it has."""
        while True:
            if (log := await self.find(path)) is not None:
                return log, False
            operation = Create(self._prefix + path, _JSON, keep_seconds)
            try:
                created = await self.do(self._machine.create(operation))
            except RpcError as exc:
                if exc.known_code is Code.ALREADY_EXISTS and await self.find(path) is not None:
                    continue
                raise
            return self._log(created.record), created.is_new

    def _log(self, record: StreamRecord) -> StreamLog:
        return StreamLog(self, self._machine, record)


class StreamLog:
    """A `RunLog`: one stream, and none that is made at its path later.

    Args:
      logs: all of them.
      machine: whose operations these are.
      record: of the stream.

    Raises:
      RpcError: FAILED_PRECONDITION: it is no stream of JSON.
    """

    def __init__(self, logs: StreamLogs, machine: Machine, record: StreamRecord) -> None:
        if not is_json(record.content_type):
            raise RpcError(Code.FAILED_PRECONDITION, f"the stream at {record.path!r} is no log: it holds no JSON")
        self._logs = logs
        self._machine = machine
        self._path = record.path
        self._id = record.stream_id
        # A store in memory begins to count anew with its process.
        self._log_id = f"{record.stream_id}-{int(record.created_at * 1_000_000):x}"

    @property
    def log_id(self) -> str:
        """See `RunLog`."""
        return self._log_id

    async def state(self) -> LogState:
        """See `RunLog.state`."""
        record = await self._logs.do(self._machine.head(self._path))
        self._check(record)
        return LogState(record.start, record.tail, record.is_closed)

    async def read(self, position: int, *, max_bytes: int) -> LogItems:
        """See `RunLog.read`."""
        return await self._logs.do(self._read(position, max_bytes))

    async def wait_behind(self, position: int) -> None:
        """See `RunLog.wait_behind`."""
        await self._logs.do(self._wait(position))

    async def take_over(self) -> StreamWriter:
        """See `RunLog.take_over`."""
        return await self._logs.do(self._take_over())

    def _check(self, record: StreamRecord) -> None:
        if record.stream_id != self._id:
            raise RpcError(Code.NOT_FOUND, f"the log at {self._path!r} is another one now")

    def _find(self) -> Running[StreamState]:
        state = yield from self._machine.find(self._path)
        self._check(state.record)
        return state

    def _read(self, position: int, max_bytes: int) -> Running[LogItems]:
        state = yield from self._find()
        if position > state.durable.tail:
            raise RpcError(Code.OUT_OF_RANGE, f"{position} is behind the tail of the log")
        # It counts for the time to live, and refuses what is not kept.
        state, position = yield from self._machine.follow(Read(self._path, position))
        if position == state.durable.tail:
            return LogItems((), position, state.durable.is_closed)
        pieces, end = yield from read_range(state, position, state.durable.tail, max_bytes)
        check_alive(state)
        items = [bytes(raw) for raw in _messages.decode(to_array(pieces))]
        return LogItems(items, end, end == state.durable.tail and state.durable.is_closed)

    def _wait(self, position: int) -> Running[None]:
        state = yield from self._find()
        yield Wait(state, self._machine.growth(state, position))
        self._machine.leave(state)
        check_alive(state)

    def _take_over(self) -> Running[StreamWriter]:
        state = yield from self._find()
        if state.pending is not None:
            yield Settle(state.pending)
        state = yield from self._find()
        known = state.producers.get(_PRODUCER)
        epoch = 0 if known is None else known.epoch + 1
        return StreamWriter(self._logs, self._machine, self._path, epoch, state.record)


class StreamWriter:
    """A `LogWriter`: an idempotent producer that knows where it is."""

    def __init__(self, logs: StreamLogs, machine: Machine, path: str, epoch: int, record: StreamRecord) -> None:
        self._logs = logs
        self._machine = machine
        self._path = path
        self._epoch = epoch
        self._seq = 0
        self._id = record.stream_id
        self._tail = record.tail

    async def append(self, items: Sequence[bytes], *, close: bool = False) -> None:
        """See `LogWriter.append`."""
        await self._logs.do(self._append(b"[" + b",".join(items) + b"]" if items else b"", close))

    def _append(self, body: bytes, is_closing: bool) -> Running[None]:
        state = yield from self._machine.find(self._path)
        if state.record.stream_id != self._id:
            raise not_found(self._path)
        producer = (_PRODUCER, self._epoch, self._seq)
        at = f'"{format_offset(self._tail)}"'
        result = yield from self._machine.append(Append(self._path, _JSON, is_closing, producer, if_match=at), body)
        if result.is_duplicate:
            # This writer repeats nothing: another one has the same epoch, and was faster.
            raise RpcError(Code.ABORTED, "another writer has taken over the log")
        self._seq += 1
        self._tail = result.tail

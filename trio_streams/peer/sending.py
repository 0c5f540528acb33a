"""One stream of ours, from the first item to its end: what `send_stream` does."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from typing import cast

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.connection import Connection
from trio_streams.core.records import NO_METADATA, Status
from trio_streams.errors import ConnectionLost, StreamReset, StreamStopped, as_rpc_error
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer.batch import Batcher, BatchOptions
from trio_streams.peer.coding import Encoding
from trio_streams.peer.rate_limit import Pacer, RateLimit
from trio_streams.peer.receive_stream import connection_closed
from trio_streams.streams.abc import StreamStatistics
from trio_streams.streams.wire import WireStream
from trio_streams.wire.signal_names import AFTER, STREAM, STREAM_ID

__all__ = ["Sending"]


@attrs.define(kw_only=True)
class Sending:
    """A stream that we send.

    Attributes:
      stream_id: its id.
      address: the metadata that says for whom it is.
      over: set when nothing more is queued for it.
      wire: the stream on the wire, once it is open.
    """

    stream_id: str
    encoding: Encoding
    priority: int
    weight: int
    batch: BatchOptions | None
    rate_limit: RateLimit | None
    after: str | None
    address: Mapping[str, str] = NO_METADATA
    over: trio.Event = attrs.field(factory=trio.Event)
    wire: WireStream[object, bytes] | None = None
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def abort(self) -> None:
        """Abandon the stream: the receiver gets `StreamReset`, and sending ends."""
        if self.wire is not None:
            self.wire.reset(Code.CANCELLED, "aborted")
        self._scope.cancel()

    async def run(
        self,
        connection: Connection,
        items: Iterable[object] | AsyncIterable[object],
        wait_for: Callable[[str], Awaitable[None]],
    ) -> None:
        """Send everything, then END; see `RpcPeer.send_stream`. What makes the items is closed, whatever happens.

        Args:
          connection: takes them.
          items: what is sent.
          wait_for: waits until a stream of ours has left to its end.
        """
        async with _closing(items):
            with self._scope:
                if self.after is not None:
                    await wait_for(self.after)
                await self._run(connection, items)

    async def _run(self, connection: Connection, items: Iterable[object] | AsyncIterable[object]) -> None:
        failure: Exception | None = None
        reason: Exception | None = None
        try:
            async with connection.open_stream(STREAM, metadata=self._metadata(), priority=self.priority) as wire:
                self.wire = wire.typed(self._encoder(), None)
                if self.weight > 1:
                    wire.weight = self.weight
                wire.cancels_owner = True
                try:
                    await self._send_all(self.wire, items)
                except Exception as exc:  # noqa: BLE001 - raised below, when the peer has been told
                    failure = exc
                    error = as_rpc_error(exc)
                    wire.end(Status(error.code, error.message, error.details))
                else:
                    wire.end()
        except ConnectionLost as exc:
            failure = exc  # there is no room for another stream, and never will be
        if self.wire is not None:
            reason = self.wire.cancel_reason
        self._conclude(connection, reason or failure)

    def _conclude(self, connection: Connection, failure: Exception | None) -> None:
        if self._scope.cancel_called:
            return  # aborted
        if isinstance(failure, ConnectionLost) and connection.lost is not None:
            raise connection_closed(failure) from failure
        if isinstance(failure, StreamReset) and self.wire is not None and failure is self.wire.cancel_reason:
            # A peer that wants nothing of the stream may abandon its own half first.
            raise StreamStopped(failure.code, failure.reason) from failure
        if failure is not None and not (isinstance(failure, StreamStopped) and failure.code is Code.OK):
            raise failure

    def _metadata(self) -> Mapping[str, str]:
        after = {} if self.after is None else {AFTER: self.after}
        return {STREAM_ID: self.stream_id, **self.encoding.metadata, **after, **self.address}

    def _encoder(self) -> Callable[[object], bytes]:
        """What the wire's items are made with; those of a batch are payloads already."""
        encoding = self.encoding
        if self.batch is None:
            return encoding.encode if encoding.pack is None else encoding.encode_whole
        return cast("Callable[[object], bytes]", bytes if encoding.pack is None else encoding.pack)

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream; `id` is the one that the peers agreed on."""
        if self.wire is None:
            return StreamStatistics(id=self.stream_id, send_state="open")
        return attrs.evolve(self.wire.statistics(), id=self.stream_id)

    # -- items --------------------------------------------------------------------------------------------------

    async def _send_all(self, wire: WireStream[object, bytes], items: Iterable[object] | AsyncIterable[object]) -> None:
        if self.batch is not None:
            await self._send_batched(_Batches(wire, self.batch), items)
        elif self.rate_limit is not None:
            async for item in self._paced(items):
                await wire.send(item)
        else:
            await wire.send_many(items)

    async def _send_batched(self, batches: _Batches, items: Iterable[object] | AsyncIterable[object]) -> None:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(batches.send_late)
            try:
                async for item in self._paced(items):
                    await batches.add(self.encoding.encode(item))
            except Exception:
                await batches.flush()  # what was made before a failure is sent before it
                raise
            await batches.flush()
            nursery.cancel_scope.cancel()

    def _paced(self, items: Iterable[object] | AsyncIterable[object]) -> _Paced:
        return _Paced(items, None if self.rate_limit is None else Pacer(self.rate_limit))


class _Paced:
    """The items of any iterable, each when it is due. No generator: it would have to be closed."""

    def __init__(self, items: Iterable[object] | AsyncIterable[object], pacer: Pacer | None) -> None:
        self._pacer = pacer
        self._later = aiter(items) if isinstance(items, AsyncIterable) else None
        self._now = None if isinstance(items, AsyncIterable) else iter(items)

    def __aiter__(self) -> _Paced:
        return self

    async def __anext__(self) -> object:
        if self._later is not None:
            item = await anext(self._later)
        else:
            assert self._now is not None
            try:
                item = next(self._now)
            except StopIteration:
                raise StopAsyncIteration from None
        if self._pacer is not None:
            await self._pacer.wait()
        return item


class _Batches:
    """Fills batches. Those that are full leave at once, those that are late by a task of its own."""

    def __init__(self, wire: WireStream[object, bytes], options: BatchOptions) -> None:
        self._wire = wire
        self._batcher = Batcher(options)
        self._turn = trio.Lock()
        self._begun = trio.lowlevel.ParkingLot()

    async def add(self, payload: bytes) -> None:
        """Put an item into the batch, waiting where the stream is full."""
        batcher = self._batcher
        if not batcher.fits(payload):
            await self.flush()
        was_empty = not len(batcher)
        if batcher.add(payload, trio.current_time()):
            await self.flush()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        if was_empty:
            self._begun.unpark_all()

    async def flush(self) -> None:
        """Send what there is, behind what is being sent."""
        async with self._turn:
            if len(self._batcher):
                await self._wire.send(self._batcher.take())

    async def send_late(self) -> None:
        """Send each batch that its deadline finds unfilled."""
        while True:
            deadline = self._batcher.deadline
            if deadline is None:
                await self._begun.park()
            elif trio.current_time() >= deadline:
                await self.flush()
            else:
                await trio.sleep_until(deadline)


@asynccontextmanager
async def _closing(items: object) -> AsyncIterator[None]:
    """Close a generator in the task that iterates it (PEP 533); anything else is its owner's."""
    if isinstance(items, AsyncGenerator):
        async with aclosing(items):
            yield
        return
    try:
        yield
    finally:
        if isinstance(items, Generator):
            items.close()

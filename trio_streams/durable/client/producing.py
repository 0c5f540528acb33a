"""A producer whose messages are stored once and in order, whatever happens to its connections.

One task decides what leaves and when, by `protocol/sequencer.py`; each batch under way has a task for as long as its
request. They live in a nursery of the producer's own, which its `async with` opens and closes.

Spec: Durable Streams §5.2.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Self
from weakref import WeakKeyDictionary

import attrs
import trio

from trio_streams.config import at_least, positive
from trio_streams.durable.client.handle import AsyncDurableStream
from trio_streams.durable.client.payloads import encode
from trio_streams.durable.client.requests import Failure
from trio_streams.durable.client.writing import StreamWriter
from trio_streams.durable.errors import FetchError, ProducerClosedError, SequenceGapError, StaleEpochError
from trio_streams.durable.headers import PRODUCER_EPOCH, PRODUCER_ID, PRODUCER_SEQ, STREAM_CLOSED, STREAM_NEXT_OFFSET
from trio_streams.durable.protocol.failures import Operation, is_true, public_url
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.durable.protocol.retry import Attempts, Repeat, RetryOptions, is_passing
from trio_streams.durable.protocol.sequencer import MAX_NUMBER, NumberedBatch, ProducerProgress, Sequencer
from trio_streams.durable.types import AppendResult, ErrorHandler
from trio_streams.errors import LocalProtocolError
from trio_streams.nursery import open_bare_nursery
from trio_streams.streams.pace import Pace
from trio_streams.transports.http_client import HttpResponse

__all__ = ["IdempotentProducer", "ProducerOptions"]

_RETRY: Final = RetryOptions(max_retries=12)
"""About a minute: sending a batch again is harmless, so it may take longer than other requests."""


@attrs.frozen(kw_only=True)
class ProducerOptions:
    """The limits of a producer that are seldom changed.

    Attributes:
      max_batch_items: messages of one request.
      max_pending_bytes: messages that are not acknowledged, each with 64 bytes more; past it `append` waits.
      close_timeout: seconds that leaving the block waits until all is acknowledged.
      retry: how often and when a batch is sent again.
    """

    max_batch_items: int = attrs.field(default=4_096, validator=at_least(1))
    max_pending_bytes: int = attrs.field(default=8_388_608, validator=at_least(1))
    close_timeout: float = attrs.field(default=30.0, validator=positive)
    retry: RetryOptions = _RETRY


class IdempotentProducer:
    """Appends to a stream so that each message is stored once, in order, in the background.

    `async with IdempotentProducer(stream, "orders-1") as producer:`. Left normally, the block waits until all is stored,
    `close_timeout` seconds at most. Left by an exception or a cancellation, it gives up what is not stored yet:
    `progress` says how far it got, and so does a note on the exception.

    What goes wrong is raised once, by the next call or by leaving the block:

    - A `FetchError` leaves everything as it is; the call after that tries again, with the same batches.
    - Another error stops the producer: what follows raises `ProducerClosedError` until `restart`.

    Args:
      stream: where to append; its URL, headers and parameters are used, on connections of the producer's own.
      producer_id: names the producer across restarts; one that writes under it at a time, the others are shut out.
      epoch: counts the restarts of the producer; a higher one shuts out those before.
      auto_claim: whether to take over from a producer that has used this epoch or a higher one, in place of a
        `StaleEpochError`. That is still raised where a batch got no answer before: it may be stored already. Without it,
        what another run has stored under the same numbers counts as stored (`progress.duplicate_items`).
      max_batch_bytes: messages of one request, together; one larger message is a request of its own.
      linger: seconds that a message waits for company.
      max_in_flight: requests at once.
      on_error: as the stream's, in place of it; not asked about gaps and epochs.
      options: the rest of the limits.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(
        self,
        stream: AsyncDurableStream,
        producer_id: str,
        *,
        epoch: int = 0,
        auto_claim: bool = False,
        max_batch_bytes: int = 1_048_576,
        linger: float = 0.005,
        max_in_flight: int = 5,
        on_error: ErrorHandler | None = None,
        options: ProducerOptions | None = None,
    ) -> None:
        if not producer_id:
            raise ValueError("producer_id must not be empty")
        if not 0 <= epoch <= MAX_NUMBER:
            raise ValueError(f"epoch must be from 0 to {MAX_NUMBER}, not {epoch!r}")
        if max_batch_bytes < 1 or max_in_flight < 1 or not linger >= 0:
            raise ValueError("max_batch_bytes and max_in_flight must be at least 1, and linger not negative")
        self.producer_id: str = producer_id
        self._options = ProducerOptions() if options is None else options
        self._sequencer = Sequencer(
            epoch=epoch,
            auto_claim=auto_claim,
            max_in_flight=max_in_flight,
            max_batch_bytes=max_batch_bytes,
            max_batch_items=self._options.max_batch_items,
            max_pending_bytes=self._options.max_pending_bytes,
            linger=linger,
        )
        self._stream = stream
        self._on_error = on_error
        self._writer: StreamWriter | None = None
        self._manager: AbstractAsyncContextManager[Self] | None = None
        self._attempts: WeakKeyDictionary[NumberedBatch, Attempts] = WeakKeyDictionary()
        self._told: Exception | None = None
        self._is_detached = False
        self._pace, self._kick = Pace(), trio.Event()
        self._room = trio.lowlevel.ParkingLot()
        self._progressed = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        if self._manager is not None:
            raise LocalProtocolError("a producer can be entered once")
        self._manager = self._run()
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._manager is not None
        return await self._manager.__aexit__(kind, exc, traceback)

    @property
    def is_open(self) -> bool:
        """Whether its block was entered and is not left yet."""
        return self._writer is not None

    @property
    def epoch(self) -> int:
        """Of the batches to come."""
        return self._sequencer.epoch

    @property
    def next_seq(self) -> int:
        """The number of the next new batch."""
        return self._sequencer.next_seq

    @property
    def progress(self) -> ProducerProgress:
        """How far it is; also after the block."""
        return self._sequencer.progress

    def explain(self, exc: BaseException) -> None:
        """Note on an exception how far the producer is, if not all is stored."""
        progress = self.progress
        if progress.doubtful_items or progress.unsent_items:
            exc.add_note(
                f"producer {self.producer_id!r}: {progress.acknowledged_items} messages are stored, "
                f"{progress.doubtful_items} may be, {progress.unsent_items} are not"
            )

    async def append(self, data: object) -> None:
        """Have a message stored; waits only while too much is not acknowledged yet.

        Args:
          data: as for `AsyncDurableStream.append`.

        Raises:
          LocalProtocolError, CodecError: the data can't be appended to this stream.
          ProducerClosedError: the producer was closed or detached, or has failed before.
          What went wrong before, once.
        Cancellation: atomic; a cancelled call appends nothing.
        """
        await self._pace.step()
        payload = self._encode(data)
        self._check()
        if self._room or not self._sequencer.has_room:
            await self._room.park()
            self._check()
            while not self._sequencer.has_room:
                await self._room.park()
                self._check()
        self._put(payload)
        if self._sequencer.has_room:
            self._room.unpark()

    def append_nowait(self, data: object) -> None:
        """As `append`, without waiting.

        Raises:
          trio.WouldBlock: too much is not acknowledged yet, or others wait.
          As for `append`.
        """
        payload = self._encode(data)
        self._check()
        if self._room or not self._sequencer.has_room:
            raise trio.WouldBlock
        self._put(payload)

    async def flush(self) -> None:
        """Send what waits for company, and wait until all that was appended before is stored.

        Raises:
          ProducerClosedError: the producer has failed before.
          What went wrong, once.
        Cancellation: it goes on in the background.
        """
        await trio.lowlevel.checkpoint()
        self._check(is_adding=False)
        await self._flush()

    async def close(self, data: object = None) -> AppendResult:
        """Close the stream for good, once all that was appended before is stored.

        It is closed once, however often this is called or its request is sent.

        Args:
          data: a last message, stored with the closing as one; None for none. A later call's is not looked at.

        Returns:
          The stream's last offset.

        Raises:
          As for `append`; StreamClosedError: somebody else has closed it.
        Cancellation: the stream is closed all the same, unless the block is left before.
        """
        await trio.lowlevel.checkpoint()
        if self._sequencer.result is None and not self._sequencer.is_closing:
            payload = None if data is None else self._encode(data)
            self._check()
            self._sequencer.close(payload, trio.current_time())
            self._room.unpark_all()
        while self._sequencer.result is None:
            self._check(is_adding=False)
            self._kick.set()
            await self._progressed.park()
        return self._sequencer.result

    async def detach(self) -> None:
        """Take no more messages, and wait until all is stored; the stream stays open. Idempotent.

        Raises and cancellation as `flush`.
        """
        self._is_detached = True
        self._room.unpark_all()
        await self.flush()

    async def restart(self) -> None:
        """Begin the next epoch: whoever writes under this id in an earlier one is shut out.

        All that was appended before is stored first. Where the producer has failed, what is not stored is given up.

        Raises:
          LocalProtocolError: the stream was closed by this producer.
          What went wrong, once; call it again to give up what is not stored.
        Cancellation: the epoch stays as it is.
        """
        await trio.lowlevel.checkpoint()
        self._writing()
        if not (self._sequencer.has_failed and self._sequencer.error is self._told):
            self._check(is_adding=False)
            await self._flush()
        while self._sequencer.is_under_way:
            await self._progressed.park()
        self._sequencer.restart()
        self._is_detached = False

    def _writing(self) -> StreamWriter:
        if self._writer is None:
            raise LocalProtocolError("a producer works inside its `async with` only")
        return self._writer

    def _encode(self, data: object) -> bytes:
        return encode(data, as_json=is_json(self._writing().content_type))

    def _put(self, payload: bytes) -> None:
        if self._sequencer.put(payload, trio.current_time()):
            self._kick.set()

    def _check(self, *, is_adding: bool = True) -> None:
        """Raise what went wrong, if nobody was told yet; after a stall that somebody was told of, go on."""
        self._writing()
        error = self._sequencer.error
        if error is not None and error is not self._told:
            self._told = error
            raise error
        if self._sequencer.has_failed:
            raise ProducerClosedError(f"the producer has failed: {error}", code="PRODUCER_FAILED") from error
        if is_adding and (self._is_detached or self._sequencer.is_closing):
            raise ProducerClosedError("the producer was closed or detached", code="ALREADY_CLOSED")
        if error is not None:
            self._sequencer.resume()
            self._attempts.clear()
            self._kick.set()

    async def _flush(self) -> None:
        goal = self._sequencer.put_items
        self._sequencer.hurry(trio.current_time())
        self._kick.set()
        while self._sequencer.settled_items < goal:
            await self._progressed.park()
            if self._sequencer.settled_items < goal:
                self._check(is_adding=False)

    # The block

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[Self]:
        writer = self._stream.make_writer(on_error=self._on_error, retry=self._options.retry)
        try:
            if writer.content_type is None:
                await writer.head()
            async with open_bare_nursery() as nursery:
                self._writer = writer
                nursery.start_soon(self._pump, nursery, writer)
                try:
                    yield self
                    await self._finish()
                except BaseException as exc:
                    self.explain(exc)
                    raise
                finally:
                    self._writer = None
                    nursery.cancel_scope.cancel()
        finally:
            await writer.endpoint.aclose()

    async def _finish(self) -> None:
        """Wait until all is stored, or raise what nobody was told of."""
        if self._sequencer.has_failed and self._sequencer.error is self._told:
            return
        with trio.move_on_after(self._options.close_timeout) as scope:
            self._check(is_adding=False)
            await self._flush()
            while self._sequencer.is_closing and self._sequencer.result is None:
                await self._progressed.park()
                self._check(is_adding=False)
        if scope.cancelled_caught:
            what = f"not all is stored within {self._options.close_timeout} seconds"
            raise FetchError(f"{public_url(self._stream.url)}: {what}", code="TIMEOUT")

    async def _pump(self, nursery: trio.Nursery, writer: StreamWriter) -> None:
        """Start what may leave, whenever that changes."""
        while True:
            self._kick = trio.Event()
            for batch in self._sequencer.take(trio.current_time()):
                nursery.start_soon(self._deliver, batch, writer)
                # One after the other, so that they arrive in order as a rule: what overtakes meets a gap.
                await trio.lowlevel.checkpoint()
            deadline = self._sequencer.next_deadline()
            with trio.CancelScope(deadline=float("inf") if deadline is None else deadline):
                await self._kick.wait()

    async def _deliver(self, batch: NumberedBatch, writer: StreamWriter) -> None:
        """Send a batch once, and tell the sequencer what came of it."""
        numbers = {
            PRODUCER_ID: self.producer_id,
            PRODUCER_EPOCH: str(batch.epoch),
            PRODUCER_SEQ: str(batch.seq),
        }
        operation: Operation = "close" if batch.is_closing else "append"
        try:
            headers, body = writer.request_of(batch.payloads, is_closing=batch.is_closing, headers=numbers)
            answer = await writer.endpoint.attempt("POST", operation, headers=headers, body=body)
            if isinstance(answer, Failure):
                await self._fail(batch, answer, writer)
            else:
                self._accept(batch, answer)
        except Exception as exc:  # noqa: BLE001 - the next call raises it
            # A callable for a header has failed, or an `on_error`: it is for whoever uses the producer.
            self._sequencer.stall(batch, exc, is_doubtful=True)
        self._kick.set()
        self._progressed.unpark_all()
        if self._sequencer.error is not None:
            self._room.unpark_all()
        elif self._sequencer.has_room:
            self._room.unpark()

    def _accept(self, batch: NumberedBatch, answer: HttpResponse) -> None:
        if batch.is_closing and not is_true(answer.header(STREAM_CLOSED.lower())):
            # Taken for a duplicate of another batch with this number, so the stream is still open.
            self._sequencer.disown(batch)
            return
        offset = answer.header(STREAM_NEXT_OFFSET.lower()) or ""
        self._sequencer.accept(batch, AppendResult(offset, duplicate=answer.status == 204))

    async def _fail(self, batch: NumberedBatch, failure: Failure, writer: StreamWriter) -> None:
        error = failure.error
        attempts = self._attempts.setdefault(batch, writer.endpoint.attempts())
        if isinstance(error, SequenceGapError):
            self._sequencer.hold(batch, error)
        elif isinstance(error, StaleEpochError):
            self._sequencer.fence(batch, error)
        else:
            is_doubtful = error.status is None or error.status >= 500
            is_doubtful = is_doubtful and failure.was_sent
            delay = None
            if is_passing(error.status, Repeat.ALWAYS, was_sent=failure.was_sent):
                delay = attempts.fail(failure.retry_after)
            if delay is None and await writer.endpoint.ask_on_error(error, attempts):
                delay = 0.0
            if delay is not None:
                self._sequencer.rest(batch, trio.current_time() + delay, is_doubtful=is_doubtful)
            elif isinstance(error, FetchError):
                self._sequencer.stall(batch, error, is_doubtful=is_doubtful)
            else:
                self._sequencer.refuse(batch, error)

"""How an idempotent producer numbers its batches, so that each is stored once and in order, whatever gets lost.

A batch keeps its number until it is acknowledged: the server stores a number once, and in order, so the same batch is
sent again as often as need be. What follows from that:

- The answer to one batch speaks for all before it. So what is acknowledged is always a beginning of what was put in.
- A *gap* (409) says that an earlier batch is still to come. The batch is held until one was acknowledged. A batch that
  was the first of all when it left can't be ahead of anything: then the server has lost what it acknowledged.
- A new epoch begins at number 0, and a server refuses it with any other (400). So number 0 goes alone.
- An epoch that is *stale* (403) means that another producer took over. With `auto_claim` the unacknowledged batches get
  new numbers in the epoch after the server's: nothing of the old epoch can be stored any more. This is only right if
  none of them is stored already. So first every batch under way gets its answer; and a batch that once got *no* answer
  is in doubt: sent under a new number it could be there twice, left out it could be missing. Then the claim is not made.
- A *duplicate* (204) of a batch that never went without an answer was stored by somebody else under this id and epoch.
  Without `auto_claim` that is a success, since a producer may well be run again with the same batches; with it a number
  has no meaning beyond this run, and the message would be lost: so it is as if the epoch were stale. So it is, too, for
  number 0 in doubt: nobody can tell then who has begun the epoch. Once it was begun here, a duplicate is our own.
- A batch that is *refused* for another reason stops the producer: what is behind it may not overtake it.
- A batch that rests (no answer; it is sent again later) lets nothing behind it leave: it would only meet a gap.

Messages wait for `linger` seconds, or until a batch is full. While all `max_in_flight` places are taken they collect,
so batches grow with the load. All that is not acknowledged is bounded together; a message costs its length plus 64,
may be put in while there is room, and is charged in full: otherwise a large one could never pass.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import SequenceGapError, StaleEpochError
from trio_streams.durable.types import AppendResult

__all__ = ["MAX_NUMBER", "BatchState", "NumberedBatch", "ProducerProgress", "Sequencer"]

MAX_NUMBER: Final = 2**53 - 1
"""The greatest epoch and sequence number (Durable Streams §5.2.1)."""

_MESSAGE_COST: Final = 64


class BatchState(enum.Enum):
    """Where a batch is. A batch that is not acknowledged is in one of the first four states."""

    READY = "ready"
    SENT = "sent"
    HELD = "held"
    RESTING = "resting"
    ACKNOWLEDGED = "acknowledged"


@attrs.define(eq=False)
class NumberedBatch:
    """Messages that leave together under one number.

    Attributes:
      epoch: of the producer; changes only where nothing of it can be stored.
      seq: its number in the epoch; likewise.
      payloads: its messages; empty where it only closes.
      is_closing: whether it closes the stream.
      retry_at: when it is sent again, while it rests.
      state: where it is.
      is_doubtful: whether it was sent without an answer: it may be stored.
      was_first: whether all before it was acknowledged when it last left.
    """

    epoch: int
    seq: int
    payloads: Sequence[bytes]
    cost_bytes: int
    is_closing: bool = False
    retry_at: float = 0.0
    state: BatchState = BatchState.READY
    is_doubtful: bool = False
    was_first: bool = False


@attrs.frozen
class ProducerProgress:
    """How far a producer is. What is stored is a beginning of what was put in.

    Attributes:
      acknowledged_items: messages that are stored.
      doubtful_items: messages behind those that were sent and not answered yet, or never: some may be stored.
      unsent_items: messages behind those, which are not stored.
      abandoned_items: messages that were given up by a restart.
      duplicate_items: of those acknowledged, the ones that the server had before they were sent.
      last_offset: the offset behind the last acknowledged batch; None before, and where the server did not say.
    """

    acknowledged_items: int
    doubtful_items: int
    unsent_items: int
    abandoned_items: int
    duplicate_items: int
    last_offset: str | None


class Sequencer:
    """Messages in, numbered batches out, answers in.

    Args:
      epoch: to begin with.
      auto_claim: whether to take over from another producer with the same id.
      max_in_flight: batches that are not acknowledged.
      max_batch_bytes: messages of a batch, together; one larger message is a batch of its own.
      max_batch_items: messages of a batch.
      max_pending_bytes: cost of all messages that are not acknowledged.
      linger: seconds that a message waits for company.

    Attributes:
      epoch: of the batches to come.
      next_seq: of the next new batch.
      error: why nothing more is sent.
      result: what closing the stream gave; None before it is closed.
      put_items: messages that were put in, since the beginning.
    """

    def __init__(
        self,
        *,
        epoch: int,
        auto_claim: bool,
        max_in_flight: int,
        max_batch_bytes: int,
        max_batch_items: int,
        max_pending_bytes: int,
        linger: float,
    ) -> None:
        self.epoch: int = epoch
        self.next_seq: int = 0
        self.error: Exception | None = None
        self.result: AppendResult | None = None
        self.put_items: int = 0
        self._auto_claim = auto_claim
        self._max_in_flight = max_in_flight
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_items = max_batch_items
        self._max_pending_bytes = max_pending_bytes
        self._linger = linger
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._due_at = 0.0
        self._pending_bytes = 0
        self._unacknowledged: deque[NumberedBatch] = deque()
        self._final: tuple[bytes, ...] | None = None
        self._stale: StaleEpochError | None = None
        self._is_stalled = False
        self._acknowledged_items = 0
        self._abandoned_items = 0
        self._duplicate_items = 0
        self._last_offset: str | None = None

    @property
    def has_room(self) -> bool:
        """Whether a message may be put in."""
        return self._pending_bytes < self._max_pending_bytes

    @property
    def has_failed(self) -> bool:
        """Whether nothing more is sent before a restart; `error` says why."""
        return self.error is not None and not self._is_stalled

    @property
    def is_stalled(self) -> bool:
        """Whether nothing more is sent before it is resumed; `error` says why."""
        return self._is_stalled

    @property
    def is_closing(self) -> bool:
        """Whether it takes no more messages, since it closes the stream or has closed it."""
        return self._final is not None

    @property
    def is_idle(self) -> bool:
        """Whether all that was put in is acknowledged."""
        return not self._waiting and not self._unacknowledged

    @property
    def settled_items(self) -> int:
        """Messages that are acknowledged or given up, since the beginning."""
        return self._acknowledged_items + self._abandoned_items

    @property
    def progress(self) -> ProducerProgress:
        """How far it is."""
        doubtful = unsent = 0
        for batch in self._unacknowledged:
            # A later one in doubt puts all before it in doubt: if it is stored, they are.
            unsent += len(batch.payloads)
            if batch.is_doubtful or batch.state is BatchState.SENT:
                doubtful, unsent = doubtful + unsent, 0
        return ProducerProgress(
            acknowledged_items=self._acknowledged_items,
            doubtful_items=doubtful,
            unsent_items=unsent + len(self._waiting),
            abandoned_items=self._abandoned_items,
            duplicate_items=self._duplicate_items,
            last_offset=self._last_offset,
        )

    # What the user does

    def put(self, payload: bytes, now: float) -> bool:
        """Take a message, whether or not there is room.

        Returns:
          Whether `take` or `next_deadline` may have something else to say now: not while a message joins others that wait.

        Raises:
          LocalProtocolError: the stream is being closed, or the producer has failed.
        """
        if self._final is not None or self.has_failed:
            raise LocalProtocolError("can't append: the producer was closed or has failed")
        is_first = not self._waiting
        if is_first:
            self._due_at = now + self._linger
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)
        self._pending_bytes += len(payload) + _MESSAGE_COST
        self.put_items += 1
        return is_first or (self._is_full and self._has_place)

    def hurry(self, now: float) -> None:
        """Let nothing that is here wait for company."""
        self._due_at = min(self._due_at, now)

    def close(self, payload: bytes | None, now: float) -> None:
        """Take no more messages, and close the stream once all is acknowledged, with a last message if there is one.

        Raises:
          LocalProtocolError: it was closed before, or has failed.
        """
        if self._final is not None or self.has_failed:
            raise LocalProtocolError("can't close: the producer was closed or has failed")
        self.hurry(now)
        self._final = () if payload is None else (payload,)
        self.put_items += len(self._final)

    def resume(self) -> None:
        """Go on after a stall, with the same batches under the same numbers."""
        if self._is_stalled:
            self._is_stalled, self.error = False, None

    def restart(self) -> None:
        """Begin the next epoch, after the server's where it is known. What is not acknowledged is given up.

        Raises:
          LocalProtocolError: the stream is closed, or a batch is under way: its answer comes first.
        """
        if self.result is not None or self.is_under_way:
            raise LocalProtocolError("can't restart: the stream is closed, or a batch is under way")
        self._abandoned_items += self.put_items - self.settled_items
        self._unacknowledged.clear()
        self._waiting.clear()
        self._waiting_bytes = self._pending_bytes = 0
        self._begin_epoch()
        self._is_stalled, self.error, self._final = False, None, None

    # What leaves

    def next_deadline(self) -> float | None:
        """When `take` may have more than it has now, without an answer; None where only an answer can change that."""
        if self.error is not None or self._stale is not None:
            return None
        if self._waiting and self._has_place:
            return self._due_at
        return min(
            (batch.retry_at for batch in self._unacknowledged if batch.state is BatchState.RESTING), default=None
        )

    def take(self, now: float) -> Sequence[NumberedBatch]:
        """The batches to send now, in order, each to be answered by one of the methods below."""
        if self.error is not None or self._stale is not None:
            return []
        leaving = []
        for batch in self._unacknowledged:
            if not self._may_leave(batch, now):
                break
            if batch.state is not BatchState.SENT:
                leaving.append(self._mark_sent(batch))
        while self._has_place and self._is_due(now):
            self._cut()
            leaving.append(self._mark_sent(self._unacknowledged[-1]))
        return leaving

    def _may_leave(self, batch: NumberedBatch, now: float) -> bool:
        """Whether a batch is under way or may be, now that all before it are."""
        first = self._unacknowledged[0]
        match batch.state:
            case BatchState.HELD:
                return batch is first
            case BatchState.RESTING:
                return batch.retry_at <= now
            case _:
                return batch is first or first.seq != 0

    def _mark_sent(self, batch: NumberedBatch) -> NumberedBatch:
        batch.state, batch.was_first = BatchState.SENT, batch is self._unacknowledged[0]
        return batch

    @property
    def _has_place(self) -> bool:
        unacknowledged = self._unacknowledged
        if not unacknowledged:
            return True
        is_pipelined = unacknowledged[0].seq != 0 and len(unacknowledged) < self._max_in_flight
        return is_pipelined and all(batch.state is BatchState.SENT for batch in unacknowledged)

    def _is_due(self, now: float) -> bool:
        if not self._waiting:
            return self._final is not None and self.result is None and not self._unacknowledged
        return self._is_full or now >= self._due_at

    @property
    def _is_full(self) -> bool:
        return self._waiting_bytes >= self._max_batch_bytes or len(self._waiting) >= self._max_batch_items

    def _cut(self) -> None:
        """Number the next batch; a last message, or none, closes the stream."""
        is_closing = not self._waiting
        payloads = list(self._final or ()) if is_closing else [self._waiting.popleft()]
        size = sum(map(len, payloads))
        while self._waiting and len(payloads) < self._max_batch_items:
            size += len(self._waiting[0])
            if size > self._max_batch_bytes:
                size -= len(self._waiting[0])
                break
            payloads.append(self._waiting.popleft())
        if not is_closing:
            self._waiting_bytes -= size
        cost = 0 if is_closing else size + _MESSAGE_COST * len(payloads)
        self._unacknowledged.append(NumberedBatch(self.epoch, self.next_seq, payloads, cost, is_closing))
        self.next_seq += 1

    # What comes back: one answer to each batch that was taken

    def accept(self, batch: NumberedBatch, result: AppendResult) -> None:
        """The batch is stored, by this request or an earlier one; and all before it are."""
        if batch.state is BatchState.ACKNOWLEDGED:
            return
        is_foreign = result.duplicate and not batch.is_doubtful and bool(batch.payloads)
        is_unclear = result.duplicate and batch.seq == 0 and bool(batch.payloads)
        if self._auto_claim and (is_foreign or is_unclear):
            self.disown(batch)
            return
        self._duplicate_items += len(batch.payloads) if is_foreign else 0
        while True:
            done = self._unacknowledged.popleft()
            done.state = BatchState.ACKNOWLEDGED
            self._pending_bytes -= done.cost_bytes
            self._acknowledged_items += len(done.payloads)
            if done is batch:
                break
        self._last_offset = result.next_offset or self._last_offset
        if batch.is_closing:
            self.result = result
        for held in self._unacknowledged:
            if held.state is BatchState.HELD:
                held.state = BatchState.READY
        self.resume()  # something got through after all
        self._settle_claim()

    def hold(self, batch: NumberedBatch, error: SequenceGapError) -> None:
        """The server misses a batch before this one."""
        if batch.was_first and batch.state is BatchState.SENT:
            self.refuse(batch, error)
        else:
            self._answer(batch, BatchState.HELD)

    def rest(self, batch: NumberedBatch, retry_at: float, *, is_doubtful: bool) -> None:
        """The batch is to be sent again.

        Args:
          batch: which.
          retry_at: not before.
          is_doubtful: whether it may be stored all the same.
        """
        batch.is_doubtful |= is_doubtful
        batch.retry_at = retry_at
        self._answer(batch, BatchState.RESTING)

    def stall(self, batch: NumberedBatch, error: Exception, *, is_doubtful: bool) -> None:
        """The batch was tried often enough for now: nothing more leaves until `resume`."""
        batch.is_doubtful |= is_doubtful
        if batch.state is BatchState.SENT and self.error is None:
            self._is_stalled, self.error = True, error
        self._answer(batch, BatchState.READY)

    def fence(self, batch: NumberedBatch, error: StaleEpochError) -> None:
        """Another producer has taken over with a higher epoch."""
        if batch.state is BatchState.SENT and (self._stale is None or error.current_epoch > self._stale.current_epoch):
            self._stale = error
        self._answer(batch, BatchState.HELD)

    def disown(self, batch: NumberedBatch) -> None:
        """The server took the batch for one of somebody else's under this id and epoch: as if the epoch were stale."""
        stale = StaleEpochError(f"another producer has used epoch {batch.epoch} under this id", code="STALE_EPOCH")
        stale.current_epoch = batch.epoch
        self.fence(batch, stale)

    def refuse(self, batch: NumberedBatch, error: Exception) -> None:
        """The server takes neither this batch nor, since the order is kept, any behind it."""
        if batch.state is BatchState.SENT and not self.has_failed:
            self._is_stalled, self.error = False, error
        self._answer(batch, BatchState.HELD)

    def _answer(self, batch: NumberedBatch, state: BatchState) -> None:
        if batch.state is BatchState.SENT:
            batch.state = state
            self._settle_claim()

    @property
    def is_under_way(self) -> bool:
        """Whether a batch waits for its answer."""
        return any(batch.state is BatchState.SENT for batch in self._unacknowledged)

    def _settle_claim(self) -> None:
        """Once every batch has its answer: claim the epoch after the server's, or fail."""
        if self._stale is None or self.is_under_way or self.has_failed:
            return
        is_safe = not any(batch.is_doubtful for batch in self._unacknowledged)
        if not self._auto_claim or not is_safe or self._stale.current_epoch >= MAX_NUMBER:
            self._is_stalled, self.error = False, self._stale
            return
        self._begin_epoch()
        for batch in self._unacknowledged:
            batch.epoch, batch.seq, batch.state = self.epoch, self.next_seq, BatchState.READY
            self.next_seq += 1

    def _begin_epoch(self) -> None:
        known = self._stale.current_epoch if self._stale is not None else self.epoch
        self.epoch = max(self.epoch, known) + 1
        self.next_seq, self._stale = 0, None

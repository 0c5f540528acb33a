"""Which appends leave together, and what each of them learns of it.

Appends wait in a line. While a batch is on its way nothing else leaves, so what comes meanwhile collects; then the
first in the line *leads*: it takes a batch, which begins with itself, and sends it for all in it. So no task but those
that append is needed, and whoever leads gets its own answer by it. A leader that goes away before it has taken a batch
leaves the lead to the next one.

What is in a batch shares its fate, so that only may be in one what means the same alone and together:

- An append with a `Stream-Seq` is a batch of its own. The number is compared once for each request: together with
  others, one whose number is too low would pass under a higher one, and those without a number would fail with it.
- A closing append is a batch of its own, too: what stands before it is there before the stream is closed.
- A batch that the server finds too large, and has therefore refused as a whole, goes back to the head of the line, and
  batches are half as large from then on. One append alone that is too large learns just that.

Nothing here is bounded but the batches: each append waits for its answer, so the line is as long as there are callers.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Sequence

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.types import AppendResult

__all__ = ["Append", "AppendState", "Batcher"]


class AppendState(enum.Enum):
    """Where an append is."""

    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"
    WITHDRAWN = "withdrawn"


@attrs.define(eq=False)
class Append:
    """One append in the line.

    Attributes:
      payload: its bytes; one encoded message in JSON mode.
      seq: its `Stream-Seq`.
      is_closing: whether it closes the stream; only then its payload may be None, which appends nothing.
      state: where it is.
      result: what came of it; None until it is done, and where it failed.
      error: why it failed; the same object for all that failed together.
    """

    payload: bytes | None
    seq: str | None = None
    is_closing: bool = False
    state: AppendState = AppendState.WAITING
    result: AppendResult | None = None
    error: Exception | None = None

    @property
    def is_alone(self) -> bool:
        """Whether it must be a batch of its own."""
        return self.is_closing or self.seq is not None

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return len(self.payload) if self.payload is not None else 0


class Batcher:
    """The line of a stream's appends.

    Args:
      max_batch_bytes: payloads of a batch, together; one larger append is a batch of its own.
      max_batch_items: appends of a batch.
    """

    def __init__(self, *, max_batch_bytes: int, max_batch_items: int) -> None:
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_items = max_batch_items
        # In order, and an append in the middle goes at no cost: a scope around thousands of them may be cancelled.
        self._line: OrderedDict[Append, None] = OrderedDict()
        self._sent: list[Append] | None = None

    @property
    def waiting_items(self) -> int:
        """Appends in the line; those that have left are not counted."""
        return len(self._line)

    @property
    def leader(self) -> Append | None:
        """Who has to send now: the first in the line, unless a batch is on its way."""
        return next(iter(self._line)) if self._line and self._sent is None else None

    @property
    def wanted_items(self) -> int:
        """Appends of the batch on its way that somebody still waits for."""
        return sum(append.state is AppendState.SENT for append in self._sent or ())

    def add(self, append: Append) -> None:
        """Put an append at the end of the line."""
        self._line[append] = None

    def take(self, append: Append) -> Sequence[Append]:
        """Begin a batch with `append`, which leads; to be followed by `finish`, `fail` or `shrink`.

        Returns:
          The batch, in order.

        Raises:
          LocalProtocolError: it does not lead.
        """
        if append is not self.leader:
            raise LocalProtocolError(f"can't send for others: the append is {append.state.value} and does not lead")
        batch = [self._pop()]
        size = append.size
        while not append.is_alone and self._line and len(batch) < self._max_batch_items:
            following = next(iter(self._line))
            size += following.size
            if following.is_alone or size > self._max_batch_bytes:
                break
            batch.append(self._pop())
        for member in batch:
            member.state = AppendState.SENT
        self._sent = batch
        return batch

    def finish(self, result: AppendResult) -> Sequence[Append]:
        """The batch on its way was stored; the appends that learn of it now."""
        return self._settle(result, None)

    def fail(self, error: Exception) -> Sequence[Append]:
        """The batch on its way failed, or its fate is unknown; the appends that learn of it now."""
        return self._settle(None, error)

    def shrink(self) -> bool:
        """The server took nothing of the batch on its way, since it is too large: put it back, and make smaller ones.

        Returns:
          Whether it can be cut; if not, nothing has changed.
        """
        batch = self._sent
        if batch is None or len(batch) < 2:
            return False
        self._max_batch_bytes = max(1, sum(append.size for append in batch) // 2)
        kept = [append for append in batch if append.state is AppendState.SENT]
        for append in reversed(kept):
            append.state = AppendState.WAITING
            self._line[append] = None
            self._line.move_to_end(append, last=False)
        self._sent = None
        return True

    def withdraw(self, append: Append) -> None:
        """Nobody waits for an append any more. If it has not left, it never will; the order of the others stays."""
        if append.state is AppendState.WAITING:
            del self._line[append]
        if append.state is not AppendState.DONE:
            append.state = AppendState.WITHDRAWN

    def _pop(self) -> Append:
        return self._line.popitem(last=False)[0]

    def _settle(self, result: AppendResult | None, error: Exception | None) -> Sequence[Append]:
        batch, self._sent = self._sent or [], None
        told = [append for append in batch if append.state is AppendState.SENT]
        for append in told:
            append.state, append.result, append.error = AppendState.DONE, result, error
        return told

"""Appends of many tasks in few requests, without a task of its own: whoever is first in the line sends for all.

The request runs beside its leader, shielded: the others in the batch must learn what came of it, so it can't end with the
leader's cancellation as it would elsewhere. Then it gets `finish_timeout` seconds, or ends at once when nobody waits for
it any more. The leader itself is held up for that long. Past it nobody knows whether the batch is stored: its members
get a `FetchError` that says so. None is sent twice, for the server could not tell.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from trio_streams.config import at_least, positive
from trio_streams.durable.errors import DurableStreamError, FetchError
from trio_streams.durable.protocol.batcher import Append, AppendState, Batcher
from trio_streams.durable.types import AppendResult
from trio_streams.errors import split_cancelled
from trio_streams.nursery import open_bare_nursery

__all__ = ["BatchingOptions", "BatchingSender"]

Post = Callable[[Sequence[Append]], Awaitable[AppendResult]]


@attrs.frozen(kw_only=True)
class BatchingOptions:
    """How appends of several tasks share requests.

    Attributes:
      max_batch_bytes: payloads of one request, together; one larger append is a request of its own. Halved where the
        server finds a request too large.
      max_batch_items: appends of one request.
      finish_timeout: seconds that a request gets for the other appends in it when the one that sent it is cancelled.
    """

    max_batch_bytes: int = attrs.field(default=1_048_576, validator=at_least(1))
    max_batch_items: int = attrs.field(default=4_096, validator=at_least(1))
    finish_timeout: float = attrs.field(default=5.0, validator=positive)


class BatchingSender:
    """Sends a stream's appends, one request at a time.

    Args:
      post: sends one request, and gives its result.
      options: limits.
    """

    def __init__(self, post: Post, options: BatchingOptions) -> None:
        self._post = post
        self._options = options
        self._batcher = Batcher(max_batch_bytes=options.max_batch_bytes, max_batch_items=options.max_batch_items)
        self._turns: dict[Append, trio.Event] = {}
        self._orphan: trio.CancelScope | None = None

    @property
    def waiting_items(self) -> int:
        """Appends that have not left yet."""
        return self._batcher.waiting_items

    async def append(self, append: Append) -> AppendResult:
        """Have an append sent, in the order of the calls, and wait for what comes of it.

        Raises:
          What sending it raised; each append of a request gets an error of its own.
        Cancellation: an append that has not left is taken out. One that has left may be stored or not.
        """
        turn = self._turns[append] = trio.Event()
        self._batcher.add(append)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while append.state is not AppendState.DONE:
                if append is self._batcher.leader:
                    await self._lead(append)
                else:
                    await turn.wait()
        finally:
            del self._turns[append]
            self._batcher.withdraw(append)
            self._pass_on()
            self._end_orphan()
        if append.error is not None:
            raise append.error
        assert append.result is not None
        return append.result

    async def _lead(self, append: Append) -> None:
        """Send the batch that begins with an append."""
        try:
            await self._lead_beside(append)
        except BaseExceptionGroup as group:
            if split_cancelled(group)[1] is None:
                # That there is a nursery is nobody's business: a cancelled call raises a bare `Cancelled`.
                await trio.lowlevel.checkpoint_if_cancelled()
            raise

    async def _lead_beside(self, append: Append) -> None:
        batch = self._batcher.take(append)
        scope = trio.CancelScope(shield=True)
        sent = trio.Event()
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._send, batch, scope, sent)
            try:
                await sent.wait()
            finally:
                if not sent.is_set():
                    self._batcher.withdraw(append)
                    scope.deadline = trio.current_time() + self._options.finish_timeout
                    self._orphan = scope
                    self._end_orphan()

    async def _send(self, batch: Sequence[Append], scope: trio.CancelScope, sent: trio.Event) -> None:
        error: Exception = FetchError(
            "can't append: whether it is stored is unknown, for the append that sent it along was cancelled",
            code="OUTCOME_UNKNOWN",
        )
        result: AppendResult | None = None
        try:
            with scope:
                try:
                    result = await self._post(batch)
                except Exception as exc:  # noqa: BLE001 - each member raises it
                    error = exc
        finally:
            self._orphan = None
            sent.set()
            self._settle(result, error)

    def _settle(self, result: AppendResult | None, error: Exception) -> None:
        if result is not None:
            told = self._batcher.finish(result)
        elif _is_too_large(error) and self._batcher.shrink():
            told = []
        else:
            told = self._batcher.fail(error)
            for append in told[1:]:
                append.error = _copy(error)
        for append in told:
            self._turns[append].set()
        self._pass_on()

    def _pass_on(self) -> None:
        """Wake whoever leads now."""
        if (leader := self._batcher.leader) is not None:
            self._turns[leader].set()

    def _end_orphan(self) -> None:
        """End a request whose leader is gone once nobody waits for it."""
        if self._orphan is not None and self._batcher.wanted_items == 0:
            self._orphan.cancel()


def _is_too_large(error: Exception) -> bool:
    return isinstance(error, DurableStreamError) and error.status == 413


def _copy(error: Exception) -> Exception:
    """An error for another task: one object raised in two would mix up their tracebacks."""
    try:
        mine = copy.copy(error)
    except Exception:  # noqa: BLE001 - a foreign error that can't be copied is shared, which is better than none
        return error
    mine.__cause__ = error.__cause__
    return mine

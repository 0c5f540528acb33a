"""Where the items of a durable procedure are kept: what a log of runs has to do.

`DurableServer.replay_log` offers one. A *run* is one execution of a handler; its log is a sequence of items, each a JSON
text, with positions between some of them. A position is where a read or an append ended: it is opaque, but greater ones
are later, and the beginning is 0. What is read is durable, and an append returns when what it brought is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from trio_streams.config import positive
from trio_streams.errors import RpcError

__all__ = ["LogItems", "LogState", "LogWriter", "ReplayLog", "RunConfig", "RunEnded", "RunLog"]


def _not_negative(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value >= 0:
        raise ValueError(f"{attribute.name} must be at least 0, not {value!r}")


class RunEnded(RpcError):
    """How a durable run has ended. It is stored, so to come again changes nothing, whatever its code says elsewhere."""

    @property
    def is_our_fault(self) -> bool:
        """Never: the log of the server that ran it has told already."""
        return False


@attrs.frozen(kw_only=True)
class RunConfig:
    """Limits of durable runs.

    Attributes:
      max_runs: handlers of durable procedures that run at once; one more is refused with RESOURCE_EXHAUSTED.
      linger_timeout: seconds that a run goes on while nobody reads it, after which it is cancelled; None for as long as it
        takes.
      keep_seconds: seconds that a run's log is kept without being read or written; None for ever.
      max_pending_bytes: of items that wait to be stored, each at its length plus 64; while there are more, the handler
        waits.
      max_read_bytes: of items that a reader takes from the log at a time, and holds; a larger item is read as a whole.
      goodbye_timeout: seconds that storing the end of a run may take when its server is cancelled.
    """

    max_runs: int = attrs.field(default=1_024, validator=positive)
    linger_timeout: float | None = attrs.field(default=300.0, validator=_not_negative)
    keep_seconds: int | None = attrs.field(default=86_400, validator=positive)
    max_pending_bytes: int = attrs.field(default=262_144, validator=positive)
    max_read_bytes: int = attrs.field(default=65_536, validator=positive)
    goodbye_timeout: float = attrs.field(default=0.25, validator=positive)


@attrs.frozen
class LogState:
    """What is known about a log.

    Attributes:
      start: the first position that is kept.
      tail: the position behind the last item.
      is_closed: whether nothing more can come.
    """

    start: int
    tail: int
    is_closed: bool


@attrs.frozen
class LogItems:
    """What one read brought.

    Attributes:
      items: in order, as they were appended, byte by byte.
      next_position: behind the last of them.
      is_closed: whether nothing more will ever come behind them.
    """

    items: Sequence[bytes]
    next_position: int
    is_closed: bool


class LogWriter(Protocol):
    """The one who may append to a log."""

    async def append(self, items: Sequence[bytes], *, close: bool = False) -> None:
        """Append items as one step, and wait until they are durable.

        Args:
          items: one JSON text each; none only where it closes.
          close: whether nothing more can come behind them; in the same step.

        Raises:
          RpcError: ABORTED: another writer has taken over, or somebody has closed the log; nothing was appended.
            UNAVAILABLE: they could not be stored.
        Cancellation: whether they were appended is unknown; the writer can't be used any more.
        """
        ...


class RunLog(Protocol):
    """One log. It stands for this very log: what is made at its path later is another one.

    Attributes:
      log_id: no other log has ever had it, not even one at the same path: up to 64 letters, digits, `-` and `_`.
    """

    @property
    def log_id(self) -> str:
        """See above."""
        ...

    async def state(self) -> LogState:
        """What is known about it.

        Raises:
          RpcError: NOT_FOUND: it is not kept any more. UNAVAILABLE: it can't be read.
        Cancellation: atomic.
        """
        ...

    async def read(self, position: int, *, max_bytes: int) -> LogItems:
        """Items behind a position; none at the tail.

        Args:
          position: where an earlier read or append ended, or 0. It may come from a stranger.
          max_bytes: at most about so many; one item at least.

        Raises:
          RpcError: OUT_OF_RANGE: it is before what is kept, or behind the tail. INVALID_ARGUMENT: it is no position of
            this log. Else as `state`.
        Cancellation: atomic.
        """
        ...

    async def wait_behind(self, position: int) -> None:
        """Wait until there is something behind a position, or nothing can ever be.

        Raises:
          RpcError: as `state`.
        Cancellation: atomic.
        """
        ...

    async def take_over(self) -> LogWriter:
        """Become the one who may append: every writer before this one is fenced off from now on.

        Raises:
          RpcError: as `state`.
        Cancellation: the log has no writer.
        """
        ...


class ReplayLog(Protocol):
    """Keeps the logs of runs by their paths."""

    async def find(self, path: str) -> RunLog | None:
        """The log at a path; None where there is none.

        Raises:
          RpcError: UNAVAILABLE: the store can't be asked.
        Cancellation: atomic.
        """
        ...

    async def create(self, path: str, *, keep_seconds: int | None) -> tuple[RunLog, bool]:
        """The log at a path, made where there is none.

        Args:
          path: segments with `/` between, each of letters, digits, `-`, `.`, `_`, `~` and `%`.
          keep_seconds: seconds without a read or an append after which it may go; None for never.

        Returns:
          The log, and whether it was made now.

        Raises:
          RpcError: UNAVAILABLE: it could not be made.
        Cancellation: it may have been made.
        """
        ...

"""How much: calls a second, calls at once, seconds a call."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.service.interceptor import Interceptor, Invocation, Proceed

__all__ = ["ConcurrencyLimit", "RateLimit", "by_caller", "timeout"]


def by_caller(invocation: Invocation) -> str:
    """A key for each principal, or for each address where nobody was authenticated."""
    principal = invocation.context.principal
    if principal is not None:
        return f"principal {getattr(principal, 'name', principal)}"
    return f"peer {invocation.context.peer.rpartition(':')[0] or invocation.context.peer}"


class RateLimit:
    """So many a second for each key, and a burst of more after a silence: a token bucket.

    Args:
      per_second: how fast the bucket fills.
      burst: how much it holds; what may come at once.
      key: tells callers apart; a constant function makes one limit for all.
      max_keys: buckets kept; past it the one that was used longest ago is forgotten, which fills it.
    """

    def __init__(
        self,
        per_second: float,
        burst: int = 1,
        *,
        key: Callable[[Invocation], str] = by_caller,
        max_keys: int = 10_000,
    ) -> None:
        for name, value in (("per_second", per_second), ("burst", burst), ("max_keys", max_keys)):
            if not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")
        self._per_second = per_second
        self._burst = burst
        self._key = key
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how full, and when

    async def __call__(self, invocation: Invocation, proceed: Proceed) -> object:
        """See `Interceptor`.

        Raises:
          RpcError: RESOURCE_EXHAUSTED, with `retry_after_ms` as a detail.
        """
        wait = self._take(self._key(invocation))
        if wait > 0:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"{invocation.name!r} is asked for more than {self._per_second:g} times a second",
                {"retry_after_ms": math.ceil(wait * 1000)},
            )
        return await proceed()

    def _take(self, key: str) -> float:
        """Take one from the bucket; or the seconds until there is one to take."""
        now = trio.current_time()
        level, since = self._buckets.pop(key, (float(self._burst), now))
        level = min(float(self._burst), level + max(0.0, now - since) * self._per_second)
        is_allowed = level >= 1
        self._buckets[key] = (level - 1 if is_allowed else level, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - level) / self._per_second


class ConcurrencyLimit:
    """So many at once; so many more wait for their turn, first come, first served.

    Args:
      max_running: how many run.
      max_waiting: how many wait; the next one is refused.
    """

    def __init__(self, max_running: int, *, max_waiting: int = 0) -> None:
        if max_running < 1:
            raise ValueError(f"max_running must be at least 1, not {max_running!r}")
        if max_waiting < 0:
            raise ValueError(f"max_waiting must be at least 0, not {max_waiting!r}")
        self._max_waiting = max_waiting
        self._room = trio.Semaphore(max_running)

    async def __call__(self, invocation: Invocation, proceed: Proceed) -> object:
        """See `Interceptor`.

        Raises:
          RpcError: RESOURCE_EXHAUSTED: as many run and wait as may.
        Cancellation: while it waits, nothing has run.
        """
        if self._room.value == 0 and self._room.statistics().tasks_waiting >= self._max_waiting:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{invocation.name!r} runs as many times as it may at once")
        async with self._room:
            return await proceed()


def timeout(seconds: float) -> Interceptor:
    """An interceptor that ends a call or stream that takes too long, with DEADLINE_EXCEEDED.

    Args:
      seconds: from its start to its end; a caller's own deadline counts beside it.
    """
    if not seconds > 0:
        raise ValueError(f"a timeout must be more than 0, not {seconds!r}")

    async def limit(invocation: Invocation, proceed: Proceed) -> object:
        with trio.move_on_after(seconds) as scope:
            return await proceed()
        assert scope.cancelled_caught
        raise RpcError(Code.DEADLINE_EXCEEDED, f"{invocation.name!r} may take {seconds:g} s")

    return limit

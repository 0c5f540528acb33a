"""Runs a handler's generator: iterated and closed in one task, with read-ahead up to the stream's window.

A suspended generator holds the handler's resources; whoever iterates it must close it, in the same task, or its
`finally` runs in a stranger's (PEP 533). And a generator that never awaits must not keep the processor: sending is
paced, so other tasks run at least every 64 items or 1 ms.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from trio_streams.streams.abc import SendStream

__all__ = ["pump"]

T = TypeVar("T")


async def pump(items: AsyncGenerator[T, None] | AsyncIterator[T], stream: SendStream[T]) -> int:
    """Send every item of a handler's generator, waiting where the stream is full.

    Args:
      items: from a handler that has not been started; a generator is closed here, whatever happens.
      stream: takes the items. It is not ended: how it ends is its owner's matter.

    Returns:
      How many items were sent.

    Raises:
      BaseException: what the generator or the stream raised.

    Cancellation: the generator is closed, its `finally` blocks run; the item under way is lost.
    """
    if isinstance(items, AsyncGenerator):
        async with aclosing(items):
            return await stream.send_many(items)
    return await stream.send_many(items)

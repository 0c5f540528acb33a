"""Noticing that a coroutine waits.

Most handlers answer without waiting for anything. Who runs one need not prepare for what may happen meanwhile before it
does wait, and an awaitable can see that: everything that a coroutine waits for passes through it.

A schedule point is no wait: who takes one under load would otherwise cost what those cost who do wait. But a coroutine that
takes one after the other may go on so for as long as others wait, so it gets a few.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from trio.lowlevel import cancel_shielded_checkpoint

__all__ = ["Watched"]

_FREE_CHECKPOINTS: Final = 8


def _trap_of_a_checkpoint() -> object:
    """What a schedule point says to Trio, which is the same for all of them."""
    asked = cancel_shielded_checkpoint()  # noqa: ASYNC105 - only to see what it says
    trap: object = asked.send(None)
    asked.close()
    return trap


_CHECKPOINT: Final = _trap_of_a_checkpoint()


class Watched:
    """Awaits a coroutine, and says when it waits for the first time, or has taken some schedule points.

    Attributes:
      is_armed: whether the next wait is told; set it again to hear of another one.
    """

    __slots__ = ("_coroutine", "_on_wait", "is_armed")

    def __init__(self, coroutine: Coroutine[Any, Any, None], on_wait: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._on_wait = on_wait
        self.is_armed: bool = True

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine = self._coroutine
        fault: BaseException | None = None
        value: Any = None
        free = _FREE_CHECKPOINTS
        try:
            trap = coroutine.send(None)
            while True:
                if trap is _CHECKPOINT and free:
                    free -= 1
                elif self.is_armed:
                    self.is_armed = False
                    self._on_wait()
                fault = value = None
                try:
                    value = yield trap
                except BaseException as exc:  # noqa: BLE001 - handed on as it is
                    fault = exc
                trap = coroutine.send(value) if fault is None else coroutine.throw(fault)
        except StopIteration:
            return
        finally:
            fault = value = None  # an exception, also Trio's in an outcome, holds this frame by its traceback

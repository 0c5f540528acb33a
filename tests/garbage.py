"""What only the collector of cycles could free, of ours: nothing should be."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self

import attrs

__all__ = ["Garbage"]

_PACKAGE = "trio_streams."


def _name(one: object) -> str:
    """What an object is called if it is one of ours: an instance, a function or method, or a frame of our code."""
    if isinstance(one, FrameType):
        module, name = one.f_globals.get("__name__", ""), one.f_code.co_name
    elif callable(one) and hasattr(one, "__qualname__"):
        module, name = getattr(one, "__module__", "") or "", one.__qualname__
    else:
        module, name = type(one).__module__, type(one).__qualname__
    return f"{module}.{name}" if str(module).startswith(_PACKAGE) else ""


@attrs.define
class Garbage(AbstractContextManager["Garbage"]):
    """Keeps the collector away for the length of a block."""

    _was_enabled: bool = True

    def __enter__(self) -> Self:
        self._was_enabled = gc.isenabled()
        gc.collect()
        gc.disable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._was_enabled:
            gc.enable()

    def look(self) -> Counter[str]:
        """Collect, and say what of ours was garbage, by its names."""
        flags = gc.get_debug()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return Counter(filter(None, map(_name, gc.garbage)))
        finally:
            gc.set_debug(flags)
            gc.garbage.clear()
            gc.collect()

    async def of(self, times: int, act: Callable[[], Coroutine[Any, Any, None]]) -> Counter[str]:
        """What is left when something was done many times, after a first time that fills caches."""
        await act()
        self.look()
        for _ in range(times):
            await act()
        return self.look()

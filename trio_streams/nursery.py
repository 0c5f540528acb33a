"""Nurseries whose single failure arrives bare: the one place where a group is unwrapped."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

import trio

from trio_streams.errors import unwrap_group

__all__ = ["open_bare_nursery"]


class _BareNursery:
    """What `open_bare_nursery` gives; a generator would cost each connection of a server half a KiB more."""

    __slots__ = ("_manager",)

    def __init__(self) -> None:
        self._manager = trio.open_nursery()

    async def __aenter__(self) -> trio.Nursery:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        error: BaseException | None = None
        context: BaseException | None = None
        try:
            return await self._manager.__aexit__(kind, exc, traceback)
        except BaseExceptionGroup as group:
            error = unwrap_group(group)
            if error is group:
                raise
            context = error.__context__
            try:
                raise error
            finally:
                # `raise` has put the group there, which would show the caller our nursery after all.
                error.__context__ = context
        finally:
            # Whatever leaves holds this frame by its traceback: the frame must not hold it, or only the collector of
            # cycles could free them.
            error = context = exc = traceback = None


def open_bare_nursery() -> AbstractAsyncContextManager[trio.Nursery, bool | None]:
    """A nursery for a library's own tasks around a caller's body.

    The caller should not see that there is a nursery: one error leaves as itself, with its own context, and a group
    appears only if two things really failed.
    """
    return _BareNursery()

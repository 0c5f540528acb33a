"""Nurseries whose single failure arrives bare: the one place where a group is unwrapped."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from trio_streams.errors import unwrap_group

__all__ = ["open_bare_nursery"]


@contextlib.asynccontextmanager
async def open_bare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for a library's own tasks around a caller's body.

    The caller should not see that there is a nursery: one error leaves as itself, with its own context, and a group
    appears only if two things really failed.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
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

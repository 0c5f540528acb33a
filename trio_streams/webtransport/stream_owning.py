"""The block that owns a stream, and is cancelled by the peer."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from trio_streams.webtransport.stream_half import OverCause

if TYPE_CHECKING:
    from trio_streams.webtransport.streams import StreamType

__all__ = ["Owning"]


class Owning(AbstractContextManager[trio.CancelScope]):
    """What `own` of a stream gives. Not a generator's manager: from Python 3.12 on those keep what passes through them, and
    all that it holds, until the collector of cycles comes.

    Args:
      stream: the one that is left with the block.
    """

    __slots__ = ("_cause", "_scope", "_stream")

    def __init__(self, stream: StreamType) -> None:
        self._stream = stream
        self._scope = trio.CancelScope()
        self._cause: OverCause | None = None

    def cancel(self, cause: OverCause) -> None:
        """The peer, or the world, has ended a half before its end."""
        if self._cause is None:
            self._cause = cause
        self._scope.cancel()

    def __enter__(self) -> trio.CancelScope:
        self._scope.__enter__()
        self._stream.set_owner(self)
        return self._scope

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._stream.set_owner(None)
        try:
            self._stream.leave(exc)
            is_caught = self._scope.__exit__(kind, exc, traceback)
        finally:
            exc = traceback = None
        if self._scope.cancelled_caught and self._cause is not None:
            raise self._cause() from None
        return is_caught

"""The block that owns a stream of a connection."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from trio_streams.streams.wire import WireStream

__all__ = ["Owning"]


class Owning:
    """What `Connection.own` gives. Not a generator's manager: from Python 3.12 on those keep what passes through them, and
    all that it holds, until the collector of cycles comes.

    Args:
      stream: whose scope the block is inside of, and whose exit policy leaving it applies.
      forget: told of its id when the block is over.
    """

    __slots__ = ("_forget", "_stream")

    def __init__(self, stream: WireStream[bytes, bytes], forget: Callable[[int], object]) -> None:
        self._stream = stream
        self._forget = forget

    def __enter__(self) -> WireStream[bytes, bytes]:
        self._stream.cancel_scope.__enter__()
        return self._stream

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        stream = self._stream
        try:
            stream.leave(exc)
        finally:
            self._forget(stream.id)
        return stream.cancel_scope.__exit__(kind, exc, traceback)

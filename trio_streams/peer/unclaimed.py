"""The peer's streams that came before their receivers."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.peer.stream_options import StreamOptions
from trio_streams.streams.wire import WireStream

__all__ = ["Unclaimed"]

_Raw = WireStream[bytes, bytes]


@attrs.define
class _Waiting:
    stream: _Raw
    until: float
    size: int = 0


class Unclaimed:
    """Keeps them within the limits; past one of them a stream is refused.

    Args:
      options: the limits.
      refuse: told which stream, and why; without waiting.
    """

    def __init__(self, options: StreamOptions, refuse: Callable[[str, _Raw, RpcError], None]) -> None:
        self._options = options
        self._refuse = refuse
        self._streams: dict[str, _Waiting] = {}
        self._is_kept = False
        self.buffered_bytes: int = 0

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._streams

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream_id: str, stream: _Raw, nursery: trio.Nursery) -> None:
        """Keep a stream, or refuse it where there are too many.

        Args:
          stream_id: its id.
          stream: as it came.
          nursery: for the task that keeps the time, while there is something to keep.
        """
        options = self._options
        if len(self._streams) >= options.max_unclaimed_streams:
            self._refuse(
                stream_id, stream, _too_much(stream_id, "max_unclaimed_streams", options.max_unclaimed_streams)
            )
            return
        self._streams[stream_id] = _Waiting(stream, trio.current_time() + options.unclaimed_timeout)
        stream.on_arrival = lambda: self._count(stream_id)
        if not self._is_kept:
            self._is_kept = True
            nursery.start_soon(self._keep_time)

    def take(self, stream_id: str | None) -> tuple[str, _Raw] | None:
        """Claim a stream.

        Args:
          stream_id: which; None for the one that came first.
        """
        if stream_id is None:
            stream_id = next(iter(self._streams), "")
        waiting = self._streams.pop(stream_id, None)
        if waiting is None:
            return None
        self.buffered_bytes -= waiting.size
        waiting.stream.on_arrival = None
        return stream_id, waiting.stream

    def clear(self) -> list[_Raw]:
        """All of them, which nobody will claim any more."""
        streams = [waiting.stream for waiting in self._streams.values()]
        for stream in streams:
            stream.on_arrival = None
        self._streams.clear()
        self.buffered_bytes = 0
        return streams

    def _count(self, stream_id: str) -> None:
        waiting = self._streams[stream_id]
        size = waiting.stream.unread_bytes
        self.buffered_bytes += size - waiting.size
        waiting.size = size
        limit = self._options.max_buffered_bytes
        if self.buffered_bytes > limit:
            self._drop(stream_id, _too_much(stream_id, "max_buffered_bytes", limit))

    def _drop(self, stream_id: str, error: RpcError) -> None:
        taken = self.take(stream_id)
        assert taken is not None
        self._refuse(*taken, error)

    async def _keep_time(self) -> None:
        timeout = self._options.unclaimed_timeout
        while self._streams:
            stream_id, first = next(iter(self._streams.items()))  # all wait equally long
            if first.until <= trio.current_time():
                text = f"nobody has claimed stream {stream_id!r} within unclaimed_timeout of {timeout:g} s"
                self._drop(stream_id, RpcError(Code.DEADLINE_EXCEEDED, text, {"field": "unclaimed_timeout"}))
            else:
                await trio.sleep_until(first.until)
        self._is_kept = False


def _too_much(stream_id: str, field: str, limit: int) -> RpcError:
    text = f"stream {stream_id!r} passes {field} of {limit}: nobody has claimed it"
    return RpcError(Code.RESOURCE_EXHAUSTED, text, {"field": field, "limit": limit})

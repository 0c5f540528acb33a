"""What both halves of a stream of a session need, and what they ask of the session around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from trio_streams.core.states import HalfState

if TYPE_CHECKING:
    from trio_streams.webtransport.link import Link

__all__ = ["Half", "OverCause"]

OverCause = Callable[[], Exception]
"""Makes the error that says why a half is over; anew each time, since a raised one collects frames."""


class Half:
    """State that the halves share; the classes of `streams` have the slots."""

    __slots__ = ()

    stream_id: int
    errors: int
    _is_closed: bool
    _link: Link
    _send_state: HalfState
    _receive_state: HalfState

    def _settle(self) -> None:
        """A half has changed: if both are over, the stream is released."""
        raise NotImplementedError

    def _closed_here(self, how: str) -> OverCause:
        # Without `self`: what a stream keeps must not keep the stream, or only the collector of cycles could free it.
        stream_id = self.stream_id
        return lambda: trio.ClosedResourceError(f"can't use this half of stream {stream_id}: it was {how} here")

    def _fail(self, over: OverCause) -> Exception:
        self.errors += 1
        return over()

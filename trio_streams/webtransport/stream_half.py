"""What both halves of a stream of a session need, and what they ask of the session around them."""

# Bases with slots of their own cannot be combined, so the classes of `streams` declare the slots of both halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from trio_streams.core.states import HalfState

if TYPE_CHECKING:
    from trio_streams.webtransport.link import Link
    from trio_streams.webtransport.stream_owning import Owning

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
    _owner: Owning | None
    _send_state: HalfState
    _receive_state: HalfState

    def _settle(self) -> None:
        """A half has changed: if both are over, the stream is released."""
        raise NotImplementedError

    def _closed_here(self, how: str) -> OverCause:
        # Without `self`: what a stream keeps must not keep the stream, or only the collector of cycles could free it.
        stream_id = self.stream_id
        return lambda: trio.ClosedResourceError(f"can't use this half of stream {stream_id}: it was {how} here")

    def _cancel_owner(self, cause: OverCause) -> None:
        if self._owner is not None:
            self._owner.cancel(cause)

    def _fail(self, over: OverCause) -> Exception:
        self.errors += 1
        return over()

    # What is told of a half that a stream does not have is never told.

    def on_received(self, run: Sequence[bytes], is_ended: bool) -> None:
        """Bytes arrived, and maybe the end."""

    def on_reset(self, code: int | None) -> None:
        """The peer abandoned its half."""

    def on_writable(self) -> None:
        """There is room again."""

    def on_delivered(self) -> None:
        """The peer has all of our half."""

    def on_stopped(self, code: int | None) -> None:
        """The peer refuses more of our half."""

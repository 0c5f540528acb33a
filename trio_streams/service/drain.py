"""Asking a server to end well: no new work, and time for what is under way."""

from __future__ import annotations

import trio

__all__ = ["Drain"]


class Drain:
    """Asks `serve` to drain, and says how that went.

    Give one to `serve(..., drain=drain)` and call `begin` from another task, such as one that waits for a signal. `serve`
    then closes its listeners, lets exchanges and streams finish within `ServerConfig.drain_timeout`, and returns. What is
    not over by then is cancelled.
    """

    def __init__(self) -> None:
        self._begun = trio.Event()
        self._was_cut = False

    @property
    def has_begun(self) -> bool:
        """Whether a drain was asked for; the server is not ready for new work from here on."""
        return self._begun.is_set()

    @property
    def was_cut(self) -> bool:
        """Whether something was still under way at the deadline, and was cancelled."""
        return self._was_cut

    def begin(self) -> None:
        """Ask. Idempotent; may come before the server has started."""
        self._begun.set()

    async def wait_begun(self) -> None:
        """Wait until a drain was asked for. Cancellation: atomic."""
        await self._begun.wait()

    # For the server.

    def cut(self) -> None:
        """The deadline has passed with something under way."""
        self._was_cut = True

"""The terminal's side of the view: a picture redrawn in place, and the terminal left as it was."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final

import trio

__all__ = ["Write", "frame", "full_screen", "terminal_size"]

Write = Callable[[str], Awaitable[None]]
"""Writes text to the terminal, waiting as long as that takes."""

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_GOODBYE_TIMEOUT: Final = 1.0
"""Seconds to restore the terminal; one that was stopped by Ctrl-S takes nothing."""


def terminal_size() -> tuple[int, int]:
    """Columns and lines, as they are now; 80 × 24 where nobody knows."""
    size = shutil.get_terminal_size()
    return size.columns, size.lines


def frame(lines: Sequence[str]) -> str:
    """What draws a picture over the one before: no blank moment in between, hence no flicker."""
    return "\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines[:-1]) + "".join(lines[-1:]) + "\x1b[K\x1b[J"


@contextlib.asynccontextmanager
async def full_screen(write: Write) -> AsyncGenerator[None, None]:
    """Use the terminal's other screen, without a cursor, for as long as the block.

    Cancellation: the terminal is restored, within a second.
    """
    try:
        await write(_ENTER)
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_TIMEOUT):
            await write(_LEAVE)

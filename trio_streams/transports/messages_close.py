"""What a WebSocket's close codes mean to us, and how a server closes. Spec: RFC 6455 §7."""

from __future__ import annotations

from typing import Final

import trio
from websockets.frames import CLOSE_CODE_EXPLANATIONS, CloseCode

__all__ = ["CLEAN_CLOSE_CODES", "describe_close", "end_sending"]

CLEAN_CLOSE_CODES: Final = frozenset({CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD})
"""A goodbye with one of these is a clean end; browsers send no code at all when none is given."""

_KNOWN_CODES: Final = frozenset(int(code) for code in CloseCode)


def describe_close(code: int, reason: str | None) -> str:
    """A close code in words: `1009 (message too big): over 16 MiB`."""
    meaning = CLOSE_CODE_EXPLANATIONS.get(CloseCode(code), "unknown") if code in _KNOWN_CODES else "private use"
    return f"{code} ({meaning}): {reason}" if reason else f"{code} ({meaning})"


async def end_sending(stream: trio.abc.Stream) -> bool:
    """Let the client see the end after the closing handshake; whether there is still something to wait for.

    The server closes first (RFC 6455 §7.1.1). Ending only our side keeps the kernel from answering what the client still
    sends with a reset, which could overtake our close frame. TLS can't be ended by half: it says its goodbye and goes.
    """
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
        return True
    await stream.aclose()
    return False

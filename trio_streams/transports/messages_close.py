"""What a WebSocket's close codes mean to us. Spec: RFC 6455 §7.4."""

from __future__ import annotations

from typing import Final

from websockets.frames import CLOSE_CODE_EXPLANATIONS, CloseCode

__all__ = ["CLEAN_CLOSE_CODES", "describe_close"]

CLEAN_CLOSE_CODES: Final = frozenset({CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD})
"""A goodbye with one of these is a clean end; browsers send no code at all when none is given."""

_KNOWN_CODES: Final = frozenset(int(code) for code in CloseCode)


def describe_close(code: int, reason: str | None) -> str:
    """A close code in words: `1009 (message too big): over 16 MiB`."""
    meaning = CLOSE_CODE_EXPLANATIONS.get(CloseCode(code), "unknown") if code in _KNOWN_CODES else "private use"
    return f"{code} ({meaning}): {reason}" if reason else f"{code} ({meaning})"

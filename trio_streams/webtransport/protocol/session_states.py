"""How far a session is, and every legal move."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["TRANSITIONS", "SessionState", "Trigger"]


class SessionState(enum.Enum):
    """How far a session is."""

    CONNECTING = "connecting"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Trigger(enum.Enum):
    """What can happen to a session."""

    ACCEPT = "accept"
    DRAIN = "drain"  # by either side
    END = "end"


TRANSITIONS: Final[dict[tuple[SessionState, Trigger], SessionState]] = {
    (SessionState.CONNECTING, Trigger.ACCEPT): SessionState.OPEN,
    (SessionState.CONNECTING, Trigger.END): SessionState.CLOSED,
    (SessionState.OPEN, Trigger.DRAIN): SessionState.DRAINING,
    (SessionState.OPEN, Trigger.END): SessionState.CLOSED,
    (SessionState.DRAINING, Trigger.DRAIN): SessionState.DRAINING,
    (SessionState.DRAINING, Trigger.END): SessionState.CLOSED,
}
"""Every legal move."""

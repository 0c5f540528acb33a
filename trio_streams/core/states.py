"""The half-state table: everything that decides in which state one direction of a stream is.

A stream is two halves. Each half is an ordered run of items that finishes exactly once:

    OPEN ──End──▶ CLOSING ──Drained──▶ CLOSED
      └──Reset/Stop──▶ ERRORED ◀──Reset/Stop──┘

CLOSING means that the end is known and the buffer still drains: a handler that yields three items and raises
delivers three items and then the error. The first terminal cause wins; triggers that reach a finished half are
dropped by `advance` and reported by its return value, because a RESET that crosses an END on the wire is nobody's
fault. Sending is the one thing that only an OPEN half allows, and that check is the caller's.

Two rules, as in h11: everything that affects state lives here, and this file does not know which side it is on.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import ClassVar, Final

__all__ = ["TRANSITIONS", "HalfState", "StreamState", "Trigger", "advance", "project"]


class HalfState(enum.Enum):
    """The state of one direction of a stream."""

    # An enum's own hashes the name, in Python, and states are looked up all the time.
    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    ERRORED = "errored"


class Trigger(enum.Enum):
    """What can happen to a half."""

    __hash__: ClassVar[Callable[[object], int]] = object.__hash__

    END = "end"  # the sender has no more items; those under way still count
    DRAINED = "drained"  # the last item and the end have left this half's buffer
    RESET = "reset"  # the sender abandons it: unread items are dropped
    STOP = "stop"  # the receiver refuses more


class StreamState(enum.Enum):
    """The state of a whole stream, for those who ask about both halves at once (RFC 9000 §3)."""

    OPEN = "open"
    HALF_CLOSED_LOCAL = "half_closed_local"
    HALF_CLOSED_REMOTE = "half_closed_remote"
    CLOSED = "closed"


TRANSITIONS: Final[dict[tuple[HalfState, Trigger], HalfState]] = {
    (HalfState.OPEN, Trigger.END): HalfState.CLOSING,
    (HalfState.OPEN, Trigger.RESET): HalfState.ERRORED,
    (HalfState.OPEN, Trigger.STOP): HalfState.ERRORED,
    (HalfState.CLOSING, Trigger.DRAINED): HalfState.CLOSED,
    (HalfState.CLOSING, Trigger.RESET): HalfState.ERRORED,
    (HalfState.CLOSING, Trigger.STOP): HalfState.ERRORED,
}
"""Every legal move. A pair that is missing changes nothing: the first terminal cause has won."""

FINISHED: Final = frozenset({HalfState.CLOSED, HalfState.ERRORED})


def advance(state: HalfState, trigger: Trigger) -> HalfState | None:
    """The state after `trigger`, or None where the trigger comes too late to matter."""
    return TRANSITIONS.get((state, trigger))


def project(local: HalfState, remote: HalfState) -> StreamState:
    """The whole stream's state from the half we send on and the half we receive on.

    What we have ended takes nothing more from us, so our half counts as closed from then on. The peer's half counts as
    open while there is anything of it to read, known end or not, as "Size Known" does in RFC 9000 §3.4.
    """
    if local is HalfState.OPEN:
        return StreamState.HALF_CLOSED_REMOTE if remote in FINISHED else StreamState.OPEN
    return StreamState.CLOSED if remote in FINISHED else StreamState.HALF_CLOSED_LOCAL

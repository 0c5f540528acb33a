"""Who is let in: what one server asks of all that is accepted below it, whichever host accepts it.

Hosts of HTTP open listeners and answer handshakes by themselves. What the server around them wants of both travels to them
in a context variable, which every task that they start inherits; outside of a server there is none, and everybody is let in.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from trio_streams.transports.origin import Refusal

__all__ = [
    "ADMISSION",
    "Admission",
    "CheckRequest",
    "Places",
    "find_check",
    "find_message_timeout",
    "find_places",
    "find_text_limit",
    "guard_listeners",
]

CheckRequest: TypeAlias = Callable[[str | None, str | None], Refusal | None]
"""Judges a WebSocket's opening request by its `Host` and `Origin`."""


class Places(Protocol):
    """Counts what has no socket of its own, such as connections of QUIC, among a server's connections."""

    def is_full(self, host: str) -> bool:
        """Whether one more from an address would be too much."""
        ...

    def take_place(self, host: str) -> Callable[[], None] | None:
        """Count one in; returns what gives its place back, or None where there is none."""
        ...


@attrs.frozen
class Admission:
    """What a server asks.

    Attributes:
      guard: stands before a listener, to bound what it accepts.
      check_request: judges opening requests of WebSockets; None lets all pass.
      max_text_bytes: the longest message of a WebSocket whose client offers no subprotocol at all, which then speaks
        texts; None refuses such clients where a subprotocol is required.
      message_timeout: seconds for such a message, from its first byte; None for any time.
      places: bounds what no listener of sockets accepts; None lets all in.
    """

    guard: Callable[[trio.SocketListener], trio.SocketListener]
    check_request: CheckRequest | None = None
    max_text_bytes: int | None = None
    message_timeout: float | None = None
    places: Places | None = None


ADMISSION: Final[ContextVar[Admission | None]] = ContextVar("trio_streams_admission", default=None)
"""That of the server around the current task, if any."""


def guard_listeners(listeners: list[trio.SocketListener]) -> list[trio.SocketListener]:
    """Put listeners behind the guard of the server around, if there is one."""
    admission = ADMISSION.get()
    return listeners if admission is None else [admission.guard(listener) for listener in listeners]


def find_check(check_request: CheckRequest | None) -> CheckRequest | None:
    """The check that was asked for, or else that of the server around."""
    if check_request is not None:
        return check_request
    admission = ADMISSION.get()
    return None if admission is None else admission.check_request


def find_text_limit() -> int | None:
    """The `max_text_bytes` of the server around; None outside of one."""
    admission = ADMISSION.get()
    return None if admission is None else admission.max_text_bytes


def find_message_timeout() -> float | None:
    """The `message_timeout` of the server around; None outside of one."""
    admission = ADMISSION.get()
    return None if admission is None else admission.message_timeout


def find_places() -> Places | None:
    """What counts connections without sockets for the server around; None outside of one."""
    admission = ADMISSION.get()
    return None if admission is None else admission.places

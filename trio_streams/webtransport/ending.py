"""Why a session or a connection is over, in the words of those who used it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from trio_streams.errors import ConnectionLost
from trio_streams.webtransport.errors import HandshakeFailed, SessionClosed
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.events import Closer as Closer
from trio_streams.webtransport.stream_half import OverCause

__all__ = ["Closer", "SessionClose", "cause_of_end", "cause_of_loss"]

_TLS_ALERTS: Final = range(0x100, 0x200)  # RFC 9001 §4.8


@attrs.frozen(kw_only=True)
class SessionClose:
    """How a session ended.

    Attributes:
      code: the application's, 32 bits; 0 where nobody gave one.
      reason: for people; may be empty.
      closer: who did it; `LOST` where the stream or the connection under the session broke.
    """

    code: int
    reason: str
    closer: Closer


def cause_of_end(event: events.SessionClosed, peer: str) -> OverCause:
    """What operations of a session raise after its end.

    Args:
      event: the end.
      peer: the other end, for people.
    """
    code, reason, error = event.code, event.reason, event.error
    if error is not None:
        return _lost(f"{peer} broke a rule, which ended the session: {error}", error)
    if event.closer is Closer.PEER:
        return lambda: SessionClosed(code, reason)
    return _lost(f"the session with {peer} was cut off with code {_name(code)}", None)


def _lost(message: str, cause: Exception | None) -> Callable[[], Exception]:
    def lost() -> Exception:
        error = ConnectionLost(message)
        error.__cause__ = cause
        return error

    return lost


def cause_of_loss(event: events.ConnectionOver, peer: str) -> ConnectionLost:
    """What everything on a connection raises after its end.

    Args:
      event: the end.
      peer: the other end, for people.
    """
    said = f": {event.reason}" if event.reason else ""
    if event.error is not None:
        lost = ConnectionLost(f"{peer} broke a rule, which ended the connection: {event.error}")
        lost.__cause__ = event.error
        return lost
    if event.is_timeout:
        return ConnectionLost(f"nothing was heard of {peer} for too long")
    if event.is_application:
        return ConnectionLost(f"the connection to {peer} ended with code {_name(event.code)}{said}")
    if event.code in _TLS_ALERTS:
        return HandshakeFailed(f"TLS with {peer} failed with alert {event.code - _TLS_ALERTS.start}{said}")
    return ConnectionLost(f"the connection to {peer} ended with QUIC's code {event.code:#x}{said}")


def _name(code: int) -> str:
    try:
        return Http3Code(code).name
    except ValueError:
        return f"{code:#x}"

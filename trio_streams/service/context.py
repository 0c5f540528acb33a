"""What a handler knows of the call or stream it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs
import trio

from trio_streams.core.records import NO_METADATA

__all__ = ["Context"]


def _no_reason() -> Exception | None:
    return None


@attrs.frozen(kw_only=True)
class Context:
    """One call or stream, from the handler's side.

    Attributes:
      procedure: its name.
      peer: the other end, for people.
      metadata: the caller's string pairs; over HTTP the request's headers, names in lower case.
      deadline: when the caller stops caring, on Trio's clock; infinity for never. It is applied to `cancel_scope`.
      cancel_scope: cancelled when the caller cancels, goes away, or stops caring. A handler need not look at it:
        whatever it awaits is interrupted, and its `finally` blocks run before the stream counts as closed.
      request_id: unique within its connection, for logs.
      params: what stood in the place of the name's parameters: `{"id": "42"}` where `users.[id].feed` was asked for as
        `users.42.feed`.
      principal: who asks, as an interceptor that authenticates found out; None where none did.
      last_event_id: the id of the last item that the caller has, to go on after it: over HTTP its `Last-Event-ID`, on our
        own dialect its metadata `last-event-id`. None at a beginning. It comes from a stranger, like any input.
    """

    procedure: str
    peer: str
    metadata: Mapping[str, str]
    deadline: float
    cancel_scope: trio.CancelScope
    request_id: str
    params: Mapping[str, str] = NO_METADATA
    principal: object = None
    last_event_id: str | None = None
    _find_reason: Callable[[], Exception | None] = attrs.field(default=_no_reason, repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether the caller has cancelled, gone away, or stopped caring."""
        return self.cancel_scope.cancel_called or self._find_reason() is not None

    @property
    def cancel_reason(self) -> Exception | None:
        """What cancelled the scope from outside; None while nothing did, or when the deadline passed.

        A `StreamStopped` or `StreamReset` carries the caller's code and words, a `ConnectionLost` the fault. Readable
        in `finally`.
        """
        return self._find_reason()

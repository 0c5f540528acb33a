"""What users catch. Closed by us stays `trio.ClosedResourceError`, a clean end stays `trio.EndOfChannel`, and two
users of one byte half stay `trio.BusyResourceError`; everything else is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import trio

from trio_streams.codes import Code
from trio_streams.core.errors import FlowControlError as FlowControlError
from trio_streams.core.errors import LocalProtocolError as LocalProtocolError
from trio_streams.core.errors import ProtocolError as ProtocolError
from trio_streams.core.errors import RemoteProtocolError as RemoteProtocolError
from trio_streams.core.errors import StreamsError as StreamsError

__all__ = [
    "CodecError",
    "ConnectionLost",
    "FlowControlError",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "RpcError",
    "StreamError",
    "StreamReset",
    "StreamStopped",
    "StreamsError",
    "as_rpc_error",
    "forget_frames",
    "split_cancelled",
    "translate",
    "unwrap_group",
]


class StreamError(StreamsError, trio.BrokenResourceError):
    """One half of a stream was abandoned before its end.

    Attributes:
      code: why, as a code of the error table.
      reason: why, in words; may be empty.
    """

    def __init__(self, code: Code = Code.CANCELLED, reason: str = "") -> None:
        super().__init__(f"{code.name}: {reason}" if reason else code.name)
        self.code = code
        self.reason = reason


class StreamReset(StreamError):
    """The sender abandoned the half: what was not yet read is gone."""


class StreamStopped(StreamError):
    """The receiver refuses more: sending is pointless."""


class ConnectionLost(StreamsError, trio.BrokenResourceError):
    """The world broke the connection; every stream on it ends with this, once."""


class CodecError(StreamsError):
    """A payload could not be turned into the declared type, or a value into bytes.

    Attributes:
      path: where in the value, such as `$.level` or `$.items[3].price`; `$` for the whole.
    """

    def __init__(self, message: str, *, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


class RpcError(StreamsError):
    """The status that ended a stream or a call: raise it in a handler, catch it in a caller.

    Attributes:
      code: the name of the code: one of `Code`, or an application's own.
      message: for people.
      details: for programs; any JSON value, or None.
    """

    def __init__(self, code: str | Code, message: str = "", details: object = None) -> None:
        name = code.name if isinstance(code, Code) else code
        super().__init__(f"{name}: {message}" if message else name)
        self.code = name
        self.message = message
        self.details = details

    @property
    def known_code(self) -> Code:
        """The code as a member of the error table; UNKNOWN for an application's own name."""
        return Code.from_name(self.code)

    @property
    def is_our_fault(self) -> bool:
        """Whether the side that raised it is to blame: such errors are logged with a traceback, the others are not,
        for a stranger must not be able to fill a log."""
        return self.known_code in _OUR_FAULTS


_OUR_FAULTS: Final = frozenset({Code.INTERNAL, Code.DATA_LOSS})


@contextlib.contextmanager
def translate(mapping: Mapping[type[BaseException], type[StreamsError]]) -> Iterator[None]:
    """Turn foreign exceptions into ours at the boundary where the foreign library is imported.

    Args:
      mapping: foreign exception type to ours; the first that matches wins, and the foreign one becomes the cause.
    """
    try:
        yield
    except tuple(mapping) as exc:
        for foreign, ours in mapping.items():
            if isinstance(exc, foreign):
                raise ours(str(exc) or type(exc).__name__) from exc
        raise  # pragma: no cover - the except clause lists exactly the mapping's keys


def split_cancelled(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Part an exception into its cancellation and the rest.

    A cancellation that passes through a user's nursery arrives as a group, so its type alone says nothing.

    Returns:
      The `trio.Cancelled` part and the remainder, each None where there is none.
    """
    if isinstance(exc, BaseExceptionGroup):
        group: BaseExceptionGroup[Any] = exc
        return group.split(trio.Cancelled)
    return (exc, None) if isinstance(exc, trio.Cancelled) else (None, exc)


def forget_frames(exc: BaseException) -> None:
    """Drop the tracebacks of an exception that is kept, and of what led to it.

    A traceback holds frames, and they hold whoever keeps the exception: only the collector of cycles could free them.

    Args:
      exc: one that nobody is handling any more; its message, its cause and its context stay.
    """
    links: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += link.__cause__, link.__context__


def unwrap_group(exc: BaseException) -> BaseException:
    """The one error inside nested groups, or `exc` itself where two things really failed.

    Cancellations are left out of the count as long as something else failed too. The loss of a connection counts once, however
    many tasks were told: those that wait on one learn of its end at once, and whether one of them is in time to cancel the others
    is chance.
    """
    while isinstance(exc, BaseExceptionGroup):
        _, rest = split_cancelled(exc)
        if rest is None:
            return exc
        first, *others = _leaves(rest)
        if all(_is_same(first, other) for other in others):
            return first
        if not isinstance(rest, BaseExceptionGroup) or len(rest.exceptions) > 1:
            return exc
        exc = rest.exceptions[0]
    return exc


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc


def _is_same(one: BaseException, other: BaseException) -> bool:
    """Whether both say the same of one connection's end; others that look alike may well be two."""
    if one is other:
        return True
    is_told_to_many = isinstance(one, ConnectionLost) and type(one) is type(other)
    return is_told_to_many and one.args == other.args and vars(one) == vars(other)


def as_rpc_error(exc: BaseException, *, debug: bool = False) -> RpcError:
    """The status that an exception tells the peer.

    What is not ours is INTERNAL, and its text stays here unless `debug` says otherwise.

    Args:
      exc: what ended a handler; a group with one error counts as that error, and one with several as the first for which we are
        to blame, if there is one.
      debug: whether the text of foreign exceptions may leave.
    """
    exc = unwrap_group(exc)
    match exc:
        case BaseExceptionGroup():
            statuses = [as_rpc_error(leaf, debug=debug) for leaf in _leaves(split_cancelled(exc)[1] or exc)]
            return next((status for status in statuses if status.is_our_fault), statuses[0])
        case RpcError():
            return exc
        case StreamError():
            return RpcError(exc.code, exc.reason)
        case CodecError():
            return RpcError(Code.INVALID_ARGUMENT, str(exc), {"path": exc.path})
        case ProtocolError():
            details = {"field": exc.field, "size": exc.size, "limit": exc.limit}
            return RpcError(
                exc.code, str(exc), {key: value for key, value in details.items() if value not in {"", None}}
            )
        case ConnectionLost():
            return RpcError(Code.UNAVAILABLE, str(exc))
        case _:
            return RpcError(Code.INTERNAL, f"{type(exc).__name__}: {exc}" if debug else "internal error")

"""What users catch."""

from __future__ import annotations

import pytest
import trio

from trio_streams import errors
from trio_streams.codes import Code


def test_a_stream_error_says_which_code_and_why() -> None:
    """Code and reason are attributes and text; Trio's users catch it as a broken resource."""
    error = errors.StreamReset(Code.INTERNAL, "disk full")
    assert (str(error), error.code, error.reason) == ("INTERNAL: disk full", Code.INTERNAL, "disk full")
    assert str(errors.StreamStopped()) == "CANCELLED"
    assert isinstance(error, trio.BrokenResourceError)
    assert isinstance(errors.ConnectionLost("x"), trio.BrokenResourceError)
    assert isinstance(error, errors.StreamsError)


def test_a_status_keeps_an_applications_own_code() -> None:
    """A name of the table is known, another one is UNKNOWN to the table and itself to the caller."""
    error = errors.RpcError(Code.NOT_FOUND, "no such file", {"path": "x"})
    assert (str(error), error.code, error.known_code) == ("NOT_FOUND: no such file", "NOT_FOUND", Code.NOT_FOUND)
    own = errors.RpcError("QUOTA_USED")
    assert (str(own), own.code, own.known_code, own.message) == ("QUOTA_USED", "QUOTA_USED", Code.UNKNOWN, "")
    assert error.details == {"path": "x"}


def test_a_codec_error_says_where() -> None:
    """The path is the whole value unless it is said."""
    assert (errors.CodecError("x").path, errors.CodecError("x", path="$.level").path) == ("$", "$.level")


def test_foreign_errors_become_ours_with_their_cause() -> None:
    """The first match wins, an empty text becomes the type's name, and what is not listed passes."""
    with (
        pytest.raises(errors.ConnectionLost, match="^broken pipe$") as caught,
        errors.translate({ConnectionError: errors.ConnectionLost, OSError: errors.CodecError}),
    ):
        raise BrokenPipeError("broken pipe")
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    mapping: dict[type[BaseException], type[errors.StreamsError]] = {
        ConnectionError: errors.ConnectionLost,
        OSError: errors.CodecError,
    }
    with pytest.raises(errors.CodecError, match="^PermissionError$"), errors.translate(mapping):
        raise PermissionError
    with pytest.raises(KeyError), errors.translate(mapping):
        raise KeyError("x")
    with errors.translate(mapping):
        pass


async def cancelled() -> trio.Cancelled:
    """A cancellation as Trio makes it."""
    caught: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            caught.append(exc)
            raise
    return caught[0]


async def test_a_cancellation_is_parted_from_the_rest() -> None:
    """Bare or within groups, cancellation and failure are told apart."""
    stop, bug = await cancelled(), ValueError("x")
    assert errors.split_cancelled(stop) == (stop, None)
    assert errors.split_cancelled(bug) == (None, bug)
    part, rest = errors.split_cancelled(BaseExceptionGroup("", [stop, bug]))
    assert isinstance(part, BaseExceptionGroup)
    assert isinstance(rest, BaseExceptionGroup)
    assert (part.exceptions, rest.exceptions) == ((stop,), (bug,))


async def test_one_real_error_is_unwrapped_and_two_are_not() -> None:
    """Groups appear only if two things really failed; cancellations do not count beside a failure."""
    stop, bug, other = await cancelled(), ValueError("x"), KeyError("y")
    assert errors.unwrap_group(bug) is bug
    assert errors.unwrap_group(ExceptionGroup("", [bug])) is bug
    assert errors.unwrap_group(BaseExceptionGroup("", [stop, ExceptionGroup("", [bug])])) is bug
    both = ExceptionGroup("", [bug, other])
    assert errors.unwrap_group(both) is both
    inner = errors.unwrap_group(ExceptionGroup("", [ExceptionGroup("", [both])]))
    assert isinstance(inner, ExceptionGroup)
    assert inner.exceptions == (bug, other)
    only_stop = BaseExceptionGroup("", [stop])
    assert errors.unwrap_group(only_stop) is only_stop


async def test_what_several_tasks_are_told_is_one_error() -> None:
    """An error of ours that says the same in each; foreign ones may be two that look alike, and one word makes a difference."""
    stop = await cancelled()
    lost, again = errors.ConnectionLost("cut"), errors.ConnectionLost("cut")
    group = BaseExceptionGroup("", [lost, stop, ExceptionGroup("", [again])])
    assert errors.unwrap_group(group) is lost
    one = ValueError("x")
    assert errors.unwrap_group(ExceptionGroup("", [one, ExceptionGroup("", [one])])) is one
    for others in (
        [ValueError("x"), ValueError("x")],
        [lost, errors.ConnectionLost("cut off")],
        [errors.RpcError("ABORTED", "no", {"n": 1}), errors.RpcError("ABORTED", "no", {"n": 2})],
        [errors.StreamReset(Code.CANCELLED), errors.StreamStopped(Code.CANCELLED)],
    ):
        both = ExceptionGroup("", others)
        assert errors.unwrap_group(both) is both


def test_the_status_of_several_errors_is_our_fault_if_one_of_them_is() -> None:
    """What peers and the world have done stays theirs, however many tasks were told; a fault of ours is not hidden behind it."""
    lost, reset = errors.ConnectionLost("cut"), errors.StreamReset(Code.ABORTED, "enough")
    assert errors.as_rpc_error(ExceptionGroup("", [lost, reset])).code == "UNAVAILABLE"
    assert errors.as_rpc_error(ExceptionGroup("", [reset, lost])).code == "ABORTED"
    fault = ExceptionGroup("", [lost, ExceptionGroup("", [reset, KeyError("ours")])])
    assert (errors.as_rpc_error(fault).code, errors.as_rpc_error(fault).is_our_fault) == ("INTERNAL", True)
    assert errors.as_rpc_error(fault, debug=True).message == "KeyError: 'ours'"

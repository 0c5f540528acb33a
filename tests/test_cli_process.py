"""How a command ends: what is said of its failures, and its exit code."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from trio_streams.cli.process import EXIT_FAILED, EXIT_USAGE, UsageError, run
from trio_streams.errors import ConnectionLost, RpcError


async def _fail_at_once(*errors: Exception) -> None:
    """Several tasks are woken and fail before any of them can cancel the others."""
    cut = trio.Event()

    async def fail(error: Exception) -> None:
        await cut.wait()
        raise error

    async with trio.open_nursery() as nursery:
        for error in errors:
            nursery.start_soon(fail, error)
        await trio.testing.wait_all_tasks_blocked()
        cut.set()


@pytest.mark.parametrize(
    ("errors", "lines", "code"),
    [
        ([ConnectionLost("cut")] * 3, ["UNAVAILABLE: cut"], EXIT_FAILED),
        ([ConnectionLost("cut")], ["UNAVAILABLE: cut"], EXIT_FAILED),
        ([UsageError("no file"), UsageError("no file")], ["no file"], EXIT_USAGE),
        ([trio.TooSlowError()], ["DEADLINE_EXCEEDED: the timeout has passed"], EXIT_FAILED),
    ],
)
def test_what_several_tasks_learn_at_once_is_said_once(
    errors: list[Exception], lines: list[str], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The end of a connection reaches each of a command's tasks: that is one line, and no traceback of a group."""
    assert run(partial(_fail_at_once, *errors)) == code
    assert capfd.readouterr().err.splitlines() == [f"error: {line}" for line in lines]


def test_two_things_that_failed_are_two_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """Each is said, in whatever order the tasks ran."""
    assert run(partial(_fail_at_once, ConnectionLost("cut"), RpcError("ABORTED", "no"))) == EXIT_FAILED
    assert sorted(capfd.readouterr().err.splitlines()) == ["error: ABORTED: no", "error: UNAVAILABLE: cut"]


def test_a_fault_of_ours_keeps_its_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """Also where it is one failure of several."""
    with pytest.raises(ExceptionGroup) as caught:
        run(partial(_fail_at_once, ConnectionLost("cut"), KeyError("ours")))
    assert caught.value.subgroup(KeyError) is not None
    assert capfd.readouterr().err == ""

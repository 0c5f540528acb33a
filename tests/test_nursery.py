"""Nurseries whose single failure arrives bare."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery


async def fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


async def test_nothing_fails() -> None:
    """A nursery in which nothing fails waits for its tasks and says nothing."""
    done = []
    async with open_bare_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        done.append(1)
    assert done == [1]


async def test_the_bodys_error_arrives_bare() -> None:
    """An error of the body is itself, with its own cause and context, and children are cancelled."""
    with pytest.raises(KeyError) as caught:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                raise OSError("first")  # noqa: TRY301
            except OSError as exc:
                raise KeyError("second") from exc
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__context__ is caught.value.__cause__


async def test_a_childs_error_arrives_bare_without_our_group() -> None:
    """An error of a child is itself; the nursery's group is nowhere in its chain."""
    with pytest.raises(ValueError, match="child") as caught:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(fail, ValueError("child"))
            await trio.sleep_forever()
    assert caught.value.__context__ is None


async def test_two_errors_are_a_group() -> None:
    """If two things really failed, both are there."""

    async def fail_at_once(error: Exception) -> None:
        raise error

    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(fail_at_once, ValueError("one"))
            nursery.start_soon(fail_at_once, KeyError("two"))
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}


async def test_one_loss_is_one_error_however_many_were_told() -> None:
    """Tasks that wait on one connection learn of its end in one tick, and none of them is in time to cancel the others."""
    cut = trio.Event()

    async def wait_cut() -> None:
        await cut.wait()
        raise ConnectionLost("cut")

    with pytest.raises(ConnectionLost, match="cut") as caught:
        async with open_bare_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait_cut)
            await trio.testing.wait_all_tasks_blocked()
            cut.set()
    assert caught.value.__context__ is None


async def test_nested_groups_are_unwrapped() -> None:
    """One error through several nurseries is still one error."""
    with pytest.raises(ValueError, match="deep"):
        async with open_bare_nursery(), trio.open_nursery() as inner:
            inner.start_soon(fail, ValueError("deep"))


async def test_cancellation_stays_cancellation() -> None:
    """A cancelled nursery is caught by the scope that was cancelled."""
    with trio.CancelScope() as scope:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
    assert scope.cancelled_caught


async def test_keyboard_interrupt_arrives_bare() -> None:
    """KeyboardInterrupt unwinds as itself."""
    with pytest.raises(KeyboardInterrupt):
        async with open_bare_nursery() as nursery:
            nursery.start_soon(fail, KeyboardInterrupt())

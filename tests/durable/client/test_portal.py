"""One thread with a Trio run for everything that blocks."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import trio

from trio_streams.durable.client.portal import Portal


@pytest.fixture
def portal() -> Portal:
    """One of the test's own."""
    return Portal()


async def double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


async def fail() -> None:
    await trio.lowlevel.checkpoint()
    raise KeyError("here")


def test_calls_share_one_thread(portal: Portal) -> None:
    """The first call starts it, from whatever thread; all calls run in it; the last one has stopped it."""
    names = set()

    async def name() -> None:
        await trio.lowlevel.checkpoint()
        names.add(threading.current_thread())

    threads = [threading.Thread(target=portal.call, args=(name,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    portal.call(name)
    (found,) = names
    assert found.daemon
    portal.stop()
    assert not found.is_alive()


def test_what_it_returns_and_raises(portal: Portal) -> None:
    """A call is as if it were made here."""
    assert portal.call(double, 4) == 8
    with pytest.raises(KeyError, match="here"):
        portal.call(fail)
    assert portal.call(double, 5) == 10
    portal.stop()


def test_it_starts_again(portal: Portal) -> None:
    """After its end the next call starts another one; ending it twice is no error."""
    for _ in range(3):
        assert portal.call(double, 1) == 2
        portal.stop()
        portal.stop()
    portal.run_soon(lambda: None)


def test_a_call_that_is_under_way_at_the_end(portal: Portal) -> None:
    """It is cancelled, and its caller told; nobody waits for ever."""
    call = portal.start(trio.sleep_forever)
    portal.stop()
    with pytest.raises(RuntimeError, match="ended before this call did"):
        portal.wait(call)


def test_a_thread_that_ended_under_a_caller(portal: Portal) -> None:
    """Between the look for the thread and the call it may end; the caller is told."""
    portal.call(double, 1)
    current = portal._current
    assert current is not None
    portal.stop()
    portal._ready = lambda: current  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="ended before"):
        portal.call(double, 1)
    portal._current = current
    portal.run_soon(lambda: None)
    portal.stop()


def test_a_call_that_comes_while_it_ends(portal: Portal) -> None:
    """A call that arrives when the run is being cancelled is given up."""
    portal.call(double, 1)
    assert portal._current is not None
    nursery = portal._current.nursery
    assert nursery is not None
    portal.run_soon(nursery.cancel_scope.cancel)
    with pytest.raises(RuntimeError, match="ended before"):
        portal.call(double, 1)
    portal.stop()


def test_it_does_not_wait_for_itself(portal: Portal) -> None:
    """A blocking call in the portal's own thread would never end: it is refused."""

    async def inside() -> None:
        await trio.lowlevel.checkpoint()
        portal.call(double, 1)

    with pytest.raises(RuntimeError, match="would wait for"):
        portal.call(inside)
    portal.stop()


def test_a_forked_process_forgets_the_thread(portal: Portal) -> None:
    """What a fork copies of the parent's portal is not used."""
    portal.call(double, 1)
    current = portal._current
    assert current is not None
    portal.forget()
    assert portal.call(double, 2) == 4
    assert portal._current is not current
    portal.stop()
    portal._current = current
    portal.stop()


def test_the_interpreter_ends_quietly() -> None:
    """A script that leaves the thread running, and even a call in it, ends at once and says nothing."""
    script = """
import trio
from trio_streams.durable.client.portal import portal
async def one():
    return 1
print(portal.call(one))
portal.start(trio.sleep_forever)
"""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")

"""Two hosts on one port number, over sockets that are fakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.transports.beside import serve_both
from trio_streams.transports.bytes import ListenError


@attrs.define
class Ports:
    """Which numbers are taken, and what has happened."""

    udp: list[int] = attrs.field(factory=lambda: [5001, 5002, 5003])
    taken: set[int] = attrs.field(factory=set)
    told: list[tuple[str, int]] = attrs.field(factory=list)

    async def serve(
        self,
        kind: str,
        port: int,
        *,
        shutdown_trigger: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[str],
    ) -> None:
        await trio.lowlevel.checkpoint()
        number = port or self.udp.pop(0)
        if kind == "tcp" and number in self.taken:
            raise ListenError(f"{number} is taken")
        self.told.append((f"{kind} begins", number))
        try:
            task_status.started(f"https://127.0.0.1:{number}")
            await shutdown_trigger()
            self.told.append((f"{kind} drains", number))
        finally:
            self.told.append((f"{kind} ends", number))

    def serve_both(
        self,
        port: int = 0,
        shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> Awaitable[None]:
        return serve_both(
            partial(self.serve, "udp"),
            partial(self.serve, "tcp"),
            port,
            shutdown_trigger=shutdown_trigger,
            task_status=task_status,
        )


async def test_udp_comes_first_and_tcp_gets_its_number() -> None:
    """The URL that is reported is that of both; cancelled, both end."""
    ports = Ports()
    async with trio.open_nursery() as nursery:
        assert await nursery.start(ports.serve_both) == "https://127.0.0.1:5001"
        assert ports.told == [("udp begins", 5001), ("tcp begins", 5001)]
        nursery.cancel_scope.cancel()
    assert sorted(ports.told[2:]) == [("tcp ends", 5001), ("udp ends", 5001)]


async def test_another_number_is_tried_where_the_system_chooses() -> None:
    """What is taken over TCP is given up over UDP, too, before the next one."""
    ports = Ports(taken={5001, 5002})
    async with trio.open_nursery() as nursery:
        assert await nursery.start(ports.serve_both) == "https://127.0.0.1:5003"
        nursery.cancel_scope.cancel()
    assert ports.told[:4] == [("udp begins", 5001), ("udp ends", 5001), ("udp begins", 5002), ("udp ends", 5002)]


@pytest.mark.parametrize("port", [0, 5000])
async def test_a_port_that_is_taken_is_one_clear_error(port: int) -> None:
    """A port that was asked for is tried once, and a free one sixteen times; the error is the listener's, bare."""
    ports = Ports(udp=list(range(5001, 5100)), taken=set(range(5000, 5100)))
    with pytest.raises(ListenError, match="is taken"):
        await ports.serve_both(port)
    assert len(ports.told) == 2 * (1 if port else 16)


async def test_a_trigger_ends_both() -> None:
    """It is waited for once, and the call returns when both have ended."""
    ports, asked, trigger = Ports(), 0, trio.Event()

    async def wait() -> None:
        nonlocal asked
        asked += 1
        await trigger.wait()

    async with trio.open_nursery() as nursery:
        await nursery.start(ports.serve_both, 0, wait)
        await wait_all_tasks_blocked()
        trigger.set()
    assert asked == 1
    assert {("tcp drains", 5001), ("udp drains", 5001)} < set(ports.told)


async def test_a_failing_trigger_surfaces_bare() -> None:
    """What it raises ends both."""
    ports = Ports()

    async def wait() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("trigger")

    with pytest.raises(ValueError, match="trigger"):
        await ports.serve_both(0, wait)
    assert sorted(ports.told[2:]) == [("tcp ends", 5001), ("udp ends", 5001)]

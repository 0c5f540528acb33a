"""A handler that calls another server: what is left of its caller's time goes along, and so does its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams import Context, Router
from trio_streams.driver import run_client, run_server
from trio_streams.procedures import ConnectionClient
from trio_streams.procedures.server import prepare
from trio_streams.transports.memory import memory_carrier_pair


@asynccontextmanager
async def client_of(app: Router) -> AsyncGenerator[ConnectionClient, None]:
    near, far = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, far, partial(prepare, app))
        async with run_client(near) as connection:
            yield ConnectionClient(connection)


async def test_the_rest_of_a_deadline_is_forwarded(autojump_clock: MockClock) -> None:
    """Of ten seconds the first handler takes four: the second one has six, and is cancelled when they are over."""
    seen: list[float] = []
    ended: list[float] = []
    back = Router()

    @back.call("wait")
    async def wait(ctx: Context) -> None:
        seen.append(ctx.deadline - trio.current_time())
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with client_of(back) as onward:
        front = Router()

        @front.call("work")
        async def work() -> None:
            await trio.sleep(4)
            await onward.call("wait")

        async with client_of(front) as client:
            began = trio.current_time()
            with pytest.raises(trio.TooSlowError):
                with trio.fail_after(10):
                    await client.call("work")
            await wait_all_tasks_blocked()
    assert seen == [pytest.approx(6, abs=0.002)]  # it travels in whole milliseconds
    assert ended == [pytest.approx(began + 10, abs=0.002)]


async def test_a_cancel_is_forwarded_at_once(autojump_clock: MockClock) -> None:
    """Cancelling the first call ends the second server's handler, at the same moment of virtual time."""
    ended: list[float] = []
    back = Router()

    @back.call("wait")
    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with client_of(back) as onward:
        front = Router()

        @front.call("work")
        async def work() -> None:
            await onward.call("wait")

        async with client_of(front) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call, "work")
                await trio.sleep(5)
                nursery.cancel_scope.cancel()
            await wait_all_tasks_blocked()
            assert ended == [trio.current_time()]

"""What the original documents and does not do, where `test_envelopes` and `test_raffel_streams_api` have no test of it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.procedures.envelope_site import FACES, Envelopes, open_envelopes, serving
from trio_streams import Router, RpcError
from trio_streams.driver import Handler, run_client, run_server
from trio_streams.procedures import ConnectionClient
from trio_streams.procedures.server import prepare
from trio_streams.service.interceptor import Invocation, Proceed
from trio_streams.streams.local import open_stream
from trio_streams.streams.wire import WireStream
from trio_streams.transports.memory import memory_carrier_pair


def watched(log: list[object], over: trio.Event | None = None) -> Router:
    """A bidirectional stream and a server stream, whose interceptor notes all that it sees."""
    app = Router()

    async def note(invocation: Invocation, proceed: Proceed) -> object:
        invocation.on_received(lambda item: log.append(("received", item)))
        invocation.on_sent(lambda item: log.append(("sent", item)))
        log.append(("begins", invocation.name))
        try:
            return await proceed()
        except RpcError as exc:
            log.append(("failed", exc.code))
            raise
        except trio.Cancelled:
            log.append("cancelled")
            raise
        finally:
            log.append("ends")
            if over is not None:
                over.set()

    app.use(note)

    @app.stream("double", direction="bidi")
    async def double(items: AsyncIterable[int]) -> AsyncIterator[int]:
        async for item in items:
            if item < 0:
                raise RpcError("OUT_OF_RANGE", "no negatives")
            yield 2 * item

    @app.stream("stuck")
    async def stuck() -> AsyncIterator[int]:
        yield 1
        await trio.sleep_forever()

    return app


async def say_item(client: Envelopes, item: int) -> None:
    await client.say({"type": "stream:data", "id": "d", "payload": item})


@pytest.mark.parametrize("face", FACES)
async def test_interceptors_see_a_stream_whole(face: str) -> None:
    """On the original's wire, too: the start, every item both ways, the error, the end; the original's see the start."""
    log: list[object] = []
    async with serving(watched(log), face) as url, open_envelopes(url) as client:
        await client.say({"type": "stream:start", "id": "d", "procedure": "double"})
        for item in (1, 2, -1):
            await say_item(client, item)
        heard = await client.hear_until("stream:error")
        assert heard[-1]["payload"]["code"] == "OUT_OF_RANGE"
        assert sorted(map(str, log)) == sorted(
            map(
                str,
                [
                    ("begins", "double"),
                    *[("received", item) for item in (1, 2, -1)],
                    *[("sent", item) for item in (2, 4)],
                    ("failed", "OUT_OF_RANGE"),
                    "ends",
                ],
            )
        )
        assert (log[0], log[-2:]) == (("begins", "double"), [("failed", "OUT_OF_RANGE"), "ends"])


@pytest.mark.parametrize("face", FACES)
async def test_interceptors_see_a_cancel(face: str) -> None:
    """A stream that its client cancels ends inside its interceptors, although the handler waits."""
    log: list[object] = []
    over = trio.Event()
    async with serving(watched(log, over), face) as url, open_envelopes(url) as client:
        await client.say({"type": "stream:start", "id": "s", "procedure": "stuck"})
        await client.hear_many(2)
        await client.say({"type": "cancel", "id": "s"})
        await client.hear_until("stream:error")
        with trio.fail_after(30):
            await over.wait()
        assert log == [("begins", "stuck"), ("received", None), ("sent", 1), "cancelled", "ends"]


async def test_a_priority_reaches_the_scheduler_of_either_side(autojump_clock: object) -> None:
    """It travels with each kind of stream and is the stream's on both sides; `tests/core/test_turns` shows it obeyed.

    The original keeps it and never reads it.
    """
    app = watched([])
    opened: dict[str, int] = {}

    @app.stream("sum", direction="client")
    async def total(items: AsyncIterable[int]) -> int:
        return sum([item async for item in items])

    def choose(stream: WireStream[bytes, bytes]) -> Handler:
        opened[stream.name] = stream.priority
        return prepare(app, stream)

    near, far = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_server, far, choose))
        async with run_client(near) as connection:
            client = ConnectionClient(connection)
            async with client.stream("stuck", priority=7) as items:
                assert await items.receive() == 1
            async with client.bidi("double", priority=-3) as both:
                await both.send(1)
                assert await both.receive() == 2
            assert await client.upload("sum", [1, 2], priority=127) == 3
    assert opened == {"stuck": 7, "double": -3, "sum": 127}


async def test_a_mark_of_zero_loses_nothing() -> None:
    """Writers that wait, readers that wait, and both in turn: each item once, in the order of its writing.

    The original loses one item at `highWaterMark: 0` and reorders two.
    """
    taken: list[int] = []
    async with open_stream[int](high_water_mark=0) as stream:

        async def read(count: int) -> None:
            taken.extend([await stream.receive() for _ in range(count)])

        for first in (0, 10, 20):
            async with trio.open_nursery() as nursery:
                if first != 10:  # the reader comes first
                    nursery.start_soon(read, 10)
                    await wait_all_tasks_blocked()
                for item in range(first, first + 10):
                    nursery.start_soon(stream.send, item)
                    await wait_all_tasks_blocked()
                if first == 10:
                    nursery.start_soon(read, 10)
        assert taken == list(range(30))

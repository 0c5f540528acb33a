"""The connections that a drain ends: each when it is idle, or by cutting its carrier."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_streams.carrier import Carrier, PromptCarrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_client, run_server
from trio_streams.streams.wire import WireStream
from trio_streams.transports.bytes import ByteCarrier
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.urls.runs import Runs


class Deaf:
    """A carrier on which nothing moves, and whose goodbye takes for ever."""

    def __init__(self) -> None:
        self.peer = "nobody"
        self.closings: list[str] = []
        self._closed = trio.Event()

    async def receive(self) -> bytes:
        await self._closed.wait()
        raise trio.ClosedResourceError

    async def send(self, data: bytes) -> None:
        await self._closed.wait()
        raise trio.ClosedResourceError

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closings.append("begun")
        try:
            await trio.sleep_forever()
        finally:
            self.closings.append("cut")
            self._closed.set()


async def never(stream: WireStream[bytes, bytes]) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("when", ["while it is used", "while it says goodbye", "before that"])
async def test_a_carrier_is_cut(when: str, autojump_clock: MockClock) -> None:
    """Whatever the connection is doing, cutting its carrier ends it at once, although its own timeout is an hour."""
    runs, deaf = Runs(), Deaf()
    config = ConnectionConfig(close_timeout=3_600, idle_timeout=None)

    async def run() -> None:
        with runs.open() as one:
            carrier = one.hold(deaf)
            await run_server(carrier, lambda stream: never, config=config)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        if when == "while it says goodbye":
            nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif when == "before that":
            nursery.start_soon(runs.end_idle)
        with trio.CancelScope(shield=True):
            await runs.cut_all()
        nursery.cancel_scope.cancel()
    assert trio.current_time() < 60
    assert deaf.closings[-1] == "cut"


async def test_an_idle_connection_is_ended(autojump_clock: MockClock) -> None:
    """The peer is told first; then what has no streams is ended, and a stream is waited for."""
    runs = Runs()
    left, right = memory_carrier_pair()
    go = trio.Event()

    async def serve(stream: WireStream[bytes, bytes]) -> None:
        await go.wait()
        await stream.send_last(b"done")

    async def run() -> None:
        with runs.open() as one:

            def began(connection: object) -> None:
                one.connection = connection  # type: ignore[assignment]

            await run_server(one.hold(right), lambda stream: serve, on_connection=began)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async with run_client(left) as connection:
            async with connection.open_stream("x") as stream:
                await trio.testing.wait_all_tasks_blocked()
                assert runs.streams == 1
                nursery.start_soon(runs.end_idle)
                await trio.sleep(60)
                assert connection.lost is None
                go.set()
                assert await stream.receive() == b"done"
            await trio.sleep(1)
            assert connection.lost is not None
            assert runs.streams == 0
        nursery.cancel_scope.cancel()


async def test_who_is_shaking_hands_is_sent_away(autojump_clock: MockClock) -> None:
    """What is no connection yet has nothing to lose."""
    runs = Runs()
    ended: list[float] = []

    async def run() -> None:
        with runs.open():
            await trio.sleep_forever()
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await runs.end_idle()
        assert ended
        await runs.cut_all()  # nobody is left


async def test_a_held_carrier_is_as_prompt_as_it_was() -> None:
    """What a carrier can do beyond the protocol, its stand-in can; what it can't, neither."""
    runs = Runs()
    stream, other = trio.testing.memory_stream_pair()
    with runs.open() as run:
        prompt: Carrier = run.hold(ByteCarrier(stream, peer="x"))
        assert isinstance(prompt, PromptCarrier)
        assert not prompt.is_writable()
        assert prompt.peer == "x"
        assert not isinstance(run.hold(Deaf()), PromptCarrier)
        await prompt.aclose()
        await other.aclose()

"""The public checker: it passes what works, and finds what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trio_streams.carrier import Carrier
from trio_streams.testing.cancelling import cancel_everywhere
from trio_streams.testing.check_streams import CHECKS, MakeCarriers, check_streams
from trio_streams.testing.exit_checks import check_leaving_ends_and_stops
from trio_streams.testing.flow_checks import check_any_size_keeps_its_place, check_long_runs_keep_their_order
from trio_streams.transports.memory import MemoryCarrier, memory_carrier_pair


@asynccontextmanager
async def whole() -> AsyncIterator[tuple[Carrier, Carrier]]:
    yield memory_carrier_pair()


@asynccontextmanager
async def narrow() -> AsyncIterator[tuple[Carrier, Carrier]]:
    yield memory_carrier_pair(max_buffered_bytes=100)


class Faulty:
    """A carrier whose bytes pass through a fault."""

    def __init__(self, carrier: MemoryCarrier, spoil: Callable[[bytes], bytes]) -> None:
        self._carrier = carrier
        self._spoil = spoil
        self._received = 0

    @property
    def peer(self) -> str:
        return self._carrier.peer

    async def receive(self) -> bytes:
        data = await self._carrier.receive()
        self._received += len(data)
        # The hello passes, so that the fault is met by streams.
        return self._spoil(data) if self._received > 2_000 and len(data) > 100 else data

    async def send(self, data: bytes) -> None:
        await self._carrier.send(data)

    async def wait_writable(self) -> None:
        await self._carrier.wait_writable()

    async def aclose(self) -> None:
        await self._carrier.aclose()


def faulty(spoil: Callable[[bytes], bytes]) -> MakeCarriers:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Carrier, Carrier]]:
        left, right = memory_carrier_pair()
        yield Faulty(left, spoil), right

    return make


@pytest.mark.parametrize("make", [whole, narrow])
async def test_what_works_passes(make: MakeCarriers, autojump_clock: MockClock) -> None:
    """Memory carriers keep every claim, in virtual time, however little they hold."""
    await check_streams(make)


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: data + data[-20:], lambda data: data[:50][::-1] + data[50:]],
    ids=["loses", "repeats", "disorders"],
)
@pytest.mark.parametrize("check", [check_long_runs_keep_their_order, check_any_size_keeps_its_place])
async def test_a_faulty_carrier_is_found(
    check: Callable[[MakeCarriers], object], spoil: Callable[[bytes], bytes], autojump_clock: MockClock
) -> None:
    """A carrier that loses, repeats or disorders bytes does not pass."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what exactly breaks depends on where the fault strikes
        result = check(faulty(spoil))
        assert hasattr(result, "__await__")
        await result
    assert not isinstance(caught.value, TypeError)


async def test_a_task_left_behind_is_found(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A transport that leaves a task running does not pass."""

    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[Carrier, Carrier]]:
        nursery.start_soon(trio.sleep_forever)
        yield memory_carrier_pair()

    with pytest.raises(AssertionError, match="outlived"):
        await check_leaving_ends_and_stops(make)
    nursery.cancel_scope.cancel()


def test_checks_state_their_claims() -> None:
    """Every check is named after what it checks, and its docstring's first line is a claim."""
    for check in CHECKS:
        assert check.__name__.startswith("check_")
        assert (check.__doc__ or "").partition("\n")[0].endswith(".")
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)


async def test_each_await_is_cancelled_once() -> None:
    """A scenario of three awaits is cancelled three times, each time one await later, and then completes."""
    reached: list[int] = []
    rounds: list[str] = []

    async def scenario(subject: str) -> None:
        for n in range(3):
            reached.append(n)
            await trio.lowlevel.checkpoint()
        reached.append(3)

    @asynccontextmanager
    async def around() -> AsyncIterator[str]:
        yield "subject"
        rounds.append("proved")

    assert await cancel_everywhere(scenario, around) == 3
    assert reached == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert rounds == ["proved"] * 4

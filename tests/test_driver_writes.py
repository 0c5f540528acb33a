"""When the driver writes, and what it leaves out."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from tests.fake_carrier import HELLO, FakeCarrier, make_rig
from trio_streams.carrier import PromptCarrier
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.driver import run_client
from trio_streams.errors import ConnectionLost

CONFIG = ConnectionConfig(close_timeout=2, idle_timeout=None)


class Prompt(FakeCarrier):
    """A carrier that can tell whether it is writable."""

    is_ready = True

    def is_writable(self) -> bool:
        return self.is_ready


async def test_a_grant_that_nobody_needs_any_more(autojump_clock: trio.testing.MockClock) -> None:
    """A grant that was due when the peer reset its half is not sent, and where nothing is left nothing is written."""
    carrier, peer = make_rig()
    await peer.greet()
    async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s") as stream:
        await peer.send((1, [b"x"] * 99))
        carrier.holds.add("wait_writable")
        for _ in range(64):
            await stream.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert "wait_writable" in carrier.waiting
        await peer.send((1, records.Reset()))
        writes = carrier.calls["send"]
        carrier.let("wait_writable")
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.calls["send"] == writes
        await stream.send(b"still writes")
    assert [b"still writes"] in peer.heard_on(1)
    assert not any(isinstance(frame, records.Credit) for frame in peer.heard_on(1))


@pytest.mark.parametrize("is_ready", [True, False])
async def test_what_comes_into_a_silence_goes_at_once(is_ready: bool, autojump_clock: trio.testing.MockClock) -> None:
    """After a silence a carrier that knows that it is writable is written to without waiting for it."""
    plain, peer = make_rig()
    carrier = Prompt(plain.inner)
    carrier.is_ready = is_ready
    assert isinstance(carrier, PromptCarrier)
    await peer.greet()
    async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s") as stream:
        await trio.testing.wait_all_tasks_blocked()
        waits, writes = carrier.calls.get("wait_writable", 0), carrier.calls["send"]
        await stream.send(b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.calls["send"] == writes + 1
        assert carrier.calls.get("wait_writable", 0) == waits + (not is_ready)


@pytest.mark.parametrize(("is_ready", "most"), [(True, 557_056), (False, 69_632)])
async def test_writes_are_short_where_bytes_wait(
    is_ready: bool, most: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Writes of a long queue grow to 544 KiB while the kernel has sent off what it was given, and else stay at 68."""
    plain, peer = make_rig()
    carrier = Prompt(plain.inner)
    carrier.is_ready = is_ready
    sizes: list[int] = []
    send = carrier.inner.send

    async def record(data: bytes) -> None:
        sizes.append(len(data))
        await send(data)

    carrier.inner.send = record  # type: ignore[method-assign]
    await peer.greet(attrs.evolve(HELLO, window_bytes=10**9))
    async with (
        run_client(carrier, config=CONFIG) as connection,
        connection.open_stream("s") as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(peer.drain)
        await stream.send_many([b"x" * 65_536] * 60)
        await stream.send(b"!")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    # The frames' heads come on top: 12 bytes for each 16 KiB.
    assert most <= max(sizes) <= most + 600


class _Slow(FakeCarrier):
    """A carrier that takes one write in 300 ms."""

    async def wait_writable(self) -> None:
        await trio.sleep(0.3)
        await super().wait_writable()


async def test_a_silent_peer_that_takes_bytes(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that goes on taking what we send, but says nothing for idle_timeout, is given up while we send."""
    plain, peer = make_rig()
    await peer.greet()
    async with (
        run_client(_Slow(plain.inner), config=ConnectionConfig(idle_timeout=8)) as connection,
        connection.open_stream("s") as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(peer.drain)
        await trio.sleep(1)
        await peer.send((1, records.Credit(10**9, 10**9)))
        with pytest.raises(ConnectionLost, match=r"silent for 8\.?\d* s"):
            while True:
                await stream.send(b"x" * 50_000)  # more than the carrier takes: the send loop is never at rest
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert 9 <= trio.current_time() < 12


async def test_an_idle_connection_has_no_task_that_sends(autojump_clock: trio.testing.MockClock) -> None:
    """What is sent is sent by a task that ends with it: while nothing is said only the receive loop is there."""
    before = trio.lowlevel.current_statistics().tasks_living
    carrier, peer = make_rig()
    await peer.greet()
    async with run_client(carrier, config=CONFIG) as connection, connection.open_stream("s") as stream:
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == before + 1
            await stream.send(b"x")
            assert trio.lowlevel.current_statistics().tasks_living == before + 2
        await trio.testing.wait_all_tasks_blocked()
        assert [frame for frame in peer.heard_on(1) if isinstance(frame, list)] == [[b"x"]] * 3

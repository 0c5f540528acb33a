"""A carrier that outlives those it stands on, for itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.core.sessions import make_session
from tests.fake_carrier import FakeCarrier
from trio_streams.core import records
from trio_streams.core.session import RESUME
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.nursery import open_bare_nursery
from trio_streams.resuming.carrier import Link, ResumingCarrier
from trio_streams.transports.bytes import ByteCarrier
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.wire.binary import PREFACE, BinaryWire

HELLO = PREFACE + BinaryWire().encode(
    0, records.Hello("peer", 0, 256, 262_144, 1 << 24, 100, 1 << 24, features=frozenset({RESUME}))
)


class Rig:
    """A carrier whose peer has greeted, the link it stands on, and both ends of that."""

    def __init__(self) -> None:
        self.carrier = ResumingCarrier(make_session(is_client=True), max_session_age=10, peer="somebody")
        self.kicks = 0
        self.losses = 0
        self.carrier.drive(self._kick)
        self.carrier.on_detached = self._lose
        self.connect()
        self.carrier.machine.receive(HELLO, 0.0)

    def _kick(self) -> None:
        self.kicks += 1

    def _lose(self) -> None:
        self.losses += 1

    def connect(self, received: bytes = b"") -> Link:
        near, self.far = memory_carrier_pair(100)
        self.near = FakeCarrier(near)
        self.link = self.carrier.attach(self.near, received)
        return self.link


@asynccontextmanager
async def rigged() -> AsyncGenerator[Rig, None]:
    rig = Rig()
    yield rig
    await rig.carrier.aclose()
    assert rig.near.closes == 1 or rig.carrier.is_detached


async def test_bytes_pass_through(autojump_clock: MockClock) -> None:
    """While all is well it is the carrier below; what was taken from that already comes first."""
    async with rigged() as rig:
        await rig.carrier.wait_writable()
        assert not rig.carrier.is_writable()  # the fake can't tell
        await rig.carrier.send(b"there")
        assert await rig.far.receive() == b"there"
        await rig.far.send(b"back")
        assert await rig.carrier.receive() == b"back"
        rig.connect(b"first, ")
        await rig.far.send(b"then")
        assert [await rig.carrier.receive(), await rig.carrier.receive()] == [b"first, ", b"then"]


async def test_what_a_carrier_can_tell_is_told() -> None:
    """A carrier that knows whether it takes bytes is asked; without one nothing is writable."""
    carrier = Rig().carrier
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        inner = ByteCarrier(await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]))
    link = carrier.attach(inner)
    assert carrier.is_writable()
    await link.close()
    assert not carrier.is_writable()


async def test_a_send_that_fails_returns(autojump_clock: MockClock) -> None:
    """The machine has what was sent, and the next carrier gets it; meanwhile sending does nothing."""
    async with rigged() as rig:
        link = rig.link
        rig.near.inner.lose()
        await rig.carrier.send(b"lost")
        await link.wait_released()
        assert (rig.carrier.is_detached, rig.losses, rig.carrier.machine.is_attached) == (True, 1, False)
        await rig.carrier.send(b"nowhere")
        await rig.carrier.wait_writable()
        assert not rig.carrier.is_writable()
        kicks = rig.kicks
        rig.connect()
        assert rig.kicks == kicks + 1
        await rig.carrier.send(b"there")
        assert await rig.far.receive() == b"there"


async def test_a_wait_for_room_that_fails_returns(autojump_clock: MockClock) -> None:
    """Likewise."""
    async with rigged() as rig:
        rig.near.inner.lose()
        await rig.carrier.wait_writable()
        assert (rig.carrier.is_detached, rig.losses) == (True, 1)


async def test_receiving_waits_for_another_carrier(autojump_clock: MockClock) -> None:
    """However often one is lost, and with or without a goodbye."""
    async with rigged() as rig, open_bare_nursery() as nursery:
        heard: list[bytes] = []

        async def listen() -> None:
            heard.append(await rig.carrier.receive())

        nursery.start_soon(listen)
        for n in range(4):
            await wait_all_tasks_blocked()
            if n % 2:
                rig.near.inner.lose()
            else:
                await rig.far.aclose()
            await wait_all_tasks_blocked()
            assert rig.carrier.is_detached
            await trio.sleep(9)
            rig.connect()
            rig.carrier.machine.receive(HELLO, 0.0)
        await rig.far.send(b"at last")
        await wait_all_tasks_blocked()
        assert (heard, rig.losses) == ([b"at last"], 4)


async def test_a_carrier_that_takes_over(autojump_clock: MockClock) -> None:
    """The old one is released, and what still comes over it is dropped, as its peer has left."""
    async with rigged() as rig, open_bare_nursery() as nursery:
        heard: list[bytes] = []

        async def listen() -> None:
            heard.append(await rig.carrier.receive())

        old, link = rig.near, rig.link
        old.holds.add("receive")
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        await rig.far.send(b"stale")
        rig.connect()
        await link.wait_released()
        old.let("receive")
        await wait_all_tasks_blocked()
        assert heard == []
        assert "came back on another connection" in rig.carrier.last_fault
        await rig.far.send(b"fresh")
        await wait_all_tasks_blocked()
        assert heard == [b"fresh"]


async def test_a_send_on_a_carrier_that_was_replaced(autojump_clock: MockClock) -> None:
    """Its holder closes the old carrier; the send that is stuck on it just returns."""
    async with rigged() as rig, open_bare_nursery() as nursery:
        link = rig.link
        nursery.start_soon(rig.carrier.send, bytes(1_000))
        await wait_all_tasks_blocked()
        rig.connect()
        await link.close()
        await wait_all_tasks_blocked()
        assert rig.losses == 1
        await rig.carrier.send(b"there")
        assert await rig.far.receive() == b"there"


async def test_what_the_machine_finds_out(autojump_clock: MockClock) -> None:
    """A carrier that the machine gives up, such as for a silence, is detached by whoever receives."""
    async with rigged() as rig:
        assert rig.carrier.machine.outlives(ConnectionLost("silent"))
        with trio.move_on_after(1):
            await rig.carrier.receive()
        assert rig.carrier.is_detached
        assert rig.carrier.last_fault == "silent"


async def test_a_fault_that_the_session_does_not_outlive(autojump_clock: MockClock) -> None:
    """It surfaces from whichever call has met it; so does an end of a session that the peer has ended."""
    goodbye = BinaryWire().encode(0, records.GoAway())
    for cut in (True, False):
        async with rigged() as rig:
            assert rig.carrier.machine.outlives(ConnectionLost("silent"))
            rig.carrier.machine.receive(goodbye, 0.0)
            with pytest.raises(ConnectionLost, match="silent"):
                await rig.carrier.receive()
            rig.carrier.machine.carrier_fault = None
            if not cut:
                await rig.far.aclose()
                assert await rig.carrier.receive() == b""
                continue
            rig.near.inner.lose()
            for call in (rig.carrier.receive, rig.carrier.wait_writable):
                with pytest.raises(ConnectionLost, match="cut"):
                    await call()
            with pytest.raises(ConnectionLost, match="cut"):
                await rig.carrier.send(b"x")


async def test_a_peer_that_breaks_the_carriers_own_protocol(autojump_clock: MockClock) -> None:
    """That is no loss: it would do so again."""
    async with rigged() as rig:
        rig.near.faults["receive", 1] = RemoteProtocolError("not a frame")
        with pytest.raises(RemoteProtocolError, match="not a frame"):
            await rig.carrier.receive()


async def test_nobody_comes(autojump_clock: MockClock) -> None:
    """After `max_session_age` receiving fails, naming the limit and the last fault, and so it stays."""
    async with rigged() as rig:
        rig.near.inner.lose()
        started = trio.current_time()
        for _ in range(2):
            with pytest.raises(ConnectionLost, match=r"somebody was lost and not resumed: max_session_age of 10 s"):
                await rig.carrier.receive()
            assert trio.current_time() - started == 10
        assert rig.carrier.is_over


async def test_a_session_may_be_given_up_before(autojump_clock: MockClock) -> None:
    """The first reason counts."""
    async with rigged() as rig, open_bare_nursery() as nursery:
        rig.near.inner.lose()

        async def give_up() -> None:
            await trio.sleep(2)
            rig.carrier.give_up("too many")
            rig.carrier.give_up("something else")

        nursery.start_soon(give_up)
        with pytest.raises(ConnectionLost, match="not resumed: too many"):
            await rig.carrier.receive()
        assert trio.current_time() == 2


async def test_closing(autojump_clock: MockClock) -> None:
    """It says goodbye on the carrier there is; whoever receives is told, and twice is fine."""
    rig = Rig()
    await rig.carrier.aclose()
    await rig.link.wait_released()
    assert await rig.far.receive() == b""
    for call in (rig.carrier.receive, rig.carrier.wait_writable):
        with pytest.raises(trio.ClosedResourceError):
            await call()
    await rig.carrier.aclose()
    rig = Rig()
    rig.near.inner.lose()
    await rig.carrier.wait_writable()
    await rig.carrier.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await rig.carrier.receive()


async def test_abandoning(autojump_clock: MockClock) -> None:
    """Whoever drove it has gone: the carrier is released, whether there is one or not."""
    rig = Rig()
    rig.carrier.abandon()
    await rig.link.wait_released()
    await rig.link.close()
    rig = Rig()
    rig.near.inner.lose()
    await rig.carrier.wait_writable()
    rig.carrier.abandon()
    assert rig.carrier.is_over


CALLS: dict[str, Callable[[Rig], Awaitable[object]]] = {
    "receive": lambda rig: rig.carrier.receive(),
    "wait_writable": lambda rig: rig.carrier.wait_writable(),
    "send": lambda rig: rig.carrier.send(bytes(10)),
    "aclose": lambda rig: rig.carrier.aclose(),
    "wait_released": lambda rig: rig.link.wait_released(),
}


@pytest.mark.parametrize("is_attached", [True, False])
@pytest.mark.parametrize("name", CALLS)
async def test_each_await_can_be_cancelled(autojump_clock: MockClock, name: str, is_attached: bool) -> None:
    """Before it begins and while it waits, with a carrier and without; another carrier makes up for it."""
    for patience in (0, 1):
        async with rigged() as rig:
            rig.near.holds |= {"receive", "wait_writable", "send", "aclose"}
            if not is_attached:
                rig.near.inner.lose()
                rig.near.let("wait_writable")
                await rig.carrier.wait_writable()
            with trio.move_on_after(patience):
                await CALLS[name](rig)
            for hold in tuple(rig.near.holds):
                rig.near.let(hold)
            if name != "aclose":
                rig.connect()
                await rig.far.send(b"well")
                assert await rig.carrier.receive() == b"well"

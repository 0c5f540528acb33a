"""The driver while its machine wants no input: reading stops, and goes on as soon as the application has made room."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from tests.fake_carrier import FakeCarrier, make_rig
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.driver import run_client, run_server
from trio_streams.errors import ConnectionLost, StreamReset
from trio_streams.streams.wire import WireStream
from trio_streams.transports.memory import MemoryCarrier
from trio_streams.wire.envelope import EnvelopeMachine
from trio_streams.wire.envelope_client import EnvelopeClientMachine
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits

CONFIG = ConnectionConfig(idle_timeout=None, close_timeout=1)
LIMITS = MessageLimits(overflow_bytes=1_000, stall_timeout=60)
ITEM = json.dumps("x" * 2_000).encode()

Raw = WireStream[bytes, bytes]


def envelope(**fields: object) -> bytes:
    return frame(json.dumps(fields).encode())


async def quiet(_: Raw) -> None:
    """Serve nothing."""


@asynccontextmanager
async def asking() -> AsyncGenerator[tuple[Connection, Raw, FakeCarrier, MemoryCarrier], None]:
    """A client with one stream that the server has begun to answer."""
    carrier, peer = make_rig()
    machine = EnvelopeClientMachine(config=CONFIG, limits=LIMITS, now=trio.current_time())
    async with (
        run_client(carrier, config=CONFIG, make_machine=lambda: machine) as connection,
        connection.open_stream("thing") as stream,
    ):
        machine.begin(stream.id, Form.STREAM, trio.current_time())
        stream.end()
        await trio.testing.wait_all_tasks_blocked()
        yield connection, stream, carrier, peer.link


async def feed(link: MemoryCarrier, stream: Raw, value: object) -> None:
    await link.send(envelope(id=f"{stream.id}:stream:data:0", type="stream:data", payload=value))
    await trio.testing.wait_all_tasks_blocked()


async def test_a_paused_client_is_woken_by_its_reader(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing is read while a stream is full; taking an item alone, with nothing to write, makes reading go on."""
    async with asking() as (connection, stream, carrier, link):
        await feed(link, stream, "x" * 2_000)
        calls, sends = carrier.calls["receive"], carrier.calls["send"]
        await feed(link, stream, "second")
        await trio.sleep(30)
        assert carrier.calls["receive"] == calls
        assert await stream.receive() == ITEM
        with trio.fail_after(1):
            assert await stream.receive() == b'"second"'
        assert carrier.calls["receive"] > calls
        assert carrier.calls["send"] == sends
        assert connection.lost is None


@pytest.mark.parametrize("how", ["leave", "cancel", "stop"])
async def test_a_paused_client_is_woken_by_whoever_gives_up(autojump_clock: trio.testing.MockClock, how: str) -> None:
    """Leaving, cancelling or stopping the stream that is full makes room as well."""
    async with asking() as (connection, stream, carrier, link):
        await feed(link, stream, "x" * 2_000)
        calls = carrier.calls["receive"]
        if how == "leave":
            stream.leave(None)
        elif how == "cancel":
            stream.cancel()
        else:
            stream.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.calls["receive"] == calls + 1
        await link.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(connection.lost, ConnectionLost)


async def test_a_paused_client_can_be_closed(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving its block ends the loop that waits for room."""
    async with asking() as (_, stream, carrier, link):
        await feed(link, stream, "x" * 2_000)
        before = trio.current_time()
    assert trio.current_time() - before <= CONFIG.close_timeout
    assert carrier.closes == 1


async def test_a_pause_ends_with_the_stream_that_caused_it(autojump_clock: trio.testing.MockClock) -> None:
    """While paused the driver keeps the machine's deadlines: what another stream waits for arrives after `stall_timeout`."""
    async with asking() as (connection, stream, _, link):
        await feed(link, stream, "x" * 2_000)
        async with connection.open_stream("other") as other:
            machine = connection.machine
            assert isinstance(machine, EnvelopeClientMachine)
            machine.begin(other.id, Form.CALL, trio.current_time())
            other.end()
            await link.send(envelope(id=f"{other.id}:response", type="response", payload=5))
            before = trio.current_time()
            assert await other.receive() == b"5"
            assert trio.current_time() - before == pytest.approx(60, abs=1)
        with pytest.raises(StreamReset, match="stall_timeout"):
            await stream.receive()


async def test_a_paused_server_is_woken_by_its_handler(autojump_clock: trio.testing.MockClock) -> None:
    """The same on the other side: taking an item alone makes reading go on, though nothing is written."""
    carrier, peer = make_rig()
    may_take, taken = trio.Event(), list[bytes]()

    async def handler(stream: Raw) -> None:
        await may_take.wait()
        async for item in stream:
            taken.append(item)

    make_machine = partial(
        EnvelopeMachine, find_form={"sum": Form.UPLOAD}.get, config=CONFIG, limits=LIMITS, now=trio.current_time()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_server, carrier, lambda _: handler, config=CONFIG, make_machine=make_machine))
        await peer.link.send(envelope(id="a", type="stream:start", procedure="sum", payload="x" * 2_000))
        await trio.testing.wait_all_tasks_blocked()
        calls = carrier.calls["receive"]
        await peer.link.send(envelope(id="a", type="stream:data", payload=2))
        await trio.sleep(30)
        assert carrier.calls["receive"] == calls
        may_take.set()
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [ITEM, b"2"]
        nursery.cancel_scope.cancel()


async def test_a_paused_client_is_woken_while_a_write_is_stuck(autojump_clock: trio.testing.MockClock) -> None:
    """The peer may be reading nothing until we have read: whoever makes room wakes the loop, not the end of a write."""
    async with asking() as (connection, stream, carrier, link), connection.open_stream("other") as other:
        machine = connection.machine
        assert isinstance(machine, EnvelopeClientMachine)
        machine.begin(other.id, Form.UPLOAD, trio.current_time())
        carrier.holds.add("send")
        await other.send(b"1")
        await feed(link, stream, "x" * 2_000)
        assert "send" in carrier.waiting
        calls = carrier.calls["receive"]
        assert await stream.receive() == ITEM
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.calls["receive"] == calls + 1
        carrier.let("send")

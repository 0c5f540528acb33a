"""The connections that a drain ends: each when it is idle, or by cutting its carrier."""

from __future__ import annotations

import contextlib
import logging
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.carrier_checks import open_socket_pair
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.mux import Mux
from trio_streams.driver import run_client, run_server
from trio_streams.errors import ConnectionLost
from trio_streams.streams.wire import WireStream
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.urls.runs import Run, Runs
from trio_streams.wire.binary import BinaryWire


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


def began(run: Run, connection: Connection) -> None:
    run.connection = connection


async def never(stream: WireStream[bytes, bytes]) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("when", ["while it is used", "while it says goodbye", "before that"])
async def test_a_carrier_is_cut(when: str, autojump_clock: MockClock) -> None:
    """Whatever the connection is doing, cutting its carrier ends it at once, although its own timeout is an hour."""
    runs, deaf = Runs(), Deaf()
    config = ConnectionConfig(close_timeout=3_600, idle_timeout=None)

    async def run() -> None:
        with runs.open() as one:
            await run_server(deaf, lambda stream: never, config=config, on_connection=partial(began, one))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        if when == "while it says goodbye":
            nursery.cancel_scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif when == "before that":
            nursery.start_soon(runs.end_idle)
        runs.cut_all()
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
            await run_server(right, lambda stream: serve, on_connection=partial(began, one))

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


async def test_who_is_shaking_hands_is_sent_away() -> None:
    """What is no connection yet has nothing to lose: its socket is closed, and who waits for it ends without an error."""
    runs = Runs()
    ended = trio.Event()

    async def run(stream: trio.SocketStream) -> None:
        with runs.open(stream):
            await stream.receive_some(1)
        ended.set()

    async with open_socket_pair() as (client, stream), trio.open_nursery() as nursery:
        nursery.start_soon(run, stream)
        await trio.testing.wait_all_tasks_blocked()
        runs.cut_all()  # before there is a connection there is nothing to cut
        with trio.fail_after(30):
            nursery.start_soon(runs.end_idle)
            await ended.wait()
        nursery.cancel_scope.cancel()
        assert stream.socket.fileno() == -1
        assert await client.receive_some(1) == b""


@pytest.mark.parametrize("fault", [ConnectionLost("gone"), trio.ClosedResourceError(), ValueError()])
async def test_a_fault_ends_one_connection(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What a peer or the world did wrong is logged, and its socket closed; whatever else happens is not for this to hide."""
    runs = Runs()
    caplog.set_level(logging.INFO, "trio_streams")
    is_expected = isinstance(fault, ConnectionLost)
    async with open_socket_pair() as (_, stream):
        with contextlib.nullcontext() if is_expected else pytest.raises(type(fault)), runs.open(stream):
            raise fault
        assert stream.socket.fileno() == -1
    assert [one.getMessage() for one in caplog.records] == ["a connection ended: gone"] * is_expected


def test_a_host_is_told_of_a_fault() -> None:
    """What a host has accepted is the host's to log and to close."""
    with pytest.raises(ConnectionLost), Runs().open():
        raise ConnectionLost("gone")


def test_a_connection_without_a_driver_cannot_be_ended() -> None:
    """A connection that nothing drives takes the wish, and nothing happens."""
    machine = Mux(BinaryWire(), is_client=False, config=ConnectionConfig(), session_id="0" * 32, now=0.0)
    connection = Connection(machine, peer="nobody", config=ConnectionConfig())
    connection.end(True)
    assert connection.lost is None

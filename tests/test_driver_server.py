"""The driver as a server: handlers, how they fail, and what the peer and the log are told."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.fake_carrier import FakeCarrier, Peer, make_rig
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core import records
from trio_streams.driver import Handler, run_client, run_server
from trio_streams.errors import ConnectionLost, RpcError, StreamStopped
from trio_streams.nursery import open_bare_nursery
from trio_streams.streams.wire import StopPolicy, WireStream
from trio_streams.transports.memory import memory_carrier_pair

CONFIG = ConnectionConfig(close_timeout=2, handshake_timeout=5, idle_timeout=None)

Raw = WireStream[bytes, bytes]


@asynccontextmanager
async def server(
    handler: Handler, *, prepare: Callable[[Raw], Handler] | None = None, config: ConnectionConfig = CONFIG
) -> AsyncGenerator[tuple[FakeCarrier, Peer, trio.CancelScope], None]:
    """A served connection whose peer has greeted; leaving the block closes the peer's end."""
    carrier, peer = make_rig()
    await peer.greet()
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await run_server(carrier, prepare or (lambda stream: handler), config=config)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield carrier, peer, scope
        await peer.link.aclose()
    assert carrier.closes == 1
    assert carrier.waiting == set()


def opening(stream_id: int = 1, timeout_ms: int | None = None) -> tuple[int, records.Record]:
    return stream_id, records.Open("s", {}, 0, timeout_ms, 256, 262_144)


async def test_a_handler_answers(autojump_clock: trio.testing.MockClock) -> None:
    """A handler's items and its END reach the peer; two streams are served at once."""

    async def echo(stream: Raw) -> None:
        async for item in stream:
            await stream.send(item)

    async with server(echo) as (_, peer, _):
        await peer.send(opening(1), opening(3), (1, [b"a"]), (3, [b"b"]), (3, records.End()), (1, records.End()))
        assert peer.heard_on(1) == [[b"a"], records.End()]
        assert peer.heard_on(3) == [[b"b"], records.End()]


@pytest.mark.parametrize(
    ("error", "status", "level"),
    [
        (ValueError("a secret"), records.Status("INTERNAL", "internal error"), logging.ERROR),
        (
            RpcError("NOT_FOUND", "no such thing", {"id": 1}),
            records.Status("NOT_FOUND", "no such thing", {"id": 1}),
            10,
        ),
        (ExceptionGroup("", [RpcError("GONE", "in a nursery")]), records.Status("GONE", "in a nursery"), logging.DEBUG),
        (trio.BrokenResourceError("other"), records.Status("INTERNAL", "internal error"), logging.ERROR),
        (StreamStopped(Code.CANCELLED, "enough"), records.Status("CANCELLED", "enough"), logging.DEBUG),
    ],
    ids=["bug", "status", "status in a group", "something broke", "the caller left"],
)
async def test_a_failing_handler_ends_one_stream(
    error: Exception,
    status: records.Status,
    level: int,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler's failure is its stream's status and one line in the log; the other stream goes on."""

    async def handler(stream: Raw) -> None:
        if stream.id == 1:
            raise error
        await stream.send(b"fine")

    with caplog.at_level(logging.DEBUG):
        async with server(handler) as (_, peer, _):
            await peer.send(opening(1), opening(3))
            assert records.End(status) in peer.heard_on(1)
            assert [b"fine"] in peer.heard_on(3)
    (record,) = [record for record in caplog.records if record.name == "trio_streams"]
    assert record.levelno == level
    assert record.getMessage() == "stream 1 's' from fake:peer failed"
    assert record.exc_info is not None and str(record.exc_info[1]) == str(error)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RpcError("NOT_FOUND", "x" * 20_000), "NOT_FOUND"),
        (RpcError("NOT_FOUND", "no", object()), "NOT_FOUND"),
        (RpcError("Y" * 20_000, "own"), "UNKNOWN"),
        (RpcError("NOT_FOUND", "\ud800"), "NOT_FOUND"),
    ],
    ids=["long text", "details that are not JSON", "long code", "lone surrogate"],
)
async def test_a_status_that_does_not_travel(
    error: RpcError, told: str, autojump_clock: trio.testing.MockClock
) -> None:
    """A status that fits into no frame is cut, and says so; the stream ends, and is given back to the peer."""

    async def handler(stream: Raw) -> None:
        raise error

    config = ConnectionConfig(close_timeout=2, idle_timeout=None, max_streams=1)
    async with server(handler, config=config) as (_, peer, _):
        await peer.send(opening(1))
        (end,) = [frame for frame in peer.heard_on(1) if isinstance(frame, records.End)]
        assert end.status.code == told
        assert "END" in end.status.message
        await peer.send((1, records.End()))
        await peer.send(opening(3))
        assert any(isinstance(frame, records.End) for frame in peer.heard_on(3))


async def test_a_handler_that_fails_while_cancelled(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler whose cleanup fails after RESET ends its own stream, and the log has the fault."""

    async def handler(stream: Raw) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async with server(handler) as (_, peer, _):
        await peer.send(opening(1))
        await peer.send((1, records.Reset(Code.CANCELLED, "enough")))
        assert records.End(records.Status("INTERNAL", "internal error")) in peer.heard_on(1)
        await peer.send(opening(3), (3, records.Reset()))
        assert any(isinstance(frame, records.End) for frame in peer.heard_on(3))
    assert [record.getMessage() for record in caplog.records] == [
        "stream 1 's' from fake:peer failed",
        "stream 3 's' from fake:peer failed",
    ]


async def test_a_handler_that_fails_while_everything_is_cancelled(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault beside a cancellation is logged, and the cancellation goes on alone."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async def handler(stream: Raw) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    async with server(handler) as (_, peer, scope):
        await peer.send(opening(1))
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert records.End(records.Status("INTERNAL", "internal error")) in peer.heard_on(1)
    assert [record.getMessage() for record in caplog.records] == ["stream 1 's' from fake:peer failed"]


async def test_what_was_taken_already_comes_first(autojump_clock: trio.testing.MockClock) -> None:
    """Bytes that somebody has looked at are fed before the carrier's own, and counted."""
    left, right = memory_carrier_pair()
    connections: list[Connection] = []

    async def answer(stream: Raw) -> None:
        await stream.send_last(await stream.receive())

    async def run() -> None:
        start = await right.receive()
        await run_server(right, lambda stream: answer, received=start, on_connection=connections.append)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async with run_client(left) as connection, connection.open_stream("x") as stream:
            await stream.send_last(b"abc")
            assert await stream.receive() == b"abc"
        await trio.testing.wait_all_tasks_blocked()
        assert connections[0].bytes_received == connection.bytes_sent


async def test_cancelled_server_resets_its_streams(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelling a served connection cancels the handlers, runs their `finally`, and sends RESET and STOP."""
    cleaned = []

    async def handler(stream: Raw) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(stream.id)

    async with server(handler) as (_, peer, scope):
        await peer.send(opening(1))
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert cleaned == [1]
        assert [type(frame) for frame in peer.heard_on(1)] == [records.Reset, records.Stop]


@pytest.mark.parametrize("hold", ["receive", "wait_writable", "send", "aclose"])
async def test_cancelled_server_while_a_loop_is_blocked(hold: str, autojump_clock: trio.testing.MockClock) -> None:
    """Wherever the loops are blocked, a cancelled server is gone within close_timeout, and its carrier closed once."""

    async def handler(stream: Raw) -> None:
        await stream.send(b"x")
        await trio.sleep_forever()

    async with server(handler) as (carrier, peer, scope):
        carrier.holds.add(hold)
        await peer.send(opening(1))
        scope.cancel()
        started = trio.current_time()
        await trio.sleep(CONFIG.close_timeout)
        assert trio.current_time() - started == pytest.approx(CONFIG.close_timeout)
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.closes == 1


@pytest.mark.parametrize(
    "record",
    [records.Reset(Code.CANCELLED, "r"), records.Stop(Code.OK, "s"), records.Stop(Code.INTERNAL, "s")],
    ids=["RESET", "STOP", "STOP with an error"],
)
async def test_the_peers_cancel_reaches_a_blocked_handler(
    record: records.Record, autojump_clock: trio.testing.MockClock
) -> None:
    """RESET and STOP cancel a handler that waits for something else, and its `finally` runs before the stream closes."""
    seen: list[object] = []

    async def handler(stream: Raw) -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append(stream.cancel_reason)

    async with server(handler) as (_, peer, _):
        await peer.send(opening(1), (1, record))
        assert [type(reason).__name__ for reason in seen] == [
            "StreamReset" if isinstance(record, records.Reset) else "StreamStopped"
        ]


async def test_a_deadline_ends_a_handler(autojump_clock: trio.testing.MockClock) -> None:
    """A handler is cancelled when the opener's deadline passes, and the stream ends with DEADLINE_EXCEEDED."""

    async def handler(stream: Raw) -> None:
        assert stream.deadline == trio.current_time() + 1.5
        await trio.sleep_forever()

    async with server(handler) as (_, peer, _):
        await peer.send(opening(1, timeout_ms=1_500))
        await trio.sleep(2)
        ends = [frame for frame in peer.heard_on(1) if isinstance(frame, records.End)]
        assert [end.status.code for end in ends] == ["DEADLINE_EXCEEDED"]


async def test_a_lost_connection_cancels_handlers(autojump_clock: trio.testing.MockClock) -> None:
    """When the peer goes away handlers are cancelled, and know why."""
    reasons: list[Exception | None] = []

    async def handler(stream: Raw) -> None:
        try:
            await trio.sleep_forever()
        finally:
            reasons.append(stream.cancel_reason)

    async with server(handler) as (_, peer, _):
        await peer.send(opening(1))
    assert [type(reason) for reason in reasons] == [ConnectionLost]


async def test_goaway_of_a_served_connection(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that opens more than max_streams is told STREAM_LIMIT_ERROR."""

    async def handler(stream: Raw) -> None:
        await trio.sleep_forever()

    config = ConnectionConfig(close_timeout=2, idle_timeout=None, max_streams=1)
    async with server(handler, config=config) as (_, peer, _):
        await peer.send(opening(1), opening(3))
        goaway = peer.heard()[-1][1]
        assert isinstance(goaway, records.GoAway) and goaway.code is Code.STREAM_LIMIT_ERROR


async def test_keyboard_interrupt_in_a_handler(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """KeyboardInterrupt in a handler unwinds through the server, bare and unlogged; the carrier is closed."""
    carrier, peer = make_rig()
    await peer.greet()

    async def handler(stream: Raw) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with open_bare_nursery() as nursery:
            nursery.start_soon(lambda: run_server(carrier, lambda stream: handler, config=CONFIG))
            await trio.testing.wait_all_tasks_blocked()
            await peer.send(opening(1))
    assert carrier.closes == 1
    assert caplog.records == []


async def test_a_failing_on_connection_closes_the_carrier(autojump_clock: trio.testing.MockClock) -> None:
    """What `on_connection` raises surfaces bare, and the carrier is closed."""
    carrier, _ = make_rig()

    def fail(connection: Connection) -> None:
        raise KeyError(connection.peer)

    with pytest.raises(KeyError, match="fake:peer"):
        await run_server(carrier, lambda stream: stream.aclose, on_connection=fail)  # type: ignore[arg-type,return-value]
    assert carrier.closes == 1


async def test_a_failing_prepare_surfaces(autojump_clock: trio.testing.MockClock) -> None:
    """What `prepare` raises is a bug of the server's: it surfaces bare, and the carrier is closed."""
    carrier, peer = make_rig()
    await peer.greet()
    await peer.link.send(peer._wire.encode(*opening(1)))

    def prepare(stream: Raw) -> Handler:
        raise KeyError(stream.name)

    with pytest.raises(KeyError):
        await run_server(carrier, prepare, config=CONFIG)
    assert carrier.closes == 1


async def test_both_ends_are_drivers(autojump_clock: trio.testing.MockClock) -> None:
    """A client and a server run against each other; what each sends the other takes, and both end cleanly."""
    left, right = memory_carrier_pair()
    told: list[Connection] = []

    async def handler(stream: Raw) -> None:
        async for item in stream:
            await stream.send(item * 2)

    def prepare(stream: Raw) -> Handler:
        stream.stop_policy = StopPolicy.ON_ERROR
        return handler

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_server(right, prepare, on_connection=told.append))
        async with run_client(left) as connection, connection.open_stream("double") as stream:
            await stream.send_many([b"a", b"b"])
            stream.end()
            assert [item async for item in stream] == [b"aa", b"bb"]
    assert told[0].lost is not None


async def test_early_goodbye_meets_the_late_one(autojump_clock: trio.testing.MockClock) -> None:
    """A client whose peer left says its goodbye at once; leaving the block meanwhile closes nothing twice."""
    carrier, peer = make_rig()
    await peer.greet()
    carrier.holds.add("aclose")
    async with run_client(carrier, config=CONFIG):
        await peer.link.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.waiting == {"aclose"}
    assert carrier.closes == 1
    assert trio.current_time() <= 2 * CONFIG.close_timeout

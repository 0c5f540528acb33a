"""What a connection does with items: order, credit, priority, fairness. Each check's first line is its claim."""

# Handlers and blocks read as users write them.
# ruff: noqa: ARG001, PERF401, SIM117

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import trio

from trio_streams.config import ITEM_OVERHEAD_BYTES, ConnectionConfig, StreamLimits
from trio_streams.testing.peers import ByteItems, MakeCarriers, Peers, open_peers, send_until_refused, until

__all__ = ["FLOW_CHECKS", "check_many_streams"]


async def _echoed(peers: Peers, items: list[bytes]) -> list[bytes]:
    """What comes back for a run of items, sent while it is received."""
    async with peers.client.open_stream("echo") as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_many(items)
            stream.end()

        nursery.start_soon(send)
        return [item async for item in stream]


async def check_long_runs_keep_their_order(make: MakeCarriers) -> None:
    """A run of 5,000 small items arrives whole and in order, in both directions at once."""
    async with open_peers(make) as peers:
        items = [b"%d" % n for n in range(5_000)]
        assert await _echoed(peers, items) == items


async def check_any_size_keeps_its_place(make: MakeCarriers) -> None:
    """Empty items, items at a frame's edge and items larger than a window arrive whole and in order."""
    edge = 16_384
    sizes = [0, 1, 0, 63, edge - 3, edge - 2, edge - 1, edge, edge + 1, 0, 70_000, 1, 300_000, 0]
    items = [bytes([n]) * size for n, size in enumerate(sizes)]
    async with open_peers(make) as peers:
        assert await _echoed(peers, items) == items


async def _check_window(make: MakeCarriers, item: bytes, limits: StreamLimits, expected: int) -> None:
    config = ConnectionConfig(stream=limits)
    async with open_peers(
        make, {"fill": partial(send_until_refused, item=item), "sink": _wait}, config=config
    ) as peers:
        async with peers.client.open_stream("fill") as down, peers.client.open_stream("sink") as up:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_until_refused, up, item)
                await until(lambda: peers.server.statistics().streams_accepted == 2)
                served = peers.served("fill")
                for stream in (served, up):
                    await until(lambda stream=stream: stream.statistics().tasks_waiting_send == 1)  # type: ignore[misc]
                await peers.check_alive()
                assert (served.statistics().items_sent, up.statistics().items_sent) == (expected, expected)
                # Taking items moves the window by exactly as many, once a grant was due; where all are here, all are granted.
                await until(lambda: down.statistics().buffered_items == expected)
                taken = [await down.receive() for _ in range(expected)]
                assert taken == [item] * expected
                await until(lambda: served.statistics().items_sent == 2 * expected)
                nursery.cancel_scope.cancel()


async def _wait(stream: ByteItems) -> None:
    await trio.sleep_forever()


async def check_an_unread_stream_stops_at_its_items(make: MakeCarriers) -> None:
    """The producer of a stream that nobody reads stops at exactly `window_items`, in either direction."""
    await _check_window(make, b"x", StreamLimits(), 256)
    await _check_window(make, b"", StreamLimits(window_items=16), 16)


async def check_an_unread_stream_stops_at_its_bytes(make: MakeCarriers) -> None:
    """The producer of a stream that nobody reads passes `window_bytes` by at most one item, in either direction."""
    window, size = 100_000, 1_000
    expected = -(-window // (size + ITEM_OVERHEAD_BYTES))
    assert window <= expected * (size + ITEM_OVERHEAD_BYTES) < window + size + ITEM_OVERHEAD_BYTES
    await _check_window(make, b"x" * size, StreamLimits(window_bytes=window), expected)
    await _check_window(make, b"x" * 50_000, StreamLimits(window_bytes=1), 1)


async def check_a_mark_sets_the_window(make: MakeCarriers) -> None:
    """A high-water mark given for one stream is its window of items."""
    async with open_peers(make, {"fill": partial(send_until_refused, item=b"x")}) as peers:
        async with peers.client.open_stream("fill", high_water_mark=7):
            await until(lambda: bool(peers.server.streams))
            served = peers.served("fill")
            await until(lambda: served.statistics().tasks_waiting_send == 1)
            await peers.check_alive()
            assert served.statistics().items_sent == 7


async def check_no_stream_holds_the_line(make: MakeCarriers) -> None:
    """While eight streams are full and never read, another one moves 2,000 items in each direction."""
    async with (
        open_peers(make, {"fill": partial(send_until_refused, item=b"x" * 4_000)}) as peers,
        trio.open_nursery() as nursery,
    ):

        async def leave_unread() -> None:
            async with peers.client.open_stream("fill"):
                await trio.sleep_forever()

        for _ in range(8):
            nursery.start_soon(leave_unread)
        await until(lambda: len(peers.server.streams) == 8)
        await until(lambda: all(s.statistics().tasks_waiting_send == 1 for s in peers.server.streams))
        items = [b"%d" % n for n in range(2_000)]
        assert await _echoed(peers, items) == items
        nursery.cancel_scope.cancel()


async def check_priority_overtakes(make: MakeCarriers) -> None:
    """An item of priority 10 overtakes 1,000 queued items of priority 0, whether one stream has them or a hundred."""
    for streams in (1, 100):
        await _check_priority(make, streams)


async def _check_priority(make: MakeCarriers, streams: int) -> None:
    received: list[str] = []

    async def note(stream: ByteItems) -> None:
        async for _ in stream:
            received.append(stream.name)

    config = ConnectionConfig(stream=StreamLimits(window_items=2_000, window_bytes=2_000_000))
    async with open_peers(make, {"bulk": note, "urgent": note}, config=config) as peers, AsyncExitStack() as stack:
        bulk = [await stack.enter_async_context(peers.client.open_stream("bulk")) for _ in range(streams)]
        urgent = await stack.enter_async_context(peers.client.open_stream("urgent", priority=10))
        await until(lambda: len(peers.server.streams) == streams + 1)
        for n in range(1_000):
            bulk[n % streams].send_nowait(b"x" * 900)
        urgent.send_nowait(b"!")
        await until(lambda: len(received) == 1_001)
    # It leaves before all of them. What arrives with it in one read may be taken first: two batches at the most.
    assert received.index("urgent") <= 128


async def check_senders_take_turns(make: MakeCarriers) -> None:
    """Tasks that wait to send are served first come, first served, and END queues behind them."""
    may_read = trio.Event()
    received: list[bytes] = []

    async def read_late(stream: ByteItems) -> None:
        await may_read.wait()
        received.extend([item async for item in stream])
        await stream.send(b"all")

    config = ConnectionConfig(stream=StreamLimits(window_items=4))
    async with open_peers(make, {"late": read_late}, config=config) as peers:
        async with peers.client.open_stream("late") as stream, trio.open_nursery() as nursery:
            for n in range(4):
                await stream.send(b"%d" % n)
            for n in range(4, 12):
                nursery.start_soon(stream.send, b"%d" % n)
                await until(lambda n=n: stream.statistics().tasks_waiting_send == n - 3)  # type: ignore[misc]
            stream.end()
            may_read.set()
            assert await stream.receive() == b"all"
    assert received == [b"%d" % n for n in range(12)]


async def check_receivers_share(make: MakeCarriers) -> None:
    """Of several tasks that receive on one stream, each item goes to exactly one."""

    async def produce(stream: ByteItems) -> None:
        await stream.send_many(b"%d" % n for n in range(1_000))

    received: list[bytes] = []
    async with open_peers(make, {"produce": produce}) as peers:
        async with peers.client.open_stream("produce", high_water_mark=16) as stream:

            async def take() -> None:
                async for item in stream:
                    received.append(item)

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(take)
    assert sorted(received, key=int) == [b"%d" % n for n in range(1_000)]


async def check_heads_travel(make: MakeCarriers) -> None:
    """Metadata of the opener and the heads of both halves arrive, before any item and without one."""
    seen: list[dict[str, str]] = []

    async def answer(stream: ByteItems) -> None:
        seen.extend((dict(stream.metadata), dict(await stream.header())))
        await stream.send_header({"kind": "answer", "größe": "3"})
        await trio.sleep_forever()

    async with open_peers(make, {"answer": answer}) as peers:
        async with peers.client.open_stream("answer", metadata={"who": "check"}) as stream:
            await stream.send_header({"kind": "question"})
            assert dict(await stream.header()) == {"kind": "answer", "größe": "3"}
    assert seen == [{"who": "check"}, {"kind": "question"}]


async def check_many_streams(make: MakeCarriers) -> None:
    """A thousand streams are open at once, each is served, and none is left afterwards."""
    count = 1_000
    are_open = trio.Event()
    answers: list[bytes] = []

    async with open_peers(make) as peers:

        async def use(n: int) -> None:
            async with peers.client.open_stream("echo") as stream:
                await are_open.wait()
                await stream.send(b"%d" % n)
                answers.append(await stream.receive())

        async with trio.open_nursery() as nursery:
            for n in range(count):
                nursery.start_soon(use, n)
            await until(lambda: len(peers.server.streams) == count)
            are_open.set()
        await until(lambda: not peers.server.streams)
        assert not peers.client.streams
    assert sorted(answers, key=int) == [b"%d" % n for n in range(count)]


FLOW_CHECKS: Final = (
    check_long_runs_keep_their_order,
    check_any_size_keeps_its_place,
    check_an_unread_stream_stops_at_its_items,
    check_an_unread_stream_stops_at_its_bytes,
    check_a_mark_sets_the_window,
    check_no_stream_holds_the_line,
    check_priority_overtakes,
    check_senders_take_turns,
    check_receivers_share,
    check_heads_travel,
    check_many_streams,
)

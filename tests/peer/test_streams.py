"""Streams between peers: ids, limits, order, options, ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.peer.rig import raw_pair
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.records import Status
from trio_streams.errors import (
    CodecError,
    LocalProtocolError,
    RemoteProtocolError,
    RpcError,
    StreamReset,
    StreamStopped,
)
from trio_streams.peer import BatchOptions, RateLimit, StreamOptions, open_peer_pair
from trio_streams.peer.deflate import Deflater


async def send_raw(connection: Connection, stream_id: str, *payloads: bytes, **metadata: str) -> None:
    """A stream as a stranger may send it."""
    named = {"stream-id": stream_id, **{name.replace("_", "-"): value for name, value in metadata.items()}}
    async with connection.open_stream("peer.stream", metadata=named) as stream:
        for payload in payloads:
            await stream.send(payload)
        stream.end()
        await wait_all_tasks_blocked()


# Ids


async def test_an_id_that_is_under_way_is_taken(autojump_clock: MockClock) -> None:
    """Sending or receiving a second stream of the same id is a clear error; once it is over the id is free."""
    async with open_peer_pair() as (left, right):
        left.start_stream([1], "x")
        with pytest.raises(LocalProtocolError, match="can't send stream 'x': one of this id is under way"):
            await left.send_stream([2], "x")
        _, first = right.receive_stream("x")
        with pytest.raises(LocalProtocolError, match="can't receive stream 'x': it has a receiver"):
            right.receive_stream("x")
        assert [item async for item in first] == [1]
        left.start_stream([2], "x")
        assert [item async for item in right.receive_stream("x")[1]] == [2]


@pytest.mark.parametrize("is_claimed", [True, False])
async def test_the_peers_duplicate_is_refused(autojump_clock: MockClock, is_claimed: bool) -> None:
    """A second stream of an id that is under way is refused; the first one goes on."""
    async with raw_pair() as (peer, connection, _):
        metadata = {"stream-id": "x"}
        if is_claimed:
            peer.receive_stream("x")
        async with connection.open_stream("peer.stream", metadata=metadata) as first:
            await first.send(b"1")
            await wait_all_tasks_blocked()
            async with connection.open_stream("peer.stream", metadata=metadata) as second:
                await wait_all_tasks_blocked()
                with pytest.raises(StreamStopped, match="ALREADY_EXISTS: a stream 'x' is under way"):
                    await second.send(b"2")
            await first.send(b"2")
            assert peer.streams.statistics().refused_streams == 1


@pytest.mark.parametrize("stream_id", ["", "x" * 257])
async def test_an_id_that_is_none(autojump_clock: MockClock, stream_id: str) -> None:
    """An id has 1 to 256 characters, on both sides."""
    async with raw_pair() as (peer, connection, _):
        for use in (peer.streams.begin_sending, peer.receive_stream):
            with pytest.raises(LocalProtocolError, match=f"1 to 256 characters, not {len(stream_id)}"):
                use(stream_id)
        async with connection.open_stream("peer.stream", metadata={"stream-id": stream_id}) as stream:
            await wait_all_tasks_blocked()
            with pytest.raises(StreamStopped, match="INVALID_ARGUMENT: a stream's id has 1 to 256"):
                await stream.send(b"1")


async def test_unknown_ids_are_errors(autojump_clock: MockClock) -> None:
    """To abort, to close or to come after a stream that never was is a clear error."""
    async with open_peer_pair() as (left, _):
        with pytest.raises(LocalProtocolError, match="can't abort stream 'x': none of ours has this id"):
            left.abort_stream("x")
        with pytest.raises(LocalProtocolError, match="can't close stream 'x': the peer has none of this id"):
            left.close_receiving_stream("x")
        with pytest.raises(LocalProtocolError, match="can't send after stream 'x': none of ours"):
            await left.send_stream([1], after="x")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"weight": 0}, "weight"),
        ({"priority": 200}, "priority"),
        ({"content_type": "text/plain"}, "content_type"),
        ({"compression": "br"}, "compression"),
        ({"content_type": "application/octet-stream", "batch": BatchOptions()}, "batch"),
    ],
)
async def test_a_wrong_option_of_a_stream_is_named(
    autojump_clock: MockClock, options: dict[str, object], field: str
) -> None:
    """What can't be done is said before anything is sent."""
    async with open_peer_pair() as (left, right):
        with pytest.raises(LocalProtocolError) as caught:
            await left.send_stream([1], **options)  # type: ignore[arg-type]
        assert caught.value.field == field
        assert right.connection.streams == ()


# Before the receiver


async def test_too_many_unclaimed_streams(autojump_clock: MockClock) -> None:
    """Past `max_unclaimed_streams` the new one is refused; those that wait are not touched."""
    async with open_peer_pair(options=StreamOptions(max_unclaimed_streams=2)) as (left, right):
        for name in "abc":
            left.start_stream([name], name)
        await wait_all_tasks_blocked()
        found = right.streams.statistics()
        assert (found.unclaimed_streams, found.refused_streams) == (2, 1)
        refused = 0
        for name in "abc":
            try:
                assert [item async for item in right.receive_stream(name)[1]] == [name]
            except RpcError as exc:
                refused += "passes max_unclaimed_streams of 2" in str(exc)
        assert refused == 1


async def test_an_unclaimed_stream_does_not_wait_for_ever(autojump_clock: MockClock) -> None:
    """After `unclaimed_timeout` it is refused: its sender stops, and who comes too late hears why."""
    async with open_peer_pair(options=StreamOptions(unclaimed_timeout=5)) as (left, right):

        async def endless() -> AsyncIterator[int]:
            while True:
                await trio.sleep(1)
                yield 1

        started = trio.current_time()
        with pytest.raises(StreamStopped, match="DEADLINE_EXCEEDED: nobody has claimed stream 'x' within"):
            await left.send_stream(endless(), "x")
        assert trio.current_time() - started == pytest.approx(5)
        with pytest.raises(RpcError, match="unclaimed_timeout of 5 s"):
            await right.receive_stream("x")[1].receive()
        left.start_stream([1], "x")
        assert [item async for item in right.receive_stream("x")[1]] == [1]


async def test_an_unclaimed_stream_can_be_closed(autojump_clock: MockClock) -> None:
    """Nobody has to claim what nobody wants."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        await nursery.start(left.send_stream, range(100_000), "x")
        await wait_all_tasks_blocked()
        right.close_receiving_stream("x")
        right.close_receiving_stream("x")
        await wait_all_tasks_blocked()
        assert left.streams.statistics().sending == ()
        assert right.streams.statistics().unclaimed_bytes == 0


async def test_a_claim_that_is_given_up(autojump_clock: MockClock) -> None:
    """A receiver that is closed before its stream begins leaves the stream to the next one."""
    async with open_peer_pair() as (left, right):
        for stream_id in (None, "x"):
            _, first = right.receive_stream(stream_id)
            await first.aclose()
            with pytest.raises(trio.ClosedResourceError, match="closed here"):
                await first.receive()
            with pytest.raises(trio.ClosedResourceError):
                first.receive_nowait()
        left.start_stream([1], "x")
        assert [item async for item in right.receive_stream()[1]] == [1]


async def test_a_stream_that_was_closed_before_it_began(autojump_clock: MockClock) -> None:
    """It is stopped as soon as it comes; who claims the id anew gets it."""
    async with open_peer_pair() as (left, right):
        for is_wanted in (False, True):
            right.receive_stream("x")
            for _ in range(2):
                right.close_receiving_stream("x")
            again = right.receive_stream("x")[1] if is_wanted else None
            started = trio.current_time()
            await left.send_stream(range(100_000 if again is None else 10), "x")
            assert trio.current_time() == started
            if again is not None:
                assert [item async for item in again] == list(range(10))


async def test_batches_are_bounded_in_bytes(autojump_clock: MockClock) -> None:
    """An item that would pass `max_bytes` begins the next batch; all arrive."""
    items = ["x" * size for size in (50, 60, 200, 10, 80)]
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        send = partial(left.send_stream, items, batch=BatchOptions(max_bytes=100))
        _, stream = right.receive_stream(await nursery.start(send))
        assert [item async for item in stream] == items


# Receiving


async def test_single_items_and_what_is_there(autojump_clock: MockClock) -> None:
    """`receive`, `receive_nowait` and `receive_many` take items as every stream of ours has it; the end is sticky."""
    for batch in (None, BatchOptions(max_items=3)):
        async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
            _, stream = right.receive_stream("x", int)
            with pytest.raises(trio.WouldBlock):
                stream.receive_nowait()
            assert "not begun" in repr(stream)
            await nursery.start(partial(left.send_stream, range(10), "x", batch=batch))
            assert await stream.receive() == 0
            await wait_all_tasks_blocked()
            assert stream.statistics().id == "x"
            assert [stream.receive_nowait() for _ in range(4)] == [1, 2, 3, 4]
            assert await stream.receive_many(100) == [5, 6, 7, 8, 9]
            for _ in range(2):
                with pytest.raises(trio.EndOfChannel):
                    await stream.receive()
                with pytest.raises(trio.EndOfChannel):
                    stream.receive_nowait()
            assert stream.is_over
            assert "over" in repr(stream)


async def test_items_of_another_type(autojump_clock: MockClock) -> None:
    """An item that does not fit is an error of its own; the next can be taken. Bytes are bytes or nothing."""
    for batch in (None, BatchOptions()):
        async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
            stream_id = await nursery.start(partial(left.send_stream, [1, "2", 3], batch=batch))
            _, stream = right.receive_stream(stream_id, int)
            assert await stream.receive() == 1
            with pytest.raises(CodecError, match="expected an integer"):
                await stream.receive()
            assert await stream.receive() == 3
            with pytest.raises(trio.EndOfChannel):
                await stream.receive()
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        send = partial(left.send_stream, [b"1"], content_type="application/octet-stream")
        _, stream = right.receive_stream(await nursery.start(send), int)
        with pytest.raises(RpcError, match="INVALID_ARGUMENT: the items are bytes, not"):
            await stream.receive()


async def test_an_item_that_can_not_be_sent(autojump_clock: MockClock) -> None:
    """The sender gets the error; the receiver the items before it, and a status."""
    for options in ({}, {"batch": BatchOptions()}, {"rate_limit": RateLimit(items_per_second=1e5)}):
        async with open_peer_pair() as (left, right):
            _, stream = right.receive_stream("x")
            with pytest.raises(CodecError, match="object"):
                await left.send_stream([1, object(), 2], "x", **options)
            assert await stream.receive() == 1
            with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
                await stream.receive()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"content_type": "text/html"}, "UNIMPLEMENTED: content-type is application/json, .* not 'text/html'"),
        ({"content_encoding": "br"}, "UNIMPLEMENTED: content-encoding is deflate, not 'br'"),
    ],
)
async def test_what_we_do_not_know_is_refused(
    autojump_clock: MockClock, metadata: dict[str, str], message: str
) -> None:
    """A stream in a form that nobody here understands is refused at both ends, claimed before or after it came."""
    async with raw_pair() as (peer, connection, _), trio.open_nursery() as nursery:
        for is_first in (True, False):
            stream = peer.receive_stream("x")[1] if is_first else None
            nursery.start_soon(partial(send_raw, connection, "x", b"1", **metadata))
            await wait_all_tasks_blocked()
            stream = stream or peer.receive_stream("x")[1]
            with pytest.raises(RpcError, match=message):
                await stream.receive()


async def test_a_bomb_is_refused_naming_the_limit(autojump_clock: MockClock) -> None:
    """An item that inflates past `max_item_bytes` ends its stream, here and at its sender; the connection goes on."""
    config = ConnectionConfig(max_item_bytes=100_000, idle_timeout=None)
    bomb = Deflater().compress(b"[" + b" " * 5_000_000 + b"]")
    async with raw_pair(config=config) as (peer, connection, _):
        _, stream = peer.receive_stream("x")
        metadata = {"stream-id": "x", "content-encoding": "deflate"}
        async with connection.open_stream("peer.stream", metadata=metadata) as raw:
            await raw.send(bomb)
            for _ in range(2):
                with pytest.raises(RemoteProtocolError, match="max_item_bytes of 100000"):
                    await stream.receive()
            await wait_all_tasks_blocked()
            with pytest.raises(StreamStopped, match="MESSAGE_TOO_LARGE"):
                await raw.send(b"")
        assert await peer.ping() >= 0


async def test_a_receiver_that_leaves_the_loop_is_done(autojump_clock: MockClock) -> None:
    """After a loop that was left nothing can be taken, not even what was there; by an exception likewise."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        for how in ("break", "raise"):
            await nursery.start(left.send_stream, range(100_000), how)
            _, stream = right.receive_stream(how, int)
            with pytest.raises(ZeroDivisionError):
                async for item in stream:
                    if item == 3 and how == "break":
                        break
                    assert item < 4
                    _ = 1 // (3 - item)
                raise ZeroDivisionError
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive()
        await wait_all_tasks_blocked()
        assert left.streams.statistics().sending == ()


# Ends


async def test_a_slow_producer_is_stopped_while_it_makes_nothing(autojump_clock: MockClock) -> None:
    """The receiver leaves; a generator that would make its next item in an hour is closed now."""
    closed = trio.Event()

    async def slow() -> AsyncIterator[int]:
        try:
            yield 1
            await trio.sleep(3_600)
            yield 2
        finally:
            closed.set()

    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        _, stream = right.receive_stream(await nursery.start(left.send_stream, slow()))
        assert await stream.receive() == 1
        await stream.aclose()
        with trio.fail_after(1):
            await closed.wait()


async def test_an_exception_of_the_iterable_closes_it(autojump_clock: MockClock) -> None:
    """A plain generator is closed, too, however sending ends; its exception reaches the sender bare."""
    ended: list[str] = []

    def items(fault: bool) -> Iterator[int]:
        try:
            yield 1
            if fault:
                raise KeyError("mine")
            yield from range(10**9)
        finally:
            ended.append("closed")

    async with open_peer_pair() as (left, right):
        with pytest.raises(KeyError, match="mine"):
            await left.send_stream(items(fault=True), "a")
        _, stream = right.receive_stream("a")
        assert await stream.receive() == 1
        with pytest.raises(RpcError, match="INTERNAL: internal error"):
            await stream.receive()
        with trio.move_on_after(1):
            await left.send_stream(items(fault=False), "b")
        assert ended == ["closed"] * 2
        with pytest.raises(StreamReset, match="CANCELLED"):
            async for _ in right.receive_stream("b")[1]:
                pass


async def test_an_abort_before_the_stream_has_begun(autojump_clock: MockClock) -> None:
    """A stream that still waits for another one is aborted without having begun."""
    async with open_peer_pair() as (left, right), trio.open_nursery() as nursery:
        await nursery.start(left.send_stream, range(10**6), "a")
        await nursery.start(partial(left.send_stream, range(10), "b", after="a"))
        await wait_all_tasks_blocked()
        assert [(found.id, found.items_sent > 0) for found in left.streams.statistics().sending] == [
            ("a", True),
            ("b", False),
        ]
        left.abort_stream("b")
        left.abort_stream("a")
        await wait_all_tasks_blocked()
        assert left.streams.statistics().sending == ()
        assert left.streams.statistics().sent_streams == 2
        assert right.streams.statistics().unclaimed_streams <= 1


async def test_a_status_behind_items_is_kept_apart(autojump_clock: MockClock) -> None:
    """A stranger's stream that ends with a status gives its items first, then the error with its details."""
    async with raw_pair() as (peer, connection, _):
        _, stream = peer.receive_stream("x")
        async with connection.open_stream("peer.stream", metadata={"stream-id": "x"}) as raw:
            await raw.send(b"1")
            raw.end(Status("OUT_OF_STOCK", "none left", [1]))
            await wait_all_tasks_blocked()
        assert await stream.receive() == 1
        with pytest.raises(RpcError, match="OUT_OF_STOCK: none left") as caught:
            await stream.receive()
        assert caught.value.details == [1]

"""A stream on a connection as a whole: owners, exits, stop policies and figures."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from tests.streams.wire_pair import SMALL, Raw, settle, wire_pair
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, RpcError, StreamReset, StreamStopped
from trio_streams.streams.wire import StopPolicy, WireStream


async def test_a_new_stream_says_who_it_is() -> None:
    """Name, metadata, priority, peer, deadline and state are there on both ends, and in the repr."""
    async with wire_pair(metadata={"k": "v"}) as pair:
        assert repr(pair.near) == "<WireStream 1 's' open>"
        assert (pair.far.name, pair.far.metadata, pair.far.priority, pair.far.deadline) == (
            "s",
            {"k": "v"},
            0,
            math.inf,
        )
        assert pair.near.peer and pair.far.peer


async def test_typed_gives_the_stream_itself() -> None:
    """`typed` converts each direction, leaves one given as None as it is, and returns the very stream."""
    async with wire_pair() as pair:
        sender: WireStream[str, bytes] = pair.near.typed(str.encode, None)
        receiver: WireStream[bytes, str] = pair.far.typed(None, bytes.decode)
        assert sender is pair.near  # type: ignore[comparison-overlap]
        await sender.send("word")
        assert await receiver.receive() == "word"
        await pair.far.send(b"raw")
        assert await sender.receive() == b"raw"


async def test_aclose_ends_and_stops() -> None:
    """`aclose` is END, and STOP without an error; idempotent, and a checkpoint that closes even when cancelled."""
    async with wire_pair(stop_policy=StopPolicy.ON_ERROR) as pair:
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.near.aclose()
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            await pair.near.aclose()
        with pytest.raises(trio.EndOfChannel):
            await pair.far.receive()
        with pytest.raises(StreamStopped, match="OK"):
            await pair.far.send(b"x")
        assert pair.near.state.value == "closed"


async def test_cancel_abandons_both_halves() -> None:
    """`cancel` is RESET and STOP with CANCELLED and the words given."""
    async with wire_pair() as pair:
        pair.near.cancel("enough")
        await settle()
        with pytest.raises(StreamReset, match="CANCELLED: enough"):
            await pair.far.receive()
        with pytest.raises(StreamStopped, match="CANCELLED: enough"):
            await pair.far.send(b"x")
        assert pair.left.is_set()


@pytest.mark.parametrize(
    ("policy", "code", "is_ended", "is_cancelled"),
    [
        (StopPolicy.ALWAYS, Code.OK, False, True),
        (StopPolicy.ALWAYS, Code.OK, True, True),
        (StopPolicy.WHEN_ENDED, Code.OK, False, False),
        (StopPolicy.WHEN_ENDED, Code.OK, True, True),
        (StopPolicy.ON_ERROR, Code.OK, False, False),
        (StopPolicy.ON_ERROR, Code.OK, True, False),
        *((policy, Code.CANCELLED, False, True) for policy in StopPolicy),
    ],
)
async def test_the_table_of_stop_policies(policy: StopPolicy, code: Code, is_ended: bool, is_cancelled: bool) -> None:
    """What the peer's STOP does to the owner, by policy, code, and whether the peer's half had ended."""
    async with wire_pair(stop_policy=policy) as pair:
        if is_ended:
            pair.near.end()
            await settle()
        pair.near.stop(code, "words")
        await settle()
        assert pair.left.is_set() is is_cancelled
        assert pair.far.cancel_scope.cancel_called is is_cancelled
        reason = pair.far.cancel_reason
        if is_cancelled:
            assert isinstance(reason, StreamStopped) and (reason.code, reason.reason) == (code, "words")
        else:
            assert reason is None


async def test_a_stop_that_waits_for_the_end() -> None:
    """WHEN_ENDED: a STOP cancels the owner once the peer's half ends, too."""
    async with wire_pair(stop_policy=StopPolicy.WHEN_ENDED) as pair:
        pair.near.stop()
        await settle()
        assert not pair.left.is_set()
        pair.near.end()
        await settle()
        assert pair.left.is_set()
        assert isinstance(pair.far.cancel_reason, StreamStopped)


async def test_an_owner_that_resets_its_own_half_goes_on_reading() -> None:
    """WHEN_ENDED is about the peer's STOP: an owner who gave up sending still reads what comes, and its end."""
    async with wire_pair(stop_policy=StopPolicy.WHEN_ENDED) as pair:
        pair.far.reset()
        await pair.near.send(b"x")
        pair.near.end()
        await settle()
        assert not pair.left.is_set()
        assert [item async for item in pair.far] == [b"x"]


async def test_the_first_reason_counts() -> None:
    """STOP and RESET both cancel; the reason is what came first."""
    async with wire_pair() as pair:
        pair.near.stop(Code.ABORTED, "first")
        pair.near.reset(Code.INTERNAL, "second")
        await settle()
        assert isinstance(pair.far.cancel_reason, StreamStopped)


async def test_an_opener_is_never_cancelled_by_its_peer() -> None:
    """RESET, STOP and a loss reach the opener from operations only."""
    async with wire_pair() as pair:
        pair.far.cancel("no")
        await settle()
        pair.carrier.lose()
        await settle()
        await trio.lowlevel.checkpoint()
        assert not pair.near.cancel_scope.cancel_called
        assert pair.near.cancel_reason is None
        assert pair.left.is_set()


async def test_a_loss_cancels_the_acceptor() -> None:
    """An accepted stream's owner is cancelled by the loss of the connection, and the reason says so."""
    async with wire_pair() as pair:
        pair.carrier.lose("cut")
        await settle()
        assert pair.left.is_set()
        assert isinstance(pair.far.cancel_reason, ConnectionLost)
        assert pair.far.is_refused
        for operation in (pair.near.receive, pair.near.header):
            with pytest.raises(ConnectionLost, match="cut"):
                await operation()


async def test_leaving_normally() -> None:
    """The block's end is END, and STOP without an error for whoever still sends."""
    async with wire_pair(stop_policy=StopPolicy.ON_ERROR) as pair:
        async with pair.connection.open_stream("second") as stream:
            await stream.send(b"x")
        with pytest.raises(trio.ClosedResourceError, match="it was ended here"):
            await stream.send(b"y")
        with pytest.raises(trio.ClosedResourceError, match="it was stopped here"):
            await stream.receive()


@pytest.mark.parametrize("in_group", [False, True])
async def test_leaving_by_an_exception(in_group: bool) -> None:
    """An opener whose block fails resets; an acceptor ends with the exception's status."""
    async with wire_pair() as pair:
        error: Exception = RpcError("NOT_FOUND", "no")
        pair.far.leave(ExceptionGroup("", [error]) if in_group else error)
        with pytest.raises(RpcError, match="NOT_FOUND: no"):
            await pair.near.receive()
    async with wire_pair() as pair:
        pair.near.leave(KeyError("secret"))
        await settle()
        with pytest.raises(StreamReset, match=r"CANCELLED: the caller failed \(KeyError\)"):
            await pair.far.receive()


async def test_leaving_gives_waiting_senders_no_turn() -> None:
    """Senders elsewhere that still wait when the block ends get ClosedResourceError, and END does not wait for them."""
    async with wire_pair() as pair, trio.open_nursery() as nursery:

        async def send(stream: Raw) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_many([b"x"] * 100)

        nursery.start_soon(send, pair.far)
        await settle()
        pair.release.set()
        assert [item async for item in pair.near] == [b"x"] * 8


async def test_leaving_after_an_explicit_end_keeps_the_first_status() -> None:
    """The first terminal cause wins: an error behind an explicit `end` does not change it."""
    async with wire_pair() as pair:
        pair.far.end()
        pair.far.leave(KeyError("late"))
        with pytest.raises(trio.EndOfChannel):
            await pair.near.receive()


async def test_statistics() -> None:
    """Figures of both halves count what was sent and taken, before, during and after the end."""
    async with wire_pair(SMALL) as pair:
        await pair.near.send_many([b"ab"] * 6)
        await settle()
        assert await pair.far.receive() == b"ab"
        far = pair.far.statistics()
        assert (far.items_received, far.buffered_items, far.bytes_received, far.window_items) == (1, 5, 12, 8)
        assert far.buffered_bytes is not None and far.buffered_bytes > 0
        near = pair.near.statistics()
        assert (near.id, near.items_sent, near.bytes_sent, near.send_state) == ("1", 6, 12, "open")
        pair.near.end()
        await settle()
        assert pair.far.statistics().receive_state == "closing"
        assert [item async for item in pair.far] == [b"ab"] * 5
        after = pair.far.statistics()
        assert (after.items_received, after.buffered_items, after.buffered_bytes) == (6, 0, 0)
        assert (after.receive_state, pair.near.statistics().send_state) == ("closed", "closed")


async def test_leaving_because_the_deadline_passed(autojump_clock: trio.testing.MockClock) -> None:
    """An acceptor whose block is cancelled by the opener's deadline ends with DEADLINE_EXCEEDED."""
    async with wire_pair() as pair, pair.connection.open_stream("s", deadline=trio.current_time() + 3) as stream:
        with pytest.raises(RpcError, match="DEADLINE_EXCEEDED: the deadline passed"):
            await stream.receive()
        assert trio.current_time() == pytest.approx(3)


async def test_a_reset_cancels_the_acceptor() -> None:
    """The peer's RESET cancels the owner of an accepted stream, and the reason says why."""
    async with wire_pair() as pair:
        pair.near.reset(Code.ABORTED, "why")
        await settle()
        assert pair.left.is_set()
        assert isinstance(pair.far.cancel_reason, StreamReset)

"""How streams end: END, RESET, STOP, cancellation and deadlines. Each check's first line is its claim."""

# A checker can't need pytest.
# ruff: noqa: PT017

from __future__ import annotations

import math
from typing import Final

import trio

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core.records import Status
from trio_streams.errors import RpcError, StreamReset, StreamStopped
from trio_streams.streams.wire import StopPolicy
from trio_streams.testing.peers import PATIENCE_SECONDS, ByteItems, MakeCarriers, open_peers, send_until_refused, until

__all__ = ["END_CHECKS", "Witness", "catch"]

_SOON_SECONDS: Final = 0.05


class Witness:
    """A handler that waits to be cancelled, and what became of it.

    Args:
      policy: when the peer's STOP cancels it.
    """

    def __init__(self, policy: StopPolicy = StopPolicy.ALWAYS) -> None:
        self._policy = policy
        self.is_running: trio.Event = trio.Event()
        self.is_finished: trio.Event = trio.Event()
        self.may_finish: trio.Event = trio.Event()
        self.may_finish.set()
        self.was_cancelled: bool = False
        self.reason: Exception | None = None
        self.deadline: float = math.inf
        self.started_at: float = math.inf

    async def serve(self, stream: ByteItems) -> None:
        """Handle a stream."""
        stream.stop_policy = self._policy
        self.deadline, self.started_at = stream.deadline, trio.current_time()
        try:
            self.is_running.set()
            await trio.sleep_forever()
        except trio.Cancelled:
            self.was_cancelled = True
            raise
        finally:
            self.reason = stream.cancel_reason
            with trio.move_on_after(PATIENCE_SECONDS, shield=True):
                await self.may_finish.wait()
            self.is_finished.set()


async def catch(stream: ByteItems) -> Exception:
    """What receiving ends with, items being passed over."""
    try:
        for _ in range(20_000):
            await stream.receive()
    except (RpcError, trio.EndOfChannel, trio.BrokenResourceError) as exc:
        return exc
    raise AssertionError("20,000 items, and no end")


async def check_an_error_comes_after_the_items(make: MakeCarriers) -> None:
    """A handler that sends three items and fails delivers three items and then its status, details and all."""

    async def three(stream: ByteItems) -> None:
        for n in range(3):
            await stream.send(b"%d" % n)
        raise RpcError("OUT_OF_STOCK", "no fourth", {"left": [0, None, "ü"]})

    async with open_peers(make, {"three": three}) as peers:
        async with peers.client.open_stream("three") as stream:
            assert [await stream.receive() for _ in range(3)] == [b"0", b"1", b"2"]
            for _ in range(2):
                error = await catch(stream)
                assert isinstance(error, RpcError)
                assert (error.code, error.message) == ("OUT_OF_STOCK", "no fourth")
                assert error.details == {"left": [0, None, "ü"]}
        await peers.check_alive()


async def check_an_end_carries_a_status(make: MakeCarriers) -> None:
    """A client's END carries a status too, and each half ends by itself."""
    statuses: list[Exception] = []

    async def answer(stream: ByteItems) -> None:
        statuses.append(await catch(stream))
        await stream.send(b"after your end")

    async with open_peers(make, {"answer": answer}) as peers, peers.client.open_stream("answer") as stream:
        await stream.send(b"1")
        stream.end(Status("PARTIAL", "that is all I have"))
        assert await stream.receive() == b"after your end"
        assert isinstance(await catch(stream), trio.EndOfChannel)
    (error,) = statuses
    assert isinstance(error, RpcError)
    assert (error.code, error.message) == ("PARTIAL", "that is all I have")


async def check_a_reset_drops_what_is_unread(make: MakeCarriers) -> None:
    """After RESET nothing unread is delivered: the receiver gets its code and its reason, again and again."""

    async def abandon(stream: ByteItems) -> None:
        await stream.send_many([b"0", b"1", b"2"])
        await stream.receive()
        stream.reset(Code.DATA_LOSS, "the disk is gone")

    async with open_peers(make, {"abandon": abandon}) as peers:
        async with peers.client.open_stream("abandon") as stream:
            assert await stream.receive() == b"0"
            await stream.send(b"got one")
            await until(lambda: stream.statistics().receive_state == "errored")
            for _ in range(2):
                try:
                    item = await stream.receive()
                except StreamReset as exc:
                    assert (exc.code, exc.reason) == (Code.DATA_LOSS, peers.said("the disk is gone"))
                else:
                    raise AssertionError(f"{item!r} was delivered after a reset")
        await peers.check_alive()


async def check_a_reset_cancels_the_handler(make: MakeCarriers) -> None:
    """A client's RESET cancels the handler, which can read code and reason."""
    witness = Witness()
    async with open_peers(make, {"wait": witness.serve}) as peers:
        async with peers.client.open_stream("wait") as stream:
            await witness.is_running.wait()
            stream.reset(Code.ABORTED, "changed my mind")
            await witness.is_finished.wait()
        assert witness.was_cancelled
        assert isinstance(witness.reason, StreamReset)
        assert (witness.reason.code, witness.reason.reason) == (Code.ABORTED, peers.said("changed my mind"))
        await peers.check_alive()


async def check_a_stop_ends_an_answer(make: MakeCarriers) -> None:
    """A client's STOP cancels the handler of a stream that only answers, without an error and with one."""
    for code in (Code.OK, Code.RESOURCE_EXHAUSTED):
        witness = Witness()
        async with open_peers(make, {"wait": witness.serve}) as peers:
            async with peers.client.open_stream("wait") as stream:
                await witness.is_running.wait()
                stream.stop(code, "enough")
                await witness.is_finished.wait()
            assert witness.was_cancelled
            assert isinstance(witness.reason, StreamStopped)
            assert (witness.reason.code, witness.reason.reason) == (code, peers.said("enough"))
            await peers.check_alive()


async def check_an_upload_survives_a_stop(make: MakeCarriers) -> None:
    """STOP without an error leaves an upload's handler alone: its sends raise, its items go on to arrive."""
    log: list[object] = []
    is_finished = trio.Event()

    async def upload(stream: ByteItems) -> None:
        stream.stop_policy = StopPolicy.ON_ERROR
        assert await stream.receive() == b"first"
        try:
            await send_until_refused(stream, b"progress")
        except StreamStopped as exc:
            log.append((exc.code, exc.reason))
        log.extend([item async for item in stream])
        is_finished.set()

    async with open_peers(make, {"upload": upload}) as peers:
        async with peers.client.open_stream("upload") as stream:
            await stream.send(b"first")
            assert await stream.receive() == b"progress"
            stream.stop(Code.OK, "no more news")
            await stream.send_many([b"second", b"third"])
        await is_finished.wait()
        assert log == [(Code.OK, peers.said("no more news")), b"second", b"third"]
        await peers.check_alive()


async def check_a_stop_with_an_error_ends_an_upload(make: MakeCarriers) -> None:
    """STOP with an error cancels an upload's handler, too."""
    witness = Witness(StopPolicy.ON_ERROR)
    async with open_peers(make, {"wait": witness.serve}) as peers:
        async with peers.client.open_stream("wait") as stream:
            await witness.is_running.wait()
            stream.stop(Code.CANCELLED)
            await witness.is_finished.wait()
        assert witness.was_cancelled


async def check_a_stopped_sender_is_told(make: MakeCarriers) -> None:
    """A handler that stops an upload wakes the blocked sender with its code and reason, and can still answer."""

    async def refuse(stream: ByteItems) -> None:
        await stream.receive()
        stream.stop(Code.RESOURCE_EXHAUSTED, "the disk is full")
        await stream.send(b"kept 1")

    config = ConnectionConfig()
    async with open_peers(make, {"refuse": refuse}, config=config) as peers:
        async with peers.client.open_stream("refuse") as stream:
            try:
                await send_until_refused(stream, b"item")
            except StreamStopped as exc:
                assert (exc.code, exc.reason) == (Code.RESOURCE_EXHAUSTED, peers.said("the disk is full"))
            sent = stream.statistics().items_sent
            assert 1 <= sent <= config.stream.window_items + config.stream.window_items // 4
            assert await stream.receive() == b"kept 1"
            assert isinstance(await catch(stream), trio.EndOfChannel)
        await peers.check_alive()


async def check_cancellation_reaches_the_handler(make: MakeCarriers) -> None:
    """Cancelling a caller cancels the handler in its await; its `finally` runs before the stream counts as closed."""
    witness = Witness()
    witness.may_finish = trio.Event()
    is_reopened = trio.Event()
    async with (
        open_peers(make, {"wait": witness.serve}, server_config=ConnectionConfig(max_streams=1)) as peers,
        trio.open_nursery() as nursery,
    ):
        with trio.CancelScope() as scope:
            async with peers.client.open_stream("wait") as stream:
                await witness.is_running.wait()
                scope.cancel()
                await stream.receive()
        assert scope.cancelled_caught

        async def reopen() -> None:
            await peers.check_alive()
            is_reopened.set()

        nursery.start_soon(reopen)
        await until(lambda: witness.was_cancelled)
        assert [s.name for s in peers.server.streams] == ["wait"]
        assert not is_reopened.is_set()
        witness.may_finish.set()
        await is_reopened.wait()
        assert witness.is_finished.is_set()
        assert isinstance(witness.reason, StreamReset | StreamStopped)
        assert witness.reason.code is Code.CANCELLED


async def check_deadlines_travel(make: MakeCarriers) -> None:
    """A caller's `fail_after` reaches the handler as its deadline, and cancels it there."""
    witness = Witness()
    async with open_peers(make, {"wait": witness.serve}) as peers:
        try:
            with trio.fail_after(_SOON_SECONDS):
                async with peers.client.open_stream("wait") as stream:
                    await stream.receive()
        except trio.TooSlowError:
            pass
        else:
            raise AssertionError("the caller's own deadline passed unnoticed")
        await witness.is_finished.wait()
        assert witness.was_cancelled
        assert 0 <= witness.deadline - witness.started_at <= _SOON_SECONDS + 0.001
        await peers.check_alive()


async def check_a_server_keeps_the_deadline(make: MakeCarriers) -> None:
    """A handler that is over its deadline ends its stream with DEADLINE_EXCEEDED, also where nobody cancels."""
    witness = Witness()
    async with open_peers(make, {"wait": witness.serve}) as peers:
        started_at = trio.current_time()
        async with peers.client.open_stream("wait", deadline=started_at + _SOON_SECONDS) as stream:
            error = await catch(stream)
        assert isinstance(error, RpcError)
        assert error.code == "DEADLINE_EXCEEDED"
        assert trio.current_time() >= started_at + _SOON_SECONDS
        assert witness.was_cancelled
        assert witness.reason is None
        await peers.check_alive()


END_CHECKS: Final = (
    check_an_error_comes_after_the_items,
    check_an_end_carries_a_status,
    check_a_reset_drops_what_is_unread,
    check_a_reset_cancels_the_handler,
    check_a_stop_ends_an_answer,
    check_an_upload_survives_a_stop,
    check_a_stop_with_an_error_ends_an_upload,
    check_a_stopped_sender_is_told,
    check_cancellation_reaches_the_handler,
    check_deadlines_travel,
    check_a_server_keeps_the_deadline,
)

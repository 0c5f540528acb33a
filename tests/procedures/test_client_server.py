"""Procedures over a connection: both ends."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from tests.procedures.application import Application, Line, Query, connected
from trio_streams.errors import CodecError, ConnectionLost, RpcError, StreamStopped
from trio_streams.procedures.client import result_codec


async def test_call() -> None:
    """One input, one result, of the types that are declared and asked for."""
    async with connected(Application()) as (client, _):
        assert await client.call("add", [1, 2, 3], returns=int) == 6
        assert await client.call("add", [1, 2, 3]) == 6
        assert await client.call("about", Query("debug"), returns=Query) == Query("debug")
        assert await client.call("about", returns=Query) == Query()
        assert await client.call("nothing") is None


async def test_the_context(autojump_clock: trio.testing.MockClock) -> None:
    """A handler knows the procedure, the caller, its metadata and the deadline around the call."""
    application = Application()
    async with connected(application) as (client, _):
        with trio.fail_after(4):
            await client.call("about", metadata={"k": "v"})
        await client.call("about")
    first, second = application.contexts
    assert (first.procedure, first.metadata, first.request_id) == ("about", {"k": "v"}, "1")
    assert first.deadline == pytest.approx(4, abs=0.01)
    assert second.deadline == math.inf
    assert not second.cancelled and second.cancel_reason is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("wrong", None, "INTERNAL: 'wrong' made an item that is not of its declared type"),
        ("fail", "GONE", "GONE: as asked"),
        ("fail", "", "INTERNAL: internal error"),
        ("missing", None, "NOT_FOUND: there is no procedure 'missing'"),
        ("x" * 200, None, r"NOT_FOUND: there is no procedure 'x{100}… \(200 characters\)'"),
        ("lines", None, "FAILED_PRECONDITION: 'lines' answers with a run of items: use stream"),
    ],
)
async def test_errors_of_calls(name: str, value: object, message: str) -> None:
    """Each error arrives as one bare RpcError that says what was wrong."""
    async with connected(Application()) as (client, _):
        with pytest.raises(RpcError, match=message):
            await client.call(name, value)
        assert await client.call("add", [1]) == 1


async def test_an_answer_without_a_result() -> None:
    """A procedure that ends without an item gave no result: that is INTERNAL."""
    async with connected(Application()) as (client, _):
        with pytest.raises(RpcError, match="INTERNAL: 'lines' answered without a result"):
            await client.call("lines", {"limit": 0})


async def test_details_travel() -> None:
    """An RpcError's details reach the caller."""
    async with connected(Application()) as (client, _):
        with pytest.raises(RpcError) as caught:
            await client.call("fail", "GONE")
        assert caught.value.details == {"a": 1}


async def test_input_of_the_wrong_type() -> None:
    """A wrong input is INVALID_ARGUMENT with its path; a wrong result is the caller's own CodecError."""
    async with connected(Application()) as (client, _):
        with pytest.raises(RpcError, match="INVALID_ARGUMENT") as caught:
            await client.call("about", {"limit": "many"})
        assert caught.value.details == {"path": "$.limit"}
        with pytest.raises(CodecError):
            await client.call("about", object())
        with pytest.raises(CodecError):
            await client.call("add", [1], returns=str)


async def test_a_cancelled_call_cancels_its_handler(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelling the caller runs the handler's `finally`."""
    application = Application()
    async with connected(application) as (client, _):
        with trio.move_on_after(1):
            await client.call("hang")
        await trio.testing.wait_all_tasks_blocked()
        assert application.seen == ["hang cancelled"]


async def test_server_stream() -> None:
    """A server stream's items are typed; its generator is iterated and closed in one task."""
    application = Application()
    async with connected(application) as (client, _):
        async with client.stream("lines", Query("a", 2), returns=Line) as lines:
            assert [line async for line in lines] == [Line("a", 0), Line("a", 1)]
        async with client.stream("lines") as items:
            assert await items.receive() == {"level": "info", "number": 0}
    assert len(set(application.tasks[:2])) == 1
    assert application.seen == ["lines closed"] * 2


async def test_server_stream_that_fails() -> None:
    """Three items, and then the error, with its details."""
    async with connected(Application()) as (client, _), client.stream("lines", Query("fail")) as lines:
        received = []
        with pytest.raises(RpcError, match="NOT_FOUND: no more") as caught:
            async for line in lines:
                received.append(line)  # noqa: PERF401 - the loop fails
        assert len(received) == 3
        assert caught.value.details == [1]


async def test_leaving_a_stream_stops_its_handler() -> None:
    """Leaving the block early runs the handler's `finally`, though it waits for something else."""
    application = Application()
    async with connected(application) as (client, _):
        async with client.stream("lines", Query("hang"), high_water_mark=1, priority=3) as lines:
            await lines.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert application.seen == ["lines closed"]


async def test_upload() -> None:
    """Every item of any iterable goes up, and one result comes back."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    async with connected(Application()) as (client, _):
        assert await client.upload("total", [1, 2, 3], returns=int) == 6
        assert await client.upload("total", numbers(), returns=int) == 6
        assert await client.upload("total", [], priority=1, metadata={"k": "v"}) == 0


async def test_an_upload_whose_handler_answers_early() -> None:
    """The answer ends the upload, also of items that never end, and also while they have nothing to give."""

    async def one_then_silence() -> AsyncIterator[int]:
        yield 7
        await trio.sleep_forever()

    def endless() -> Iterator[int]:
        while True:
            yield 8

    async with connected(Application()) as (client, _):
        assert await client.upload("first", endless(), returns=int) == 8
        assert await client.upload("first", one_then_silence(), returns=int) == 7
        with pytest.raises(RpcError, match="PERMISSION_DENIED: no uploads today"):
            await client.upload("refuse", one_then_silence())
        with pytest.raises(RpcError, match="PERMISSION_DENIED: no uploads today"):
            await client.upload("refuse", endless())


async def test_an_upload_whose_items_fail() -> None:
    """What the items raise reaches the caller bare, the items before it were sent, and the handler is cancelled."""
    application = Application()

    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise KeyError("items")

    async with connected(application) as (client, _):
        with pytest.raises(KeyError, match="items"):
            await client.upload("endless", numbers())
        with pytest.raises(CodecError):
            await client.upload("endless", [object()])
        await trio.testing.wait_all_tasks_blocked()
    assert application.seen.count("endless closed") == 2


@pytest.mark.parametrize("error", [ConnectionLost("of another connection"), StreamStopped()])
async def test_an_upload_whose_items_come_from_elsewhere(error: Exception) -> None:
    """An error of the items' own source is not taken for one of the upload's stream."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise error

    async with connected(Application()) as (client, _):
        with pytest.raises(type(error)) as caught:
            await client.upload("endless", numbers())
        assert caught.value is error


async def test_an_upload_on_a_lost_connection() -> None:
    """A connection that breaks under an upload is one bare ConnectionLost, and the items' generator is closed."""
    closed: list[bool] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            connection.lose(ConnectionLost("cut"))
            yield 2
        finally:
            closed.append(True)

    async with connected(Application()) as (client, connection):
        with pytest.raises(ConnectionLost, match="cut"):
            await client.upload("endless", numbers())
    assert closed == [True]


async def test_a_wrong_item_of_an_upload() -> None:
    """An item of the wrong type is INVALID_ARGUMENT."""
    async with connected(Application()) as (client, _):
        with pytest.raises(RpcError, match="INVALID_ARGUMENT"):
            await client.upload("total", ["one"])


async def test_bidi() -> None:
    """Both directions at once; `end` lets the handler finish, and its end follows."""
    application = Application()
    async with connected(application) as (client, _), client.bidi("double", returns=int) as chat:
        await chat.send(1)
        assert await chat.receive() == 2
        await chat.send_many([2, 3])
        chat.end()
        assert [number async for number in chat] == [4, 6]
    assert application.seen == ["double closed"]


async def test_bidi_that_is_left() -> None:
    """Leaving the block ends the handler too."""
    application = Application()
    async with connected(application) as (client, _):
        async with client.bidi("double") as chat:
            await chat.send(1)
            assert await chat.receive() == 2
        await trio.testing.wait_all_tasks_blocked()
        assert application.seen == ["double closed"]


def test_result_codecs() -> None:
    """Without a type any JSON is a result."""
    assert result_codec(None).decode(b'{"a": [1]}') == {"a": [1]}
    assert result_codec(int).decode(b"1") == 1

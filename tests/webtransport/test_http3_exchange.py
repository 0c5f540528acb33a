"""One request over HTTP/3, row by row, over a machine that only writes down what it is told."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.fake_requests import FakeLink, head, serving
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, RpcError
from trio_streams.service.broadcast import Broadcast
from trio_streams.service.exchange import Exchange, ExchangeConfig, respond
from trio_streams.service.sse import respond_sse

HELLO = ("head", {":status": "200", "content-length": "5"})


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello")


async def echo(exchange: Exchange) -> None:
    await respond(exchange, 200, await exchange.receive_body())


async def test_an_answer_row_by_row() -> None:
    """Head, body and end go into the stream, and it is released when the client has all of it."""
    async with serving(hello) as (link, host):
        link.ask(head())
        await wait_all_tasks_blocked()
        assert link.said() == [HELLO, ("body", b"hello"), ("end",)]
        assert host.exchanges == 1
        link.deliver()
        assert link.said() == [HELLO, ("body", b"hello"), ("end",), ("release",)]
        assert host.exchanges == 0
        assert link.kicks > 0
        assert link.rows[0][2].keys() == {":status", "content-length"}


async def test_bytes_are_consumed_as_the_handler_takes_them() -> None:
    """What arrives unasked stays charged to the client's window, whatever its size."""
    go_on = trio.Event()
    chunks: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        chunks.extend([chunk async for chunk in exchange.iter_body()])
        await respond(exchange, 204, b"")

    async with serving(handler) as (link, _):
        sink = link.ask(head("POST"), b"a" * 50_000, is_ended=False)
        assert sink is not None
        sink.on_body([b"b" * 50_000, b"c" * 50_000], 100_000, False)
        await wait_all_tasks_blocked()
        assert link.said() == []
        go_on.set()
        await wait_all_tasks_blocked()
        assert link.said() == [("consumed", 50_000), ("consumed", 100_000)]
        sink.on_body([], 0, True)
        await wait_all_tasks_blocked()
        assert sum(map(len, chunks)) == 150_000
        assert link.said()[2:] == [("head", {":status": "204"}), ("end",)]


async def test_trailers_end_a_request() -> None:
    """Their fields are nobody's, and the body before them is whole."""
    async with serving(echo) as (link, _):
        sink = link.ask(head("POST"), b"body", is_ended=False)
        assert sink is not None
        sink.on_trailers([(b"x", b"1")])
        await wait_all_tasks_blocked()
        assert link.said()[1:] == [("head", {":status": "200", "content-length": "4"}), ("body", b"body"), ("end",)]


async def test_send_waits_while_the_stream_is_full() -> None:
    """The stream's room, one write and one buffer bound what a handler is ahead; it goes on where the stream does."""
    sent = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send_head(200)
        while True:
            await exchange.send(b"x" * 100)
            sent += 100

    async with serving(handler, ExchangeConfig(send_buffer_bytes=1_000)) as (link, _):
        link.room[0] = 500
        link.ask(head())
        await wait_all_tasks_blocked()
        assert 500 <= sent <= 500 + 2 * 1_000
        before = sent
        link.give_room(300)
        await wait_all_tasks_blocked()
        assert sent == before  # the write that was begun is not over
        link.give_room(1_000)
        await wait_all_tasks_blocked()
        assert before < sent <= 1_800 + 2 * 1_000
        assert link.said()[-1] == ("body", b"x" * 1_800)


async def test_what_waits_together_leaves_together() -> None:
    """Many sends between two rounds are one write into the stream."""
    writes: list[int] = []

    class Counting(FakeLink):
        def send_body(self, stream_id: int, data: bytes | memoryview) -> int:
            writes.append(len(data))
            return super().send_body(stream_id, data)

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        for _ in range(50):
            await exchange.send(b"x" * 10)
        await trio.sleep_forever()

    async with serving(handler) as (_, host):
        link = Counting()
        host.attach(link)
        link.ask(head())
        await wait_all_tasks_blocked()
        assert sum(writes) == 500
        assert len(writes) <= 3


@pytest.mark.parametrize("leave", ["on_reset", "on_stopped", "lose"])
async def test_a_client_that_leaves_cancels_the_handler_at_once(leave: str) -> None:
    """RESET, STOP and a lost connection wake a handler in any await, its `finally` runs, and `send` says why."""
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                with pytest.raises(ConnectionLost, match="the client is gone"):
                    await exchange.send(b"x")
            seen.append("finally")

    async with serving(handler) as (link, host):
        sink = link.ask(head("POST"), is_ended=False)
        assert sink is not None
        await wait_all_tasks_blocked()
        if leave == "lose":
            link.lose()
        else:
            getattr(sink, leave)(0x10C)
        await wait_all_tasks_blocked()
        assert seen == ["finally"]
        assert host.exchanges == 0
        rest = [] if leave == "lose" else [("abandon", "H3_REQUEST_CANCELLED"), ("release",)]
        assert link.said() == [("head", {":status": "200"}), *rest]


async def test_a_failure_before_the_head_is_500() -> None:
    """The exception's text stays here, and the stream ends well."""

    async def handler(exchange: Exchange) -> None:
        raise KeyError("secret")

    async with serving(handler) as (link, _):
        link.ask(head())
        await wait_all_tasks_blocked()
        said = link.said()
    assert said[0][1][":status"] == "500"
    assert b"secret" not in said[1][1]
    assert said[2] == ("end",)


async def test_a_failure_after_the_head_resets_the_stream(autojump_clock: MockClock) -> None:
    """What was said before leaves first; then the client sees that it is not all."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await exchange.send(b"half")
        raise KeyError("secret")

    async with serving(handler) as (link, _):
        link.ask(head())
        await trio.sleep(1)
        assert link.said() == [("head", {":status": "200"}), ("body", b"half")]
        link.leave()
        await trio.sleep(1)
        assert link.said()[2:] == [("abandon", "H3_INTERNAL_ERROR"), ("release",)]


async def test_a_declared_length_is_kept(autojump_clock: MockClock) -> None:
    """A short body is reset, and a long one is the handler's error."""

    async def short(exchange: Exchange) -> None:
        await exchange.send_head(200, [("content-length", "9")])
        await exchange.send(b"four")

    async with serving(short) as (link, _):
        link.ask(head())
        await trio.sleep(1)
        link.leave()
        await trio.sleep(1)
        assert link.said()[1:] == [("body", b"four"), ("abandon", "H3_INTERNAL_ERROR"), ("release",)]


@pytest.mark.parametrize("status", [200, 304])
async def test_answers_without_a_body(status: int) -> None:
    """HEAD and 304 keep the length that they would have, and nothing follows the head."""

    async def handler(exchange: Exchange) -> None:
        await respond(exchange, status, b"hello")

    async with serving(handler) as (link, _):
        link.ask(head("HEAD" if status == 200 else "GET"))
        await wait_all_tasks_blocked()
        assert link.said() == [("head", {":status": str(status), "content-length": "5"}), ("end",)]


async def test_a_request_that_is_not_read_is_dropped_until_the_answer_is_there() -> None:
    """The client may go on as long as the answer is under way; then the stream's release refuses the rest."""
    async with serving(hello) as (link, _):
        sink = link.ask(head("POST"), b"one", is_ended=False)
        assert sink is not None
        await wait_all_tasks_blocked()
        sink.on_body([b"three"], 5, False)
        sink.on_reset(0x100)  # which is no matter any more
        link.deliver()
        assert link.said() == [
            ("consumed", 3),
            HELLO,
            ("body", b"hello"),
            ("end",),
            ("consumed", 5),
            ("release",),
        ] or link.said() == [HELLO, ("body", b"hello"), ("consumed", 3), ("end",), ("consumed", 5), ("release",)]


@pytest.mark.parametrize(
    ("config", "body", "status", "field"),
    [
        (ExchangeConfig(max_body_bytes=4), b"12345", 413, "body"),
        (ExchangeConfig(body_timeout=1), b"", 408, "body_timeout"),
        (ExchangeConfig(body_timeout=1, min_body_bytes_per_second=100), b"1", 408, "min_body_bytes_per_second"),
    ],
)
async def test_bodies_that_pass_a_limit(
    config: ExchangeConfig, body: bytes, status: int, field: str, autojump_clock: MockClock
) -> None:
    """As on the other hosts: too long is 413; a silence, and too slow a pace, are 408."""
    async with serving(echo, config) as (link, _):
        sink = link.ask(head("POST"), is_ended=False)
        assert sink is not None
        for _ in range(10):
            await trio.sleep(0.4)
            if body:
                sink.on_body([body], 1, False)
        said = [row for row in link.said() if row[0] != "consumed"]
        assert said[0][1][":status"] == str(status)
        assert f'"field":"{field}"'.encode() in said[1][1]


async def test_a_declared_length_past_the_limit_is_refused_at_once() -> None:
    """413 before a byte of the body."""
    async with serving(echo, ExchangeConfig(max_body_bytes=4)) as (link, _):
        link.ask(head("POST", "/", ("content-length", "5")), is_ended=False)
        await wait_all_tasks_blocked()
        assert link.said()[0][1][":status"] == "413"


async def test_errors_of_a_handler_have_their_status() -> None:
    """As on the other hosts: a rate that is passed is 429."""

    async def handler(exchange: Exchange) -> None:
        raise RpcError(Code.RESOURCE_EXHAUSTED, "slower")

    async with serving(handler) as (link, _):
        link.ask(head())
        await wait_all_tasks_blocked()
        assert link.said()[0][1][":status"] == "429"


async def test_events_leave_as_they_come() -> None:
    """An event stream's head and events leave while its handler waits, and its end ends the stream."""
    send, receive = trio.open_memory_channel[bytes](0)

    async def handler(exchange: Exchange) -> None:
        await respond_sse(exchange, receive)

    async with serving(handler) as (link, _):
        link.ask(head())
        await wait_all_tasks_blocked()
        assert link.said()[0][1]["content-type"] == "text/event-stream"
        await send.send(b"1")
        await wait_all_tasks_blocked()
        assert link.said()[-1] == ("body", b"data: 1\n\n")
        send.close()
        await wait_all_tasks_blocked()
        assert link.said()[-1] == ("end",)


async def test_a_broadcast_writes_in_its_publishers_task() -> None:
    """What is published is in the streams of all who have room before `publish_nowait` returns; the rest follows later."""
    broadcast = Broadcast[bytes]()
    async with serving(broadcast.respond) as (link, _):
        link.room[4] = 3
        for stream_id in (0, 4):
            link.ask(head(), stream_id=stream_id)
        await wait_all_tasks_blocked()
        broadcast.publish_nowait(b"1")
        assert link.said(0)[-1] == ("body", b"data: 1\n\n")
        assert link.said(4)[-1] == ("body", b"dat")
        link.give_room(100, 4)
        assert link.said(4)[-1] == ("body", b"data: 1\n\n")
        broadcast.end()
        await wait_all_tasks_blocked()
        assert [link.said(stream_id)[-1] for stream_id in (0, 4)] == [("end",), ("end",)]

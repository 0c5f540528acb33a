"""What is given out of a stream, in each shape; what is known of it then; and what is wrong with it."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
from trio.testing import MockClock

from tests.durable.client.scripted_http import Asked, Reply, ScriptedHttp
from trio_streams.durable import (
    AsyncStreamRequest,
    AsyncStreamResponse,
    DurableStreamError,
    Endpoint,
    LiveMode,
    ReaderConfig,
    StreamConsumedError,
    StreamEvent,
    astream,
)
from trio_streams.errors import LocalProtocolError

URL = "http://127.0.0.1:9/v1/stream/a"
JSON = {"content-type": "application/json"}
TEXT = {"content-type": "text/plain"}
EVENTS = {"content-type": "text/event-stream"}


def at(offset: str, *, tail: bool = False, closed: bool = False) -> dict[str, str]:
    """The fields of an answer that ends here."""
    fields = {"stream-next-offset": offset}
    return fields | ({"stream-up-to-date": "true"} if tail else {}) | ({"stream-closed": "true"} if closed else {})


def request(*replies: Reply, live: LiveMode = False, **options: Any) -> AsyncStreamRequest:
    """Gives one answer after the other."""
    left = list(replies)

    async def script(_: Asked) -> Reply:
        return left.pop(0)

    endpoint = Endpoint(URL, http=ScriptedHttp(script))
    return AsyncStreamRequest(endpoint, live=live, owns_endpoint=True, **options)


def known(res: AsyncStreamResponse) -> tuple[str, bool, bool]:
    return res.offset, res.up_to_date, res.closed


async def test_properties_are_about_what_was_given_out(autojump_clock: MockClock) -> None:
    """What has arrived and was not given out does not count: `offset` is where to go on after what was."""
    first = Reply(200, JSON | at("3") | {"etag": '"x"'}, (b"[1,2]",))
    second = Reply(200, JSON | at("5", closed=True) | {"stream-cursor": "c"}, (b"[3]",))
    async with request(first, second) as res:
        assert known(res) == ("-1", False, False)
        assert (res.url, res.content_type, res.status, res.headers["etag"]) == (URL, "application/json", 200, '"x"')
        items = res.iter_json()
        assert await anext(items) == 1
        assert known(res) == ("-1", False, False)
        assert await anext(items) == 2
        assert known(res) == ("3", False, False)
        assert [item async for item in items] == [3]
        assert known(res) == ("5", True, True)
        assert res.cursor == "c"


async def test_a_long_answer_in_pieces_keeps_its_beginning(autojump_clock: MockClock) -> None:
    """Within an answer `offset` stays where it began; at its end it is right behind."""
    reply = Reply(200, at("9", tail=True), (b"abc", b"def", b"g"))
    async with request(reply, config=ReaderConfig(max_piece_bytes=3), offset="2") as res:
        found = [(chunk, res.offset) async for chunk in res]
    assert found == [(b"abc", "2"), (b"def", "2"), (b"g", "9")]


async def test_now_is_a_place_once_it_is_entered(autojump_clock: MockClock) -> None:
    """Of `now`, the first answer says where that was."""
    async with request(Reply(200, JSON | at("7", tail=True), (b"[]",)), offset="now") as res:
        assert res.offset == "7"
        assert await res.read_json() == []
        assert res.up_to_date


async def test_a_character_across_answers(autojump_clock: MockClock) -> None:
    """Text comes whole, whatever the answers are cut at."""
    euro = "€".encode()
    async with request(
        Reply(200, TEXT | at("1"), (b"a" + euro[:2],)), Reply(200, at("2", tail=True), (euro[2:],))
    ) as res:
        assert [text async for text in res.iter_text()] == ["a", "€"]


@pytest.mark.parametrize("how", ["iter", "read"])
async def test_text_that_ends_in_a_character(how: str, autojump_clock: MockClock) -> None:
    """It is an error, and not left out."""
    async with request(Reply(200, TEXT | at("1", tail=True), (b"a\xe2",))) as res:
        with pytest.raises(DurableStreamError) as caught:
            if how == "iter":
                [text async for text in res.iter_text()]
            else:
                await res.read_text()
    assert caught.value.code == "PARSE_ERROR"


async def test_a_character_that_the_end_completes(autojump_clock: MockClock) -> None:
    """Some encodings give out their last character only at the end."""
    async with request(Reply(200, TEXT | at("1", tail=True), (b"a+AOQ",))) as res:
        assert [text async for text in res.iter_text("utf-7")] == ["a", "ä"]
    async with request(Reply(200, TEXT | at("1", tail=True), (b"ab",))) as res:
        assert [text async for text in res.iter_text("utf-8")] == ["ab"]


async def test_batches_are_answers_and_empty_ones_are_left_out(autojump_clock: MockClock) -> None:
    """An answer without messages is no batch; it moves the offset all the same."""
    replies = [
        Reply(200, JSON | at("1"), (b"[1,2]",)),
        Reply(200, JSON | at("2"), (b"[]",)),
        Reply(200, at("3", tail=True), (b"[3]",)),
    ]
    async with request(*replies) as res:
        assert [(batch, res.offset) async for batch in res.iter_json_batches(decode=str)] == [
            (["1", "2"], "1"),
            (["3"], "3"),
        ]


async def test_values_of_each_event_are_a_batch(autojump_clock: MockClock) -> None:
    """Server-sent events bring an array each; several before one control event are one batch."""
    body = b'event: data\ndata: [1]\n\nevent: data\ndata: [2]\n\nevent: control\ndata: {"streamNextOffset":"4","streamClosed":true}\n\n'
    async with request(Reply(200, JSON | at("1", tail=True), (b"[]",)), Reply(200, EVENTS, (body,)), live=True) as res:
        assert [batch async for batch in res.iter_json_batches()] == [[1, 2]]
        assert known(res) == ("4", True, True)


async def test_events_say_when_the_stream_is_up_to_date(autojump_clock: MockClock) -> None:
    """An event without data comes where the stream becomes up to date or closed, and for nothing else."""
    tail = at("1", tail=True)
    replies = [
        Reply(200, at("1"), (b"a",)),
        Reply(200, tail),
        Reply(204, tail),
        Reply(204, tail),
        Reply(204, at("1", closed=True)),
    ]
    async with request(*replies, live="long-poll") as res:
        assert [event async for event in res.iter_events()] == [
            StreamEvent(b"a", "1", up_to_date=False),
            StreamEvent(b"", "1", up_to_date=True),
            StreamEvent(b"", "1", up_to_date=True),
        ]
        assert res.closed


@pytest.mark.parametrize("how", ["iter_json", "iter_json_batches", "iter_events", "read_json", "read_json_batches"])
@pytest.mark.parametrize("body", [b"[1", b"{}", b"[1]x"])
async def test_json_that_is_none(how: str, body: bytes, autojump_clock: MockClock) -> None:
    """A body that is whole and no JSON array is an error; none of it is given out, and the offset stays."""
    async with request(Reply(200, JSON | at("1", tail=True), (body,))) as res:
        with pytest.raises(DurableStreamError, match="no JSON array") as caught:
            if how.startswith("read"):
                await getattr(res, how)()
            else:
                await anext(getattr(res, how)())
        assert known(res) == ("-1", False, False)
    assert caught.value.code == "PARSE_ERROR"


async def test_nothing_follows_what_was_wrong(autojump_clock: MockClock) -> None:
    """An iteration that has failed does not go on behind the fault, which would be a gap that nobody sees."""
    replies = [
        Reply(200, JSON | at("1"), (b"[1]",)),
        Reply(200, at("2"), (b"[2",)),
        Reply(200, at("3", tail=True), (b"[3]",)),
    ]
    async with request(*replies) as res:
        items = res.iter_json()
        assert await anext(items) == 1
        for _ in range(3):
            with pytest.raises(DurableStreamError, match="no JSON array"):
                await anext(items)
        assert res.offset == "1"


async def test_a_fault_of_the_servers_names_the_stream(autojump_clock: MockClock) -> None:
    """What breaks the protocol says where it was read."""
    body = b"event: control\ndata: nothing\n\n"
    async with request(Reply(200, TEXT | at("1", tail=True)), Reply(200, EVENTS, (body,)), live="sse") as res:
        with pytest.raises(DurableStreamError, match=r"/v1/stream/a: a control event") as caught:
            await anext(aiter(res))
    assert caught.value.code == "PARSE_ERROR"


@pytest.mark.parametrize("how", ["iter_json", "iter_json_batches"])
async def test_json_of_a_stream_of_something_else(how: str, autojump_clock: MockClock) -> None:
    """A stream that is not JSON says so, before anything of it is read as such."""
    async with request(Reply(200, TEXT | at("1", tail=True), (b"[1]",))) as res:
        with pytest.raises(DurableStreamError, match="text/plain") as caught:
            getattr(res, how)()
        assert caught.value.code == "NOT_JSON"
        assert await res.read_text() == "[1]"


async def test_a_wrong_argument_consumes_nothing(autojump_clock: MockClock) -> None:
    """An encoding or a mode that nobody knows is the caller's error; the response can still be consumed."""
    async with request(Reply(200, TEXT | at("1", tail=True), (b"x",))) as res:
        with pytest.raises(LocalProtocolError):
            res.iter_text("klingon")
        with pytest.raises(LocalProtocolError):
            res.iter_events("xml")  # type: ignore[arg-type]
        assert await res.read_bytes() == b"x"


async def test_what_decode_raises_about_was_not_given_out(autojump_clock: MockClock) -> None:
    """Where it fails on the last value of an answer, another reader that goes on at `offset` meets that value again."""
    reply = Reply(200, JSON | at("3", closed=True), (b"[1,0]",))
    async with request(reply) as res:
        items = res.iter_json(lambda value: 1 / value)
        assert await anext(items) == 1
        with pytest.raises(ZeroDivisionError):
            await anext(items)
        assert known(res) == ("-1", False, False)
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        assert known(res) == ("-1", False, False)


async def test_what_decode_raises_is_its_own(autojump_clock: MockClock) -> None:
    """Its exception comes out bare, for the value that it was raised for; the next values follow."""

    def decode(value: int) -> int:
        return 10 // value

    async with request(Reply(200, JSON | at("1", tail=True), (b"[1,0,2]",))) as res:
        items = res.iter_json(decode)
        assert await anext(items) == 10
        with pytest.raises(ZeroDivisionError):
            await anext(items)
        assert [item async for item in items] == [5]


async def test_a_response_is_consumed_once(autojump_clock: MockClock) -> None:
    """In one way: also a `read_…` that is through."""
    async with request(Reply(200, TEXT | at("1", tail=True), (b"x",))) as res:
        await res.read_bytes()
        for again in (res.read_bytes, res.read_text, res.read_json):
            with pytest.raises(StreamConsumedError, match="read_bytes"):
                await again()
        with pytest.raises(StreamConsumedError):
            aiter(res)


async def test_an_answer_past_the_limit(autojump_clock: MockClock) -> None:
    """Where it has to be here as a whole, it is refused with the limit's name; as bytes it is read."""

    def ask() -> AsyncStreamRequest:
        return request(Reply(200, JSON | at("1", tail=True), (b"[1,2,3]",)), config=ReaderConfig(max_answer_bytes=5))

    async with ask() as res:
        with pytest.raises(DurableStreamError, match="max_answer_bytes"):
            await res.read_json()
    async with ask() as res:
        assert await res.read_bytes() == b"[1,2,3]"


async def test_who_never_closes_is_warned(autojump_clock: MockClock) -> None:
    """A response that was awaited and dropped with an answer open says so; one that was read to its end does not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        res = await request(Reply(200, at("1", tail=True), (b"x",)))
        assert await res.read_bytes() == b"x"
        del res
        gc.collect()
        assert [str(each.message) for each in caught] == []
        res = await request(Reply(200, at("1", tail=True), (b"x",)))
        del res
        gc.collect()
        assert ["never closed" in str(each.message) for each in caught] == [True]
        caught.clear()


async def test_a_request_is_sent_once(autojump_clock: MockClock) -> None:
    """Entering or awaiting it again is an error."""
    asked = request(Reply(200, at("1", tail=True), (b"x",)))
    async with asked:
        with pytest.raises(StreamConsumedError, match="make another one"):
            await asked


@pytest.mark.parametrize("live", ["ssé", None, 2, "False"])
def test_an_unknown_live_mode(live: Any) -> None:  # noqa: ANN401 - a wrong one
    """It fails where it is written."""
    with pytest.raises(LocalProtocolError, match="live"):
        astream(URL, live=live)


@pytest.mark.parametrize("offset", ["", 7, b"1"])
def test_an_offset_that_is_none(offset: Any) -> None:  # noqa: ANN401 - a wrong one
    """It fails where it is written."""
    with pytest.raises(LocalProtocolError, match="offset"):
        astream(URL, offset=offset)

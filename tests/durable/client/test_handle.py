"""A handle creates, appends, closes, forks and deletes, on our server and on the published one."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable

import httpcore2
import pytest
import trio
from trio.testing import MockClock

from tests.interop.durable.servers import server_url as server_url
from trio_streams.durable import (
    AppendResult,
    AsyncDurableStream,
    BatchingOptions,
    DurableStreamError,
    FetchError,
    RetentionGoneError,
    SeqConflictError,
    StreamClosedError,
    StreamExistsError,
    StreamNotFoundError,
)
from trio_streams.errors import CodecError, LocalProtocolError


@pytest.fixture
def new_url(server_url: str) -> Callable[[], str]:
    """Makes URLs of streams that are not there yet."""
    return lambda: f"{server_url}/{uuid.uuid4().hex}"


async def read(handle: AsyncDurableStream) -> object:
    """All that a stream holds."""
    async with handle.stream(live=False) as res:
        return await (res.read_json() if handle.content_type == "application/json" else res.read_bytes())


async def test_a_stream_is_created_written_and_read(new_url: Callable[[], str]) -> None:
    """Values, text and encoded JSON are one message each, and keep their bytes' meaning."""
    url = new_url()
    async with await AsyncDurableStream.create(url, content_type="application/json", ttl_seconds=3600) as handle:
        assert (handle.url, handle.content_type) == (url, "application/json")
        await handle.append({"message": "hello"})
        await handle.append([1, 2])
        await handle.append("text")
        result = await handle.append(b'{"n": 1}')
        assert isinstance(result, AppendResult)
        head = await handle.head()
        assert (head.offset, head.content_type, head.ttl_seconds) == (result.next_offset, "application/json", 3600)
        assert not head.is_closed
        assert await read(handle) == [{"message": "hello"}, [1, 2], "text", {"n": 1}]


async def test_the_content_type_is_learned(new_url: Callable[[], str]) -> None:
    """From connecting, or from the first append; many at once ask once, and keep their order."""
    url = new_url()
    async with await AsyncDurableStream.create(url, content_type="application/json") as handle:
        pass
    async with await AsyncDurableStream.connect(url) as handle:
        assert handle.content_type == "application/json"
    async with AsyncDurableStream(url) as handle:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(handle.append, number)
                await trio.testing.wait_all_tasks_blocked()
        assert handle.content_type == "application/json"
        assert await read(handle) == [0, 1, 2, 3, 4]


async def test_whoever_waits_for_the_content_type_asks_in_the_place_of_another(new_url: Callable[[], str]) -> None:
    """The append that asked is cancelled; the next one goes on."""
    url = new_url()
    async with await AsyncDurableStream.create(url) as handle:
        pass
    async with AsyncDurableStream(url) as handle, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(handle.append, b"second")
            scope.cancel()
            await handle.append(b"first")
    async with AsyncDurableStream(url) as handle:
        assert await read(handle) == b"second"


async def test_bytes_and_text(new_url: Callable[[], str]) -> None:
    """A stream that is not JSON holds bytes; the server chooses the type where nobody does."""
    async with await AsyncDurableStream.create(new_url()) as handle:
        assert handle.content_type == "application/octet-stream"
        await handle.append(b"\x00\xff")
        await handle.append("é")
        assert await read(handle) == b"\x00\xff\xc3\xa9"
        with pytest.raises(LocalProtocolError, match="dict"):
            await handle.append({"a": 1})
        with pytest.raises(LocalProtocolError, match="nothing"):
            await handle.append(b"")


async def test_bad_json_spoils_nothing(new_url: Callable[[], str]) -> None:
    """It is refused before it can leave with the messages of others."""
    async with await AsyncDurableStream.create(new_url(), content_type="application/json") as handle:
        with pytest.raises(CodecError):
            await handle.append(b"1,2")
        await handle.append(3)
        assert await read(handle) == [3]


async def test_creating_twice(new_url: Callable[[], str]) -> None:
    """The same again is fine; another configuration is not."""
    url = new_url()
    for _ in range(2):
        async with await AsyncDurableStream.create(url, content_type="text/plain"):
            pass
    with pytest.raises(StreamExistsError) as caught:
        await AsyncDurableStream.create(url, content_type="application/json")
    assert (caught.value.status, caught.value.code) == (409, "CONFLICT_EXISTS")


async def test_a_stream_is_created_with_all_that_it_will_hold(new_url: Callable[[], str]) -> None:
    """With a body, an expiry, and closed at once."""
    async with AsyncDurableStream(new_url(), content_type="application/json") as handle:
        await handle.create_stream(body={"all": 1}, expires_at="2099-01-01T00:00:00Z", closed=True)
        head = await handle.head()
        assert head.is_closed
        assert head.expires_at is not None
        assert await read(handle) == [{"all": 1}]
    async with AsyncDurableStream(new_url(), content_type="application/json") as handle:
        await handle.create_stream(body=b"[1, [2]]")
        assert await read(handle) == [1, [2]]
    async with AsyncDurableStream(new_url()) as handle:
        with pytest.raises(LocalProtocolError, match="content type"):
            await handle.create_stream(body={"a": 1})
        await handle.create_stream(body="text")
        assert await read(handle) == b"text"


async def test_a_sequence_number_coordinates_writers(new_url: Callable[[], str]) -> None:
    """Appends with a number leave alone, so that each is judged by its own."""
    async with await AsyncDurableStream.create(new_url()) as handle:
        outcomes: list[object] = []

        async def append(data: bytes, seq: str | None) -> None:
            try:
                outcomes.append(await handle.append(data, seq=seq))
            except SeqConflictError as exc:
                outcomes.append(exc.code)

        await handle.append(b"a", seq="1")
        async with trio.open_nursery() as nursery:
            for data, seq in [(b"b", "2"), (b"x", "1"), (b"-", None), (b"c", "3")]:
                nursery.start_soon(append, data, seq)
                await trio.testing.wait_all_tasks_blocked()
        assert outcomes.count("CONFLICT_SEQ") == 1
        assert await read(handle) == b"ab-c"


async def test_closing(new_url: Callable[[], str]) -> None:
    """It comes behind what was appended before; then nothing is taken, but closing again without a message."""
    async with await AsyncDurableStream.create(new_url(), content_type="application/json") as handle:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(handle.append, number)
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(handle.close, "bye")
        assert await read(handle) == [0, 1, 2, "bye"]
        result = await handle.close()
        assert result.next_offset == (await handle.head()).offset
        for again in (handle.append(4), handle.close(5)):
            with pytest.raises(StreamClosedError) as caught:
                await again
            assert caught.value.final_offset == result.next_offset


async def test_a_fork_begins_with_what_there_was(new_url: Callable[[], str]) -> None:
    """At the end, or where it is told to, some messages further on; then both go their own ways."""
    async with await AsyncDurableStream.create(new_url(), content_type="application/json") as handle:
        beginning = (await handle.head()).offset
        first = await handle.append(1)
        await handle.append(2)
        async with await handle.fork(new_url()) as fork:
            await fork.append("own")
            assert await read(fork) == [1, 2, "own"]
        async with await handle.fork(new_url(), offset=first.next_offset, ttl_seconds=60) as fork:
            assert (await fork.head()).ttl_seconds == 60
            assert await read(fork) == [1]
        async with await handle.fork(
            new_url(), offset=beginning, sub_offset=1, expires_at="2099-01-01T00:00:00Z"
        ) as fork:
            assert await read(fork) == [1]
        assert await read(handle) == [1, 2]
        with pytest.raises(DurableStreamError) as caught:
            await handle.fork(new_url(), offset="9" * 16 + "_" + "9" * 16)
        assert caught.value.status == 400


async def test_deleting(new_url: Callable[[], str]) -> None:
    """What is not there is told so; what forks still read is gone."""
    async with await AsyncDurableStream.create(new_url()) as handle:
        async with await handle.fork(new_url()):
            pass
        await handle.delete()
        with pytest.raises(RetentionGoneError):
            await handle.head()
    async with AsyncDurableStream(new_url()) as handle:
        for call in (handle.delete, handle.head, lambda: handle.append(b"x")):
            with pytest.raises(StreamNotFoundError) as caught:
                await call()
            assert (caught.value.status, caught.value.code) == (404, "NOT_FOUND")
    with pytest.raises(StreamNotFoundError):
        await AsyncDurableStream.connect(new_url())


@pytest.mark.parametrize("batching", [True, False, BatchingOptions(max_batch_items=10, max_batch_bytes=100)])
async def test_many_at_once(new_url: Callable[[], str], batching: bool | BatchingOptions) -> None:
    """With batches or without, all of them are stored."""
    async with await AsyncDurableStream.create(new_url(), content_type="application/json", batching=batching) as handle:
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(handle.append, number)
        values = await read(handle)
        assert isinstance(values, list)
        assert sorted(values) == list(range(100))


async def test_nobody_is_there(autojump_clock: MockClock) -> None:
    """A FetchError without a status, after some tries."""
    async with AsyncDurableStream("http://127.0.0.1:1/x", content_type="text/plain") as handle:
        with pytest.raises(FetchError) as caught:
            await handle.append("x")
        assert (caught.value.status, caught.value.code) == (None, "NETWORK_ERROR")


async def test_a_closed_handle_asks_nobody(new_url: Callable[[], str]) -> None:
    """As everywhere in Trio."""
    handle = AsyncDurableStream(new_url())
    await handle.aclose()
    await handle.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await handle.head()


def test_a_handle_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no TLS context and no pool of connections, which is what costs."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("made too early")

    monkeypatch.setattr(ssl.SSLContext, "__new__", refuse)
    monkeypatch.setattr(httpcore2, "AsyncConnectionPool", refuse)
    for number in range(1_000):
        assert AsyncDurableStream(f"https://streams.example.com/{number}").content_type is None


@pytest.mark.parametrize("url", ["ftp://x/y", "/v1/stream/x", ""])
def test_a_url_that_can_not_be_asked(url: str) -> None:
    """Is refused when the handle is made."""
    with pytest.raises(LocalProtocolError, match="URL"):
        AsyncDurableStream(url)

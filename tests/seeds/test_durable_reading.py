"""The reading examples of the Durable Streams client's document, as they stand there, against a running server.

Blocks 3, 4, 6 to 14 and 20 to 23, and what the document says between them.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, Literal

import attrs
import pytest
import trio

from tests.durable.client.sites import Site, serve_in_thread
from trio_streams.durable import (
    AsyncStreamResponse,
    DurableConfig,
    DurableStreamError,
    Endpoint,
    FetchError,
    LiveMode,
    RetentionGoneError,
    SeqConflictError,
    StreamConsumedError,
    StreamEvent,
    StreamNotFoundError,
    StreamResponse,
    astream,
    require_bearer,
    stream,
)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server for all examples, each with streams of its own."""
    with serve_in_thread(DurableConfig(long_poll_timeout=1.0, max_read_bytes=1_000)) as found:
        yield found


def closed(site: Site, path: str, *bodies: bytes, content_type: str = "application/json") -> str:
    """A closed stream of these appends, since the document's loops end where a stream does."""
    url = site.put(path, content_type)
    for body in bodies:
        site.post(path, body, content_type)
    site.close(path)
    return url


def test_block_3_reading(site: Site) -> None:
    """`stream` gives chunks of bytes by default, flattened items by `iter_json`, and everything at once by `read_json`."""
    url = closed(site, "block-3", b'[{"id":1},{"id":2}]', b'{"id":3}')
    with stream(url) as res:
        assert isinstance(res, StreamResponse)
        assert b"".join(res) == b'[{"id":1},{"id":2},{"id":3}]'
    with stream(url) as res:
        assert list(res.iter_json()) == [{"id": 1}, {"id": 2}, {"id": 3}]
    with stream(url, live=False) as res:
        items = res.read_json()
    assert len(items) == 3


async def test_block_4_async_reading(site: Site) -> None:
    """`async with astream(url)` needs no await; iteration gives bytes, and `iter_json` items."""
    url = await trio.to_thread.run_sync(closed, site, "block-4", b"[1,2]", b"3")
    async with astream(url) as res:
        assert isinstance(res, AsyncStreamResponse)
        assert b"".join([chunk async for chunk in res]) == b"[1,2,3]"
    async with astream(url) as res:
        assert [item async for item in res.iter_json()] == [1, 2, 3]


def test_block_6_stream_options(site: Site) -> None:
    """A stream is resumed from an offset; headers and parameters may be texts or callables."""
    url = site.put("block-6", body=b"[1]")
    with stream(url, live=False) as res:
        assert res.read_json() == [1]
        offset = res.offset
    site.post("block-6", b"2")
    res = stream(
        url=url,
        offset=offset,
        live="auto",
        headers={"Authorization": "Bearer token", "X-Count": lambda: "1"},
        params={"tenant": "my-tenant", "region": lambda: None},
    )
    assert res.read_json() == [2]
    assert res.url == url


async def test_block_7_astream_awaited(site: Site) -> None:
    """`astream` can be awaited; the response owns no task, and is closed by whoever has it."""
    url = await trio.to_thread.run_sync(closed, site, "block-7", b"[1,2]")
    before = trio.lowlevel.current_statistics().tasks_living
    res = await astream(url=url, offset="-1", live="auto")
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert await anext(res.iter_json()) == 1
    await res.aclose()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/octet-stream"])
@pytest.mark.parametrize("live", [False, "auto", "long-poll", "sse", True])
async def test_live_modes(site: Site, live: LiveMode, content_type: str) -> None:
    """`read_…` stops where the stream is up to date; iteration goes on there, unless `live` is False, as the mode says."""
    path = f"live-{live}-{content_type.rpartition('/')[2]}"
    url = await trio.to_thread.run_sync(site.put, path, content_type, b"1")
    async with astream(url, live=live) as res:
        first = await res.read_bytes()
        assert res.up_to_date
        assert not res.closed
    assert first in {b"1", b"[1]"}
    found = b""
    async with astream(url, live=live) as res, trio.open_nursery() as nursery:
        async for chunk in res:
            if not found and live is not False:
                nursery.start_soon(trio.to_thread.run_sync, lambda: site.post(path, b"2", content_type))
            if found:
                await trio.to_thread.run_sync(site.close, path)
            found += chunk
        by_events = live == "sse" or (live is True and content_type != "application/octet-stream")
        assert ("text/event-stream" in res.headers.get("content-type", "")) is by_events
    if live is False:
        assert found == first
        assert not res.closed
    else:
        assert found in {b"12", b"[1][2]"}
        assert res.closed


def test_a_response_is_consumed_once(site: Site) -> None:
    """A second consumption, in the same or another way, raises `StreamConsumedError` and names both."""
    url = closed(site, "once", b"[1]")
    with stream(url) as res:
        assert list(res.iter_json()) == [1]
        with pytest.raises(StreamConsumedError, match=r"read_json.*iter_json"):
            res.read_json()
        with pytest.raises(StreamConsumedError):
            res.iter_json()
        with pytest.raises(StreamConsumedError) as caught:
            iter(res)
    assert caught.value.code == "ALREADY_CONSUMED"


async def test_block_8_context_managers(site: Site) -> None:
    """Both forms are context managers, which close the response also where it was not read to its end."""
    url = await trio.to_thread.run_sync(closed, site, "block-8", b"[1,2]")

    def blocking() -> list[bytes]:
        with stream(url) as res:
            return list(res)

    assert await trio.to_thread.run_sync(blocking) == [b"[1,2]"]
    async with astream(url) as res:
        chunks = aiter(res)
    with pytest.raises(trio.ClosedResourceError):
        await anext(chunks)


def test_block_9_raw_bytes(site: Site) -> None:
    """Chunks are bytes; together they are the stream, however many answers it takes."""
    data = bytes(range(256)) * 20
    parts = [data[at : at + 900] for at in range(0, len(data), 900)]
    url = closed(site, "block-9", *parts, content_type="application/octet-stream")
    with stream(url) as res:
        chunks = list(res)
    assert len(chunks) > 1
    assert sum(len(chunk) for chunk in chunks) == len(data)
    assert b"".join(chunks) == data


async def test_raw_bytes_in_sse_mode(site: Site) -> None:
    """Bytes are iterated over in SSE mode, too: data events of binary streams are base64, which is decoded."""
    url = await trio.to_thread.run_sync(site.put, "sse-bytes", "application/octet-stream", b"\0\xff")

    def finish() -> None:
        site.post("sse-bytes", b"\r\n\x80", "application/octet-stream")
        site.close("sse-bytes")

    async with astream(url, live="sse") as res:
        chunks = aiter(res)
        assert await anext(chunks) == b"\0\xff"
        await trio.to_thread.run_sync(finish)
        assert b"".join([chunk async for chunk in chunks]) == b"\r\n\x80"
        assert res.headers["stream-sse-data-encoding"] == "base64"


def test_block_10_text(site: Site) -> None:
    """Text comes decoded; a character that two appends share comes whole."""
    euro = "€".encode()
    url = closed(site, "block-10", b"a" + euro[:1], euro[1:] + b"b" * 2_000, content_type="text/plain")
    with stream(url) as res:
        texts = list(res.iter_text(encoding="utf-8"))
    assert "".join(texts) == "a€" + "b" * 2_000
    assert stream(url).read_text(encoding="latin-1").startswith("aâ")


@attrs.frozen
class MyModel:
    """What the document decodes to."""

    number: int

    @classmethod
    def from_dict(cls, value: dict[str, int]) -> MyModel:
        """Make one of JSON."""
        return cls(value["n"])


def test_block_11_json(site: Site) -> None:
    """Items are flattened from arrays by one level; `decode` makes something of each."""
    url = closed(site, "block-11", b'[{"n":1},{"n":2}]', b'[[{"n":3}]]')
    with stream(url) as res:
        items = list(res.iter_json())
    assert items == [{"n": 1}, {"n": 2}, [{"n": 3}]]
    url = closed(site, "block-11b", b'[{"n":1},{"n":2}]')
    with stream(url) as res:
        assert list(res.iter_json(decode=MyModel.from_dict)) == [MyModel(1), MyModel(2)]


def test_block_12_json_batches(site: Site) -> None:
    """Batches are the arrays that the server answered with."""
    url = site.put("block-12", body=b"[1,2]")
    found = []
    with stream(url) as res:
        for batch in res.iter_json_batches():
            found.append(batch)
            if len(found) == 1:
                site.post("block-12", b"[3,4,5]")
                site.close("block-12")
    assert found == [[1, 2], [3, 4, 5]]


def test_block_13_events(site: Site) -> None:
    """Events carry data and where it ends; each offset is one to go on from."""
    bodies = [b"[" + b'"' + bytes([letter]) * 600 + b'"]' for letter in b"abc"]
    url = closed(site, "block-13", *bodies)
    events: list[StreamEvent[Any]] = []
    with stream(url) as res:
        for event in res.iter_events(mode="json"):
            assert isinstance(event, StreamEvent)
            events.append(event)
            assert event.next_offset == res.offset
    assert [value[0] for event in events for value in event.data] == ["a", "b", "c"]
    assert [event.up_to_date for event in events][-1]
    assert not events[0].up_to_date
    with stream(url, offset=events[0].next_offset) as res:
        assert [event.data for event in res.iter_events()] == [event.data for event in events[1:]]


def test_block_14_read_all(site: Site) -> None:
    """The four `read_…` methods, each of a response of its own."""
    url = site.put("block-14", body=b'[{"n":1},2]')
    with stream(url, live=False) as res:
        data = res.read_bytes()
    with stream(url, live=False) as res:
        text = res.read_text()
    with stream(url, live=False) as res:
        items = res.read_json()
    with stream(url, live=False) as res:
        batches = res.read_json_batches()
    assert (data, text) == (b'[{"n":1},2]', '[{"n":1},2]')
    assert (items, batches) == ([{"n": 1}, 2], [[{"n": 1}, 2]])


async def test_async_read_all(site: Site) -> None:
    """The same on Trio, and `decode`."""
    url = await trio.to_thread.run_sync(site.put, "read-all", "application/json", b"[1,2]")
    assert await (await astream(url)).read_bytes() == b"[1,2]"
    assert await (await astream(url)).read_text() == "[1,2]"
    assert await (await astream(url)).read_json() == [1, 2]
    assert await (await astream(url)).read_json(decode=str) == ["1", "2"]
    assert await (await astream(url)).read_json_batches() == [[1, 2]]
    assert await (await astream(url)).read_json_batches(str) == [["1", "2"]]


async def test_async_iteration_methods(site: Site) -> None:
    """`iter_text`, `iter_json_batches` and `iter_events` on Trio."""
    url = await trio.to_thread.run_sync(closed, site, "iterate", b"[1,2]")
    async with astream(url) as res:
        assert "".join([text async for text in res.iter_text()]) == "[1,2]"
    async with astream(url) as res:
        assert [batch async for batch in res.iter_json_batches(decode=str)] == [["1", "2"]]
    async with astream(url) as res:
        (event,) = [event async for event in res.iter_events()]
    assert (event.data, event.up_to_date) == ([1, 2], True)


def test_block_20_errors(site: Site) -> None:
    """Each error of the document is raised where it says, with `message`, `status` and `code`."""
    url = site.put("block-20", body=b"[1]")
    with stream(url) as res:
        res.read_json()
        with pytest.raises(StreamConsumedError):
            res.read_json()
    with pytest.raises(DurableStreamError) as refused, stream(site.root + "nothing"):
        pass
    assert isinstance(refused.value, StreamNotFoundError)
    assert (refused.value.status, refused.value.code) == (404, "NOT_FOUND")
    assert "nothing" in refused.value.message
    site.put("block-20/fork", stream_forked_from="/v1/stream/block-20")
    site.delete("block-20")
    with pytest.raises(RetentionGoneError) as gone:
        stream(url).read_json()
    assert (gone.value.status, gone.value.code) == (410, "RETENTION_GONE")

    async def conflict() -> None:
        endpoint = Endpoint(site.root + "block-20/fork")
        fields = {"content-type": "application/json", "stream-seq": "b"}
        await endpoint.request("POST", "append", headers=fields, body=b"1")
        with pytest.raises(SeqConflictError) as late:
            await endpoint.request("POST", "append", headers=fields | {"stream-seq": "a"}, body=b"1")
        assert late.value.status == 409
        await endpoint.aclose()

    trio.run(conflict)
    assert issubclass(SeqConflictError, DurableStreamError)
    assert not issubclass(FetchError, DurableStreamError)


def test_block_21_on_error() -> None:
    """`on_error` refreshes a token after a 401, and is told of errors that it lets pass."""
    seen: list[Exception] = []

    def handle_error(error: Exception) -> dict[str, dict[str, str]] | None:
        seen.append(error)
        if isinstance(error, FetchError) and error.status == 401:
            return {"headers": {"Authorization": "Bearer new"}}
        return None

    with serve_in_thread(DurableConfig(authenticate=require_bearer(["new"]))) as site:
        site.put("block-21", body=b"[1]", authorization="Bearer new")
        site.post("block-21", b"", authorization="Bearer new", stream_closed="true")
        with stream(site.root + "block-21", headers={"Authorization": "Bearer old"}, on_error=handle_error) as res:
            assert list(res.iter_json()) == [1]
        with pytest.raises(StreamNotFoundError):
            stream(site.root + "nothing", headers={"Authorization": "Bearer new"}, on_error=handle_error)
    assert [type(error) for error in seen] == [FetchError, StreamNotFoundError]


def test_block_22_stream_event() -> None:
    """`StreamEvent` is frozen and slotted, with the document's fields and defaults."""
    event = StreamEvent(data=[1], next_offset="7", up_to_date=True)
    assert (event.data, event.next_offset, event.up_to_date, event.cursor) == ([1], "7", True, None)
    assert not hasattr(event, "__dict__")
    with pytest.raises(AttributeError):
        event.next_offset = "8"  # type: ignore[misc]


def test_block_23_live_mode() -> None:
    """`LiveMode` is the document's alias."""
    assert set(typing.get_args(LiveMode)) == {Literal["auto", "long-poll", "sse"], bool}

"""The published client from PyPI, `durable-streams`, blocking and on asyncio, against each server.

It knows neither closing, producers nor forks; what it knows, it has to find here.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from typing import Any, Literal

import durable_streams as peer
import httpx
import pytest

from tests.interop.durable.servers import server_url as server_url

PATIENCE = 60
ITEMS = 100
MESSAGES: list[Any] = [{"item": item, "text": f"{item} ü\u2028\r\n"} for item in range(ITEMS)]


def _fresh(server_url: str) -> str:
    return f"{server_url}/pypi-{uuid.uuid4()}"


def _refusal(call: Callable[[], object]) -> tuple[type[Exception], int | None]:
    """The class and the status of what a call raises."""
    try:
        call()
    except (peer.DurableStreamError, peer.FetchError) as error:
        return type(error), error.status
    pytest.fail("nothing was refused")


def test_text_is_written_read_and_deleted(server_url: str) -> None:
    """Text arrives whole, from the beginning and from an offset in the middle, and a deleted stream is gone."""
    url = _fresh(server_url)
    with peer.DurableStream.create(url, content_type="text/plain", ttl_seconds=60) as handle:
        handle.append("one ")
        offset = handle.append("zwölf ").next_offset
        handle.append("三", seq="1")
        assert handle.head().content_type == "text/plain"
        with handle.stream(live=False) as response:
            assert response.read_text() == "one zwölf 三"
        with peer.stream(url, offset=offset, live=False) as response:
            assert response.read_bytes() == "三".encode()
            assert response.up_to_date
        handle.delete()
    assert _refusal(lambda: peer.DurableStream.head_static(url)) == (peer.StreamNotFoundError, 404)


def test_refusals_have_their_classes(server_url: str) -> None:
    """What the server refuses, the client tells apart."""
    url = _fresh(server_url)
    with peer.DurableStream.create(url, content_type="text/plain") as handle:
        handle.append("b", seq="b")
        assert _refusal(lambda: handle.append("a", seq="a")) == (peer.SeqConflictError, 409)
        again = _refusal(lambda: peer.DurableStream.create(url, content_type="application/json"))
        assert again == (peer.StreamExistsError, 409)
        missing = _refusal(lambda: peer.stream(_fresh(server_url), live=False))
        assert missing == (peer.StreamNotFoundError, 404)
        assert _refusal(lambda: peer.stream(url, offset="a,b", live=False))[1] == 400


def test_threads_that_append_share_batches(server_url: str) -> None:
    """Appends from many threads at once are all stored, each whole."""
    url = _fresh(server_url)
    with peer.DurableStream.create(url, content_type="application/json") as handle:
        threads = [threading.Thread(target=handle.append, args=(message,)) for message in MESSAGES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    with peer.stream(url, live=False) as response:
        found: list[Any] = response.read_json()
    assert sorted(found, key=lambda message: int(message["item"])) == MESSAGES


@pytest.mark.parametrize("live", ["auto", "long-poll", "sse"])
def test_a_blocking_reader_follows(server_url: str, live: Literal["auto", "long-poll", "sse"]) -> None:
    """A reader of each live mode is given what is written while it waits."""
    url = _fresh(server_url)
    with peer.DurableStream.create(url, content_type="application/json", timeout=PATIENCE) as handle:
        handle.append(MESSAGES[0])
        found: list[Any] = []
        with peer.stream(url, offset="-1", live=live, timeout=PATIENCE) as response:
            for message in response.iter_json():
                found.append(message)
                if len(found) == 10:
                    break
                handle.append(MESSAGES[len(found)])
    assert found == MESSAGES[:10]


@pytest.mark.parametrize("live", ["auto", "long-poll", "sse"])
def test_an_asyncio_reader_follows(server_url: str, live: Literal["auto", "long-poll", "sse"]) -> None:
    """The same on asyncio, with all messages written at once."""

    async def write_and_read() -> list[Any]:
        url = _fresh(server_url)
        async with (
            await peer.AsyncDurableStream.create(url, content_type="application/json") as handle,
            peer.astream(url, offset="-1", live=live, timeout=PATIENCE) as response,
        ):
            writing = asyncio.gather(*(handle.append(message) for message in MESSAGES))
            found: list[Any] = []
            async for message in response.iter_json():
                found.append(message)
                if len(found) == ITEMS:
                    break
            await writing
            return found

    assert asyncio.run(asyncio.wait_for(write_and_read(), PATIENCE)) == MESSAGES


def test_asyncio_reads_all(server_url: str) -> None:
    """Bytes, text, values and batches are read to the tail on asyncio, and a missing stream is told apart."""

    async def write_and_read() -> list[Any]:
        url = _fresh(server_url)
        async with await peer.AsyncDurableStream.create(url, content_type="application/json") as handle:
            for message in (1, [2], "three"):
                await handle.append(message)
            async with peer.astream(url, live=False) as response:
                read = await response.read_bytes()
            async with handle.stream(live=False) as response:
                values = await response.read_json()
            async with handle.stream(offset="now", live=False) as response:
                rest = await response.read_json()
            await handle.delete()
            with pytest.raises(peer.StreamNotFoundError):
                await handle.head()
        return [read, values, rest]

    read, values, rest = asyncio.run(asyncio.wait_for(write_and_read(), PATIENCE))
    assert (read, values, rest) == (b'[1,[2],"three"]', [1, [2], "three"], [])


def test_a_reader_that_left_resumes(server_url: str) -> None:
    """A reader that went away in the middle of server-sent events resumes by its offset, and misses nothing."""
    url = _fresh(server_url)
    with httpx.Client(timeout=PATIENCE) as client, peer.DurableStream.create(url, content_type="text/plain") as handle:
        handle.append("before ")
        with peer.stream(url, offset="-1", live="sse", client=client) as response:
            event = next(iter(response.iter_events(mode="text")))
        handle.append("behind")
        with peer.stream(url, offset=event.next_offset, live=False) as response:
            assert (event.data, response.read_text()) == ("before ", "behind")

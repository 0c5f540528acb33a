"""The published client from npm, `@durable-streams/client`, against each server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.node import run_node
from tests.interop.durable.packages import installation
from tests.interop.durable.servers import server_url as server_url

ITEMS = 200


async def _run(file: str, function: str, *arguments: object) -> Any:  # noqa: ANN401 - any JSON
    return await run_node(file, function, *arguments, folder=installation(), seconds=120)


async def test_text_is_written_read_and_deleted(server_url: str) -> None:
    """Text arrives whole, from the beginning and from an offset in the middle, and a deleted stream is gone."""
    assert await _run("client.mjs", "text", server_url) == ["one zwölf 三", "三", "text/plain", True, False]


async def test_batched_messages_keep_their_order(server_url: str) -> None:
    """Appends that are made at once leave in batches, and come back as they were, in order."""
    assert await _run("client.mjs", "batches", server_url, ITEMS) == ITEMS


@pytest.mark.parametrize("live", ["long-poll", "sse", True])
async def test_a_reader_follows_to_the_end(server_url: str, live: str | bool) -> None:
    """A reader of each live mode gets every message as it comes, and then the end."""
    found, is_closed = await _run("client.mjs", "follow", server_url, live)
    wanted: list[object] = []
    for number in range(5):
        wanted += [[number, "a\r\nb"], [[number]]]  # the client wraps each batch in an array of its own
    assert found == [*wanted, "the end"]
    assert is_closed


async def test_bytes_come_by_sse(server_url: str) -> None:
    """Bytes that are no text come whole through server-sent events."""
    assert await _run("client.mjs", "binary", server_url) == 70_000


async def test_a_closed_stream_says_so(server_url: str) -> None:
    """Closing appends, is idempotent, refuses what comes later, and is told to every reader."""
    assert await _run("client.mjs", "closing", server_url) == {
        "read": "first, last",
        "isClosed": [True, True, True, True],
        "isSameEnd": True,
        "late": 409,
    }


async def test_a_fork_goes_its_own_way(server_url: str) -> None:
    """A fork has its source's beginning and its own end, and keeps both when the source is deleted."""
    expected = ["shared of the source", "shared of the fork", 410, "shared of the fork"]
    assert await _run("client.mjs", "forks", server_url) == expected


async def test_refusals_have_their_codes(server_url: str) -> None:
    """What the server refuses, the client tells apart."""
    assert await _run("client.mjs", "errors", server_url) == {
        "missing": 404,
        "appendMissing": 404,
        "otherType": 409,
        "sequence": 409,
        "offset": 400,
        "same": "text/plain",
        "isFetchError": True,
    }


@pytest.mark.parametrize("live", ["long-poll", "sse"])
async def test_readers_may_leave(server_url: str, live: str) -> None:
    """A reader that goes away while it waits leaves the stream as it was for others."""
    assert await _run("client.mjs", "aborts", server_url, live) == "begun and ended"


async def test_a_producer_keeps_many_batches_in_flight(server_url: str) -> None:
    """Batches in flight at once are stored in the producer's order, and its last message closes the stream."""
    assert await _run("producer.mjs", "pipelined", server_url, ITEMS) == [True, True]


async def test_a_producer_is_fenced(server_url: str) -> None:
    """A higher epoch fences the lower one, which is told the current epoch and can claim the next."""
    text, is_stale, epoch, claimed = await _run("producer.mjs", "restarts", server_url)
    assert (text, is_stale, epoch, claimed) == ("first restarted claimed ", True, 1, 2)


async def test_lost_answers_double_nothing(server_url: str) -> None:
    """A batch that is sent again because its answer was lost is stored once."""
    assert await _run("producer.mjs", "lossy", server_url, ITEMS) is True


async def test_producers_that_are_killed_lose_nothing(server_url: str) -> None:
    """Producers that end before they hear of their batch have stored it, and their followers go on behind it."""
    assert await _run("producer.mjs", "killed", server_url, 5) == "0;1;2;3;4;"

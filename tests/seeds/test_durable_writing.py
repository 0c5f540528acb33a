"""The writing examples of the Durable Streams client's document, as they stand there, against a running server.

Blocks 1, 2, 5, 15 to 19 and 24 to 30, and what the document says between them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.durable.client.sites import Site, serve_in_thread
from trio_streams.durable import (
    AppendResult,
    AsyncDurableStream,
    DurableConfig,
    DurableStream,
    HeadResult,
    SeqConflictError,
    StreamNotFoundError,
    headers,
)

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server for all examples, each with streams of its own."""
    with serve_in_thread(DurableConfig(long_poll_timeout=1.0)) as found:
        yield found


def items_of(handle: DurableStream) -> list[object]:
    """What a stream holds."""
    with handle.stream(live=False) as res:
        return res.read_json()


def test_blocks_1_and_2_a_plain_install_has_the_client() -> None:
    """What the client imports are dependencies, not extras: `pip install trio-streams` brings it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=~!\[ ]", requirement)[0].replace("-", "_") for requirement in project["dependencies"]}
    program = (
        "import sys, trio_streams.durable;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    imported = set(found.stdout.split())
    assert {"httpcore2", "trio"} <= imported
    for extra, requirements in project.get("optional-dependencies", {}).items():
        names = {re.split(r"[<>=~!\[ ]", requirement)[0].replace("-", "_") for requirement in requirements}
        assert not (names - needed - {"trio_streams"}) & imported, extra


def test_block_5_writing(site: Site) -> None:
    """A stream is created, appended to, and read back until it is up to date; the document's loop ends where it closes."""
    handle = DurableStream.create(site.root + "block-5", content_type="application/json", ttl_seconds=3600)
    handle.append({"message": "hello"})
    handle.append({"message": "world"})
    handle.close()
    with handle.stream() as res:
        assert list(res.iter_json()) == [{"message": "hello"}, {"message": "world"}]
    assert handle.head().ttl_seconds == 3600
    handle.close_connections()


def test_block_15_creating_handles(site: Site) -> None:
    """Created, connected to what is there, or just made, which asks nobody."""
    url = site.root + "block-15"
    fields = {"Authorization": "Bearer token"}
    with DurableStream(url, headers=fields) as handle:
        assert handle.content_type is None
        with pytest.raises(StreamNotFoundError):
            handle.head()
    with pytest.raises(StreamNotFoundError):
        DurableStream.connect(url=url, headers=fields)
    with DurableStream.create(url=url, content_type="application/json", ttl_seconds=3600, headers=fields) as handle:
        assert handle.content_type == "application/json"
    with DurableStream.connect(url=url, headers=fields) as handle:
        assert handle.content_type == "application/json"


def test_block_16_instance_methods(site: Site) -> None:
    """Metadata, appends with and without a sequence number, reading from an offset, deletion."""
    with DurableStream.create(site.root + "block-16", content_type="application/json") as handle:
        result = handle.head()
        assert result.content_type == "application/json"
        assert result.offset is not None
        first = handle.append({"event": "click"})
        handle.append({"event": "scroll"}, seq="seq-001")
        with pytest.raises(SeqConflictError):
            handle.append({"event": "late"}, seq="seq-000")
        handle.close()
        with handle.stream(offset=first.next_offset) as res:
            assert list(res.iter_json()) == [{"event": "scroll"}]
        handle.delete()
        with pytest.raises(StreamNotFoundError):
            handle.head()


async def test_block_17_async_handle(site: Site) -> None:
    """The same with `await`."""
    handle = await AsyncDurableStream.create(url=site.root + "block-17", content_type="application/json")
    await handle.append({"event": "click"})
    await handle.close()
    async with handle.stream() as res:
        assert [item async for item in res.iter_json()] == [{"event": "click"}]
    async with await AsyncDurableStream.connect(handle.url) as other:
        assert (await other.head()).is_closed
        await other.delete()
    await handle.aclose()


async def test_block_18_batching(site: Site) -> None:
    """Appends that are made while a request is under way leave in one: they end at one offset."""
    results: dict[str, str] = {}
    async with await AsyncDurableStream.create(site.root + "block-18", content_type="application/json") as handle:

        async def append(event: str) -> None:
            results[event] = (await handle.append({"event": event})).next_offset

        async with trio.open_nursery() as nursery:
            for event in "abc":
                nursery.start_soon(append, event)
        async with handle.stream(live=False) as res:
            assert {item["event"] for item in await res.read_json()} == {"a", "b", "c"}
    assert len(set(results.values())) == 2


async def test_block_19_without_batching(site: Site) -> None:
    """Each append is a request of its own, and ends at its own offset."""
    url = site.root + "block-19"
    results: set[str] = set()
    async with await AsyncDurableStream.create(url, content_type="application/json", batching=False) as handle:

        async def append(number: int) -> None:
            results.add((await handle.append(number)).next_offset)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(append, number)
                await wait_all_tasks_blocked()
    assert len(results) == 3
    with DurableStream(url, batching=False) as blocking:
        await trio.to_thread.run_sync(blocking.append, 3)
        assert sorted(map(str, await trio.to_thread.run_sync(items_of, blocking))) == ["0", "1", "2", "3"]


def test_block_24_head_result() -> None:
    """Frozen, with slots; `exists` is always True, and all else may be unknown."""
    result = HeadResult()
    assert (result.exists, result.content_type, result.offset, result.etag, result.cache_control) == (
        True,
        None,
        None,
        None,
        None,
    )
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.offset = "1"  # type: ignore[misc]
    assert not hasattr(result, "__dict__")


def test_block_25_append_result() -> None:
    """Frozen, with slots, and the offset behind the append."""
    result = AppendResult("1")
    assert result == AppendResult(next_offset="1")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.next_offset = "2"  # type: ignore[misc]
    assert not hasattr(result, "__dict__")


def test_blocks_26_to_30_development_commands() -> None:
    """One line sets up; tests, coverage, lint, types and the wheel are sessions of nox."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python3 -m venv v && v/bin/pip install nox && v/bin/nox" in readme
    source = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)\(", source, re.MULTILINE))
    assert {"tests", "coverage", "lint", "typing", "wheel"} <= sessions


def test_protocol_headers() -> None:
    """By the names that the document gives them."""
    assert (headers.STREAM_NEXT_OFFSET, headers.STREAM_CURSOR) == ("Stream-Next-Offset", "Stream-Cursor")
    assert (headers.STREAM_UP_TO_DATE, headers.STREAM_SEQ) == ("Stream-Up-To-Date", "Stream-Seq")


def test_licence() -> None:
    """MIT, and in the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("MIT", ["LICENSE"])
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")

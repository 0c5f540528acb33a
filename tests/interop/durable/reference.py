"""The published server of Durable Streams, `@durable-streams/server` from npm, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.interop.durable.packages import script
from tests.interop.durable.process import start_process

LONG_POLL_MS: Final = 500


@contextmanager
def start_reference(folder: Path | None = None, *, long_poll_ms: int = LONG_POLL_MS) -> Iterator[str]:
    """The URL of a running reference server; it is stopped behind the block.

    Where Node or the packages cannot be had the test is skipped with the reason, except in CI: there it fails.

    Args:
      folder: where it keeps its files; None has it keep everything in memory.
      long_poll_ms: how long it lets a long-poll wait, in milliseconds.
    """
    line = script("reference.mjs", str(long_poll_ms), *([] if folder is None else [str(folder)]))
    with start_process(line) as server:
        yield server.url


@pytest.fixture(scope="module", params=["memory", "file"])
def reference_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The reference server, keeping its streams in memory, then in files; one for a module's tests."""
    folder = tmp_path_factory.mktemp("reference") if request.param == "file" else None
    with start_reference(folder) as url:
        yield url


@pytest.fixture(scope="module")
def reference_memory_url() -> Iterator[str]:
    """The reference server that keeps its streams in memory; one for a module's tests."""
    with start_reference() as url:
        yield url

"""The servers that peers meet: ours on either host with either store, and the published one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.interop.durable.process import ServerProcess, start_process
from tests.interop.durable.reference import start_reference

Kind: TypeAlias = tuple[str, str]

OURS: Final[tuple[Kind, ...]] = (("lean", "memory"), ("lean", "disk"), ("hypercorn", "memory"), ("hypercorn", "disk"))
"""Hosts and stores."""
PREFIX: Final = "/v1/stream"
LONG_POLL_MS: Final = 1_000


@contextmanager
def start_ours(kind: Kind, folder: Path, *, long_poll_ms: int = LONG_POLL_MS) -> Iterator[ServerProcess]:
    """Our server in a process of its own; it is stopped behind the block.

    Args:
      kind: host and store.
      folder: where the disk's streams are; anything for memory.
      long_poll_ms: how long it lets a long-poll wait, in milliseconds.
    """
    host, store = kind
    place = "memory" if store == "memory" else str(folder)
    with start_process(
        [sys.executable, "-m", "tests.interop.durable.child", host, place, str(long_poll_ms / 1000)]
    ) as server:
        yield server


@pytest.fixture(scope="module", params=[("reference", "memory"), *OURS], ids="-".join)
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Each server in turn, for a module's tests: the URL below which its streams are.

    The published server is there to show that the tests ask for what the protocol gives.
    """
    kind: Kind = request.param
    if kind[0] == "reference":
        with start_reference() as url:
            yield url + PREFIX
    else:
        with start_ours(kind, tmp_path_factory.mktemp("streams")) as server:
            yield server.url + PREFIX

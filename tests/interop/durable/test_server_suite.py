"""The published server suite against ours: every core test, on either host, with either store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.interop.durable.server_suite import Report, run_server_suite
from tests.interop.durable.servers import LONG_POLL_MS, OURS, Kind, start_ours

Runs: TypeAlias = dict[Kind, Future[Report]]

AT_ONCE: Final = 2
"""Runs at a time: each waits for streams to expire most of the time."""


def _run(kind: Kind, folder: Path) -> Report:
    with start_ours(kind, folder / "streams") as server:
        return run_server_suite(server.url, folder / "report.json", long_poll_ms=LONG_POLL_MS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The suite's runs, begun with the first test that asks for one."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {kind: pool.submit(_run, kind, tmp_path_factory.mktemp("-".join(kind))) for kind in OURS}


@pytest.mark.parametrize("kind", OURS, ids="-".join)
def test_the_server_suite(runs: Runs, kind: Kind) -> None:
    """All core tests pass; those of subscriptions, which we do not serve, are left out by name, and no others."""
    report = runs[kind].result()
    report.check()
    print(f"{len(report.passed)} of the server suite's core tests passed on {'-'.join(kind)}")  # noqa: T201 - for the session

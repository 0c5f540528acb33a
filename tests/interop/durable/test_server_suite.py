"""The published server suite against ours: every core test, on either host, with either store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.durable.server_suite import run_server_suite
from tests.interop.durable.servers import LONG_POLL_MS, OURS, Kind, start_ours


@pytest.mark.parametrize("kind", OURS, ids="-".join)
def test_the_server_suite(kind: Kind, tmp_path: Path) -> None:
    """All core tests pass; those of subscriptions, which we do not serve, are left out by name, and no others."""
    with start_ours(kind, tmp_path / "streams") as server:
        report = run_server_suite(server.url, tmp_path / "report.json", long_poll_ms=LONG_POLL_MS)
    report.check()
    print(f"{len(report.passed)} of the server suite's core tests passed on {'-'.join(kind)}")  # noqa: T201 - for the session

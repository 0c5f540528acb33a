"""The published server suite, run by vitest against a URL and judged from its JSON report."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from tests.browser.node import find_node
from tests.interop.durable.packages import installation

CORE: Final = 332
"""How many tests the suite has beside the subscriptions'."""

SUBSCRIPTIONS: Final = frozenset(
    f"Reserved subscription APIs {name}"
    for name in (
        "creates and idempotently re-confirms a webhook subscription",
        "rejects unsafe webhook URLs",
        "webhook synchronous done auto-acks the wake snapshot",
        "webhook callback acks and fences stale wake generations",
        "adds and removes explicit subscription streams",
        "pull-wake claim, ack, and release use subscription-scoped leases",
    )
)
"""The tests of an extension that is not served; they are left out by name, and nothing else is."""

TEST_TIMEOUT_MS: Final = 60_000
TIMEOUT: Final = 400
"""Seconds for a whole run; it takes about 25, most of it waiting for streams to expire."""


@attrs.frozen
class Report:
    """What a run found.

    Attributes:
      passed: full names of the tests that passed.
      skipped: those of the tests that were not run.
      failed: those of all others, each with the beginning of what went wrong.
    """

    passed: Sequence[str]
    skipped: frozenset[str]
    failed: dict[str, str]

    @classmethod
    def read(cls, report: dict[str, Any]) -> Report:
        tests = [test for file in report["testResults"] for test in file["assertionResults"]]
        by_status = {status: [test for test in tests if test["status"] == status] for status in ("passed", "skipped")}
        other = [test for test in tests if test["status"] not in by_status]
        return cls(
            passed=[test["fullName"] for test in by_status["passed"]],
            skipped=frozenset(test["fullName"] for test in by_status["skipped"]),
            failed={test["fullName"]: _first_line(test) for test in other},
        )

    def check(self) -> None:
        """Fail unless every core test passed, no other was left out than those that we name, and none is new or gone."""
        words = [f"{name}: {why}" for name, why in self.failed.items()]
        assert not words, f"{len(words)} of {CORE} failed\n" + "\n".join(words)
        assert self.skipped == SUBSCRIPTIONS, sorted(self.skipped ^ SUBSCRIPTIONS)
        assert len(self.passed) == CORE, f"the suite has {len(self.passed)} core tests, and had {CORE}"


def _first_line(test: dict[str, Any]) -> str:
    """What went wrong, without the stack of a runner that is not ours."""
    return str(test["failureMessages"][0]).partition("\n")[0][:300] if test["failureMessages"] else str(test["status"])


def run_server_suite(url: str, report: Path, *, long_poll_ms: int) -> Report:
    """Run the suite against a server.

    Args:
      url: of the server, without a path.
      report: where vitest writes what it found.
      long_poll_ms: the server's long-poll timeout in milliseconds; at most 2,000, else tests time out.
    """
    folder = installation()
    line = [find_node(), str(folder / "node_modules" / "vitest" / "vitest.mjs"), "run"]
    # A slow machine is no fault of the server's: vitest would give each test five seconds.
    line += ["--reporter=json", f"--outputFile={report}", "--cache=false", f"--testTimeout={TEST_TIMEOUT_MS}"]
    line += ["server_suite.test.mjs"]
    told = {"SERVER_URL": url, "LONG_POLL_MS": str(long_poll_ms), "NO_COLOR": "1"}
    done = subprocess.run(
        line, cwd=folder, env=os.environ | told, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert report.exists(), done.stdout + done.stderr
    return Report.read(json.loads(report.read_text(encoding="utf-8")))

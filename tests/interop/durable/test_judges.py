"""The judges themselves: what they would let pass, and whether what they need can be had."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from tests.interop.durable.packages import installation
from tests.interop.durable.reference import reference_url as reference_url
from tests.interop.durable.server_suite import CORE, SUBSCRIPTIONS, Report


def _report(passed: int, *, skipped: frozenset[str] = SUBSCRIPTIONS, failed: int = 0) -> Report:
    tests: list[dict[str, Any]] = [{"fullName": f"passes {n}", "status": "passed"} for n in range(passed)]
    tests += [{"fullName": name, "status": "skipped"} for name in skipped]
    tests += [{"fullName": f"fails {n}", "status": "failed", "failureMessages": ["no"]} for n in range(failed)]
    return Report.read({"testResults": [{"assertionResults": tests}]})


def test_a_whole_report_is_accepted() -> None:
    """Every core test passed, and the subscriptions' were left out."""
    _report(CORE).check()


@pytest.mark.parametrize(
    "report",
    [
        _report(CORE - 1),
        _report(CORE + 1),
        _report(CORE - 1, failed=1),
        _report(CORE, failed=1),
        _report(CORE, skipped=frozenset()),
        _report(CORE, skipped=SUBSCRIPTIONS | {"another one"}),
    ],
    ids=["one gone", "one new", "one fails", "a new one fails", "none skipped", "one more skipped"],
)
def test_a_report_that_is_not_whole_is_refused(report: Report) -> None:
    """A test that fails, is new, gone, or left out without a name of ours, is an error."""
    with pytest.raises(AssertionError):
        report.check()


def test_the_packages_are_installed_where_nothing_is_checked_in() -> None:
    """The packages are below `.nox`, and with them our scripts, which find them there."""
    folder = installation()
    assert folder.parent.name == ".nox"
    assert (folder / "node_modules" / "@durable-streams" / "server").is_dir()
    assert (folder / "reference.mjs").is_file()


def test_the_reference_server_keeps_what_it_is_given(reference_url: str) -> None:
    """The published server starts in either mode, and answers with what was written to it."""
    stream = f"{reference_url}/a-stream"
    with urllib.request.urlopen(
        urllib.request.Request(stream, b"hello", {"Content-Type": "text/plain"}, method="PUT")
    ) as answer:
        assert answer.status == 201
    with urllib.request.urlopen(f"{stream}?offset=-1") as answer:
        assert answer.read() == b"hello"


def test_an_installation_leaves_no_draft() -> None:
    """Nothing of an installation is left but its folder."""
    drafts = [path for path in installation().parent.glob("durable-*") if path.suffix]
    assert drafts == []

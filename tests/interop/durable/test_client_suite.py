"""Our client in both its forms against the cases of the client suite, ours and the published ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.interop.durable.client_cases import OWN, PUBLISHED_VARIABLE, load_cases, published_suite
from tests.interop.durable.client_matrix import fault_cases, matrix_cases
from tests.interop.durable.client_suite import run_client_suite
from tests.interop.durable.packages import ROOT, installation, script
from tests.interop.durable.reference import start_reference
from tests.interop.durable.servers import PREFIX, Kind, start_ours

ADAPTER: Final = [sys.executable, "-m", "tests.conformance.durable_client_adapter"]
FORMS: Final = {"trio": ADAPTER, "blocking": [*ADAPTER, "--blocking"]}
FOR_ANY: Final = [*load_cases(OWN / "any"), *matrix_cases()]
FOR_REFERENCE: Final = [*load_cases(OWN / "reference"), *fault_cases()]
PAIRS: Final[list[tuple[str, Kind]]] = [
    ("trio", ("lean", "memory")),
    ("trio", ("hypercorn", "disk")),
    ("blocking", ("lean", "disk")),
]
"""Each form, host and store once at least; a run takes half a minute."""
CASES: Final = 269
"""How many the published suite has."""
UNMET: Final = {
    # The suite's offsets are not of the form that its own server takes: it answers 400.
    "consumer-errors/read-future-offset",
    "consumer-offset/offset-zero-start",
    # It appends nothing and expects the server to take it, which refuses.
    "consumer-sse-base64/sse-base64-empty-payload",
    # It appends nothing and expects the server's 400; our client does not ask.
    "producer-append/append-empty",
}
"""The published cases whose data or answers are not as expected, looked at strictly, and why."""

RUN_TIMEOUT: Final = 400
LONG_POLL_MS: Final = 300
"""Short, for reads at the tail wait for it."""


@pytest.mark.parametrize("form", FORMS)
async def test_our_cases_on_the_published_server(form: str) -> None:
    """Every case of ours is met in full by the published server, its faults included."""
    with start_reference(long_poll_ms=LONG_POLL_MS) as url:
        outcome = await run_client_suite(FORMS[form], url, [*FOR_ANY, *FOR_REFERENCE])
    assert (outcome.failed, outcome.lacking) == ({}, {})
    assert len(outcome.passed) == len(FOR_ANY) + len(FOR_REFERENCE) > 250
    print(f"{len(outcome.passed)} cases of ours passed: {form} on the published server")  # noqa: T201 - for the session


@pytest.mark.parametrize(("form", "kind"), PAIRS, ids=str)
async def test_our_cases_on_our_server(form: str, kind: Kind, tmp_path: Path) -> None:
    """Every case of ours is met in full by each of our servers."""
    with start_ours(kind, tmp_path, long_poll_ms=LONG_POLL_MS) as server:
        outcome = await run_client_suite(FORMS[form], server.url + PREFIX, FOR_ANY)
    assert (outcome.failed, outcome.lacking) == ({}, {})
    assert len(outcome.passed) == len(FOR_ANY) > 200
    print(f"{len(outcome.passed)} cases of ours passed: {form} on {'-'.join(kind)}")  # noqa: T201 - for the session


@pytest.fixture
def suite() -> Path:
    """The published client suite; it is in no package registry."""
    found = published_suite()
    if found is None:
        pytest.skip(f"needs the client suite, which is in no registry: set {PUBLISHED_VARIABLE} to a checkout of it")
    return found


@pytest.mark.parametrize("form", FORMS)
async def test_the_published_cases_strictly(form: str, suite: Path) -> None:
    """Of the published cases all are met but those named, where no error is allowed that a case does not expect."""
    with start_reference() as url:
        outcome = await run_client_suite(FORMS[form], url, load_cases(suite / "test-cases"))
    assert outcome.lacking == {}
    assert set(outcome.failed) == UNMET, outcome.failed
    assert len(outcome.passed) == CASES - len(UNMET)
    print(f"{len(outcome.passed)} of {CASES} published cases passed strictly: {form}")  # noqa: T201 - for the session


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder from which Node finds the packages."""
    folder = installation() / tmp_path.name
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("form", FORMS)
def test_the_published_runner(form: str, suite: Path, scratch: Path) -> None:
    """The published runner, which looks at no data where the client reports an error, says the same or better."""
    line = script("client_suite.mjs", str(suite), str(scratch), *FORMS[form])
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    failed = {f"{found['suite']}/{found['test']}": found["error"] for found in results if not found["passed"]}
    skipped = [found["test"] for found in results if found.get("skipReason", "").startswith("missing")]
    assert set(failed) <= UNMET, failed
    assert (len(results), skipped) == (CASES, [])

"""The lean host beside a server that we did not write: the same bytes, and the same answers.

Where they differ, ours is what RFC 9110 and RFC 9112 ask for, and the case says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.conformance.http.others import OTHERS, Answer, Outcome, put, running, tell
from tests.conformance.http.raw_cases import CASES, Case
from trio_streams.transports.http import serve_lean


def _case(case: Case) -> object:
    return pytest.param(case, id=case.name)


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    with running(OTHERS[0]) as first, running(OTHERS[1]) as second:
        yield {OTHERS[0]: first, OTHERS[1]: second}


async def _ask_ours(case: Case) -> Outcome:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_lean, tell))
        outcome = await put(urlsplit(url).port or 0, case)
        nursery.cancel_scope.cancel()
    return outcome


@pytest.mark.parametrize("case", [_case(case) for case in CASES])
async def test_answers_like_others(case: Case, ports: dict[str, int]) -> None:
    """The same answers by status class, bodies as seen, framing and end; or what the RFCs ask for, where they differ."""
    ours = await _ask_ours(case)
    if case.ours:
        assert str(ours) == case.ours
    for name, port in ports.items():
        theirs = await put(port, case)
        assert case.ours or ours.agreed == theirs.agreed, f"ours {ours}, {name} {theirs}"


async def test_absolute_targets_are_paths_to_the_application() -> None:
    """Where others hand on the whole URI, ours hands on its path, and an empty one is `/`."""
    seen = [(await _ask_ours(case)).answers[0].seen for case in CASES if case.name.startswith("absolute form")][:3]
    assert seen == ['["GET", "/a", "b", ""]', '["GET", "/", "", ""]', '["GET", "/a", "", ""]']


async def test_an_answer_to_http_1_0_is_never_chunked() -> None:
    """It ends with its connection, whatever others do."""
    (case,) = (case for case in CASES if case.name == "HTTP/1.0 and a streamed answer")
    assert (await _ask_ours(case)).answers == (Answer(200, '["GET", "/stream", "", ""]', "close"),)


async def test_100_is_sent_only_where_somebody_waits_for_it() -> None:
    """Never to HTTP/1.0, and not where there is no body."""
    cases = [case for case in CASES if "100-continue" in case.name]
    interim = {case.name: (await _ask_ours(case)).interim for case in cases}
    assert interim == {case.name: int(bool(case.rest)) for case in cases}
    assert sorted(interim.values()) == [0, 0, 1, 1]


def test_differences_have_reasons() -> None:
    """Each names the section that decides, and no case stands twice in the table."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert [case.name for case in CASES if bool(case.ours) != ("RFC" in case.why)] == []

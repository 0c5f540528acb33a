"""Runs cases of the client suite against an adapter and a server, strictly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import trio

from tests.interop.durable.adapter_process import AdapterProcess, Message, start_adapter
from tests.interop.durable.client_cases import Case, Operation
from tests.interop.durable.client_expectations import Unmet, check_answer
from tests.interop.durable.client_steps import Steps


@attrs.define
class Outcome:
    """What became of a suite's cases, by their names.

    Attributes:
      passed: of the cases whose every expectation was met.
      lacking: of those that were not run, each with the features that the adapter does not declare.
      failed: of the others, each with what went wrong first.
    """

    passed: list[str] = attrs.Factory(list)
    lacking: dict[str, list[str]] = attrs.Factory(dict)
    failed: dict[str, str] = attrs.Factory(dict)


async def run_client_suite(command: Sequence[str], server_url: str, cases: Iterable[Case]) -> Outcome:
    """Run cases one after another, all with one adapter.

    Args:
      command: what starts the adapter.
      server_url: of the server that it is told.
      cases: in the order in which they are run.
    """
    outcome = Outcome()
    async with start_adapter(command, server_url) as (adapter, features):
        for case in cases:
            lacking = sorted(feature for feature in case.requires if not features.get(feature))
            if lacking:
                outcome.lacking[case.name] = lacking
                continue
            wrong = await _run_case(case, adapter, server_url)
            if wrong is None:
                outcome.passed.append(case.name)
            else:
                outcome.failed[case.name] = wrong
    return outcome


async def _run_case(case: Case, adapter: AdapterProcess, server_url: str) -> str | None:
    """What went wrong first; None where all is as expected."""
    wrong = None
    async with trio.open_nursery() as nursery:
        steps = Steps(adapter, server_url, nursery)
        try:
            for operation in [*case.setup, *case.operations]:
                await _run_operation(steps, operation)
        except Unmet as unmet:
            wrong = str(unmet)
        for operation in case.cleanup:
            await steps.run(operation)
    return wrong


async def _run_operation(steps: Steps, operation: Operation) -> None:
    answer = await steps.run(operation)
    if answer is None:
        return
    expected = operation.get("expect") or {}
    check_answer(answer, expected)
    _keep(steps, answer, expected)


def _keep(steps: Steps, answer: Message, expected: dict[str, str]) -> None:
    if "storeOffsetAs" in expected:
        steps.variables[expected["storeOffsetAs"]] = answer["offset"]
    if "storeDataAs" in expected:
        steps.variables[expected["storeDataAs"]] = "".join(chunk["data"] for chunk in answer["chunks"])
    if "storeAs" in expected:
        steps.variables[expected["storeAs"]] = answer

"""What peers do is the same in the JSON dialect, where it has the thing: the tests of our own one, run again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

import pytest
from trio.testing import MockClock

from tests.peer import test_calls, test_methods, test_order, test_proxy, test_rate_limit, test_streams
from tests.seeds import test_signal
from trio_streams.peer import open_peer_pair

MODULES: Final = (test_calls, test_methods, test_order, test_proxy, test_rate_limit, test_streams, test_signal)
FIXTURES: Final = frozenset({"autojump_clock", "caplog"})

NO_METADATA: Final = "batches, compression and order across streams can't be carried"
NO_CREDIT: Final = "a reader that reads nothing pauses the connection, and is refused after a time"

DIFFERENT: Final = {
    "test_a_deadline_travels": "a deadline has no word; the call is given up when it passes",
    "test_a_ping_measures_the_round_trip": "a client has pinged before it was welcomed",
    "test_a_drain_lets_what_is_under_way_finish": "a drain has no word; what it refuses is answered",
    "test_many_streams_behind_one_do_not_lock_each_other": NO_METADATA,
    "test_what_comes_after_waits_for_the_last_item_not_for_the_loop": NO_METADATA,
    "test_who_is_refused_or_closed_lets_the_next_one_go": NO_METADATA,
    "test_unknown_ids_are_errors": NO_METADATA,
    "test_single_items_and_what_is_there": NO_METADATA,
    "test_a_stream_that_waits_for_another_one_can_be_closed": NO_METADATA,
    "test_batches_are_bounded_in_bytes": NO_METADATA,
    "test_items_of_another_type": NO_METADATA,
    "test_an_item_that_can_not_be_sent": NO_METADATA,
    "test_an_abort_before_the_stream_has_begun": NO_METADATA,
    "test_an_unclaimed_stream_does_not_wait_for_ever": "a stream begins with its first item",
    "test_an_unclaimed_stream_can_be_closed": NO_CREDIT,
    "test_an_exception_of_the_iterable_closes_it": NO_CREDIT,
    "test_backpressure_reaches_the_producer": NO_CREDIT,
    "test_no_head_of_line_blocking_between_streams": NO_CREDIT,
    "test_block_7_early_termination": "an abort is an error behind what was sent, not a reset",
    "test_binary_items": "bytes are base64",
}
"""Where the dialects differ, and how; `test_dialects` says what is true in this one."""


def _is_shared(name: str, test: Any) -> bool:  # noqa: ANN401 - whatever a module holds
    if not name.startswith("test_") or not callable(test) or name in DIFFERENT:
        return False
    return "open_peer_pair" in inspect.getsource(test) and set(inspect.signature(test).parameters) <= FIXTURES


def _shared() -> list[Any]:
    return [
        pytest.param(module, test, id=f"{module.__name__.rpartition('.')[2]}-{name}")
        for module in MODULES
        for name, test in vars(module).items()
        if _is_shared(name, test)
    ]


def test_the_differences_are_of_tests_that_exist() -> None:
    """A test that is renamed or gone is no difference."""
    names = {name for module in MODULES for name in vars(module)}
    assert set(DIFFERENT) <= names


@pytest.mark.parametrize(("module", "test"), _shared())
async def test_in_the_json_dialect(
    module: ModuleType,
    test: Callable[..., Any],
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the test says that is run."""
    monkeypatch.setattr(module, "open_peer_pair", partial(open_peer_pair, dialect="signal"))
    given = {"autojump_clock": autojump_clock, "caplog": caplog}
    await test(**{name: given[name] for name in inspect.signature(test).parameters})

"""A thousand power cuts and more, and what each must not lose; and disks and settings that do lose it, to show that it shows.

`CRASH_SEED=4711 CRASH_RUNS=1 pytest tests/durable/store/sqlite/test_crash.py` runs one again; every failure names its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from tests.durable.store.sqlite.crash import Run
from trio_streams.durable.store.base import StoreError

FIRST_SEED: Final = int(os.environ.get("CRASH_SEED", "0"))
RUNS: Final = int(os.environ.get("CRASH_RUNS", "1000"))

SABOTAGED_RUNS: Final = 60


def test_what_is_acknowledged_survives_every_power_cut(record_property: Callable[[str, object], None]) -> None:
    """After each of three power cuts a run, at any write or sync, with unsynced writes lost, kept or torn one by one: every
    acknowledged change is there, whole, in order and once; of the others a prefix; the files are sound; retries are told
    from what is new exactly where the data is there; and what was dropped is deleted in the end."""
    acknowledged = retries = duplicates = 0
    for seed in range(FIRST_SEED, FIRST_SEED + RUNS):
        run = Run(seed)
        try:
            run.run()
        except BaseException as exc:
            exc.add_note(f"CRASH_SEED={seed} CRASH_RUNS=1 runs it again")
            raise
        acknowledged += run.acknowledged
        retries += run.retries
        duplicates += run.duplicates
    record_property("figures", f"{acknowledged} acknowledged, {retries} sent again, {duplicates} of them duplicates")
    if RUNS >= 100:
        assert min(acknowledged / 10, retries, duplicates * 20) >= RUNS, "the runs are too quiet to show anything"


@pytest.mark.parametrize(
    "sabotage",
    [
        partial(Run, is_honest=False),
        partial(Run, synchronous="OFF"),
        partial(Run, synchronous="NORMAL"),
        partial(Run, is_directory_synced=False),
    ],
    ids=lambda sabotage: repr(sabotage.keywords),
)
def test_the_simulation_finds_what_a_weaker_store_loses(sabotage: Callable[[int], Run]) -> None:
    """A disk that does not sync, a database that does not ask it to, or not at each commit, and a directory whose new
    names nobody syncs: each loses something within a few dozen runs."""
    losses = 0
    for seed in range(SABOTAGED_RUNS):
        try:
            sabotage(seed).run()
        except (AssertionError, StoreError):
            losses += 1
    assert losses > 0


def test_a_disk_that_refuses_something_takes_nothing_back() -> None:
    """Where one write or sync fails and the process ends in order, exactly the acknowledged changes are there: what was
    told that it failed is not."""
    for seed in range(FIRST_SEED, FIRST_SEED + max(RUNS // 10, 1)):
        run = Run(seed, is_power=False)
        try:
            run.run()
        except BaseException as exc:
            exc.add_note(f"CRASH_SEED={seed} CRASH_RUNS=1 runs it again")
            raise


def test_a_seed_is_the_whole_run() -> None:
    """The same seed gives the same run, to the number of writes."""
    runs = [Run(7), Run(7)]
    for run in runs:
        run.run()
    first, second = runs
    assert (first.steps, first.acknowledged, first.retries) == (second.steps, second.acknowledged, second.retries)
    assert first.steps > 100

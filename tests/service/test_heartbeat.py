"""Beats for many answers from one task."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.service.heartbeat import Heartbeat


class Answer:
    """Remembers when it was sent a beat."""

    def __init__(self) -> None:
        self.beats: list[float] = []

    async def send(self) -> None:
        await trio.lowlevel.checkpoint()
        self.beats.append(round(trio.current_time(), 3))


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_silence_lasts_an_interval_at_most(autojump_clock: MockClock) -> None:
    """One beat an interval while nothing is sent, and none in an interval in which something was."""
    answer = Answer()
    began = trio.current_time()
    with Heartbeat(10.0, answer.send) as heartbeat:
        await trio.sleep(31.0)
        assert [beat - began for beat in answer.beats] == [10.0, 20.0, 30.0]
        for _ in range(10):
            await trio.sleep(4.0)
            heartbeat.is_fresh = True
        assert len(answer.beats) == 3
        await trio.sleep(10.0)
        assert len(answer.beats) == 4


async def test_answers_share_a_task_that_ends_with_the_last_of_them(autojump_clock: MockClock) -> None:
    """A hundred answers cost one task, and none when they are over; each gets its beats."""
    before = tasks()
    answers = [Answer() for _ in range(100)]
    heartbeats = [Heartbeat(10.0, answer.send) for answer in answers]
    for heartbeat in heartbeats:
        heartbeat.__enter__()
        await trio.sleep(0.1)
    assert tasks() == before + 1
    await trio.sleep(20.0)
    assert {len(answer.beats) for answer in answers} <= {2, 3}
    for heartbeat in heartbeats[:50]:
        heartbeat.__exit__(None, None, None)
        assert heartbeat.is_over
    counts = [len(answer.beats) for answer in answers]
    await trio.sleep(20.0)
    assert [len(answer.beats) for answer in answers[:50]] == counts[:50]
    assert all(len(answer.beats) == count + 2 for answer, count in zip(answers[50:], counts[50:], strict=True))
    for heartbeat in heartbeats[50:]:
        heartbeat.__exit__(None, None, None)
    await wait_all_tasks_blocked()
    assert tasks() == before


async def test_it_begins_again_after_an_end(autojump_clock: MockClock) -> None:
    """A second answer right after the last one has a task of its own."""
    for _ in range(2):
        answer = Answer()
        with Heartbeat(10.0, answer.send):
            pass
        with Heartbeat(10.0, answer.send):
            await trio.sleep(11.0)
        assert len(answer.beats) == 1


async def test_a_client_that_reads_nothing_keeps_no_beat_from_others(autojump_clock: MockClock) -> None:
    """A beat that waits waits alone, and is the only one of its answer."""
    answer, waiting = Answer(), 0

    async def stuck() -> None:
        nonlocal waiting
        waiting += 1
        await trio.sleep_forever()

    with Heartbeat(10.0, stuck), Heartbeat(10.0, answer.send):
        await trio.sleep(41.0)
        assert len(answer.beats) == 4
        assert waiting == 1


async def test_a_beat_that_fails_is_nobodys_concern(autojump_clock: MockClock) -> None:
    """The answer's own task meets what is wrong with it; later beats are still tried."""
    tried: list[bool] = []

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        tried.append(True)
        raise trio.BrokenResourceError

    with Heartbeat(10.0, fail):
        await trio.sleep(21.0)
    assert len(tried) == 2


async def test_without_an_interval_there_is_nothing(autojump_clock: MockClock) -> None:
    """None needs no task."""
    before = tasks()
    with Heartbeat(None, Answer().send) as heartbeat:
        assert tasks() == before
        assert not heartbeat.is_over


async def test_a_beat_after_the_block_is_none() -> None:
    """A beat that was due when its answer ended sends nothing."""
    answer = Answer()
    with Heartbeat(10.0, answer.send) as heartbeat:
        pass
    await heartbeat.beat()
    assert answer.beats == []


def test_runs_of_their_own() -> None:
    """A second Trio run in the process has its own task."""

    async def once() -> int:
        answer = Answer()
        with Heartbeat(10.0, answer.send):
            await trio.sleep(15.0)
        return len(answer.beats)

    for _ in range(2):
        assert trio.run(once, clock=MockClock(autojump_threshold=0)) == 1


@pytest.mark.parametrize("when", [5.0, 10.0])
async def test_cancelling_the_block(when: float, autojump_clock: MockClock) -> None:
    """An answer that is cancelled, even at the moment of a beat, leaves no task behind."""
    before = tasks()
    with trio.move_on_after(when), Heartbeat(10.0, Answer().send):
        await trio.sleep_forever()
    await wait_all_tasks_blocked()
    assert tasks() == before

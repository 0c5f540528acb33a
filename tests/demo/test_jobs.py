"""The demo's job: its log is read again, and it goes on in another process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from trio_streams import Router, RpcError, connect, serve
from trio_streams.demo.jobs import Job, Step, add_jobs
from trio_streams.durable.server.opening import open_replay_log


async def _read(folder: Path, job: Job, items: int, notes: list[str]) -> list[int]:
    """The first items of a job as one server has them, which is then ended."""
    router = Router()
    add_jobs(router, notes.append)
    with trio.fail_after(60):
        async with open_replay_log(folder) as log, trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(serve, router, "tcp://127.0.0.1:0", replay_log=log))
            async with connect(url) as client, client.durable_stream("jobs.run", job, returns=Step) as steps:
                numbers = [(await steps.receive()).number for _ in range(items)]
            nursery.cancel_scope.cancel()
    return numbers


async def test_a_job_survives_its_server(tmp_path: Path) -> None:
    """Every server shows it from the first step on, and goes on behind the last one; none is done twice."""
    notes: list[str] = []
    job = Job("a", steps=6, pause=0.001)
    # The first server may have done more than was read of it.
    assert await _read(tmp_path, Job("a", steps=6, pause=0.2), 2, notes) == [1, 2]
    assert await _read(tmp_path, job, 6, notes) == [1, 2, 3, 4, 5, 6]
    assert await _read(tmp_path, job, 6, notes) == [1, 2, 3, 4, 5, 6]
    started = [note for note in notes if "goes on" in note]
    assert len(started) == 2  # the third server found it finished
    assert started[0] == "jobs.run: 'a' goes on at step 1 of 6"
    assert started[1] > "jobs.run: 'a' goes on at step 2 of 6"


@pytest.mark.parametrize("job", [Job(steps=0), Job(steps=10_001), Job(pause=-1), Job(pause=61)])
async def test_jobs_that_are_none(job: Job, tmp_path: Path) -> None:
    """They are refused in words that name the limits."""
    with pytest.raises(RpcError, match="INVALID_ARGUMENT: a job has 1 to 10000 steps"):
        await _read(tmp_path, job, 1, [])

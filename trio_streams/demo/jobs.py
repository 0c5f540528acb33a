"""`jobs.run`: a job whose log is kept: it goes on while nobody looks, and after the server was started anew."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.procedure import ResumePoint
from trio_streams.procedures.router import Router

__all__ = ["Job", "Step", "add_jobs"]

_MAX_STEPS: Final = 10_000
_MAX_PAUSE: Final = 60.0


@attrs.frozen
class Job:
    """Which job. Who asks for one by the name of another sees that one.

    Attributes:
      job: its name.
      steps: how many it has, 1 to 10,000.
      pause: seconds between two of them, 0 to 60.
    """

    job: str = "demo"
    steps: int = 60
    pause: float = 1.0


@attrs.frozen(kw_only=True)
class Step:
    """A line of a job's log.

    Attributes:
      number: of the step, from 1 on.
      of: how many there are.
      process: the process that has done it: another one after a restart.
      at: when.
    """

    number: int
    of: int
    process: int
    at: datetime


def add_jobs(router: Router, note: Callable[[str], None]) -> None:
    """Enter `jobs.run` into a router.

    Args:
      router: gets the procedure.
      note: told, for the log, when a job begins, goes on and ends.
    """

    @router.stream("jobs.run", durable="jobs/{job}")
    async def run(job: Job = Job(), *, resume_from: ResumePoint) -> AsyncIterator[Step]:
        """The log of a job, from its first step on; the job is started where there is none of that name."""
        if not (1 <= job.steps <= _MAX_STEPS and 0 <= job.pause <= _MAX_PAUSE):
            details = {"steps": _MAX_STEPS, "pause": _MAX_PAUSE}
            raise RpcError(
                Code.INVALID_ARGUMENT, f"a job has 1 to {_MAX_STEPS} steps, with at most a minute between", details
            )
        note(f"jobs.run: {job.job!r} goes on at step {resume_from.items + 1} of {job.steps}")
        for number in range(resume_from.items + 1, job.steps + 1):
            await trio.sleep(job.pause)
            yield Step(number=number, of=job.steps, process=os.getpid(), at=datetime.now(UTC))
        note(f"jobs.run: {job.job!r} is done")

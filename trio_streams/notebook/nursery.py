"""A nursery for background tasks that outlives both their crashes and their cancellation.

Trio's own nursery ends with the first error, which is right for a program and wrong for a notebook: nobody wants to
restart a kernel because a plot's task had a typo. So each task runs under a supervisor that reports its error, and
when somebody cancels the nursery's scope, the nursery opens anew once the cancelled tasks have unwound.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import trio

from trio_streams.errors import split_cancelled

__all__ = ["KernelNursery"]

Ts = TypeVarTuple("Ts")


class KernelNursery:
    """Starts tasks that go on between cells, until they return, are cancelled, or the kernel ends.

    An error of a task is written to the standard error of the cell that started it, and touches no other task.
    """

    def __init__(self) -> None:
        self._tasks: trio.Nursery | None = None
        self._waiting: list[Callable[[trio.Nursery], None]] = []
        self._opened = trio.Event()
        self._is_closed = False

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around the present tasks.

        Cancelling it cancels them all. What is started after that begins when they have unwound, in a new scope.
        """
        if self._tasks is None:
            raise RuntimeError("the kernel's nursery has no scope: it is not open")
        return self._tasks.cancel_scope

    @property
    def child_tasks(self) -> frozenset[trio.lowlevel.Task]:
        """The tasks that run now."""
        return frozenset() if self._tasks is None else self._tasks.child_tasks

    def start_soon(self, async_fn: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts, name: object = None) -> None:
        """Start a background task: `async_fn(*args)`.

        Args:
          async_fn: what to run.
          args: its arguments.
          name: what to call the task in reports; the function's own name by default.

        Raises:
          RuntimeError: the extension was unloaded.
        """
        supervised = functools.partial(_supervise, async_fn, *args, task_name=_name_of(async_fn, name))

        def start(tasks: trio.Nursery) -> None:
            tasks.start_soon(supervised, name=_name_of(async_fn, name))

        tasks = self._open_tasks()
        if tasks is None:
            self._waiting.append(start)
        else:
            start(tasks)

    async def start(self, async_fn: Callable[..., Awaitable[object]], *args: object, name: object = None) -> object:
        """Start a background task and wait until it calls `task_status.started(value)`.

        Args:
          async_fn: what to run; it takes `task_status`, as for `trio.Nursery.start`.
          args: its positional arguments.
          name: what to call the task in reports.

        Returns:
          The value given to `started`.

        Raises:
          RuntimeError: the extension was unloaded, or the task returned without calling `started`.
          Exception: what the task raised before it called `started`; later errors are reported.

        Cancellation: a task that has not called `started` is cancelled; later it goes on.
        """
        while (tasks := self._open_tasks()) is None:
            await self._opened.wait()
        task_name = _name_of(async_fn, name)
        supervised = functools.partial(_supervise_start, async_fn, *args, task_name=task_name)
        value: object = await tasks.start(supervised, name=task_name)
        return value

    async def run(self) -> None:
        """Keep the nursery open: for its owner.

        Cancellation: closes it; the tasks have unwound.
        """
        try:
            while True:
                async with trio.open_nursery() as self._tasks:
                    # Open to be started in before whoever waits gets to run.
                    waiting, self._waiting = self._waiting, []
                    for start in waiting:
                        start(self._tasks)
                    self._opened.set()
                    await trio.sleep_forever()
        finally:
            self._is_closed = True
            self._opened.set()

    def close(self) -> None:
        """Refuse further tasks: for its owner, before it cancels `run`."""
        self._is_closed = True

    def _open_tasks(self) -> trio.Nursery | None:
        if self._is_closed:
            raise RuntimeError("the kernel's nursery is closed: start it with %load_ext trio_streams.notebook")
        if self._tasks is None or self._tasks.cancel_scope.cancel_called:
            if self._opened.is_set():
                self._opened = trio.Event()
            return None
        return self._tasks

    def __repr__(self) -> str:
        if self._is_closed:
            return "<the kernel's nursery: closed>"
        names = sorted(task.name for task in self.child_tasks)
        return f"<the kernel's nursery: {len(names)} running{': ' if names else ''}{', '.join(names)}>"


class _StartStatus:
    """Passes `started` on and remembers that it was called."""

    def __init__(self, status: trio.TaskStatus[object]) -> None:
        self._status = status
        self.is_started = False

    def started(self, value: object = None) -> None:
        self._status.started(value)
        self.is_started = True


# Protected, since the signal of an interrupt belongs to the cell, whichever task happens to run when it comes.
@trio.lowlevel.enable_ki_protection
async def _supervise(async_fn: Callable[..., Awaitable[object]], *args: object, task_name: str) -> None:
    try:
        await async_fn(*args)
    except BaseException as exc:  # noqa: BLE001 - a notebook's task may end in any way; cancellation goes on
        _report(exc, task_name)


@trio.lowlevel.enable_ki_protection
async def _supervise_start(
    async_fn: Callable[..., Awaitable[object]],
    *args: object,
    task_name: str,
    task_status: trio.TaskStatus[object],
) -> None:
    status = _StartStatus(task_status)
    try:
        await async_fn(*args, task_status=status)
    except BaseException as exc:
        if not status.is_started:
            raise
        _report(exc, task_name)


def _report(exc: BaseException, task_name: str) -> None:
    """Show the error in an exception, and raise the cancellation in it."""
    cancelled, error = split_cancelled(exc)
    if error is not None:
        # The first entry is the supervisor's own.
        error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(f"background task {task_name} crashed; the nursery and its other tasks go on\n{text}")
        sys.stderr.flush()
    if cancelled is not None:
        raise cancelled


def _name_of(async_fn: Callable[..., object], name: object) -> str:
    if name is not None:
        return str(name)
    while isinstance(async_fn, functools.partial):
        async_fn = async_fn.func
    return getattr(async_fn, "__qualname__", repr(async_fn))

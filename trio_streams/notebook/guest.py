"""A Trio run as a guest of the kernel's asyncio loop, and cells that it drives.

Trio asks its host to call it back soon. Those callbacks go through a queue of ours, which the host's loop works off;
where we must wait for Trio in a synchronous function (`%unload_ext`, the end of the process), we work it off
ourselves. A callback therefore runs exactly once, whoever comes first, and always on the kernel's main thread.

A line of a cell becomes a task of the run, inside a cancel scope, and the kernel awaits a future in its place. The
future is what IPython gets from its `eval`, so that a traceback has no entries but the user's own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import queue
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Final, cast

import outcome
import trio

from trio_streams.errors import split_cancelled, unwrap_group
from trio_streams.notebook.nursery import KernelNursery

__all__ = ["CellFuture", "GuestRun"]

# Entries that end an interrupt's traceback without saying anything about the cell.
MACHINERY: Final = (*(str(Path(module.__file__ or "").parent) for module in (trio, outcome)), __file__)


class GuestRun:
    """One Trio run that lasts until `close`.

    Args:
      loop: the kernel's event loop; it need not run yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.nursery: KernelNursery = KernelNursery()
        self.done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop = loop
        self._callbacks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._cells: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.get_ident()

    def start(self) -> None:
        """Start the run, and return when `nursery` is open.

        Raises:
          RuntimeError: this thread has a Trio run already.
        """
        # Trio would take over a default SIGINT handler, and interrupt its main task: here, everything.
        with _interrupts_ignored():
            trio.lowlevel.start_guest_run(
                self._main,
                run_sync_soon_threadsafe=self._call_soon,
                done_callback=self._finish,
                host_uses_signal_set_wakeup_fd=_has_wakeup_fd(),
            )
            self._pump(lambda: self._token is not None, timeout=10)

    def run_cell(self, code: types.CodeType, names: dict[str, object], variables: dict[str, object]) -> CellFuture:
        """Run a line of a cell in a Trio task.

        Args:
          code: the line, compiled; with or without `await` at its top level.
          names: the globals.
          variables: the locals.

        Returns:
          The future that gets its outcome, of the calling thread's loop.
        """
        assert self._cells is not None
        assert self._token is not None
        future = CellFuture(self._token)
        drive = functools.partial(_drive, future, code, names, variables)
        if threading.get_ident() == self._thread:
            self._cells.start_soon(drive, name="cell")
            _handle_interrupts(future)
        else:  # a subshell's thread
            start = functools.partial(self._cells.start_soon, drive, name="cell")
            self._token.run_sync_soon(contextvars.copy_context().run, start)
        return future

    def close(self, timeout: float) -> bool:
        """Cancel everything, and wait for it here. To be called on the kernel's main thread, outside Trio.

        Args:
          timeout: seconds to wait.

        Returns:
          Whether the run is over. If not, it ends when the tasks do.
        """
        with _interrupts_ignored():
            self._cancel()
            return self._pump(self.done.done, timeout)

    def close_soon(self) -> None:
        """Cancel everything, from any thread; `done` tells when it is over."""
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._cancel)

    def _cancel(self) -> None:
        self.nursery.close()
        if self._cells is not None:
            self._cells.cancel_scope.cancel()

    async def _main(self) -> None:
        async with trio.open_nursery() as self._cells:
            self._token = trio.lowlevel.current_trio_token()
            await self.nursery.run()

    def _finish(self, result: outcome.Outcome[None]) -> None:
        self.nursery.close()
        if isinstance(result, outcome.Error):
            text = "".join(traceback.format_exception(result.error))
            sys.stderr.write(f"the kernel's Trio run crashed; %reload_ext trio_streams.notebook starts another\n{text}")
        self.done.set_result(None)

    def _call_soon(self, callback: Callable[[], object]) -> None:
        self._callbacks.put(callback)
        # A loop that is closed already cannot call: the process ends, and `_pump` will.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._step)

    def _step(self) -> None:
        try:
            callback = self._callbacks.get_nowait()
        except queue.Empty:
            return  # `_pump` was faster
        callback()

    def _pump(self, is_done: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not is_done():
            try:
                callback = self._callbacks.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            callback()
        return True


class CellFuture(asyncio.Future[object]):
    """What the kernel awaits in a cell's stead. Cancelling it interrupts the cell, whose own end then sets it.

    Args:
      token: of the run that drives the cell.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.cancel_scope: trio.CancelScope = trio.CancelScope()
        self._token = token

    def cancel(self, msg: object = None) -> bool:
        """Interrupt the cell."""
        if self.done():
            return False
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self.cancel_scope.cancel)
        return True

    def finish(self, result: outcome.Outcome[object]) -> None:
        """Set the result, from whichever thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self.get_loop().call_soon_threadsafe(self._set, result)

    def _set(self, result: outcome.Outcome[object]) -> None:
        if isinstance(result, outcome.Error):
            self.set_exception(result.error)
        else:
            assert isinstance(result, outcome.Value)
            self.set_result(result.value)


@trio.lowlevel.enable_ki_protection
async def _drive(
    future: CellFuture, code: types.CodeType, names: dict[str, object], variables: dict[str, object]
) -> None:
    seen: BaseException | None = None
    result: outcome.Outcome[object] = outcome.Value(None)
    try:
        with future.cancel_scope:
            try:
                result = outcome.Value(await _run(code, names, variables))
            except BaseException as exc:
                seen = exc
                raise
    except BaseException as exc:  # noqa: BLE001 - whatever a cell raises is the cell's result
        cancelled, error = split_cancelled(exc)
        result = outcome.Error(_without_machinery(error or _interruption(exc)))
        if cancelled is not None:
            raise cancelled  # noqa: B904 - the kernel ends
    else:
        if seen is not None:
            result = outcome.Error(_without_machinery(_interruption(seen)))
    finally:
        future.finish(result)


@trio.lowlevel.disable_ki_protection
async def _run(code: types.CodeType, names: dict[str, object], variables: dict[str, object]) -> object:
    value = eval(code, names, variables)  # noqa: S307 - the user's own cell
    if code.co_flags & inspect.CO_COROUTINE:
        value = await cast("Awaitable[object]", value)
    return value


def _interruption(cancelled: BaseException) -> KeyboardInterrupt:
    return KeyboardInterrupt().with_traceback(cancelled.__traceback__)


def _without_machinery(exc: BaseException) -> BaseException:
    """The exception as if the cell had run by itself: without our entries, an interrupt without Trio's either."""
    bare = unwrap_group(exc)
    if not isinstance(bare, KeyboardInterrupt):
        entry = exc.__traceback__
        while entry is not None and entry.tb_frame.f_code.co_filename == __file__:
            entry = entry.tb_next
        return exc.with_traceback(entry)
    entries = list(_entries(bare.__traceback__))
    while entries and entries[-1].tb_frame.f_code.co_filename.startswith(MACHINERY):
        entries.pop()
    kept: types.TracebackType | None = None
    for entry in reversed(entries):
        if entry.tb_frame.f_code.co_filename != __file__:
            kept = types.TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return bare.with_traceback(kept)


def _entries(entry: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _handle_interrupts(future: CellFuture) -> None:
    """Let SIGINT interrupt the cell until it is done.

    The kernel's own handler cancels the future from its loop, which never gets to run while a cell computes.
    """

    def handle(_signum: int, _frame: types.FrameType | None) -> None:
        if trio.lowlevel.currently_ki_protected():
            future.cancel()
        else:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        previous = signal.signal(signal.SIGINT, handle)
        future.add_done_callback(lambda _: signal.signal(signal.SIGINT, previous))


@contextlib.contextmanager
def _interrupts_ignored() -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _has_wakeup_fd() -> bool:
    """Whether somebody else wakes the main thread when a signal comes; Trio does it otherwise."""
    if threading.current_thread() is not threading.main_thread():
        return True
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd != -1

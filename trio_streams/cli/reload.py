"""`serve --reload`: a server in a child process that is started anew when a Python file changes; for development.

The child is an ordinary `serve`, so that what it has imported goes with it. Between two of them there is a gap in which
nobody listens. One that can't be loaded says so on standard error, and the next change starts the next one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

from trio_streams.cli.process import UsageError

__all__ = ["ONCE", "supervise", "with_flag"]

ONCE: Final = "--no-reload"
"""The child's own flag, behind all others."""

_DRAIN: Final = {"TRIO_STREAMS_DRAIN_TIMEOUT": "1", "TRIO_STREAMS_DRAIN_DELAY": "0"}
"""For the child, where neither flags nor variables say anything else."""

_STOP_TIMEOUT: Final = 30.0
"""Seconds that a child has to end, whatever its own drain; then it is killed."""

_STEP_MS: Final = 50
_DEBOUNCE_MS: Final = 400
"""A save of several files counts as one when nothing changes for a step, or after this time."""

_LOOK_MS: Final = 500
"""Milliseconds until a look that sees nothing is over."""


class _Changes:
    """What has changed since somebody asked."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._some = trio.Event()

    def add(self, paths: set[str]) -> None:
        self._paths |= paths
        self._some.set()

    async def wait(self) -> list[str]:
        """Wait for a change; what has changed, each once."""
        await self._some.wait()
        paths, self._paths, self._some = sorted(self._paths), set(), trio.Event()
        return paths


async def supervise(
    arguments: Sequence[str], folder: Path, *, say: Callable[[str], None], environment: Mapping[str, str] = os.environ
) -> None:
    """Run `trio-streams` in a child process, and again at each change, until cancelled.

    Args:
      arguments: of the command line, from `serve` on.
      folder: whose Python files are watched, and those below it; it exists.
      say: told in a line why a child is started, or is not.
      environment: the child's.

    Raises:
      UsageError: watchfiles is not installed.

    Cancellation: the child is told to end, and waited for.
    """
    command = [sys.executable, *(f"-W{option}" for option in sys.warnoptions), "-m", "trio_streams"]
    command += with_flag(arguments, ONCE)
    changes = _Changes()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch, folder, changes.add)
        while True:
            paths = await _run_until_changed(command, {**_DRAIN, **environment}, changes, say)
            say(f"reload: {_names(paths)} changed")


def with_flag(arguments: Sequence[str], flag: str) -> list[str]:
    """Arguments with one more flag behind all others, but before what is no flag in any case."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end], flag, *arguments[end:]]


def _names(paths: Sequence[str]) -> str:
    names = list(dict.fromkeys(Path(path).name for path in paths))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def _run_until_changed(
    command: Sequence[str], environment: Mapping[str, str], changes: _Changes, say: Callable[[str], None]
) -> list[str]:
    process = await trio.lowlevel.open_process(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        async with trio.open_nursery() as nursery:

            async def watch_end() -> None:
                code = await process.wait()
                say(f"reload: the server has ended with exit code {code}; waiting for a change")

            nursery.start_soon(watch_end)
            paths = await changes.wait()
            nursery.cancel_scope.cancel()
        return paths
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    """Let a child drain, and wait for it."""
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
        with trio.move_on_after(_STOP_TIMEOUT):
            await process.wait()
        if process.poll() is None:
            process.kill()
            await process.wait()


async def _watch(
    folder: Path, on_change: Callable[[set[str]], None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Tell of changed files until cancelled."""
    stop = threading.Event()

    def report() -> None:
        """In a thread."""
        is_first = True
        for changes in _changes(folder, stop):
            if is_first:
                trio.from_thread.run_sync(task_status.started)
                is_first = False
            if changes:
                trio.from_thread.run_sync(on_change, changes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_set_when_cancelled, stop)
        # Not abandoned: a thread that is in foreign code at the interpreter's end would take it down.
        await trio.to_thread.run_sync(report)
        nursery.cancel_scope.cancel()


async def _set_when_cancelled(event: threading.Event) -> None:
    try:
        await trio.sleep_forever()
    finally:
        event.set()


def _changes(folder: Path, stop: threading.Event) -> Iterator[set[str]]:
    """Changed files, or none for a while; the first of them comes when changes count."""
    try:
        from watchfiles import PythonFilter, watch  # noqa: PLC0415 - an extra, for this flag only
    except ImportError as exc:
        raise UsageError("--reload needs watchfiles: pip install 'trio_streams[reload]'") from exc
    found = watch(
        folder,
        watch_filter=PythonFilter(),
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
    )
    for changes in found:
        yield {path for _, path in changes}

"""How a command runs: until it is done, a signal ends it, or it fails; each has its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from trio_streams.cli.output import LineTooLongError, OutputClosedError, write_error
from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import DurableStreamError, FetchError
from trio_streams.durable.store.base import StoreError
from trio_streams.errors import CodecError, StreamsError, as_rpc_error, unwrap_group
from trio_streams.service.drain import Drain
from trio_streams.transports.bytes import ListenError

__all__ = ["EXIT_CUT", "EXIT_FAILED", "EXIT_USAGE", "UsageError", "run"]

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_CUT: Final = 3
"""A server that was to finish what was under way could not."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class UsageError(Exception):
    """What was typed can't be done; the message is one line."""


def run(command: Callable[[], Awaitable[None]], *, is_ended_by_signal: bool = False, drain: Drain | None = None) -> int:
    """Run a command to its end.

    SIGINT (Ctrl-C) and SIGTERM cancel it, so that streams end on both sides; a second one ends the process. With `drain`
    the first SIGTERM only asks the command to end; then the next signal cancels it, and one more ends the process.

    Args:
      command: an async function.
      is_ended_by_signal: whether a signal is how this command ends properly, as it is for a server.
      drain: asks the command to end well.

    Returns:
      The exit code: 0, 1 for a failure, 2 for wrong use, 128 and the signal's number after a signal.
    """
    try:
        number = trio.run(_run_until_signal, command, drain)
    except Exception as exc:  # noqa: BLE001 - what is no user's or peer's doing is raised again
        return _explain(exc)
    return 0 if number is None or is_ended_by_signal else 128 + number


async def _run_until_signal(command: Callable[[], Awaitable[None]], drain: Drain | None) -> int | None:
    """Run a command; returns the signal that ended it, if one did."""
    received: list[int] = []
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def watch() -> None:
                async for number in signals:
                    if number == signal.SIGTERM and drain is not None and not drain.has_begun:
                        drain.begin()
                        continue
                    if received:
                        # It does not end by itself, and the user insists.
                        signal.signal(number, signal.SIG_DFL)
                        signal.raise_signal(number)
                    received.append(number)
                    if drain is not None and drain.has_begun:
                        drain.cut()
                    scope.cancel()

            nursery.start_soon(watch)
            with scope:
                await command()
            nursery.cancel_scope.cancel()
    return received[0] if received else None


def _explain(exc: Exception) -> int:
    """Say what ended a command, in one line; when a connection is lost, several of its tasks may say so at once.

    Raises:
      Exception: `exc`, where it is a fault of ours: its traceback is worth more than a line.
    """
    said: dict[str, int] = {}
    for error in _one_by_one(exc):
        if isinstance(error, OutputClosedError):
            _silence_output()
            return 0
        line, code = _describe(error) or (None, EXIT_FAILED)
        if line is None:
            raise exc
        said.setdefault(line, code)
    for line in said:
        write_error(line)
    return next(iter(said.values()))


def _one_by_one(exc: BaseException) -> Iterator[BaseException]:
    exc = unwrap_group(exc)
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _one_by_one(inner)
    else:
        yield exc


def _describe(error: BaseException) -> tuple[str, int] | None:
    """A line and the exit code; None for a fault of ours."""
    match error:
        case UsageError() | LocalProtocolError() | LineTooLongError():
            return str(error), EXIT_USAGE
        case ListenError() | CodecError() | StoreError():
            return str(error), EXIT_FAILED
        case DurableStreamError() | FetchError():
            return f"{error.code}: {error.message}", EXIT_FAILED
        case StreamsError():
            return str(as_rpc_error(error)), EXIT_FAILED
        case trio.TooSlowError():
            return "DEADLINE_EXCEEDED: the timeout has passed", EXIT_FAILED
        case _:
            return None


def _silence_output() -> None:
    """The interpreter flushes standard output at its end; there must be something that takes it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)

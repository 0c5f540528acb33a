"""The claims that streams keep on every transport, for yours, too: `await check_streams(make)` in a test of your own.

`make` is an async context manager that connects the two ends of your transport and yields the client's carrier and the
server's.

A transport that lives inside the process is checked in virtual time; one that uses sockets in real time, without any
sleep that hopes to be long enough. To see each claim on its own, parametrise a test over `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from trio_streams.testing.end_checks import END_CHECKS
from trio_streams.testing.exit_checks import EXIT_CHECKS
from trio_streams.testing.flow_checks import FLOW_CHECKS
from trio_streams.testing.peers import MakeCarriers as MakeCarriers

__all__ = ["CHECKS", "Check", "MakeCarriers", "check_streams"]

Check: TypeAlias = Callable[[MakeCarriers], Awaitable[None]]
"""One claim: the first line of its docstring says which, and an AssertionError that it does not hold."""

CHECKS: Final[tuple[Check, ...]] = (*FLOW_CHECKS, *END_CHECKS, *EXIT_CHECKS)
"""Every claim."""


async def check_streams(make: MakeCarriers) -> None:
    """Check a transport: streams over its carriers keep every claim in `CHECKS`.

    Args:
      make: makes two connected carriers for as long as a block; it is used once for each connection.

    Raises:
      AssertionError: a claim does not hold.
      trio.TooSlowError: something waited for ever.
      Exception: what the carriers raised.

    Cancellation: what is open is closed.
    """
    for check in CHECKS:
        await check(make)

"""One port number, served over TCP and over UDP: the same handlers over HTTP/1.1 or /2, and over HTTP/3.

A client comes over TCP first, and learns from `Alt-Svc` in the answers that it may come over UDP. So what is on UDP is there
before the first answer over TCP, and both have the same number, which is what clients and firewalls expect.

Spec: RFC 7838; RFC 9114 §3.1.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit

import trio

from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.bytes import ListenError
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.http_access import AccessRecord

__all__ = ["Beside", "ServeAt", "serve_both"]

_ATTEMPTS: Final = 16
"""To find a number that is free for both where the system may choose one."""


class Beside(Protocol):
    """What serves exchange handlers on the port number of a host over TCP, such as `webtransport.OverHttp3`."""

    def alt_svc(self, port: int) -> str | None:
        """What the host over TCP says in `Alt-Svc`; None for nothing.

        Args:
          port: the number that both have.
        """
        ...

    async def serve(
        self,
        handler: ExchangeHandler,
        host: str,
        port: int,
        *,
        config: ExchangeConfig,
        graceful_timeout: float,
        shutdown_trigger: Callable[[], Awaitable[None]] | None,
        certfile: str | None,
        keyfile: str | None,
        on_access: Callable[[AccessRecord], None] | None,
        task_status: trio.TaskStatus[str],
    ) -> None:
        """Serve a handler until cancelled, as `transports.http.serve_lean` does; started with the bound URL."""
        ...


class ServeAt(Protocol):
    """A host that is told its port, and when to end, last."""

    async def __call__(
        self, port: int, *, shutdown_trigger: Callable[[], Awaitable[None]], task_status: trio.TaskStatus[str]
    ) -> None:
        """Serve until cancelled, or until the trigger returns; started with the bound URL."""
        ...


async def serve_both(
    over_udp: ServeAt,
    over_tcp: ServeAt,
    port: int,
    *,
    shutdown_trigger: Callable[[], Awaitable[None]] | None,
    task_status: trio.TaskStatus[str],
) -> None:
    """Serve over UDP and TCP on one port number, until cancelled.

    Args:
      over_udp: begins first.
      over_tcp: its URL is that of both.
      port: 0 for one that is free for both.
      shutdown_trigger: an async function; when it returns, both end. It is called once.
      task_status: started with the URL.

    Raises:
      ListenError: the port is taken for one of them, or the address is not ours.
    Cancellation: that of both.
    """
    for left in reversed(range(_ATTEMPTS if port == 0 else 1)):
        stopping = trio.Event()
        try:
            async with open_bare_nursery() as nursery:
                task_status.started(await _start_both(nursery, over_udp, over_tcp, port, stopping.wait))
                if shutdown_trigger is not None:
                    await shutdown_trigger()
                    stopping.set()
        except _Taken as exc:
            if not left:
                raise exc.error from None
        else:
            return


class _Taken(Exception):
    """The number that UDP has got is taken over TCP."""

    def __init__(self, error: ListenError) -> None:
        super().__init__(str(error))
        self.error = error


async def _start_both(
    nursery: trio.Nursery,
    over_udp: ServeAt,
    over_tcp: ServeAt,
    port: int,
    wait_stopping: Callable[[], Awaitable[None]],
) -> str:
    url: str = await nursery.start(partial(over_udp, port, shutdown_trigger=wait_stopping))
    number = urlsplit(url).port or port
    try:
        bound: str = await nursery.start(partial(over_tcp, number, shutdown_trigger=wait_stopping))
    except ListenError as exc:
        raise _Taken(exc) from exc
    return bound

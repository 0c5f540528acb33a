"""What `connect`, `serve`, `open_peer` and `serve_peers` have in common about connections that are resumed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeAlias

import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError
from trio_streams.driver import run_client
from trio_streams.resuming.client import run_resuming_client
from trio_streams.resuming.sessions import Sessions, resume_options
from trio_streams.transports.identity import identify_peer
from trio_streams.urls.address import Address
from trio_streams.urls.carriers import CARRIERS, Call

__all__ = ["CALLED", "check_resume", "make_sessions", "principal_of", "run_call"]

_logger: Final = logging.getLogger("trio_streams")

Run: TypeAlias = Callable[[Carrier, str], AbstractAsyncContextManager[Connection]]

CALLED: Final = (*CARRIERS, "wt")
"""The schemes of connections: those that have carriers, and WebTransport's, which has sessions instead."""

_RESUMABLE: Final = frozenset({"tcp", "tls", "unix", "ws", "wss"})
_REASON: Final = "a process that has ended can't be joined again, an exchange has no session, and QUIC keeps its own"


@contextlib.asynccontextmanager
async def run_call(call: Call, run: Run | None = None) -> AsyncGenerator[Connection, None]:
    """Run a connection as the client side for as long as the block, and over as many carriers as the call asks for.

    Args:
      call: where to, and how.
      run: runs the connection on a carrier, in a dialect that has no sessions; None for ours.

    Cancellation: the streams are reset, and the resets leave within `close_timeout`.
    """
    transport = call.address.scheme
    if transport == "wt":
        from trio_streams.urls.webtransport import run_call as run_on_session  # noqa: PLC0415 - it takes an extra

        async with run_on_session(call) as connection:
            yield connection
        return
    open_carrier = CARRIERS[transport]
    if call.resume is None:
        run = run or partial(_run_client, call.config)
        async with open_carrier(call) as carrier, run(carrier, transport) as connection:
            yield connection
        return
    async with run_resuming_client(
        partial(open_carrier, call),
        config=call.config,
        resume=call.resume,
        reconnect=call.reconnect,
        transport=transport,
    ) as connection:
        yield connection


def _run_client(config: ConnectionConfig, carrier: Carrier, transport: str) -> AbstractAsyncContextManager[Connection]:
    return run_client(carrier, config=config, transport=transport)


def check_resume(
    resume: ResumeOptions | bool | None,
    reconnect: ReconnectOptions | None,
    address: Address,
    dialect: str = "trio-streams",
) -> ResumeOptions | None:
    """The limits of a client's session; None for a connection that ends with its carrier.

    Args:
      resume: as given; None for whether `reconnect` is.
      reconnect: as given.
      address: where to.
      dialect: what is spoken there.

    Raises:
      LocalProtocolError: that can't be had there, or `reconnect` is left without `resume`.
    """
    options = resume_options(reconnect is not None if resume is None else resume)
    if options is None and reconnect is not None:
        raise LocalProtocolError("can't reconnect without resume", field="reconnect")
    if options is not None and address.scheme not in _RESUMABLE:
        raise LocalProtocolError(f"can't resume over {address.scheme}: {_REASON}", field="resume")
    if options is not None and dialect != "trio-streams":
        raise LocalProtocolError(f"can't resume in {dialect}: the dialect has no sessions", field="resume")
    return options


def make_sessions(
    resume: ResumeOptions | bool | None, config: ConnectionConfig | None, nursery: trio.Nursery
) -> Sessions | None:
    """The sessions of a server that has some.

    Args:
      resume: as given.
      config: limits and timeouts of their connections.
      nursery: they run in it.
    """
    options = resume_options(resume)
    return None if options is None else Sessions(options, config or ConnectionConfig(), nursery)


def principal_of(sessions: Sessions, carrier: Carrier) -> Hashable:
    """Who is on an accepted carrier; nobody else, ever, where that can't be told.

    Args:
      sessions: of the server.
      carrier: as it was accepted.
    """
    try:
        principal = (sessions.identify or identify_peer)(carrier)
        hash(principal)
    except Exception:
        _logger.exception("identify failed for %s: nobody can come back to its session", carrier.peer)
        return object()
    return principal

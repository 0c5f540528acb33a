"""`connect`: a client on a URL, each scheme a row of `SCHEMES`."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, get_args

import attrs

from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.core.errors import LocalProtocolError
from trio_streams.procedures.client import Client, ConnectionClient
from trio_streams.procedures.durable.following import Redial
from trio_streams.procedures.envelope_client import open_envelope_client
from trio_streams.procedures.http_client import RECONNECT, HttpProcedureClient
from trio_streams.transports.envelope_carrier import as_envelopes
from trio_streams.transports.http_client import HttpClient, HttpClientConfig
from trio_streams.urls.address import Address, parse_address
from trio_streams.urls.carriers import CARRIERS, Call
from trio_streams.urls.carriers import Dialect as Dialect
from trio_streams.urls.sessions import CALLED, check_resume, run_call
from trio_streams.urls.websocket import CarrierName, check_carrier
from trio_streams.wire.event_source import EventSourceConfig
from trio_streams.wire.message_limits import MessageLimits

__all__ = ["SCHEMES", "Dialect", "connect"]

_DIALECTS: Final[tuple[str, ...]] = get_args(Dialect)
_HAVE_ENVELOPES: Final = ("tcp", "tls", "unix", "ws", "wss")


@contextlib.asynccontextmanager
async def _open_connection(call: Call) -> AsyncGenerator[Client, None]:
    """A client on a connection, of the dialect that is asked for."""
    if call.dialect == "trio-streams":
        async with run_call(call) as connection:
            yield ConnectionClient(connection, redial=_redial(call))
        return
    async with CARRIERS[call.address.scheme](call) as carrier:
        texts = as_envelopes(carrier)
        async with open_envelope_client(
            texts or carrier,
            config=call.config,
            limits=call.envelopes,
            is_text=texts is not None,
            transport=call.address.scheme,
        ) as client:
            yield client


def _redial(call: Call) -> Redial | None:
    """How durable streams come by another connection: as sessions do, but the session is a new one."""
    if call.reconnect is None or call.resume is None:
        return None
    once = attrs.evolve(call, resume=None, reconnect=None)
    return Redial(partial(run_call, once), call.reconnect, call.resume.max_session_age)


@contextlib.asynccontextmanager
async def _open_http(call: Call) -> AsyncGenerator[Client, None]:
    config = HttpClientConfig(connect_timeout=call.config.connect_timeout)
    async with HttpClient(config, tls=call.ssl_context) as http:
        yield HttpProcedureClient(call.address.url, http, reconnect=call.event_source)


_Open = Callable[[Call], AbstractAsyncContextManager[Client]]

SCHEMES: Final[Mapping[str, _Open]] = {
    **dict.fromkeys(CALLED, _open_connection),
    "http": _open_http,
    "https": _open_http,
}
"""What opens a client for each scheme."""


@contextlib.asynccontextmanager
async def connect(
    url: str,
    *,
    config: ConnectionConfig | None = None,
    carrier: CarrierName = "websockets",
    ssl_context: ssl.SSLContext | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
    dialect: Dialect = "trio-streams",
    envelopes: MessageLimits | None = None,
    event_source: EventSourceConfig | None = None,
    resume: ResumeOptions | bool | None = None,
    reconnect: ReconnectOptions | None = None,
) -> AsyncGenerator[Client, None]:
    """Connect to a server for as long as the block.

    Args:
      url: `tcp://`, `tls://`, `ws://`, `wss://`, `wt://`, `http://` or `https://`; `unix:/path`; or `process:` and a command,
        which is split as a shell would but run without one, and ends with the block.
      config: limits and timeouts.
      carrier: what carries WebSockets: our adapter over `websockets`, or `trio-websocket`.
      ssl_context: for `tls://`, `wss://`, `https://` and `wt://`; None trusts what the system trusts. QUIC brings TLS of its
        own, so for `wt://` only its authorities and whether it looks at certificates count, and None trusts those that
        certifi brings.
      on_stderr: told what a `process:` writes to its standard error, as it comes; it must not wait.
      dialect: what is spoken: ours, or `envelopes` for a server of Raffel's, on WebSockets and byte streams.
      envelopes: limits of that dialect.
      event_source: how streams over `http://` and `https://` whose items have ids come back after a loss; None for
        the defaults, without an `idle_timeout`.
      resume: whether streams and calls outlive their connection, and the limits of that; True for the defaults, None for
        whether `reconnect` is given. A server that does not offer it makes no difference until the connection is lost.
      reconnect: how to look for another connection then; None for the defaults. Durable streams look for one in the same
        way when the session is lost with its server, but only where this is given.

    Yields:
      The client. Over HTTP it carries calls and server streams only.

    Raises:
      ConnectionLost: nobody listens there, or it broke before the hello; one line that names the URL.
      RemoteProtocolError: who listens there speaks something else, or its certificate was refused.
      LocalProtocolError: the URL, the carrier's name or the dialect can't be used.

    Cancellation: streams are reset, and the resets leave within `close_timeout`.
    """
    check_carrier(carrier)
    address = parse_address(url, SCHEMES, is_called=True)
    _check_dialect(dialect, address, carrier)
    call = Call(
        address,
        config or ConnectionConfig(),
        carrier,
        ssl_context,
        on_stderr,
        dialect,
        envelopes or MessageLimits(),
        event_source or RECONNECT,
        check_resume(resume, reconnect, address, dialect),
        reconnect,
    )
    async with SCHEMES[address.scheme](call) as client:
        yield client


def _check_dialect(dialect: str, address: Address, carrier: CarrierName) -> None:
    if dialect not in _DIALECTS:
        raise LocalProtocolError(f"dialect is one of {', '.join(_DIALECTS)}, not {dialect!r}", field="dialect")
    if dialect == "envelopes" and address.scheme not in _HAVE_ENVELOPES:
        raise LocalProtocolError(
            f"can't speak envelopes on {address.url!r}: their schemes are {', '.join(_HAVE_ENVELOPES)}", field="dialect"
        )
    if dialect == "envelopes" and carrier != "websockets" and address.scheme in {"ws", "wss"}:
        raise LocalProtocolError(f"can't speak envelopes by {carrier}: it keeps no messages apart", field="carrier")

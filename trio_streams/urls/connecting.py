"""`connect`: a client on a URL, each scheme a row of `SCHEMES`."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_client
from trio_streams.procedures.client import Client, ConnectionClient
from trio_streams.procedures.http_client import HttpProcedureClient
from trio_streams.transports.http_client import HttpClient, HttpClientConfig
from trio_streams.urls.address import parse_address
from trio_streams.urls.carriers import CARRIERS, Call
from trio_streams.urls.websocket import CarrierName, check_carrier

__all__ = ["SCHEMES", "connect"]


def _on(open_carrier: Callable[[Call], AbstractAsyncContextManager[Carrier]]) -> _Open:
    """A client of our own dialect, on a carrier."""

    @contextlib.asynccontextmanager
    async def open_client(call: Call) -> AsyncGenerator[Client, None]:
        async with (
            open_carrier(call) as carrier,
            run_client(carrier, config=call.config, transport=call.address.scheme) as connection,
        ):
            yield ConnectionClient(connection)

    return open_client


@contextlib.asynccontextmanager
async def _open_http(call: Call) -> AsyncGenerator[Client, None]:
    config = HttpClientConfig(connect_timeout=call.config.connect_timeout)
    async with HttpClient(config, tls=call.ssl_context) as http:
        yield HttpProcedureClient(call.address.url, http)


_Open = Callable[[Call], AbstractAsyncContextManager[Client]]

SCHEMES: Final[Mapping[str, _Open]] = {
    **{scheme: _on(open_carrier) for scheme, open_carrier in CARRIERS.items()},
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
) -> AsyncGenerator[Client, None]:
    """Connect to a server for as long as the block.

    Args:
      url: `tcp://`, `tls://`, `ws://`, `wss://`, `http://` or `https://`; `unix:/path`; or `process:` and a command,
        which is split as a shell would but run without one, and ends with the block.
      config: limits and timeouts.
      carrier: what carries WebSockets: our adapter over `websockets`, or `trio-websocket`.
      ssl_context: for `tls://`, `wss://` and `https://`; None trusts what the system trusts.
      on_stderr: told what a `process:` writes to its standard error, as it comes; it must not wait.

    Yields:
      The client. Over HTTP it carries calls and server streams only.

    Raises:
      ConnectionLost: nobody listens there, or it broke before the hello; one line that names the URL.
      RemoteProtocolError: who listens there speaks something else, or its certificate was refused.
      LocalProtocolError: the URL or the carrier's name can't be used.

    Cancellation: streams are reset, and the resets leave within `close_timeout`.
    """
    check_carrier(carrier)
    address = parse_address(url, SCHEMES)
    call = Call(address, config or ConnectionConfig(), carrier, ssl_context, on_stderr)
    async with SCHEMES[address.scheme](call) as client:
        yield client

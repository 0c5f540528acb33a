"""A host of exchanges over HTTP/3 alone, with the signature of the others: plain requests, and no sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.admission import find_places
from trio_streams.transports.bytes import ListenError, describe_fault, host_port
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.http_access import AccessRecord
from trio_streams.webtransport.accepting import Connections
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.endpoint import open_endpoint
from trio_streams.webtransport.http3_host import Http3Host
from trio_streams.webtransport.udp import DatagramSocket, bind_udp

__all__ = ["serve_http3"]

_DEFAULT: Final = ExchangeConfig()


async def serve_http3(
    handler: ExchangeHandler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    certfile: str,
    keyfile: str,
    config: ExchangeConfig = _DEFAULT,
    graceful_timeout: float = 3.0,
    shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
    on_access: Callable[[AccessRecord], None] | None = None,
    webtransport_config: WebTransportConfig | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a handler over HTTP/3 until cancelled: `url = await nursery.start(partial(serve_http3, handler, certfile=…, keyfile=…))`.

    Early data (0-RTT) is never taken: no session tickets are handed out, so there is nothing that a client could send it with.
    Requests for sessions of WebTransport are answered 404; `webtransport.serve` has both.

    Args:
      handler: for each request.
      host: an address, or a name, which stands for its first address.
      port: of UDP; 0 lets the system choose.
      certfile: a certificate chain in PEM.
      keyfile: its key.
      config: limits and timeouts of exchanges.
      graceful_timeout: seconds that exchanges under way get after `shutdown_trigger`.
      shutdown_trigger: an async function; when it returns, clients are told to go elsewhere (GOAWAY) and no connections are
        accepted; this one returns after the last exchange.
      on_access: told of each exchange when it is over; must not block.
      webtransport_config: limits and timeouts of connections, and how many there may be (`endpoint`).
      task_status: started with the bound URL.

    Raises:
      ListenError: the port is taken, or the address is not ours; one line that names it.
      OSError: the certificate or its key can't be read.
      ValueError: there is none in its file.
    Cancellation: exchanges are cancelled and their streams reset; handlers' `finally` blocks have run.
    """
    limits = webtransport_config or WebTransportConfig()
    exchanges = Http3Host(handler, config=config, on_access=on_access)
    connections = Connections(limits, certfile, keyfile, exchanges.attach, find_places())
    socket = _bind(host, port)
    async with (
        open_endpoint(socket, accept=connections.accept, config=limits.endpoint) as endpoint,
        open_bare_nursery() as nursery,
    ):
        await nursery.start(exchanges.run)
        task_status.started(f"https://{host_port(*socket.address[:2])}")
        if shutdown_trigger is None:
            await trio.sleep_forever()
        else:
            await shutdown_trigger()
        endpoint.stop_accepting()
        connections.go_away()
        with trio.move_on_after(graceful_timeout):
            await exchanges.wait_idle()
        exchanges.drain()
        nursery.cancel_scope.cancel()


def _bind(host: str, port: int) -> DatagramSocket:
    try:
        return bind_udp(host, port)
    except OSError as exc:
        error = ListenError(f"cannot listen on https://{host_port(host, port)} over UDP: {describe_fault(exc)}")
        error.errno = exc.errno
        raise error from exc

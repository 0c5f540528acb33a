"""A host of exchanges over HTTP/3 alone, with the signature of the others: plain requests, and no sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.bytes import ListenError, describe_fault, host_port
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.http_access import AccessRecord
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.driven import Opening
from trio_streams.webtransport.endpoint import Endpoint, EndpointConfig, open_endpoint
from trio_streams.webtransport.http3_host import Http3Host
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import server_configuration
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
    endpoint_config: EndpointConfig | None = None,
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
      webtransport_config: limits and timeouts of connections.
      endpoint_config: how many connections there may be.
      task_status: started with the bound URL.

    Raises:
      ListenError: the port is taken, or the address is not ours; one line that names it.
      OSError: the certificate or its key can't be read.
      ValueError: there is none in its file.
    Cancellation: exchanges are cancelled and their streams reset; handlers' `finally` blocks have run.
    """
    limits = webtransport_config or WebTransportConfig()
    configuration = server_configuration(limits.quic, certificate_file=certfile, key_file=keyfile)
    exchanges = Http3Host(handler, config=config, on_access=on_access)
    server = _Server(exchanges, limits, partial(Quic, configuration, limits.quic))
    socket = await _bind(host, port)
    async with (
        open_endpoint(socket, accept=server.accept, config=endpoint_config) as endpoint,
        open_bare_nursery() as nursery,
    ):
        await nursery.start(exchanges.run)
        task_status.started(f"https://{host_port(*socket.address[:2])}")
        if shutdown_trigger is None:
            await trio.sleep_forever()
        else:
            await shutdown_trigger()
        await server.drain(endpoint, graceful_timeout)
        nursery.cancel_scope.cancel()


async def _bind(host: str, port: int) -> DatagramSocket:
    try:
        return bind_udp(host, port)
    except OSError as exc:
        error = ListenError(f"cannot listen on https://{host_port(host, port)} over UDP: {describe_fault(exc)}")
        error.errno = exc.errno
        raise error from exc


class _Server:
    def __init__(self, exchanges: Http3Host, config: WebTransportConfig, make_quic: Callable[..., Quic]) -> None:
        self._exchanges = exchanges
        self._config = config
        self._make_quic = make_quic
        self._links: set[Link] = set()

    def accept(self, opening: Opening) -> Link:
        quic = self._make_quic(
            original_destination_connection_id=opening.original_destination_connection_id,
            retry_source_connection_id=opening.retry_source_connection_id,
        )
        machine = ConnectionMachine(quic, is_client=False, limits=self._config.limits)
        link = Link(machine, peer=host_port(*opening.addr[:2]), config=self._config, is_client=False)
        self._exchanges.attach(link)
        self._links.add(link)
        link.on_over = partial(self._forget, link)
        return link

    def _forget(self, link: Link, _: Exception) -> None:
        self._links.discard(link)

    async def drain(self, endpoint: Endpoint, timeout: float) -> None:
        endpoint.stop_accepting()
        for link in self._links:
            link.machine.go_away()
            link.kick()
        with trio.move_on_after(timeout):
            await self._exchanges.wait_idle()
        self._exchanges.drain()

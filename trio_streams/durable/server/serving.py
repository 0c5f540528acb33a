"""A server of durable streams, alone on the lean host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import trio

from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.base import Store
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.transports.beside import Beside, serve_both
from trio_streams.transports.http import serve_lean

__all__ = ["DEFAULT_PORT", "serve_durable"]

DEFAULT_PORT: Final = 4437
"""The protocol's own. Spec: Durable Streams §13.1."""

_DEFAULT: Final = DurableConfig()
_EXCHANGES: Final = ExchangeConfig()


async def serve_durable(
    store: Store | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    config: DurableConfig = _DEFAULT,
    exchange_config: ExchangeConfig = _EXCHANGES,
    graceful_timeout: float = 3.0,
    shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    http3: Beside | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve durable streams over HTTP/1.1, and HTTP/3 on request, until cancelled: `url = await nursery.start(serve_durable)`.

    Args:
      store: keeps the streams, and is closed at the end; None for memory.
      host: an address, or a name, which stands for all its addresses.
      port: 0 lets the system choose.
      config: limits and policies.
      exchange_config: limits and timeouts of exchanges.
      graceful_timeout: seconds that exchanges under way get after `shutdown_trigger`.
      shutdown_trigger: an async function; when it returns, nothing new is accepted.
      certfile: a certificate chain in PEM; with `keyfile`, https is served.
      keyfile: its key.
      http3: serves the same over HTTP/3 on the same port number, such as `webtransport.OverHttp3()`; None for nothing. It takes
        a certificate.
      task_status: started with the bound URL, without the streams' root.

    Raises:
      ListenError: the port is taken, or the address is not ours.
    Cancellation: exchanges are cancelled; what was acknowledged is durable.
    """
    async with DurableServer(store, config) as server:
        hosts = _Hosts(server, host, exchange_config, graceful_timeout, certfile, keyfile, http3)
        if http3 is None:
            await hosts.over_tcp(port, shutdown_trigger=shutdown_trigger, task_status=task_status)
        else:
            over_udp = partial(hosts.over_udp, http3)
            await serve_both(over_udp, hosts.over_tcp, port, shutdown_trigger=shutdown_trigger, task_status=task_status)


@attrs.frozen
class _Hosts:
    """What both hosts are told."""

    server: DurableServer
    host: str
    config: ExchangeConfig
    graceful_timeout: float
    certfile: str | None
    keyfile: str | None
    http3: Beside | None

    async def over_tcp(
        self,
        port: int,
        *,
        shutdown_trigger: Callable[[], Awaitable[None]] | None,
        task_status: trio.TaskStatus[str],
    ) -> None:
        config = self.config
        if self.http3 is not None and config.alt_svc is None:
            config = attrs.evolve(config, alt_svc=self.http3.alt_svc(port))
        await serve_lean(
            self.server.handle,
            self.host,
            port,
            answer_nowait=self.server.answer_nowait,
            config=config,
            graceful_timeout=self.graceful_timeout,
            shutdown_trigger=shutdown_trigger,
            certfile=self.certfile,
            keyfile=self.keyfile,
            task_status=task_status,
        )

    async def over_udp(
        self,
        http3: Beside,
        port: int,
        *,
        shutdown_trigger: Callable[[], Awaitable[None]] | None,
        task_status: trio.TaskStatus[str],
    ) -> None:
        await http3.serve(
            self.server.handle,
            self.host,
            port,
            config=self.config,
            graceful_timeout=self.graceful_timeout,
            shutdown_trigger=shutdown_trigger,
            certfile=self.certfile,
            keyfile=self.keyfile,
            on_access=None,
            task_status=task_status,
        )

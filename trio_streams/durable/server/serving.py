"""A server of durable streams, alone on the lean host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.store.base import Store
from trio_streams.service.exchange import ExchangeConfig
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
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve durable streams over HTTP/1.1 until cancelled: `url = await nursery.start(serve_durable)`.

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
      task_status: started with the bound URL, without the streams' root.

    Raises:
      ListenError: the port is taken, or the address is not ours.
    Cancellation: exchanges are cancelled; what was acknowledged is durable.
    """
    async with DurableServer(store, config) as server:
        await serve_lean(
            server.handle,
            host,
            port,
            answer_nowait=server.answer_nowait,
            config=exchange_config,
            graceful_timeout=graceful_timeout,
            shutdown_trigger=shutdown_trigger,
            certfile=certfile,
            keyfile=keyfile,
            task_status=task_status,
        )

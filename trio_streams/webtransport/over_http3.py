"""HTTP/3 beside HTTP/1.1 and /2: what `serve(..., http3=…)` and `serve_durable(..., http3=…)` are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from trio_streams.config import positive
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.http_access import AccessRecord
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.http3_serving import serve_http3

__all__ = ["OverHttp3"]


@attrs.frozen(kw_only=True)
class OverHttp3:
    """How the handlers of an `https://` URL are served over HTTP/3, on the same port number over UDP.

    Attributes:
      max_age: seconds that a client may go by what `Alt-Svc` says, in its answers over HTTP/1.1 and /2; None for not saying it.
      advertised_port: where clients are sent, if something stands before the server; None for the bound port.
      config: limits and timeouts of connections, and how many there may be (`endpoint`).
    """

    max_age: int | None = attrs.field(default=86_400, validator=positive)
    advertised_port: int | None = attrs.field(default=None, validator=positive)
    config: WebTransportConfig | None = None

    def alt_svc(self, port: int) -> str | None:
        """See `transports.beside.Beside`."""
        if self.max_age is None:
            return None
        return f'h3=":{self.advertised_port or port}"; ma={self.max_age}'

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
        """See `transports.beside.Beside`.

        Raises:
          ValueError: there is no certificate, without which there is no QUIC.
        """
        if certfile is None or keyfile is None:
            raise ValueError("can't serve over HTTP/3 without certfile and keyfile")
        await serve_http3(
            handler,
            host,
            port,
            certfile=certfile,
            keyfile=keyfile,
            config=config,
            graceful_timeout=graceful_timeout,
            shutdown_trigger=shutdown_trigger,
            on_access=on_access,
            webtransport_config=self.config,
            task_status=task_status,
        )

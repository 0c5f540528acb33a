"""A relay for peers on URLs: `serve_relay`."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer.relay import Relay, RelayOptions
from trio_streams.service.drain import Drain
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.messages import WebSocketCarrier, accept_websocket
from trio_streams.urls.credentials import Credentials
from trio_streams.urls.listening import (
    LISTENERS,
    Listening,
    MakeMachine,
    Secure,
    Serve,
    make_gate,
    parse_urls,
    serve_all,
)
from trio_streams.urls.runs import Run
from trio_streams.wire.envelope import SignsOfLife

if TYPE_CHECKING:
    from trio_streams.webtransport import WebTransportSession

__all__ = ["serve_relay"]

_LISTENERS: Final[Mapping[str, Serve[Listening]]] = {scheme: LISTENERS[scheme] for scheme in ("ws", "wss")}


@attrs.frozen(kw_only=True)
class _RelayServer(Listening):
    """What one `serve_relay` call shares among its listeners."""

    relay: Relay

    @property
    def max_text_bytes(self) -> int | None:
        """The longest message of anybody."""
        return self.relay.limits.max_message_bytes

    async def accept_websocket(self, secure: Secure | None, stream: trio.SocketStream) -> WebSocketCarrier:
        """A WebSocket of texts, whatever its client offers beside."""
        under = stream if secure is None else await secure(stream)
        return await accept_websocket(under, config=self.config, subprotocols=(), require_subprotocol=False)

    def serve(
        self, run: Run, transport: str, carrier: Carrier, start: bytes | None = None, began_at: float = 0.0
    ) -> Awaitable[None]:
        """Seat whoever connected."""
        assert isinstance(carrier, WebSocketCarrier)
        self._runs.forget(run)  # a seat ends by itself
        return self.relay.run(carrier, carrier.path)

    async def speak(
        self,
        transport: str,
        carrier: Carrier,
        *,
        make_machine: MakeMachine | None,
        received: bytes,
        on_connection: Callable[[Connection], None],
    ) -> None:
        """A relay speaks no dialect of its own."""
        raise RemoteProtocolError(f"{carrier.peer} does not speak to a relay")

    async def speak_messages(
        self,
        transport: str,
        carrier: Carrier,
        *,
        is_text: bool,
        signs: SignsOfLife | None,
        received: bytes,
        on_connection: Callable[[Connection], None],
    ) -> None:
        """Likewise."""
        raise RemoteProtocolError(f"{carrier.peer} does not speak to a relay")

    async def speak_on_session(
        self, session: WebTransportSession, *, on_connection: Callable[[Connection], None]
    ) -> None:
        """Likewise."""
        raise RemoteProtocolError(f"{session.peer} does not speak to a relay")

    async def finish_work(self) -> None:
        """Wait until nothing is under way, until cancelled: the task around this ends with the listeners."""
        async with open_bare_nursery() as ending:
            ending.start_soon(super().finish_work)  # who still shakes hands
            ending.start_soon(self.relay.drain)


async def serve_relay(
    *urls: str,
    options: RelayOptions | None = None,
    config: ConnectionConfig | None = None,
    server: ServerConfig | None = None,
    drain: Drain | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Relay between all peers that connect, by the path that they ask for: `await nursery.start(serve_relay, url)`.

    Who connects to a path hears what the others on it say; `to=` reaches one alone. Nothing is dropped: who sends to a
    peer that does not read has to wait, and that peer is disconnected after `stall_timeout`.

    Args:
      urls: `ws://` and `wss://`, without paths: those are the clients'.
      options: limits of the relay; None for the defaults.
      config: the timeouts of connections; None for the defaults.
      server: how the server is run: limits of connections, who may ask, the time that a drain gets.
      drain: ends the relay when told to: no more peers, and each leaves once nothing waits for it and no answer is to come.
        What streams are under way a relay does not know.
      certfile, keyfile, ssl_context: as for `serve`.
      task_status: started with the bound URLs, in the order of `urls`.

    Raises:
      ListenError: a port is taken, or an address is not ours; one line that names it.
      LocalProtocolError: a URL can't be used.

    Cancellation: connections are closed within `close_timeout`.
    """
    addresses = parse_urls(urls, _LISTENERS, "websockets")
    rules = server or ServerConfig()
    async with open_bare_nursery() as nursery:
        async with open_bare_nursery() as work:
            shared = _RelayServer(
                relay=Relay(options),
                config=config or ConnectionConfig(),
                rules=rules,
                carrier="websockets",
                on_connection=None,
                credentials=Credentials(certfile, keyfile, ssl_context),
                drain=drain or Drain(),
                gate=make_gate(nursery, rules),
            )
            await serve_all(shared, addresses, _LISTENERS, nursery, work.cancel_scope, task_status)
        nursery.cancel_scope.cancel()

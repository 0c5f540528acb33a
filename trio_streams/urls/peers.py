"""Peers on URLs: `open_peer` and `serve_peers`."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.driver import run_connection
from trio_streams.errors import as_rpc_error
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer import Methods, RpcPeer, StreamOptions
from trio_streams.peer.signal import PeerDialect, Signal
from trio_streams.service.drain import Drain
from trio_streams.service.server_config import ServerConfig
from trio_streams.urls.address import parse_address
from trio_streams.urls.carriers import Call
from trio_streams.urls.credentials import Credentials
from trio_streams.urls.existing import carrier_over
from trio_streams.urls.listening import (
    LISTENERS,
    Listening,
    MakeMachine,
    make_gate,
    open_nurseries,
    parse_urls,
    serve_all,
)
from trio_streams.urls.peer_dialects import check_peer_dialect
from trio_streams.urls.sessions import CALLED, check_resume, make_sessions, run_call
from trio_streams.urls.websocket import CarrierName, check_carrier
from trio_streams.wire.envelope import SignsOfLife
from trio_streams.wire.message_limits import MessageLimits

if TYPE_CHECKING:
    from trio_streams.webtransport import WebTransportSession

__all__ = ["PeerHandler", "open_peer", "open_peer_stream", "serve_peers"]

_logger: Final = logging.getLogger("trio_streams")

PeerHandler: TypeAlias = Callable[[RpcPeer], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_peer(
    url: str,
    *,
    options: StreamOptions | None = None,
    methods: Methods | None = None,
    config: ConnectionConfig | None = None,
    carrier: CarrierName = "websockets",
    ssl_context: ssl.SSLContext | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
    dialect: PeerDialect = "trio-streams",
    relayed: bool = False,
    name: str | None = None,
    signal: MessageLimits | None = None,
    resume: ResumeOptions | bool | None = None,
    reconnect: ReconnectOptions | None = None,
) -> AsyncGenerator[RpcPeer, None]:
    """Connect to a peer for as long as the block.

    Args:
      url: as for `connect`, but for HTTP.
      options: limits of streams; None for the defaults.
      methods: what the other side may call; `RpcPeer.method` and `RpcPeer.match` add to it.
      config: limits and timeouts of the connection; None for those that `options` make.
      carrier, ssl_context, on_stderr: as for `connect`.
      dialect: what is spoken: ours, or `signal`, the JSON messages of ts-signal-rpc, on WebSockets and byte streams.
      relayed: whether the URL is a relay's, whose path names who hears whom. Then `to=` is for one of them.
      name: what this side calls itself in `signal`; None for nothing.
      signal: limits of that dialect; None for those that `options` make.
      resume: whether calls and streams, of both directions, outlive their connection, and the limits of that; True for the
        defaults, None for whether `reconnect` is given.
      reconnect: how to look for another connection then; None for the defaults.

    Yields:
      The peer. What the block declares before its first await is there before anything is asked for.

    Raises:
      ConnectionLost: nobody listens there, or it broke before the hello; one line that names the URL.
      RemoteProtocolError: who listens there speaks something else, or its certificate was refused.
      LocalProtocolError: the URL, the carrier's name or the dialect can't be used.

    Cancellation: what is under way is cancelled on both sides.
    """
    check_carrier(carrier)
    address = parse_address(url, CALLED, is_called=True)
    check_peer_dialect(dialect, address, carrier, is_relayed=relayed)
    options = options or StreamOptions()
    call = Call(
        address,
        config or options.connection_config(),
        carrier,
        ssl_context,
        on_stderr,
        dialect,
        resume=check_resume(resume, reconnect, address, dialect),
        reconnect=reconnect,
    )
    messages = Signal.choose(options, call.config, signal, name=name, is_relayed=relayed)
    async with (
        run_call(call, messages.run_client if dialect == "signal" else None) as connection,
        RpcPeer(connection, options=options, methods=methods) as peer,
    ):
        yield peer


@contextlib.asynccontextmanager
async def open_peer_stream(
    stream: trio.abc.Stream | Carrier,
    *,
    is_client: bool,
    options: StreamOptions | None = None,
    methods: Methods | None = None,
    config: ConnectionConfig | None = None,
    peer: str | None = None,
) -> AsyncGenerator[RpcPeer, None]:
    """Talk to the peer on the other side of a byte stream or a carrier that exists already, for as long as the block.

    Args:
      stream: as for `connect_stream`. It is closed at the end, and nobody else may use it meanwhile.
      is_client: whether this side is the client: the two must not agree.
      options, methods, config: as for `open_peer`.
      peer: who is on the other side of a byte stream, for people; None to ask its socket.

    Yields:
      The peer.

    Raises:
      ConnectionLost: the stream broke before the hello.
      RemoteProtocolError: who is there speaks something else.

    Cancellation: as for `open_peer`.
    """
    options = options or StreamOptions()
    config = config or options.connection_config()
    carrier = carrier_over(stream, config, peer)
    async with (
        run_connection(carrier, is_client=is_client, config=config) as connection,
        RpcPeer(connection, options=options, methods=methods) as open_peer_,
    ):
        yield open_peer_


@attrs.frozen(kw_only=True)
class _PeerServer(Listening):
    """What one `serve_peers` call shares among its listeners."""

    handler: PeerHandler | None
    options: StreamOptions
    methods: Methods | None
    messages: Signal

    @property
    def max_text_bytes(self) -> int | None:
        """The longest message of a client that speaks JSON."""
        return self.messages.limits.max_text_bytes

    async def speak(
        self,
        transport: str,
        carrier: Carrier,
        *,
        make_machine: MakeMachine | None,
        received: bytes,
        on_connection: Callable[[Connection], None],
    ) -> None:
        """Be the peer of whoever connected, until the connection is over."""
        await self._meet(
            run_connection(
                carrier,
                is_client=False,
                config=self.config,
                transport=transport,
                make_machine=make_machine,
                received=received,
                on_connection=on_connection,
            )
        )

    async def speak_on_session(
        self, session: WebTransportSession, *, on_connection: Callable[[Connection], None]
    ) -> None:
        """The same on a session of WebTransport."""
        from trio_streams.webtransport.procedures import run_session_connection  # noqa: PLC0415 - it takes an extra

        await self._meet(run_session_connection(session, config=self.config, on_connection=on_connection))

    async def _meet(self, running: AbstractAsyncContextManager[Connection]) -> None:
        async with (
            running as connection,
            RpcPeer(connection, options=self.options, methods=self.methods) as peer,
            open_bare_nursery() as nursery,
        ):
            nursery.start_soon(_cancel_when_closed, peer, nursery.cancel_scope)
            if self.handler is not None:
                await _run_handler(self.handler, peer, nursery.cancel_scope)  # no await before it

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
        """The same to whoever speaks JSON messages."""
        await self.speak(
            transport,
            carrier,
            make_machine=self.messages.machine_maker(is_client=False, is_text=is_text, signs=signs),
            received=received,
            on_connection=on_connection,
        )


async def _run_handler(handler: PeerHandler, peer: RpcPeer, scope: trio.CancelScope) -> None:
    try:
        await handler(peer)
    except Exception as exc:
        expected = not as_rpc_error(exc).is_our_fault
        level = logging.DEBUG if expected else logging.ERROR
        _logger.log(level, "the handler of %s failed", peer.connection.peer, exc_info=exc)
        scope.cancel()


async def _cancel_when_closed(peer: RpcPeer, scope: trio.CancelScope) -> None:
    await peer.wait_closed()
    scope.cancel()


async def serve_peers(
    handler: PeerHandler | None,
    *urls: str,
    options: StreamOptions | None = None,
    methods: Methods | None = None,
    config: ConnectionConfig | None = None,
    server: ServerConfig | None = None,
    drain: Drain | None = None,
    carrier: CarrierName = "websockets",
    on_connection: Callable[[Connection], None] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    resume: ResumeOptions | bool | None = None,
    name: str | None = None,
    signal: MessageLimits | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a peer to all who connect: `urls = await nursery.start(serve_peers, handler, "tcp://127.0.0.1:0")`.

    Args:
      handler: run for each connection, in a task of its own; what it declares before its first await is there before
        anything is asked for. When it returns, the connection goes on until the other side closes it; when it raises,
        its connection ends. None where `methods` says it all.
      urls: as for `serve`, but for HTTP.
      options: limits of streams; None for the defaults.
      methods: what all of them may call; None has each handler declare it for its own peer.
      config: limits and timeouts of connections; None for those that `options` make.
      server: how the server is run: limits of connections, who may ask, the time that a drain gets.
      drain, carrier, on_connection, certfile, keyfile, ssl_context: as for `serve`.
      resume: whether clients may go on with their sessions on another connection, and the limits of that; True for the
        defaults. `handler` then runs once for each session.
      name, signal: as for `open_peer`, with those who speak JSON messages: WebSockets without a subprotocol, and byte
        streams that begin so.
      task_status: started with the bound URLs, in the order of `urls`.

    Raises:
      ListenError: a port is taken, or an address is not ours; one line that names it.
      LocalProtocolError: a URL or the carrier's name can't be used.

    Cancellation: handlers are cancelled, streams reset, and connections closed within `close_timeout`.
    """
    addresses = parse_urls(urls, LISTENERS, carrier)
    rules = server or ServerConfig()
    config = config or (options or StreamOptions()).connection_config()
    async with open_nurseries() as (nursery, work):
        shared = _PeerServer(
            handler=handler,
            options=options or StreamOptions(),
            methods=methods,
            messages=Signal.choose(options or StreamOptions(), config, signal, name=name),
            config=config,
            rules=rules,
            carrier=carrier,
            on_connection=on_connection,
            credentials=Credentials(certfile, keyfile, ssl_context),
            drain=drain or Drain(),
            gate=make_gate(nursery, rules),
            sessions=make_sessions(resume, config, work),
        )
        await serve_all(shared, addresses, LISTENERS, nursery, work.cancel_scope, task_status)

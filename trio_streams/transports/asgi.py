"""Exchange handlers as an ASGI application, and hypercorn to host it.

Some facts about hypercorn on Trio shape this file; each was found by experiment and has a test.

`send` never raises after a disconnect, so a task of its own watches `receive()`, which also reads the body ahead.

`send` is shielded, so a client that stops reading holds whoever calls it, through cancellation and shutdown. Only the
pump calls it: the handler stays free to be cancelled. A write that makes no way within `stall_timeout`, or within
`close_timeout` once the exchange is cancelled, ends by aborting the connection's socket, which wakes the write with an
error that hypercorn handles. `TCP_USER_TIMEOUT` on the listening sockets, which connections inherit, is the second
line: the kernel's own bound for writes that do not pass through here.

On HTTP/2 `send` does not wait at all, so the pump waits by itself until the stream's buffer is written.

One `http.response.body` costs tens of microseconds, so each carries all that waits. And a request body that nobody
reads holds hypercorn's reader for ever, so an exchange does not end before its last `receive()`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from logging import getLogger
from typing import Final, TypeAlias, cast

import hypercorn
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from trio_streams.errors import unwrap_group
from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.admission import CheckRequest
from trio_streams.transports.answer import run_handler
from trio_streams.transports.asgi_hypercorn import abort, carrier_of, drained, held, let_go
from trio_streams.transports.asgi_types import Message as Message
from trio_streams.transports.asgi_types import Receive as Receive
from trio_streams.transports.asgi_types import Scope as Scope
from trio_streams.transports.asgi_types import Send as Send
from trio_streams.transports.asgi_websocket import WebSocketHandler, serve_asgi_websocket
from trio_streams.transports.bytes import host_port, open_url_listeners
from trio_streams.transports.carrier import DEFAULT_MAX_MESSAGE_BYTES
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler, HostedExchange, RequestHead

__all__ = ["AsgiApp", "Message", "Receive", "Scope", "Send", "asgi_app", "serve_hypercorn"]

_SecureStream: TypeAlias = "trio.SSLStream[trio.SocketStream]"
_AnyStream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"

_LOG: Final = getLogger("trio_streams.hypercorn")

_CUT_TIMEOUT: Final = 0.25
"""Seconds that a cut exchange gets when a drain is over: its handler's `finally`, and no more than that."""

_DEFAULT: Final = ExchangeConfig()


class AsgiApp:
    """An ASGI 3 application that runs a handler for each HTTP request, and one for each WebSocket. See `asgi_app`."""

    def __init__(
        self,
        handler: ExchangeHandler,
        config: ExchangeConfig,
        websocket: WebSocketHandler | None = None,
        check_request: CheckRequest | None = None,
    ) -> None:
        self._handler = handler
        self._config = config
        self._websocket = websocket
        self._check_request = check_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        match scope["type"]:
            case "http":
                exchange = HostedExchange(_request_head(scope), self._config)
                # Cutting an HTTP/2 connection would end everybody's streams on it: that is left to a shutdown.
                carrier = carrier_of(send) if exchange.request.http_version.startswith("1") else None
                await _Host(exchange, receive, send, carrier).run(self._handler)
            case "lifespan":
                await _lifespan(receive, send)
            case "websocket" if self._websocket is not None:
                timeout = self._config.close_timeout
                check = self._check_request
                await serve_asgi_websocket(
                    scope, receive, send, self._websocket, close_timeout=timeout, check_request=check
                )
            case "websocket":
                await receive()
                # Before the handshake is accepted, this is answered with HTTP 403.
                await send({"type": "websocket.close", "code": 1000, "reason": ""})
            case other:
                raise ValueError(f"can't serve an ASGI scope of type {other!r}")


def asgi_app(
    handler: ExchangeHandler,
    *,
    config: ExchangeConfig = _DEFAULT,
    websocket: WebSocketHandler | None = None,
    check_request: CheckRequest | None = None,
) -> AsgiApp:
    """An ASGI 3 application (HTTP, WebSocket and lifespan) that runs `handler` for each request.

    For mounting into another application, or for another Trio host. Under hypercorn a write that stalls ends by
    aborting its connection; under a host whose connections this can't find, it ends when the host ends it.

    Args:
      handler: one for all requests; a `service.exchange.Routes`, usually.
      config: limits and timeouts.
      websocket: runs each WebSocket that offers our subprotocol; None refuses them all.
      check_request: judges the opening requests of WebSockets; see `messages.accept_websocket`.
    """
    return AsgiApp(handler, config, websocket, check_request)


class _Host:
    """Moves one exchange's bytes between its buffers and ASGI's two callables."""

    def __init__(
        self, exchange: HostedExchange, receive: Receive, send: Send, carrier: trio.SocketStream | None
    ) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._carrier = carrier
        self._config = exchange.config
        self._is_writing = False
        self._is_finishing = False
        self._pump_scope = trio.CancelScope()
        self._watch_scope = trio.CancelScope()
        self._pump_done = trio.Event()
        self._watch_done = trio.Event()
        self._body_done = trio.Event()

    async def run(self, handler: ExchangeHandler) -> None:
        try:
            await self._run(handler)
        finally:
            let_go(self._carrier)

    async def _run(self, handler: ExchangeHandler) -> None:
        async with open_bare_nursery() as nursery:  # hypercorn logs and swallows groups, an interrupt's too
            nursery.start_soon(self._watch)
            nursery.start_soon(self._pump)
            try:
                await run_handler(self._exchange, handler)
                self._exchange.drop_body()
                await self._pump_done.wait()
                if not self._exchange.is_body_complete:
                    # hypercorn's reader may be waiting to hand us more of it: only a disconnect sets it free.
                    with trio.move_on_after(self._config.close_timeout):
                        await self._watch_done.wait()
            finally:
                if self._is_writing:
                    await self._end_write()
                nursery.cancel_scope.cancel()

    async def _end_write(self) -> None:
        """Cancelled in the middle of a write, which may be deaf to that: give it a moment, then cut the line."""
        self._exchange.abandon()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.close_timeout):
            await self._pump_done.wait()
        if self._is_writing:
            self._abort()

    def _abort(self) -> None:
        self._exchange.abandon()
        self._pump_scope.cancel()
        if self._carrier is not None:
            abort(self._carrier)

    async def _watch(self) -> None:
        """Read the body ahead until the client goes away; the scope's deadline is that of the pump's write."""
        with self._watch_scope:
            while True:
                message = await self._receive()
                if message["type"] != "http.request":
                    break
                is_last = not message.get("more_body", False)
                await self._exchange.feed(cast("bytes", message.get("body", b"")), is_last=is_last)
                if self._pump_done.is_set() or self._is_finishing:
                    self._exchange.drop_body()
                if is_last:
                    self._body_done.set()
        self._watch_done.set()
        self._body_done.set()
        if self._watch_scope.cancelled_caught:
            self._abort()
        elif not self._is_finishing:
            self._exchange.abandon()
            self._pump_scope.cancel()
            if self._is_writing:
                self._abort()

    async def _pump(self) -> None:
        try:
            with self._pump_scope:
                await self._write_answer()
        finally:
            self._is_writing = False
            self._pump_done.set()

    async def _write_answer(self) -> None:
        exchange = self._exchange
        head = await exchange.take_head()
        if head is None:
            return
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in head.headers]
        await self._write({"type": "http.response.start", "status": head.status, "headers": headers})
        while (body := await exchange.take_body()) is not None:
            await self._write({"type": "http.response.body", "body": body, "more_body": True})
        if not exchange.is_ended:
            return
        self._is_finishing = True
        if not exchange.is_body_complete:
            exchange.drop_body()
            # The last event makes hypercorn close a connection whose request is unread, and closing with unread
            # bytes resets it: the answer would be lost on its way.
            with trio.move_on_after(self._config.linger_timeout):
                await self._body_done.wait()
        await self._write({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, message: Message) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._is_writing = True
        if self._config.stall_timeout is not None:
            self._watch_scope.deadline = trio.current_time() + self._config.stall_timeout
        # Cancelled between h11's step and its own, hypercorn would answer a second time, and the error that this makes
        # would take the place of what is passing through. `_end_write` bounds the write instead.
        self._pump_scope.shield = True
        await self._send(message)
        if message.get("body"):
            await drained(self._send)
        self._pump_scope.shield = False
        self._watch_scope.deadline = float("inf")
        self._is_writing = False


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _request_head(scope: Scope) -> RequestHead:
    client = cast("tuple[str, int] | None", scope.get("client"))
    headers = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
    return RequestHead(
        method=cast("str", scope["method"]),
        path=_path_below(cast("str", scope["path"]), cast("str", scope.get("root_path", ""))),
        query_string=cast("bytes", scope["query_string"]).decode("latin-1"),
        headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers),
        peer=host_port(client[0], client[1]) if client else "",
        scheme=cast("str", scope.get("scheme", "http")),
        http_version=cast("str", scope["http_version"]),
    )


def _path_below(path: str, root: str) -> str:
    """The path as seen from where the application is mounted: ASGI's `path` includes `root_path`."""
    root = root.rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


async def serve_hypercorn(
    handler: ExchangeHandler,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    config: ExchangeConfig = _DEFAULT,
    websocket: WebSocketHandler | None = None,
    graceful_timeout: float = 3.0,
    shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    max_head_bytes: int = 16_384,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a handler through hypercorn until cancelled: `url = await nursery.start(serve_hypercorn, handler)`.

    Args:
      handler: for each request.
      host: an address, or a name, which stands for all its addresses (with port 0, for the first).
      port: 0 lets the system choose.
      config: limits and timeouts.
      websocket: runs each WebSocket that offers our subprotocol; None refuses them all.
      graceful_timeout: seconds that exchanges under way get after `shutdown_trigger`.
      shutdown_trigger: an async function; when it returns, no connections are accepted and this one returns after
        the last exchange.
      certfile: a certificate chain in PEM; with `keyfile`, https and HTTP/2 are served.
      keyfile: its key.
      max_head_bytes: of a request line and its headers.
      task_status: started with the bound URL.

    Raises:
      ListenError: the port is taken, or the address is not ours; one line that names it.
    Cancellation: exchanges are cancelled; connections that don't let go are reset after `close_timeout`.
    """
    settings = _hypercorn_config(certfile, keyfile)
    settings.h11_max_incomplete_size = settings.h2_max_header_list_size = max_head_bytes
    tls = settings.create_ssl_context()
    scheme = "http" if tls is None else "https"
    listeners = await open_url_listeners(scheme, host, port, user_timeout=config.stall_timeout)
    server = _Server(
        asgi_app(handler, config=config, websocket=websocket), settings, graceful_timeout, config.close_timeout
    )
    url = f"{scheme}://{host_port(*listeners[0].socket.getsockname()[:2])}"
    try:
        if tls is None:
            await server.run(listeners, shutdown_trigger, partial(task_status.started, url))
        else:
            secure = [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]
            await server.run(secure, shutdown_trigger, partial(task_status.started, url))
    except BaseExceptionGroup as group:
        error = unwrap_group(group)
        if error is group:
            raise
        raise error from None


class _Server:
    """Accepts connections and gives each to hypercorn.

    `hypercorn.trio.serve` would do that, but there an exception in one connection ends all of them and the server, and
    peers can cause some: DATA on an HTTP/2 stream that was answered early, a path that is not ASCII.
    """

    def __init__(self, app: AsgiApp, settings: hypercorn.Config, graceful_timeout: float, close_timeout: float) -> None:
        self._app = ASGIWrapper(cast("ASGIFramework", app))
        self._settings = settings
        self._context = WorkerContext(None)
        self._graceful_timeout = graceful_timeout
        self._close_timeout = close_timeout
        self._carriers: set[trio.SocketStream] = set()
        self._is_closing = trio.Event()
        self._is_done = trio.Event()

    async def run(
        self,
        listeners: Sequence[trio.abc.Listener[_AnyStream]],
        shutdown_trigger: Callable[[], Awaitable[None]] | None,
        started: Callable[[], None],
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reap)
            try:
                async with trio.open_nursery() as connections:
                    serve = partial(trio.serve_listeners, handler_nursery=connections)
                    async with trio.open_nursery() as accepting:
                        await accepting.start(serve, self._connection, listeners)
                        started()
                        if shutdown_trigger is None:
                            await trio.sleep_forever()
                        else:
                            await shutdown_trigger()
                        accepting.cancel_scope.cancel()
                    self._is_closing.set()
                    await self._context.terminated.set()  # idle connections close, others after their exchange
                    connections.cancel_scope.deadline = trio.current_time() + self._graceful_timeout
            finally:
                self._is_done.set()
            nursery.cancel_scope.cancel()

    async def _connection(self, stream: _AnyStream) -> None:
        carrier = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._carriers.add(carrier)
        try:
            with held(carrier):
                # An SSLStream is what the annotation asks for; both are what the code takes.
                await TCPServer(
                    self._app,
                    self._settings,
                    self._context,
                    ConnectionState(LifespanState()),
                    cast("_SecureStream", stream),
                )
        except Exception:  # noqa: BLE001 - the server is the boundary: one fault ends one connection
            _LOG.exception("a connection failed in hypercorn, and was closed")
        finally:
            self._carriers.discard(carrier)
            carrier.socket.close()  # which hypercorn does, unless its tasks are cancelled

    async def _reap(self) -> None:
        """Reset what is still connected when a shutdown, or the moment after a cancellation, is over.

        Exchanges see to their own writes; this is for what hypercorn writes by itself, as on HTTP/2.
        """
        # Cancelled, exchanges take close_timeout for themselves; what outlasts them is not theirs.
        patience = 1.25 * self._close_timeout
        try:
            await self._is_closing.wait()
            await trio.sleep(self._graceful_timeout)
            patience = min(patience, _CUT_TIMEOUT)  # they have had their time
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + patience):
                await self._is_done.wait()
            for carrier in list(self._carriers):
                abort(carrier)
                let_go(carrier)


def _hypercorn_config(certfile: str | None, keyfile: str | None) -> hypercorn.Config:
    settings = hypercorn.Config()
    settings.certfile, settings.keyfile = certfile, keyfile
    settings.include_server_header = False
    settings.websocket_max_message_size = DEFAULT_MAX_MESSAGE_BYTES
    # Given a logger, hypercorn adds no handlers; warnings and worse come through ours.
    settings.errorlog = _LOG
    settings.accesslog = None
    return settings

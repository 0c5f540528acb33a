"""`serve`: an application on any number of URLs, each scheme a row of `SCHEMES`."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, get_args

import attrs
import trio

from trio_streams.browser import with_client
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError
from trio_streams.dashboard import Dashboard
from trio_streams.driver import run_server
from trio_streams.procedures.channels import Channels
from trio_streams.procedures.durable.runs import DurableRuns, check_replay_log, make_runs
from trio_streams.procedures.http_server import http_handler
from trio_streams.procedures.router import Router
from trio_streams.procedures.server import prepare
from trio_streams.service.background import Background
from trio_streams.service.drain import Drain
from trio_streams.service.front import admitted
from trio_streams.service.replay_log import ReplayLog, RunConfig
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.asgi import AsgiApp, serve_hypercorn
from trio_streams.transports.asgi import asgi_app as make_asgi_app
from trio_streams.transports.beside import Beside, serve_both
from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.transports.http import Http1Limits, serve_lean
from trio_streams.transports.origin import OriginPolicy
from trio_streams.urls.address import Address
from trio_streams.urls.credentials import Credentials
from trio_streams.urls.listening import LISTENERS, Serve, make_gate, open_nurseries, parse_urls, serve_all
from trio_streams.urls.server import HostName, Server
from trio_streams.urls.sessions import make_sessions
from trio_streams.urls.websocket import CarrierName
from trio_streams.wire.envelope import MessageLimits

__all__ = ["SCHEMES", "HostName", "asgi_app", "serve"]

_MAX_REQUEST_LINE_BYTES: Final = Http1Limits().max_request_line_bytes
_HOSTS: Final[tuple[str, ...]] = get_args(HostName)


async def _serve_http(server: Server, address: Address, task_status: trio.TaskStatus[str]) -> None:
    handler = http_handler(
        server.app,
        lambda: server.urls,
        sse_config=server.rules.sse,
        background=server.background,
        runs=server.durable_runs,
        on_access=server.rules.on_access,
    )
    over_tcp = partial(_serve_over_tcp, server, address, handler)
    if server.http3 is None or address.scheme != "https":
        await over_tcp(address.port, shutdown_trigger=server.stopping.wait, task_status=task_status)
        return
    await serve_both(
        partial(_serve_over_udp, server, server.http3, address, handler),
        over_tcp,
        address.port,
        shutdown_trigger=server.stopping.wait,
        task_status=task_status,
    )


async def _serve_over_tcp(
    server: Server,
    address: Address,
    handler: ExchangeHandler,
    port: int,
    *,
    shutdown_trigger: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[str],
) -> None:
    is_tls = address.scheme == "https"
    rules, exchange = server.rules, server.exchange
    if server.http3 is not None and is_tls and exchange.alt_svc is None:
        exchange = attrs.evolve(exchange, alt_svc=server.http3.alt_svc(port))
    serve_host = partial(serve_hypercorn, max_head_bytes=rules.max_header_bytes)
    if server.host == "lean":
        limits = Http1Limits(
            max_request_line_bytes=min(_MAX_REQUEST_LINE_BYTES, rules.max_header_bytes),
            max_head_bytes=rules.max_header_bytes,
            body_timeout=exchange.body_timeout,
            drain_timeout=exchange.linger_timeout,
        )
        serve_host = partial(serve_lean, limits=limits, websocket_config=server.config, on_access=rules.on_access)
    await serve_host(
        server.front(handler, address, server.host),
        address.host,
        port,
        config=exchange,
        # The drain's own deadline comes first, and knows what it cut.
        graceful_timeout=rules.drain_timeout + 1,
        shutdown_trigger=shutdown_trigger,
        websocket=partial(server.run_hosted, "wss" if is_tls else "ws"),
        certfile=server.credentials.certfile if is_tls else None,
        keyfile=server.credentials.keyfile if is_tls else None,
        task_status=task_status,
    )


async def _serve_over_udp(
    server: Server,
    http3: Beside,
    address: Address,
    handler: ExchangeHandler,
    port: int,
    *,
    shutdown_trigger: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[str],
) -> None:
    rules = server.rules
    await http3.serve(
        server.front(handler, address, "http3"),
        address.host,
        port,
        config=server.exchange,
        graceful_timeout=rules.drain_timeout + 1,
        shutdown_trigger=shutdown_trigger,
        certfile=server.credentials.certfile,
        keyfile=server.credentials.keyfile,
        on_access=rules.on_access,
        task_status=task_status,
    )


SCHEMES: Final[Mapping[str, Serve[Server]]] = {**LISTENERS, "http": _serve_http, "https": _serve_http}
"""What serves each scheme, from the listener on; it reports the URL that it bound."""


def asgi_app(
    app: Router,
    *,
    config: ExchangeConfig | None = None,
    connection_config: ConnectionConfig | None = None,
    allowed_hosts: tuple[str, ...] | None = None,
    allowed_origins: tuple[str, ...] | None = None,
    background: Background | None = None,
    replay_log: ReplayLog | None = None,
    runs: RunConfig | None = None,
) -> AsgiApp:
    """An application as an ASGI 3 application, to be mounted in another one or run by any host on Trio.

    It answers HTTP requests, and WebSockets that offer the subprotocol `trio-streams.v1`, on whatever path. Unlike `serve`
    it lets all of them in by default, as it can't know where it is served; to give one of the two tuples has `Host` and
    `Origin` checked as there.

    Args:
      app: the procedures.
      config: limits and timeouts of exchanges.
      connection_config: limits and timeouts of connections, which WebSockets carry.
      allowed_hosts: names to answer to, without ports; see `transports.origin.OriginPolicy`. Others are answered 421. None,
        or an empty tuple, for every name.
      allowed_origins: origins whose pages may use it besides its own; others are answered 403.
      background: runs events, and durable procedures, in a nursery of the host's; None runs events in their exchange.
      replay_log: keeps the items of durable procedures; it takes a `background`.
      runs: limits of those.

    Raises:
      ValueError: one of the tuples is none, or holds what is no name.
      LocalProtocolError: a procedure is durable, and there is no `replay_log`; or there is one and no `background`.
    """
    connections = connection_config or ConnectionConfig()
    check_replay_log(app, replay_log)
    if replay_log is not None and background is None:
        raise LocalProtocolError("durable procedures outlive their exchanges: give a background=", field="background")
    durable = None if replay_log is None or background is None else DurableRuns(replay_log, background, runs)

    async def serve_websocket(carrier: Carrier) -> None:
        await run_server(carrier, partial(prepare, app, background=background, runs=durable), config=connections)

    handler, check = with_client(http_handler(app, background=background, runs=durable)), None
    if allowed_hosts is not None or allowed_origins is not None:
        rules = ServerConfig(allowed_hosts=allowed_hosts or (), allowed_origins=allowed_origins or ())
        policy = OriginPolicy(allowed_hosts=rules.allowed_hosts, allowed_origins=rules.allowed_origins)
        handler, check = admitted(handler, policy, None), policy.refusal
    return make_asgi_app(handler, config=config or ExchangeConfig(), websocket=serve_websocket, check_request=check)


async def serve(
    app: Router,
    *urls: str,
    config: ConnectionConfig | None = None,
    server: ServerConfig | None = None,
    drain: Drain | None = None,
    carrier: CarrierName = "websockets",
    on_connection: Callable[[Connection], None] | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    host: HostName = "hypercorn",
    http3: bool | Beside = False,
    dashboard: bool | Dashboard = False,
    channels: Channels | None = None,
    envelopes: MessageLimits | None = None,
    resume: ResumeOptions | bool | None = None,
    replay_log: ReplayLog | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until cancelled or drained: `urls = await nursery.start(serve, app, "tcp://127.0.0.1:0")`.

    Args:
      app: the procedures.
      urls: where: `tcp://`, `tls://`, `ws://`, `wss://`, `wt://`, `http://` or `https://`, a host and a port; port 0 lets the
        system choose. `unix:/path?mode=660` for a Unix socket; `stdio:` for this process's standard input and output.
      config: limits and timeouts of connections.
      server: how the server is run: limits, probes, who may ask, the access log, the time that a drain gets.
      drain: asks this call to end well: no new work, and time for what is under way. Then it returns.
      carrier: what carries WebSockets: our adapter over `websockets`, or `trio-websocket`.
      on_connection: told of each connection when it begins, to watch its statistics; not of plain HTTP's.
      certfile: a certificate chain in PEM, for `tls://`, `wss://`, `wt://` and `https://`.
      keyfile: its key.
      ssl_context: for `tls://` and `wss://`, instead of the files; see `transports.tls.server_context`.
      host: what serves `http://` and `https://`: `hypercorn`, which speaks HTTP/2, too, or our own `lean` host, which
        answers plain requests several times as fast.
      http3: whether `https://` URLs are served over HTTP/3, too, on the same port number over UDP, and their answers say so
        in `Alt-Svc`; `webtransport.OverHttp3` for how. It takes the extra `quic`.
      dashboard: whether `http://` and `https://` URLs have a live page at `/dashboard/`; see `Dashboard`.
      channels: what clients of JSON envelopes may listen to and speak on; None for no channels.
      envelopes: limits of such clients; None for the defaults.
      resume: whether clients of our own dialect may go on with their sessions on another connection, and the limits of
        that; True for the defaults.
      replay_log: keeps the items of durable procedures, such as `DurableServer.replay_log()`; it has to outlive this call.
      task_status: started with the bound URLs, in the order of `urls`.

    Raises:
      ListenError: a port is taken, or an address is not ours; one line that names it.
      ImportError: HTTP/3 is asked for without the extra `quic`.
      LocalProtocolError: a URL or the carrier's or host's name can't be used, or a durable procedure has no `replay_log`.

    Cancellation: handlers are cancelled, their streams reset, and connections closed within `close_timeout`.
    """
    async with open_nurseries() as (nursery, work):
        shared = Server(
            app=app,
            config=config or ConnectionConfig(),
            rules=(rules := server or ServerConfig()),
            carrier=carrier,
            on_connection=on_connection,
            credentials=Credentials(certfile, keyfile, ssl_context),
            host=_check_host(host),
            http3=_find_http3(http3, urls),
            drain=drain or Drain(),
            gate=make_gate(nursery, rules),
            background=Background(work, max_running=rules.max_events),
            durable_runs=make_runs(app, replay_log, work, rules.runs),
            dashboard=Dashboard(app) if dashboard is True else dashboard or None,
            channels=channels,
            envelopes=envelopes or MessageLimits(),
            sessions=make_sessions(resume, config, work),
        )
        await serve_all(shared, parse_urls(urls, SCHEMES, carrier), SCHEMES, nursery, work.cancel_scope, task_status)


def _check_host(host: HostName) -> HostName:
    if host not in _HOSTS:
        raise LocalProtocolError(f"host is one of {', '.join(_HOSTS)}, not {host!r}", field="host")
    return host


def _find_http3(http3: bool | Beside, urls: tuple[str, ...]) -> Beside | None:
    if http3 is False:
        return None
    if not any(url.lower().startswith("https:") for url in urls):
        raise LocalProtocolError("can't serve over HTTP/3 without an https:// URL", field="http3")
    if http3 is not True:
        return http3
    # It takes an extra, so it is not for everybody.
    from trio_streams.webtransport.over_http3 import OverHttp3  # noqa: PLC0415

    return OverHttp3()

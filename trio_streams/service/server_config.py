"""How a server is run: who is let in, how many at once, how it is watched, and how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from trio_streams.service.access import OnAccess
from trio_streams.service.cors import CorsPolicy
from trio_streams.service.replay_log import RunConfig
from trio_streams.service.sse import SseConfig
from trio_streams.transports.exchange import ExchangeConfig

__all__ = ["CheckReady", "ServerConfig"]

CheckReady = Callable[[], Awaitable[bool]]
"""Whether an application can serve now: its database answers, its caches are warm."""


def _at_least(minimum: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
        if value is not None and not value >= minimum:
            raise ValueError(f"{attribute.name} must be at least {minimum}, not {value!r}")

    return check


def _is_path(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and not value.startswith("/"):
        raise ValueError(f"{attribute.name} starts with '/', and {value!r} doesn't")


def _are_names(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # One string would be taken for its letters.
    if not isinstance(value, tuple) or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"{attribute.name} is a tuple of names, not {value!r}")


@attrs.frozen(kw_only=True)
class ServerConfig:
    """What `serve` asks of all its listeners together.

    Attributes:
      max_connections: open at once on all URLs, those of HTTP/3 among them; one more is refused: on `http://` and `ws://`
        with 503 and `Retry-After`, over UDP in QUIC's words, elsewhere by closing it. None leaves it to the system.
      max_connections_per_host: open at once from one address; likewise. Unix sockets have none.
      max_header_bytes: request line and headers; more is answered 431. hypercorn's own limit is 16,384 on HTTP/1.1.
      max_events: fire-and-forget events whose handlers run at once; more wait, and their callers with them.
      exchange: limits and timeouts of HTTP exchanges on either host, `max_body_bytes` among them.
      runs: how many durable procedures run at once, and how long without a reader.
      sse: heartbeats, and how long an event stream may last.
      drain_delay: seconds between the beginning of a drain, when `/readyz` turns 503, and the closing of the listeners:
        as long as a load balancer needs to notice.
      drain_timeout: seconds that exchanges and streams under way get from then on, all together.
      allowed_hosts: names to answer to besides the bound one, without ports; see `transports.origin.OriginPolicy`.
      allowed_origins: origins whose pages may use the server besides its own, such as `https://app.example.org`.
      cors: pages of which other origins may ask over HTTP and read the answers; None for none. Its origins need not be
        among `allowed_origins`, which are for WebSockets, too.
      health_path: where a GET is answered 200 for as long as the process does anything; None for nowhere.
      ready_path: where a GET is answered 200 while the server takes new work, or else 503; None for nowhere.
      check_ready: an async function of the application's that has a say in that.
      check_timeout: seconds it gets; past them the server is not ready.
      on_access: told of each exchange and each stream when it is over, such as `service.access.log_text`; None for no log.
    """

    max_connections: int | None = attrs.field(default=10_000, validator=_at_least(1))
    max_connections_per_host: int | None = attrs.field(default=None, validator=_at_least(1))
    max_header_bytes: int = attrs.field(default=16_384, validator=_at_least(1_024))
    max_events: int = attrs.field(default=1_024, validator=_at_least(1))
    exchange: ExchangeConfig = attrs.field(factory=ExchangeConfig)
    runs: RunConfig = attrs.field(factory=RunConfig)
    sse: SseConfig = attrs.field(factory=SseConfig)
    drain_delay: float = attrs.field(default=0.0, validator=_at_least(0))
    drain_timeout: float = attrs.field(default=10.0, validator=_at_least(0))
    allowed_hosts: tuple[str, ...] = attrs.field(default=(), validator=_are_names)
    allowed_origins: tuple[str, ...] = attrs.field(default=(), validator=_are_names)
    cors: CorsPolicy | None = None
    health_path: str | None = attrs.field(default="/healthz", validator=_is_path)
    ready_path: str | None = attrs.field(default="/readyz", validator=_is_path)
    check_ready: CheckReady | None = None
    check_timeout: float = attrs.field(default=1.0, validator=_at_least(0))
    on_access: OnAccess | None = None

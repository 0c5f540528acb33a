"""What stands before an application's routes on HTTP: probes, the checks of `Host` and `Origin`, and the access log.

Probes come first, unchecked: whoever probes asks by an address, and learns no more than a few numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import trio

from trio_streams.codes import http_status
from trio_streams.errors import RpcError
from trio_streams.service.access import AccessRecord, OnAccess
from trio_streams.service.exchange import (
    BodySource,
    Exchange,
    ExchangeHandler,
    Headers,
    answer_error,
    as_rpc_error,
    respond_json,
)
from trio_streams.service.passing import CountedSource, PassingExchange
from trio_streams.service.server_config import CheckReady, ServerConfig
from trio_streams.transports.origin import OriginPolicy

__all__ = ["admitted", "logged", "probed"]

_LOG: Final = logging.getLogger("trio_streams")

_UNCACHED: Final = (("cache-control", "no-store"),)
_NAMES: Final[Mapping[int, str]] = {403: "PERMISSION_DENIED", 421: "MISDIRECTED_REQUEST"}


def probed(
    handler: ExchangeHandler,
    config: ServerConfig,
    report: Callable[[], Mapping[str, object]],
    is_draining: Callable[[], bool],
) -> ExchangeHandler:
    """Answer probes before a handler.

    Args:
      handler: gets all other requests.
      config: for the probes' paths and the application's check.
      report: what `/healthz` tells besides `status`; JSON has to have a form for it.
      is_draining: whether the server takes no new work.
    """

    async def health(exchange: Exchange) -> None:
        await respond_json(exchange, {"status": "ok", **report()}, headers=_UNCACHED)

    async def ready(exchange: Exchange) -> None:
        why = "draining" if is_draining() else await _why_unready(config.check_ready, config.check_timeout)
        status = 200 if why is None else 503
        await respond_json(exchange, {"status": why or "ready"}, status=status, headers=_UNCACHED)

    probes = {
        path: probe for path, probe in ((config.health_path, health), (config.ready_path, ready)) if path is not None
    }
    if not probes:
        return handler

    async def handle(exchange: Exchange) -> None:
        request = exchange.request
        probe = probes.get(request.path)
        if probe is not None and request.method in {"GET", "HEAD"}:
            await probe(exchange)
        else:
            await handler(exchange)

    return handle


async def _why_unready(check: CheckReady | None, check_timeout: float) -> str | None:
    if check is None:
        return None
    try:
        with trio.fail_after(check_timeout):
            return None if await check() else "not ready"
    except trio.TooSlowError:
        return "the check took too long"
    except Exception:  # noqa: BLE001 - an application that can't say is not ready
        _LOG.exception("the check of readiness failed")
        return "the check failed"


def admitted(handler: ExchangeHandler, policy: OriginPolicy, max_header_bytes: int | None) -> ExchangeHandler:
    """Let only those requests through to a handler that a policy and the limit of heads allow.

    Args:
      handler: gets all other requests.
      policy: judges `Host` and `Origin`.
      max_header_bytes: the most that the headers may be, for a host whose own limit is another one; None for no look.
    """

    async def handle(exchange: Exchange) -> None:
        headers = exchange.request.headers
        host: str | None = None
        origin: str | None = None
        for name, value in headers:
            if name == "host":
                host = value if host is None else f"{host}, {value}"  # joined they are nobody's name
            elif name == "origin":
                origin = value if origin is None else f"{origin}, {value}"
        refusal = policy.refusal(host, origin)
        if refusal is not None:
            error = RpcError(_NAMES[refusal.status], refusal.text, {"field": refusal.field})
            await answer_error(exchange, error, status=refusal.status)
        elif max_header_bytes is not None and (size := _size(headers)) > max_header_bytes:
            details = {"field": "headers", "size": size, "limit": max_header_bytes}
            text = f"the headers are {size} bytes, the limit is {max_header_bytes}"
            await answer_error(exchange, RpcError("HEADERS_TOO_LARGE", text, details), status=431)
        else:
            await handler(exchange)

    return handle


def _size(headers: Headers) -> int:
    # Each line has a colon, a space, and two bytes at its end.
    return sum(len(name) + len(value) + 4 for name, value in headers)


def logged(handler: ExchangeHandler, on_access: OnAccess) -> ExchangeHandler:
    """Tell of each exchange when its handler is done: for a host that has no access log of its own."""

    async def handle(exchange: Exchange) -> None:
        watched = _Counted(exchange)
        started = trio.current_time()
        failed = 0
        try:
            await handler(watched)
        except Exception as exc:
            failed = http_status(as_rpc_error(exc).code)  # what the host will answer
            raise
        finally:
            request = exchange.request
            path = f"{request.path}?{request.query_string}" if request.query_string else request.path
            on_access(
                AccessRecord(
                    request.method,
                    path,
                    watched.status or failed,
                    watched.sent_bytes,
                    trio.current_time() - started,
                    request.peer,
                    request.http_version,
                )
            )

    return handle


class _Counted(PassingExchange):
    """An exchange that knows what was answered."""

    def __init__(self, inner: Exchange) -> None:
        super().__init__(inner)
        self.status = 0
        self.sent_bytes = 0

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        await super().send_head(status, headers)
        self.status = status

    async def send(self, data: bytes) -> None:
        await super().send(data)
        self._count(data)

    async def send_from(self, source: BodySource) -> None:
        await super().send_from(CountedSource(source, self._count))

    def _count(self, data: bytes) -> None:
        self.sent_bytes += len(data)

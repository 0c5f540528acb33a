"""What plain requests share, on all HTTP/3 connections of one server: the handler, the writer, the time, and the end.

It serves what the hosts of `transports` serve, to the same handlers. It has no socket: a link tells it of requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import trio

from trio_streams.errors import RpcError
from trio_streams.streams.parking import Parking
from trio_streams.transports.answer import answer_error
from trio_streams.transports.exchange import Exchange, ExchangeConfig, ExchangeHandler
from trio_streams.transports.http_access import AccessRecord
from trio_streams.transports.http_rounds import DateField, Rounds
from trio_streams.webtransport.http3_exchange import Http3Exchange, RequestLink
from trio_streams.webtransport.http3_head import HeadRefusal, refusal_of, request_head, target_of
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.wire.http1_fields import Fields

__all__ = ["AskedLink", "Http3Host"]

_LOG: Final = logging.getLogger("trio_streams.http3")

_DEFAULT: Final = ExchangeConfig()
_MAX_TICK: Final = 1.0
_MIN_TICK: Final = 0.01


class AskedLink(RequestLink, Protocol):
    """A connection whose client may ask."""

    on_request: Callable[[int, RawHeaders, bool], None] | None


class Http3Host(Parking):
    """Runs a handler for each plain request on any number of connections: `await nursery.start(host.run)`, then `attach`.

    Args:
      handler: for each request.
      config: limits and timeouts of exchanges. The body of a request waits in its stream's window, so `body_buffer_bytes` and
        `linger_timeout` have no part here.
      on_access: told of each exchange when it is over; must not block.
    """

    def __init__(
        self,
        handler: ExchangeHandler,
        *,
        config: ExchangeConfig = _DEFAULT,
        on_access: Callable[[AccessRecord], None] | None = None,
    ) -> None:
        super().__init__()
        self.config: ExchangeConfig = config
        self._handler = handler
        self._on_access = on_access
        self._nursery: trio.Nursery | None = None
        self._is_draining = False
        self._exchanges: set[Http3Exchange] = set()
        self._watched: set[Http3Exchange] = set()
        self._rounds = Rounds()
        self._date = DateField()

    @property
    def exchanges(self) -> int:
        """How many are under way, or not yet delivered."""
        return len(self._exchanges)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run exchanges until cancelled. Cancellation: they are cancelled, and their answers reset."""
        async with trio.open_nursery() as services:
            services.start_soon(self._rounds.run)
            services.start_soon(self._keep_deadlines)
            try:
                async with trio.open_nursery() as self._nursery:
                    task_status.started()
                    await trio.sleep_forever()
            finally:
                self._nursery = None
                services.cancel_scope.cancel()

    def attach(self, link: AskedLink) -> None:
        """Answer the requests on a connection."""
        link.on_request = partial(self._on_request, link)

    def drain(self) -> None:
        """Take no more requests: those that come in spite of a GOAWAY are told that nobody has looked at them."""
        self._is_draining = True
        self._wake()

    async def wait_idle(self) -> None:
        """Wait until no exchange is under way, and what was answered is delivered. Cancellation: atomic."""
        while self._exchanges:
            await self._park()

    def _on_request(self, link: AskedLink, stream_id: int, headers: RawHeaders, is_ended: bool) -> None:
        if self._nursery is None or self._is_draining:
            self._turn_away(link, stream_id, Http3Code.H3_REQUEST_REJECTED)
            return
        try:
            request = request_head(headers, link.peer)
        except Http3Error as exc:
            _LOG.info("%s: %s", link.peer, exc)
            self._turn_away(link, stream_id, exc.http3_code)
            return
        refusal = refusal_of(headers)
        exchange = Http3Exchange(self, link, stream_id, request, is_ended=is_ended)
        self._exchanges.add(exchange)
        link.take_request(stream_id, exchange)
        handler = self._handler if refusal is None else partial(_refuse, refusal)
        self._nursery.start_soon(self._run, exchange, handler, target_of(headers))

    def _turn_away(self, link: AskedLink, stream_id: int, code: Http3Code) -> None:
        link.machine.abandon(stream_id, code)
        link.machine.release(stream_id)
        link.kick()

    async def _run(self, exchange: Http3Exchange, handler: ExchangeHandler, target: str) -> None:
        began = trio.current_time()
        try:
            try:
                await exchange.run(handler)
            finally:
                if self._on_access is not None:
                    self._on_access(_record(exchange, target, trio.current_time() - began))
        except Exception:  # noqa: BLE001 - the host is the boundary: one fault ends one exchange
            _LOG.exception("%s %r failed", exchange.request.method, exchange.request.path)

    async def _keep_deadlines(self) -> None:
        tick = min(_MAX_TICK, max(_MIN_TICK, (self.config.stall_timeout or _MAX_TICK) / 8))
        while True:
            while not self._watched:
                await self._park()
            await trio.sleep(tick)
            now = trio.current_time()
            for exchange in list(self._watched):
                exchange.check(now)

    # For exchanges.

    def mark(self, exchange: Http3Exchange) -> None:
        """See `ExchangeHost`."""
        self._rounds.mark(exchange)

    def watch(self, exchange: Http3Exchange) -> None:
        """See `ExchangeHost`."""
        if not self._watched:
            self._wake()
        self._watched.add(exchange)

    def unwatch(self, exchange: Http3Exchange) -> None:
        """See `ExchangeHost`."""
        self._watched.discard(exchange)

    def forget(self, exchange: Http3Exchange) -> None:
        """See `ExchangeHost`."""
        self._watched.discard(exchange)
        self._exchanges.discard(exchange)
        if not self._exchanges:
            self._wake()

    def date(self) -> Fields:
        """See `ExchangeHost`."""
        return self._date.now()


async def _refuse(refusal: HeadRefusal, exchange: Exchange) -> None:
    await answer_error(exchange, RpcError(refusal.code, refusal.text), status=refusal.status)


def _record(exchange: Http3Exchange, target: str, duration: float) -> AccessRecord:
    request, head = exchange.request, exchange.head
    status = 0 if head is None else head.status
    return AccessRecord(
        request.method, target, status, exchange.sent_bytes, duration, request.peer, request.http_version
    )

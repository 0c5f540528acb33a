"""Prometheus metrics of procedures, by name, kind and how they ended. Needs the extra `trio_streams[metrics]`."""

from __future__ import annotations

from typing import Final

import prometheus_client
import trio

from trio_streams.codes import Code
from trio_streams.errors import as_rpc_error
from trio_streams.service.exchange import Exchange, respond
from trio_streams.service.interceptor import Invocation, Proceed

__all__ = ["PrometheusMetrics"]

_LABELS: Final = ("procedure", "kind")


class PrometheusMetrics:
    """An interceptor that counts, and the answer to whoever asks for the figures.

    `<prefix>_started_total`, `<prefix>_ended_total` (with `code`), `<prefix>_running`, `<prefix>_items_received_total`,
    `<prefix>_items_sent_total`, `<prefix>_duration_seconds`. Names are those that were declared, so that strangers
    cannot make labels.

    Args:
      registry: where the metrics are kept; None for one of their own.
      prefix: of their names.
    """

    def __init__(
        self, registry: prometheus_client.CollectorRegistry | None = None, *, prefix: str = "procedure"
    ) -> None:
        r = prometheus_client.CollectorRegistry() if registry is None else registry
        self.registry: prometheus_client.CollectorRegistry = r
        self._started = prometheus_client.Counter(f"{prefix}_started", "calls and streams begun", _LABELS, registry=r)
        self._ended = prometheus_client.Counter(
            f"{prefix}_ended", "calls and streams over, by the code they ended with", (*_LABELS, "code"), registry=r
        )
        self._running = prometheus_client.Gauge(f"{prefix}_running", "calls and streams under way", _LABELS, registry=r)
        self._received = prometheus_client.Counter(
            f"{prefix}_items_received", "items taken from callers", _LABELS, registry=r
        )
        self._sent = prometheus_client.Counter(f"{prefix}_items_sent", "items given to callers", _LABELS, registry=r)
        self._duration = prometheus_client.Histogram(
            f"{prefix}_duration_seconds", "from the beginning to the end of a handler", _LABELS, registry=r
        )

    async def __call__(self, invocation: Invocation, proceed: Proceed) -> object:
        """See `Interceptor`."""
        labels = (invocation.name, invocation.kind)
        received, sent = self._received.labels(*labels), self._sent.labels(*labels)
        invocation.on_received(lambda _: received.inc())
        invocation.on_sent(lambda _: sent.inc())
        self._started.labels(*labels).inc()
        running = self._running.labels(*labels)
        running.inc()
        began = trio.current_time()
        code = Code.CANCELLED.name  # what is no exception of an application's: somebody left, or the server stops
        try:
            result = await proceed()
            code = Code.OK.name
        except Exception as exc:
            code = _bounded(as_rpc_error(exc).code)
            raise
        finally:
            running.dec()
            self._ended.labels(*labels, code).inc()
            self._duration.labels(*labels).observe(trio.current_time() - began)
        return result

    async def respond(self, exchange: Exchange) -> None:
        """Answer a scrape, in the text format; add it to your routes as `GET /metrics`."""
        body = prometheus_client.generate_latest(self.registry)
        await respond(exchange, 200, body, [("content-type", prometheus_client.CONTENT_TYPE_LATEST)])


def _bounded(code: str) -> str:
    """A code as a label: the application's own names are few, but a handler may make them up as it goes."""
    return code if code in Code.__members__ else "OTHER"

"""OpenTelemetry spans across the wire, by W3C trace context. Needs the extra `trio_streams[tracing]`.

The caller's `traceparent` travels in the metadata, which over HTTP are the headers, so that any other system's spans and
ours are one trace. Spec: https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from trio_streams.core.records import NO_METADATA
from trio_streams.errors import as_rpc_error
from trio_streams.service.interceptor import Invocation, Proceed

__all__ = ["Tracing", "trace_metadata"]

_NAME: Final = "trio_streams"


class Tracing:
    """An interceptor that makes a span of each call and stream, below the caller's.

    The span is current while the handler runs, so that what the handler calls and traces is below it. Its attributes are
    `rpc.system`, `rpc.method`, `rpc.kind`, `peer`, the numbers of items, and the code it ended with.

    Args:
      provider: makes tracers; None for the global one.
    """

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=provider)

    async def __call__(self, invocation: Invocation, proceed: Proceed) -> object:
        """See `Interceptor`."""
        received = sent = 0

        def count_received(_: object) -> None:
            nonlocal received
            received += 1

        def count_sent(_: object) -> None:
            nonlocal sent
            sent += 1

        parent = propagate.extract(dict(invocation.context.metadata))
        attributes = {
            "rpc.system": _NAME,
            "rpc.method": invocation.name,
            "rpc.kind": invocation.kind,
            "peer": invocation.context.peer,
        }
        with self._tracer.start_as_current_span(
            invocation.name, parent, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            if span.is_recording():
                invocation.on_received(count_received)
                invocation.on_sent(count_sent)
            code = "CANCELLED"
            try:
                result = await proceed()
                code = "OK"
            except Exception as exc:
                error = as_rpc_error(exc)
                code = error.code
                if error.is_our_fault:
                    span.record_exception(exc)
                    span.set_status(Status(StatusCode.ERROR, error.code))
                raise
            finally:
                span.set_attributes({"items.received": received, "items.sent": sent, "rpc.code": code})
            return result


def trace_metadata(metadata: Mapping[str, str] = NO_METADATA) -> dict[str, str]:
    """A caller's metadata with the current span's trace context: `client.call("x", metadata=trace_metadata())`."""
    carrier = dict(metadata)
    propagate.inject(carrier)
    return carrier

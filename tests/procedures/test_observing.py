"""Metrics and spans of procedures, read by the libraries that own their formats."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from prometheus_client.parser import text_string_to_metric_families

from tests.transports.exchange_host import drive
from trio_streams.driver import run_client, run_server
from trio_streams.errors import RpcError
from trio_streams.procedures import ConnectionClient, Router
from trio_streams.procedures.interceptors.metrics import PrometheusMetrics
from trio_streams.procedures.interceptors.tracing import Tracing, trace_metadata
from trio_streams.procedures.server import prepare
from trio_streams.transports.memory import memory_carrier_pair


def make_app() -> Router:
    app = Router()

    @app.call("add")
    async def add(numbers: list[int]) -> int:
        return sum(numbers)

    @app.call("fail")
    async def fail(code: str) -> int:
        raise RpcError(code, "as asked") if code else ZeroDivisionError

    @app.call("hang")
    async def hang() -> int:
        await trio.sleep_forever()
        return 0

    @app.stream("double", direction="bidi")
    async def double(numbers: AsyncIterable[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    return app


@asynccontextmanager
async def connected(app: Router) -> AsyncIterator[ConnectionClient]:
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, app))
        async with run_client(left) as connection:
            yield ConnectionClient(connection)


async def use(client: ConnectionClient) -> None:
    """A call, failures of three kinds, a cancelled one, and a stream of three items each way."""
    assert await client.call("add", [1, 2]) == 3
    for code in ("NOT_FOUND", "MADE_UP", ""):
        with pytest.raises(RpcError):
            await client.call("fail", code)
    with trio.move_on_after(0.01):
        await client.call("hang")
    async with client.bidi("double") as stream:
        for number in range(3):
            await stream.send(number)
            await stream.receive()
        stream.end()
        assert [item async for item in stream] == []


async def test_metrics_tell_what_has_happened(autojump_clock: object) -> None:
    """Counts by name, kind and code, as Prometheus's own parser reads them; nothing is left running."""
    metrics = PrometheusMetrics()
    app = make_app()
    app.use(metrics)
    async with connected(app) as client:
        await use(client)
    answer = await drive(metrics.respond)
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *(sample.labels.get(key, "") for key in ("procedure", "code"))): sample.value
        for family in text_string_to_metric_families(b"".join(answer.writes).decode())
        for sample in family.samples
    }
    assert samples["procedure_ended_total", "add", "OK"] == 1
    assert samples["procedure_ended_total", "fail", "NOT_FOUND"] == 1
    assert samples["procedure_ended_total", "fail", "OTHER"] == 1
    assert samples["procedure_ended_total", "fail", "INTERNAL"] == 1
    assert samples["procedure_ended_total", "hang", "CANCELLED"] == 1
    assert samples["procedure_items_received_total", "double", ""] == 3
    assert samples["procedure_items_sent_total", "double", ""] == 3
    assert samples["procedure_duration_seconds_count", "fail", ""] == 3
    assert {value for (name, *_), value in samples.items() if name == "procedure_running"} == {0.0}


async def test_spans_are_below_the_callers(autojump_clock: object) -> None:
    """One trace across the wire; what the handler raises is an error of ours or the caller's, and told apart."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = make_app()
    app.use(Tracing(provider))
    tracer = provider.get_tracer("test")
    async with connected(app) as client:
        with tracer.start_as_current_span("caller") as caller:
            assert await client.call("add", [1], metadata=trace_metadata({"user": "ann"})) == 1
        await use(client)
    spans = exporter.get_finished_spans()
    first = next(span for span in spans if span.name == "add")
    assert first.parent is not None
    assert (first.parent.span_id, first.context.trace_id) == (
        caller.get_span_context().span_id,
        caller.get_span_context().trace_id,
    )
    assert first.kind is SpanKind.SERVER
    codes = [(span.name, span.attributes["rpc.code"]) for span in spans if span.attributes and span.name != "caller"]
    assert [code for name, code in codes if name == "fail"][:2] == ["NOT_FOUND", "MADE_UP"]
    assert ("hang", "CANCELLED") in codes
    failed = [span for span in spans if not span.status.is_ok and not span.status.is_unset]
    assert [len(span.events) for span in failed if span.name == "fail"][-1] == 1
    double = next(span for span in spans if span.name == "double")
    assert double.attributes is not None
    assert (double.attributes["items.received"], double.attributes["items.sent"]) == (3, 3)

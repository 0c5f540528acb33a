"""What stands before an application's routes: probes, checks, the access log."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from tests.transports.exchange_host import drive
from trio_streams.errors import RpcError
from trio_streams.service.access import AccessRecord, StreamRecord
from trio_streams.service.broadcast import Broadcast
from trio_streams.service.exchange import Exchange, RequestHead, respond, respond_json
from trio_streams.service.front import admitted, logged, probed
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import ExchangeConfig, HostedExchange
from trio_streams.transports.origin import OriginPolicy


async def application(exchange: Exchange) -> None:
    await respond_json(exchange, exchange.request.path)


def get(path: str, *headers: tuple[str, str], method: str = "GET") -> RequestHead:
    return RequestHead(method=method, path=path, headers=headers, peer="10.0.0.1:9")


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (get("/healthz"), {"status": "ok", "connections": 1}),
        (get("/readyz"), {"status": "ready"}),
        (get("/healthz", method="POST"), "/healthz"),
        (get("/healthz/"), "/healthz/"),
        (get("/"), "/"),
    ],
)
async def test_probes_come_first(request_: RequestHead, body: object) -> None:
    """A GET of a probe's path is a probe, everything else is the application's."""
    answer = await drive(probed(application, ServerConfig(), lambda: {"connections": 1}, lambda: False), request_)
    assert answer.status == 200
    assert json.loads(b"".join(answer.writes)) == body


async def test_a_probe_takes_head_requests() -> None:
    """HEAD is answered as GET is, without a body."""
    handler = probed(application, ServerConfig(), dict, lambda: True)
    answer = await drive(handler, get("/readyz", method="HEAD"))
    assert (answer.status, answer.writes) == (503, [])


async def test_a_server_without_probes_has_no_layer_for_them() -> None:
    """Where both are turned off, the application's handler is what it was."""
    assert probed(application, ServerConfig(health_path=None, ready_path=None), dict, lambda: False) is application


async def test_a_check_that_hangs_is_given_up(autojump_clock: MockClock) -> None:
    """The application's check gets `check_timeout`, and is cancelled then."""
    seen: list[str] = []

    async def check() -> bool:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("cancelled")
        return True

    config = ServerConfig(check_ready=check, check_timeout=5)
    begun = trio.current_time()
    answer = await drive(probed(application, config, dict, lambda: False), get("/readyz"))
    assert (answer.status, seen) == (503, ["cancelled"])
    assert trio.current_time() - begun == pytest.approx(5)


async def test_a_draining_server_asks_nobody() -> None:
    """Whoever drains is not ready, whatever the application says."""

    async def check() -> bool:
        raise AssertionError

    answer = await drive(probed(application, ServerConfig(check_ready=check), dict, lambda: True), get("/readyz"))
    assert (answer.status, json.loads(b"".join(answer.writes))) == (503, {"status": "draining"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("host", "localhost")], 200),
        ([], 200),
        ([("host", "evil.example")], 421),
        ([("host", "evil.example"), ("host", "localhost")], 421),
        ([("host", "localhost"), ("origin", "http://localhost")], 200),
        ([("host", "localhost"), ("origin", "http://evil.example")], 403),
        ([("host", "localhost"), ("origin", "http://evil.example"), ("origin", "http://localhost")], 403),
        ([("host", "localhost"), ("x", "y" * 2_000)], 431),
    ],
)
async def test_who_is_let_in(headers: list[tuple[str, str]], status: int) -> None:
    """Host, origin and size are judged before the application is asked; headers that come twice are nobody's."""
    answer = await drive(admitted(application, OriginPolicy("localhost"), 1_500), get("/", *headers))
    assert answer.status == status
    if status == 431:
        assert answer.error["code"] == "HEADERS_TOO_LARGE"
        assert answer.error["details"] == {"field": "headers", "size": 2_022, "limit": 1_500}


async def crash(exchange: Exchange) -> None:
    raise RpcError("NOT_FOUND", "no")


async def break_off(exchange: Exchange) -> None:
    await exchange.send_head(200)
    await exchange.send(b"half")
    raise RpcError("INTERNAL", "no")


async def greet(exchange: Exchange) -> None:
    assert not exchange.has_head
    await respond(exchange, 201, b"hello")
    assert exchange.has_head


async def broadcast(exchange: Exchange) -> None:
    events = Broadcast[bytes]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.respond, exchange)
        while not events.statistics().readers:
            await trio.lowlevel.checkpoint()
        await events.publish(b"one")
        events.end()


@pytest.mark.parametrize(
    ("handler", "status", "sent_bytes"),
    [(greet, 201, 5), (crash, 404, 0), (break_off, 200, 4), (broadcast, 200, None)],
    ids=["greet", "crash", "break_off", "broadcast"],
)
async def test_each_exchange_is_told_of(handler: object, status: int, sent_bytes: int | None) -> None:
    """Once, with what was answered, or will be: the host answers what a handler raises. A source's bytes count, too."""
    records: list[AccessRecord | StreamRecord] = []
    request = RequestHead(method="GET", path="/a b", query_string="x=1", peer="10.0.0.1:9")
    answer = await drive(logged(handler, records.append), request)  # type: ignore[arg-type]
    (record,) = records
    assert isinstance(record, AccessRecord)
    if sent_bytes is None:
        sent_bytes = len(b"".join(answer.writes))
        assert sent_bytes >= len(b"data: one\n\n")
    assert (record.method, record.path, record.status, record.sent_bytes) == ("GET", "/a b?x=1", status, sent_bytes)
    assert record.peer == "10.0.0.1:9"


async def test_a_cancelled_exchange_is_told_of(autojump_clock: MockClock) -> None:
    """An exchange that is cancelled before its head has no status; its time is counted all the same."""
    records: list[AccessRecord | StreamRecord] = []

    async def wait(exchange: Exchange) -> None:
        await trio.sleep_forever()

    exchange = HostedExchange(get("/"), ExchangeConfig())
    with trio.move_on_after(3):
        await run_handler(exchange, logged(wait, records.append))
    (record,) = records
    assert isinstance(record, AccessRecord)
    assert record.status == 0
    assert record.duration == pytest.approx(3)


@pytest.mark.parametrize("layer", ["probed", "admitted", "logged"])
async def test_every_layer_can_be_cancelled(layer: str, autojump_clock: MockClock) -> None:
    """A cancellation passes through to the application and back, and nothing is answered."""
    seen: list[str] = []

    async def wait(exchange: Exchange) -> None:
        try:
            await trio.sleep_forever()
        finally:
            seen.append("cancelled")

    handler = {
        "probed": probed(wait, ServerConfig(), dict, lambda: False),
        "admitted": admitted(wait, OriginPolicy("localhost"), 1_500),
        "logged": logged(wait, lambda record: None),
    }[layer]
    exchange = HostedExchange(get("/"), ExchangeConfig())
    with trio.move_on_after(1) as scope:
        await run_handler(exchange, handler)
    assert scope.cancelled_caught
    assert seen == ["cancelled"]
    assert not exchange.has_head

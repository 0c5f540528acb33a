"""`Dashboard` over HTTP, without a browser."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.exchange_host import Answer, drive
from trio_streams.dashboard import Dashboard, DashboardConfig
from trio_streams.procedures.router import Router
from trio_streams.service.exchange import Exchange, ExchangeConfig, RequestHead, respond
from trio_streams.transports.exchange import HostedExchange

app = Router()


@app.call("double")
async def double(value: int) -> int:
    """Twice as much."""
    return 2 * value


async def _application(exchange: Exchange) -> None:
    await respond(exchange, 200, b"the application's")


async def _ask(path: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = ()) -> Answer:
    request = RequestHead(method=method, path=path, headers=tuple(headers), peer="peer:1")
    return await drive(Dashboard(app, title="mine").wrap(_application), request)


async def test_the_page_and_its_files_are_served_under_a_strict_policy(autojump_clock: MockClock) -> None:
    """Only its own scripts and styles; no frame, no form, no base, no text that becomes markup."""
    for path, content_type in (
        ("/", "text/html"),
        ("/procedures", "text/html"),
        ("/main.js", "text/javascript"),
        ("/style.css", "text/css"),
    ):
        answer = await _ask(f"/dashboard{path}")
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, content_type)
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"} <= set(policy)
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_page_may_connect_to_servers_that_it_is_told(autojump_clock: MockClock) -> None:
    """An origin is added to the one directive; what is more than an origin is refused, for it could add anything."""
    dashboard = Dashboard(app, connects_to=["https://127.0.0.1:7103"])
    request = RequestHead(method="GET", path="/dashboard/", headers=(), peer="peer:1")
    answer = await drive(dashboard.wrap(_application), request)
    policy = answer.headers["content-security-policy"].split("; ")
    assert "connect-src 'self' https://127.0.0.1:7103" in policy
    assert {"default-src 'none'", "script-src 'self'"} <= set(policy)
    for bad in ("https://a; script-src *", "https://a https://b", "*", "https://a/path"):
        with pytest.raises(ValueError, match="connects_to are origins"):
            Dashboard(app, connects_to=[bad])


async def test_a_file_that_the_browser_has_is_not_sent_again(autojump_clock: MockClock) -> None:
    """It asks each time, and is answered 304 while nothing has changed."""
    first = await _ask("/dashboard/style.css")
    again = await _ask("/dashboard/style.css", headers=[("if-none-match", first.headers["etag"])])
    assert (again.status, again.writes, first.headers["cache-control"]) == (304, [], "no-cache")
    other = await _ask("/dashboard/style.css", headers=[("if-none-match", '"other"')])
    assert other.status == 200


async def test_the_page_is_found_without_its_slash(autojump_clock: MockClock) -> None:
    """The redirect is relative, so that it works where a proxy mounts the server below a path."""
    answer = await _ask("/dashboard")
    assert (answer.status, answer.headers["location"]) == (308, "dashboard/")


@pytest.mark.parametrize("path", ["/dashboard/missing.js", "/dashboard/../serving.py", "/dashboard/static/main.js"])
async def test_nothing_else_is_there(path: str, autojump_clock: MockClock) -> None:
    """A request names a file that there is, or is answered 404."""
    answer = await _ask(path)
    assert (answer.status, answer.error["code"]) == (404, "NOT_FOUND")


async def test_the_procedures_are_told(autojump_clock: MockClock) -> None:
    """Their names, kinds and descriptions, for the panels to know what to do."""
    answer = await _ask("/dashboard/about")
    about = json.loads(b"".join(answer.writes))
    assert about["title"] == "mine"
    assert about["procedures"] == [{"name": "double", "kind": "call", "description": "Twice as much."}]


async def test_other_sites_get_nothing_but_the_page(autojump_clock: MockClock) -> None:
    """A link to a page may stand anywhere; figures and scripts are for the pages alone."""
    cross = [("sec-fetch-site", "cross-site")]
    for path in ("", "procedures"):
        assert (await _ask(f"/dashboard/{path}", headers=cross)).status == 200
    for path in ("events", "about", "catalogue", "main.js"):
        answer = await _ask(f"/dashboard/{path}", headers=cross)
        assert (answer.status, answer.error["code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/dashboards"), ("POST", "/dashboard/x")])
async def test_everything_else_is_the_applications(method: str, path: str, autojump_clock: MockClock) -> None:
    """A procedure may have a name below ours: it is called with POST."""
    answer = await _ask(path, method=method)
    assert b"".join(answer.writes) == b"the application's"


async def test_snapshots_come_a_few_times_a_second_while_somebody_looks(autojump_clock: MockClock) -> None:
    """Each with the number of viewers; when they go, their count goes down, and nothing is sampled."""
    dashboard = Dashboard(app, config=DashboardConfig(interval=0.25))
    handler = dashboard.wrap(_application)
    sampler = dashboard._sampler
    exchange = HostedExchange(RequestHead(method="GET", path="/dashboard/events"), ExchangeConfig())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handler, exchange)
        head = await exchange.take_head()
        assert head is not None
        assert dict(head.headers)["content-type"] == "text/event-stream"
        events: list[bytes] = []
        with trio.move_on_after(2.1):
            while True:
                events.append(await exchange.take_body() or b"")
        snapshots = [json.loads(text) for text in b"".join(events).decode().replace("data: ", "").split("\n\n")[:-1]]
        assert 8 <= len(snapshots) <= 10
        assert snapshots[-1]["totals"]["viewers"] == 1
        assert snapshots[-1]["totals"]["exchanges_ever"] == 0
        nursery.cancel_scope.cancel()
    assert sampler.viewers == 0


async def test_a_viewer_who_reads_nothing_costs_one_buffer(autojump_clock: MockClock) -> None:
    """Pictures are not kept for it: what waits is what was accepted before the buffer was full."""
    dashboard = Dashboard(app, config=DashboardConfig(interval=0.25))
    exchange = HostedExchange(
        RequestHead(method="GET", path="/dashboard/events"), ExchangeConfig(send_buffer_bytes=2_000)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dashboard.wrap(_application), exchange)
        await trio.sleep(60)
        await wait_all_tasks_blocked()
        waiting = await exchange.take_body()
        assert waiting is not None
        assert len(waiting) < 10_000
        nursery.cancel_scope.cancel()

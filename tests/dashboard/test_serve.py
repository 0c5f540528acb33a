"""`serve(…, dashboard=…)`: the page beside an application, over real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from trio_streams import Router, connect, serve
from trio_streams.dashboard import Dashboard
from trio_streams.transports.http_client import HttpClient
from trio_streams.urls.server import HostName
from trio_streams.wire.sse import SseParser

ROOT: Final = Path(__file__).resolve().parent.parent.parent

app = Router()


@app.stream("forever")
async def forever() -> AsyncIterator[int]:
    yield 1
    await trio.sleep_forever()


@asynccontextmanager
async def _served(host: HostName, dashboard: bool | Dashboard) -> AsyncGenerator[tuple[str, str], None]:
    """The URLs of an application on TCP and HTTP."""
    async with trio.open_nursery() as nursery:
        start = partial(serve, app, "tcp://127.0.0.1:0", "http://127.0.0.1:0", host=host, dashboard=dashboard)
        tcp, http = await nursery.start(start)
        with trio.fail_after(30):
            yield tcp, http
        nursery.cancel_scope.cancel()


async def _first_snapshot(client: HttpClient, url: str) -> dict[str, Any]:
    parser = SseParser()
    async with client.open_exchange("GET", f"{url}/dashboard/events") as exchange:
        async for chunk in exchange:
            for event in parser.receive(chunk):
                snapshot: dict[str, Any] = json.loads(event.data)
                return snapshot
    raise AssertionError("the events ended")


@pytest.mark.parametrize("host", ["lean", "hypercorn"])
async def test_connections_of_every_kind_are_on_the_page(host: HostName) -> None:
    """TCP, WebSockets on the HTTP port, and server-sent events."""
    async with _served(host, dashboard=True) as (tcp, http), HttpClient() as client:
        websocket = http.replace("http", "ws", 1)
        async with (
            connect(tcp) as one,
            connect(websocket) as two,
            connect(http) as three,
            one.stream("forever", returns=int) as first,
            two.stream("forever", returns=int) as second,
            three.stream("forever", returns=int) as third,
        ):
            assert [await stream.receive() for stream in (first, second, third)] == [1, 1, 1]
            snapshot = await _first_snapshot(client, http)
            rows = sorted((row["name"], row["transport"]) for row in snapshot["streams"])
            assert rows == [("forever", "sse"), ("forever", "tcp"), ("forever", "ws")]
            assert snapshot["totals"]["connections"] == 2


@pytest.mark.parametrize("host", ["lean", "hypercorn"])
async def test_a_name_that_is_not_ours_is_not_answered(host: HostName) -> None:
    """The server's own check of names stands before the page: a foreign one that leads here is a trick."""
    async with _served(host, dashboard=True) as (_, http), HttpClient() as client:
        answer = await client.request("GET", f"{http}/dashboard/about", headers=[("host", "evil.example")])
        assert answer.status == 421
        assert (await client.request("GET", f"{http}/dashboard/about")).status == 200


async def test_nobody_has_a_dashboard_who_did_not_ask() -> None:
    """Without the keyword there is nothing there."""
    async with _served("lean", dashboard=False) as (_, http), HttpClient() as client:
        assert (await client.request("GET", f"{http}/dashboard/")).status in {404, 405}


async def test_a_dashboard_of_ones_own_is_used() -> None:
    """With its title, and its limits."""
    async with _served("lean", dashboard=Dashboard(app, title="mine")) as (_, http), HttpClient() as client:
        answer = await client.request("GET", f"{http}/dashboard/about")
        assert json.loads(answer.body)["title"] == "mine"


def test_the_command_line_has_it() -> None:
    """`trio-streams serve APP URL --dashboard` serves the page."""
    command = [sys.executable, "-m", "trio_streams", "serve", "tests.dashboard.test_serve:app", "http://127.0.0.1:0"]
    with subprocess.Popen([*command, "--dashboard"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}/dashboard/", timeout=30) as answer:
                assert b"<!doctype html>" in answer.read()
        finally:
            process.kill()

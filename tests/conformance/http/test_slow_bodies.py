"""Request bodies that stop, or come by drops: 408 and the connection's end, whoever the host is."""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import pytest
import trio

from tests.conformance.http.hosts import HOSTS, ask, open_request, read_all, serving
from trio_streams import Router, serve
from trio_streams.service.access import AccessRecord, StreamRecord
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.service.server_config import ServerConfig
from trio_streams.urls.server import HostName

CONFIG: Final = ExchangeConfig(body_timeout=0.2, linger_timeout=0.2, min_body_bytes_per_second=1_000)
LONG: Final = "content-length: 1000000\r\n"

every_host = pytest.mark.parametrize("host", sorted(HOSTS))


async def drip(stream: trio.SocketStream) -> None:
    """A byte each twentieth of a second, until nobody takes it."""
    with trio.CancelScope() as scope:
        while not scope.cancel_called:
            try:
                await stream.send_all(b"x")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            await trio.sleep(0.05)


@every_host
@pytest.mark.parametrize("framing", ["content-length: 9\r\n", "transfer-encoding: chunked\r\n"])
async def test_a_body_that_stops(host: str, framing: str) -> None:
    """It is answered 408, the connection closes, and the server goes on."""
    async with serving(host, CONFIG) as (_, port):
        with trio.fail_after(30):
            answer = await read_all(await open_request(port, "/echo", method="POST", extra=framing, body=b"1\r\na\r\n"))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert (await ask(port, "/")).endswith(b'"hello"')


@every_host
async def test_a_body_by_drops(host: str) -> None:
    """Each drop comes in time and the whole does not: 408, and the connection closes though the client goes on."""
    patient = attrs.evolve(CONFIG, body_timeout=1.0)  # so that a drop comes in time on a loaded machine, too
    async with serving(host, patient) as (_, port), trio.open_nursery() as nursery:
        stream = await open_request(port, "/echo", method="POST", extra=LONG)
        nursery.start_soon(drip, stream)
        data = b""
        with trio.fail_after(30):
            try:
                async for part in stream:
                    data += part
            except trio.BrokenResourceError:
                pass  # it closed in the middle of a drop
        assert data.startswith(b"HTTP/1.1 408 ")
        assert b"min_body_bytes_per_second" in data
        nursery.cancel_scope.cancel()
        await stream.aclose()


@every_host
async def test_a_body_that_nobody_hurries(host: str) -> None:
    """Without a minimum a body may take its time, as long as each piece comes within the other limit."""
    config = ExchangeConfig(body_timeout=10, min_body_bytes_per_second=None)
    async with serving(host, config) as (_, port):
        extra = "content-length: 3\r\nconnection: close\r\n"
        stream = await open_request(port, "/echo", method="POST", extra=extra)
        for drop in (b"a", b"b", b"c"):
            await trio.sleep(0.05)
            await stream.send_all(drop)
        assert (await read_all(stream)).endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("host", ["hypercorn", "lean"])
async def test_the_access_log_has_the_refusal(host: HostName) -> None:
    """Behind `serve` the limit is a field of its configuration, and the record of the exchange says 408."""
    app = Router()

    @app.call("echo")
    async def echo(text: str) -> str:
        return text

    records: list[AccessRecord | StreamRecord] = []
    rules = ServerConfig(exchange=CONFIG, on_access=records.append)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, "http://127.0.0.1:0", server=rules, host=host))
        port = int(url.rpartition(":")[2])
        with trio.fail_after(30):
            answer = await read_all(await open_request(port, "/echo", method="POST", extra=LONG, body=b"a"))
        assert answer.startswith(b"HTTP/1.1 408 ")
        nursery.cancel_scope.cancel()
    assert [record.status for record in records if isinstance(record, AccessRecord)] == [408]

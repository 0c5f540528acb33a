"""`Alt-Svc`: where else the same is served, said by every host."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.conformance.http.hosts import HOSTS, ask, open_request, read_until, serving
from tests.conformance.http.test_answer_nowait import at_once, later, post
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.transports.http import serve_lean

VALUE = 'h3=":443"; ma=86400'
LINE = f"alt-svc: {VALUE}\r\n".encode()


@pytest.mark.parametrize("host", ["hypercorn", "lean"])
async def test_each_answer_says_it_where_it_is_configured(host: str) -> None:
    """Answers, refusals and event streams have the header once; without `alt_svc` none has it."""
    assert host in HOSTS
    async with serving(host, ExchangeConfig(alt_svc=VALUE)) as (_, port):
        for path in ("/", "/nope"):
            assert (await ask(port, path)).count(LINE) == 1
        async with await open_request(port, "/three") as stream:
            assert LINE in await read_until(stream, b"\r\n\r\n")
    async with serving(host) as (_, port):
        assert b"alt-svc" not in await ask(port, "/")


async def test_what_is_answered_without_a_handler_says_it_too() -> None:
    """The lean host's shortest way has the header, too."""
    async with trio.open_nursery() as nursery:
        config = ExchangeConfig(alt_svc=VALUE)
        url = await nursery.start(partial(serve_lean, later, answer_nowait=at_once, config=config))
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as stream:
            for path in ("/now", "/soon"):
                await stream.send_all(post(path))
                assert (await read_until(stream, b"!")).count(LINE) == 1
        nursery.cancel_scope.cancel()

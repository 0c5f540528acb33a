"""Plain requests over HTTP/3 from aioquic's own client, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import pytest
import trio
from aioquic.asyncio.client import connect
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import SessionTicket

from tests.conformance.http.hosts import Site, until
from tests.webtransport.aioquic_client import AioquicClient, Answer, run_client
from tests.webtransport.quic_pair import certificate
from trio_streams.service.exchange import Exchange, ExchangeConfig, ExchangeHandler, respond, respond_json
from trio_streams.transports.http_access import AccessRecord
from trio_streams.webtransport.http3_serving import serve_http3

MEBIBYTE: Final = 1_048_576


@asynccontextmanager
async def serving(
    handler: ExchangeHandler,
    config: ExchangeConfig | None = None,
    on_access: Callable[[AccessRecord], None] | None = None,
) -> AsyncIterator[int]:
    chain, key, _ = certificate()
    serve = partial(serve_http3, handler, certfile=str(chain), keyfile=str(key), on_access=on_access)
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve, config=config or ExchangeConfig()))
            port = urlsplit(url).port
            assert url == f"https://127.0.0.1:{port}"
            yield port or 0
            nursery.cancel_scope.cancel()


async def tell(exchange: Exchange) -> None:
    """Answer with what was asked."""
    request = exchange.request
    body = await exchange.receive_body()
    await respond_json(
        exchange, [request.method, request.path, request.query_string, body.decode(), list(request.headers)]
    )


async def test_answers_whole_requests() -> None:
    """Bodies come back, unknown paths are 404, wrong methods 405, oversized bodies are 413."""

    async def script(client: AioquicClient) -> list[Answer]:
        asked = [
            client.ask("/"),
            client.ask("/nope"),
            client.ask("/", method="DELETE"),
            client.ask("/echo", method="POST", body=b"y" * 100_000),
            client.ask("/echo", method="POST", body=b"y" * 100_001, headers=(("content-length", "100001"),)),
        ]
        return [await client.whole(answer) for answer in asked]

    async with serving(Site().routes(), ExchangeConfig(max_body_bytes=100_000)) as port:
        answers = await run_client(port, script)
    assert [answer.status for answer in answers] == [200, 404, 405, 200, 413]
    assert all(answer.is_ended and answer.reset is None for answer in answers)
    assert (answers[0].body, answers[3].body) == (b'"hello"', b"y" * 100_000)
    assert answers[2].header("allow") == "GET, HEAD"
    assert b'"field":"body","size":100001,"limit":100000' in answers[4].body
    assert all(answer.header("date") for answer in answers)


async def test_a_handler_sees_what_was_asked() -> None:
    """Path, query, fields in order, one `host` for the authority, one `cookie` for all that were sent."""

    async def script(client: AioquicClient) -> Answer:
        fields = (("x", "1"), ("cookie", "a=1"), ("x", "2"), ("cookie", "b=2"))
        return await client.fetch("/a%20b?c=%20d", method="PUT", headers=fields, body=b"body")

    async with serving(tell) as port:
        answer = await run_client(port, script)
    fields = [["host", "localhost"], ["x", "1"], ["x", "2"], ["cookie", "a=1; b=2"]]
    assert json.loads(answer.body) == ["PUT", "/a b", "c=%20d", "body", fields]


async def test_streams_events_then_the_error() -> None:
    """Three items and then the error arrive, in that order, and the stream ends well."""

    async def script(client: AioquicClient) -> Answer:
        return await client.fetch("/three")

    async with serving(Site().routes()) as port:
        answer = await run_client(port, script)
    body = answer.body
    assert body.index(b'"n":0') < body.index(b'"n":2') < body.index(b"event: error") < body.index(b"after three")
    assert answer.is_ended


@pytest.mark.parametrize("leave", ["reset", "stop", "close"])
async def test_a_client_that_leaves_cancels_a_blocked_handler(leave: str) -> None:
    """RESET_STREAM, STOP_SENDING and the end of the connection wake a handler in any await; others are served."""
    site = Site()

    async def script(client: AioquicClient) -> None:
        answer = client.ask("/block", is_ended=leave != "reset")
        await client.until(lambda: bool(answer.headers))
        if leave != "close":
            getattr(client, leave)(answer)
            while not site.finished:  # noqa: ASYNC110 - the server is in another loop
                await asyncio.sleep(0.005)
            assert (await client.fetch("/")).body == b'"hello"'

    async with serving(site.routes()) as port:
        await run_client(port, script)
        await until(lambda: site.finished == ["block"])


async def test_a_request_that_nobody_reads_is_refused_without_an_error() -> None:
    """The answer comes whole, and behind it STOP_SENDING with H3_NO_ERROR."""

    async def script(client: AioquicClient) -> Answer:
        answer = client.ask("/nope", method="POST", body=b"z" * 1_000, is_ended=False)
        await client.until(lambda: answer.is_ended and answer.stopped is not None)
        return answer

    async with serving(Site().routes()) as port:
        answer = await run_client(port, script)
    assert (answer.status, answer.stopped, answer.reset) == (404, 0x100, None)


async def test_a_failure_in_the_body_resets_the_answer() -> None:
    """What was said before arrives, and then H3_INTERNAL_ERROR; before the head it is 500, and others are served."""

    async def handler(exchange: Exchange) -> None:
        if exchange.request.path == "/late":
            await exchange.send_head(200)
            await exchange.send(b"half")
        raise KeyError("secret")

    async def script(client: AioquicClient) -> tuple[Answer, Answer]:
        return await client.fetch("/late"), await client.fetch("/")

    async with serving(handler) as port:
        late, early = await run_client(port, script)
    assert (late.body, late.reset, late.is_ended) == (b"half", 0x102, False)
    assert (early.status, early.is_ended) == (500, True)


async def test_websockets_are_refused() -> None:
    """RFC 9220's CONNECT with `:protocol: websocket` is 501, and the connection goes on."""

    async def script(client: AioquicClient) -> tuple[Answer, Answer]:
        pseudo = (
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/"),
        )
        refused = client.ask("", pseudo=pseudo, is_ended=False)
        return await client.whole(refused), await client.fetch("/")

    async with serving(Site().routes()) as port:
        refused, answer = await run_client(port, script)
    assert (refused.status, answer.status) == (501, 200)


@pytest.mark.parametrize(
    "pseudo",
    [
        ((":method", "GET"), (":scheme", "https"), (":path", "/")),
        ((":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a@b")),
        ((":method", "GET"), (":path", "/"), (":authority", "localhost")),
        ((":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost"), ("host", "other")),
    ],
)
async def test_malformed_requests_end_their_stream_alone(pseudo: tuple[tuple[str, str], ...]) -> None:
    """H3_MESSAGE_ERROR on the stream; the next request is answered."""

    async def script(client: AioquicClient) -> tuple[Answer, Answer]:
        return await client.whole(client.ask("", pseudo=pseudo)), await client.fetch("/")

    async with serving(Site().routes()) as port:
        refused, answer = await run_client(port, script)
    assert (refused.reset, answer.status) == (0x10E, 200)


async def test_large_bodies_both_ways() -> None:
    """Two mebibytes there and back, whole, through windows and buffers that are smaller."""
    sent = bytes(range(256)) * (2 * MEBIBYTE // 256)

    async def echo(exchange: Exchange) -> None:
        await exchange.send_head(200)
        async for chunk in exchange.iter_body():
            await exchange.send(chunk)

    async def script(client: AioquicClient) -> Answer:
        return await client.fetch("/", method="POST", body=sent)

    async with serving(echo) as port:
        answer = await run_client(port, script)
    assert len(answer.body) == len(sent)
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(sent).digest()


async def test_many_requests_on_one_connection() -> None:
    """Three hundred after one another and a hundred at once; every stream is given back, and each is in the log once."""
    records: list[AccessRecord] = []

    async def script(client: AioquicClient) -> list[Answer]:
        answers = [await client.fetch(f"/{number}") for number in range(300)]
        asked = [client.ask(f"/{number}", method="POST", body=b"x") for number in range(100)]
        return answers + [await client.whole(answer) for answer in asked]

    async def handler(exchange: Exchange) -> None:
        await respond(exchange, 200, exchange.request.path.encode())

    async with serving(handler, on_access=records.append) as port:
        answers = await run_client(port, script)
    assert [answer.body for answer in answers] == [b"/%d" % n for n in [*range(300), *range(100)]]
    assert len(records) == 400
    assert {(record.status, record.http_version) for record in records} == {(200, "3")}


async def test_a_body_that_stops_is_408() -> None:
    """And the stream ends, though the client goes on."""

    async def script(client: AioquicClient) -> Answer:
        answer = client.ask("/echo", method="POST", body=b"x", is_ended=False)
        return await client.whole(answer)

    async with serving(Site().routes(), ExchangeConfig(body_timeout=0.2)) as port:
        answer = await run_client(port, script)
    assert answer.status == 408
    assert b'"field":"body_timeout"' in answer.body


async def test_no_session_can_be_resumed_and_early_data_is_not_taken() -> None:
    """No tickets are handed out; a ticket from elsewhere is no ticket here, and what came with it is asked once more."""
    tickets: list[SessionTicket] = []
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request.path)
        await respond(exchange, 200, b"")

    async def first(client: AioquicClient) -> int:
        return (await client.fetch("/1")).status

    async def second(client: AioquicClient) -> tuple[bool, bool]:
        answer = client.ask("/2", method="POST", body=b"x")  # before the handshake, with a ticket
        await client.wait_connected()
        tls = client._quic.tls
        await asyncio.wait([asyncio.ensure_future(client.whole(answer))], timeout=2)
        return tls.early_data_accepted, tls.session_resumed

    def bring(configuration: QuicConfiguration) -> None:
        configuration.session_ticket = foreign[0]

    async with serving(handler) as port:
        assert await run_client(port, first, session_ticket_handler=tickets.append) == 200
        assert tickets == []
        foreign: list[SessionTicket] = await _foreign_tickets()
        assert foreign[0].max_early_data_size
        assert await run_client(port, second, bring, wait_connected=False) == (False, False)
    assert seen in (["/1"], ["/1", "/2"])


async def _foreign_tickets() -> list[SessionTicket]:
    """Of a stock server with our certificate, which takes early data."""
    chain, key, _ = certificate()
    store: dict[bytes, SessionTicket] = {}
    taken: list[SessionTicket] = []

    async def main() -> None:
        configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
        configuration.load_cert_chain(chain, key)
        server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            session_ticket_handler=lambda ticket: store.update({ticket.ticket: ticket}),
            session_ticket_fetcher=store.get,
        )
        assert server._transport is not None
        port = server._transport.get_extra_info("sockname")[1]
        client_configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=0)
        async with connect(
            "127.0.0.1", port, configuration=client_configuration, session_ticket_handler=taken.append
        ) as client:
            await client.ping()
            await asyncio.sleep(0.05)
        server.close()

    await trio.to_thread.run_sync(asyncio.run, main())
    return taken

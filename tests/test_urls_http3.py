"""`https://` URLs over HTTP/3, too: the same port, the same application, and `Alt-Svc` that says so."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from tests.conformance.http.hosts import until
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from tests.webtransport.aioquic_client import AioquicClient, Answer, run_client
from tests.webtransport.http3_client import ask_http3, connect_http3
from trio_streams import Router, serve
from trio_streams.durable import DurableConfig, serve_durable
from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.service.access import AccessRecord, StreamRecord
from trio_streams.service.drain import Drain
from trio_streams.service.exchange import ExchangeConfig, ExchangeHandler
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.bytes import ListenError
from trio_streams.transports.http_access import AccessRecord as HttpRecord
from trio_streams.transports.http_client import HttpClient, HttpClientConfig, HttpResponse
from trio_streams.urls.server import HostName
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.over_http3 import OverHttp3

app: Final = Router()
running: Final[list[str]] = []


@app.call("double")
async def double(value: int) -> int:
    return 2 * value


@app.stream("count")
async def count() -> AsyncIterator[int]:
    for number in range(3):
        yield number


@app.stream("ticks")
async def ticks() -> AsyncIterator[int]:
    running.append("begun")
    try:
        yield 1
        await trio.sleep_forever()
    finally:
        running.append("over")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certfile.write_text(CERTIFICATE)
    keyfile.write_text(KEY)
    return str(certfile), str(keyfile)


@asynccontextmanager
async def serving(files: tuple[str, str], **options: Any) -> AsyncIterator[str]:
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            start = partial(serve, app, "https://127.0.0.1:0", certfile=files[0], keyfile=files[1], **options)
            (url,) = await nursery.start(start)
            yield url
            nursery.cancel_scope.cancel()


async def get(url: str, files: tuple[str, str], *, http2: bool = False) -> HttpResponse:
    tls = ssl.create_default_context(cafile=files[0])
    async with HttpClient(HttpClientConfig(http2=http2), tls=tls) as client:
        return await client.request("GET", url)


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


async def call_and_stream(client: AioquicClient) -> tuple[Answer, Answer]:
    fields = (("content-type", "application/json"),)
    called = client.ask("/double", method="POST", headers=fields, body=b"21")
    streamed = client.ask("/streams/count")
    return await client.whole(called), await client.whole(streamed)


@pytest.mark.parametrize(("host", "http2"), [("lean", False), ("hypercorn", False), ("hypercorn", True)])
async def test_the_same_application_is_on_the_same_port(host: HostName, http2: bool, files: tuple[str, str]) -> None:
    """Answers over HTTP/1.1 and /2 name the port in `Alt-Svc`, there are calls and streams, and no `Alt-Svc`."""
    async with serving(files, host=host, http3=True) as url:
        answer = await get(f"{url}/healthz", files, http2=http2)
        assert dict(answer.headers)["alt-svc"] == f'h3=":{port_of(url)}"; ma=86400'
        called, streamed = await run_client(port_of(url), call_and_stream)
    assert (called.status, json.loads(called.body)) == (200, 42)
    assert called.header("alt-svc") is None
    assert streamed.header("content-type") == "text/event-stream"
    assert [line for line in streamed.body.split(b"\n") if line.startswith(b"data")][:3] == [
        b"data: 0",
        b"data: 1",
        b"data: 2",
    ]
    assert streamed.is_ended


async def test_nobody_is_told_where_there_is_nothing(files: tuple[str, str]) -> None:
    """Without `http3` there is no `Alt-Svc`; `max_age=None` does not say it; what is configured is said as it is."""
    for options, expected in (
        ({}, None),
        ({"http3": OverHttp3(max_age=None)}, None),
        ({"http3": OverHttp3(max_age=5, advertised_port=443)}, 'h3=":443"; ma=5'),
        ({"http3": True, "server": ServerConfig(exchange=ExchangeConfig(alt_svc="clear"))}, "clear"),
    ):
        async with serving(files, host="lean", **options) as url:
            answer = await get(f"{url}/healthz", files)
            assert dict(answer.headers).get("alt-svc") == expected


async def test_a_stream_is_cancelled_by_its_client(files: tuple[str, str]) -> None:
    """A client over HTTP/3 that leaves ends the generator."""
    running.clear()

    async def script(client: AioquicClient) -> None:
        answer = client.ask("/streams/ticks")
        await client.until(lambda: b"data" in answer.body)
        client.stop(answer)
        await client.ping()

    async with serving(files, http3=True) as url:
        await run_client(port_of(url), script)
        await until(lambda: running == ["begun", "over"])


async def test_it_is_let_in_and_logged_as_elsewhere(files: tuple[str, str]) -> None:
    """`Host` and `Origin` are checked, heads have the same limit, and each exchange is in the log with its version."""
    records: list[AccessRecord | StreamRecord] = []
    rules = ServerConfig(on_access=records.append, max_header_bytes=2_000)

    async def script(client: AioquicClient) -> list[int]:
        pseudo = ((":method", "GET"), (":scheme", "https"), (":authority", "evil.example"), (":path", "/healthy"))
        answers = [
            await client.fetch("/healthz"),
            await client.whole(client.ask("", pseudo=pseudo)),
            await client.fetch("/", headers=(("origin", "https://evil.example"),)),
            await client.fetch("/", headers=(("x", "y" * 3_000),)),
        ]
        return [answer.status for answer in answers]

    for host in ("hypercorn", "lean"):
        records.clear()
        async with serving(files, http3=True, server=rules, host=host) as url:
            assert await run_client(port_of(url), script) == [200, 421, 403, 431]
            await get(f"{url}/healthz", files)
        exchanges = [record for record in records if isinstance(record, HttpRecord)]
        assert [(record.status, record.http_version) for record in exchanges] == [
            (200, "3"),
            (421, "3"),
            (403, "3"),
            (431, "3"),
            (200, "1.1"),
        ]


async def _healthy_connections(link: Link) -> int:
    async with ask_http3(link, "/healthz") as request:
        answer = b"".join([chunk async for chunk in request])
    return int(json.loads(answer.partition(b"\r\n\r\n")[2])["connections"])


@pytest.mark.parametrize(
    "rules", [ServerConfig(max_connections=2), ServerConfig(max_connections_per_host=2)], ids=["all", "one address"]
)
async def test_its_connections_count_among_all(rules: ServerConfig, files: tuple[str, str]) -> None:
    """`/healthz` shows them, one more is refused over TCP and UDP alike, and what has ended makes room."""
    async with serving(files, host="lean", http3=True, server=rules) as url:
        tcp = await trio.open_tcp_stream("127.0.0.1", port_of(url))
        async with connect_http3(port_of(url)) as link:
            await until_async(lambda: _healthy_connections(link), 2)
            with pytest.raises(ConnectionLost, match=r"ended with QUIC's code 0x2"):
                async with connect_http3(port_of(url)):
                    raise AssertionError("let in")
            async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as refused:
                assert await refused.receive_some() == b""
            await tcp.aclose()
            await until_async(lambda: _healthy_connections(link), 1)
            async with connect_http3(port_of(url)) as another:
                assert await _healthy_connections(another) == 2
            await until_async(lambda: _healthy_connections(link), 1)


async def until_async(ask: Callable[[], Awaitable[int]], expected: int) -> None:
    """The other side of a socket hears of things when it does."""
    while await ask() != expected:  # noqa: ASYNC110 - the kernel sets no event
        await trio.sleep(0.005)


async def test_a_drain_ends_both(files: tuple[str, str]) -> None:
    """A stream under way gets its time on HTTP/3, too, and the call returns when it is over."""
    drain = Drain()
    seen: list[bytes] = []

    async def script(client: AioquicClient) -> None:
        answer = client.ask("/streams/ticks")
        await client.until(lambda: b"data" in answer.body)
        trio.from_thread.run_sync(drain.begin)
        await client.whole(answer)
        seen.append(answer.body)

    running.clear()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            rules = ServerConfig(drain_timeout=0.5)
            start = partial(serve, app, "https://127.0.0.1:0", certfile=files[0], keyfile=files[1], server=rules)
            (url,) = await nursery.start(partial(start, drain=drain, http3=True))
            await run_client(port_of(url), script)
    assert drain.was_cut
    assert running == ["begun", "over"]
    assert len(seen) == 1


async def test_it_takes_an_https_url(files: tuple[str, str]) -> None:
    """Without one there is no certificate, and nobody would look for it."""
    with pytest.raises(LocalProtocolError, match="without an https:// URL") as info:
        await serve(app, "tcp://127.0.0.1:0", http3=True)
    assert info.value.field == "http3"
    with pytest.raises(LocalProtocolError, match="without certfile and keyfile"):
        await serve(app, "https://127.0.0.1:0", http3=True)


async def test_a_port_that_is_taken_over_udp(files: tuple[str, str]) -> None:
    """One line that names it, and says that it is UDP's."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        port = socket.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^cannot listen on https://127\.0\.0\.1:{port} over UDP: "):
            await serve(app, f"https://127.0.0.1:{port}", certfile=files[0], keyfile=files[1], http3=True)


@attrs.define
class Fake:
    """Something else beside, to see what it is given."""

    given: list[dict[str, Any]] = attrs.field(factory=list)

    def alt_svc(self, port: int) -> str | None:
        return f'fake=":{port}"'

    async def serve(
        self, handler: ExchangeHandler, host: str, port: int, *, task_status: trio.TaskStatus[str], **options: Any
    ) -> None:
        self.given.append({"host": host, "port": port, **options})
        task_status.started(f"https://{host}:{port}")
        await trio.sleep_forever()


async def test_what_is_beside_is_told_the_limits(files: tuple[str, str]) -> None:
    """The exchanges' configuration, the certificate, the log and the drain's time are those of the server."""
    fake = Fake()
    records: list[AccessRecord | StreamRecord] = []
    rules = ServerConfig(on_access=records.append, exchange=ExchangeConfig(max_body_bytes=7), drain_timeout=2)
    with trio.socket.socket() as socket:
        await socket.bind(("127.0.0.1", 0))
        port = socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        url = f"https://127.0.0.1:{port}"
        start = partial(serve, app, url, certfile=files[0], keyfile=files[1], http3=fake, server=rules)
        await nursery.start(start)
        assert dict((await get(f"{url}/healthz", files)).headers)["alt-svc"] == f'fake=":{port}"'
        nursery.cancel_scope.cancel()
    (given,) = fake.given
    assert (given["host"], given["port"], given["graceful_timeout"]) == ("127.0.0.1", port, 3)
    assert (given["certfile"], given["keyfile"], given["on_access"]) == (*files, rules.on_access)
    assert given["config"].max_body_bytes == 7
    assert given["config"].alt_svc is None


async def test_durable_streams(files: tuple[str, str]) -> None:
    """Create, append, catch up, long-poll and follow as events over HTTP/3; what is appended over TCP arrives there."""
    config = DurableConfig(long_poll_timeout=10)
    plain = (("content-type", "text/plain"),)

    async def script(client: AioquicClient) -> list[Answer]:
        created = await client.fetch("/v1/stream/log", method="PUT", headers=plain)
        appended = await client.fetch("/v1/stream/log", method="POST", headers=plain, body=b"one,")
        caught_up = await client.fetch("/v1/stream/log?offset=-1")
        tail = caught_up.header("stream-next-offset")
        polled = client.ask(f"/v1/stream/log?offset={tail}&live=long-poll")
        events = client.ask("/v1/stream/log?offset=-1&live=sse")
        await client.until(lambda: b"one," in events.body)
        assert not polled.headers
        tls = ssl.create_default_context(cafile=files[0])
        trio.from_thread.run(append, tls)
        await client.whole(polled)
        await client.until(lambda: b"two" in events.body)
        client.stop(events)
        return [created, appended, caught_up, polled]

    async def append(tls: ssl.SSLContext) -> None:
        async with HttpClient(tls=tls) as client:
            headers = [("content-type", "text/plain")]
            answer = await client.request("POST", f"{url}/v1/stream/log", headers=headers, body=b"two")
            alternatives.append(dict(answer.headers)["alt-svc"])

    alternatives: list[str] = []
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            start = partial(serve_durable, port=0, config=config, certfile=files[0], keyfile=files[1])
            url = await nursery.start(partial(start, http3=OverHttp3()))
            answers = await run_client(port_of(url), script)
            nursery.cancel_scope.cancel()
    assert [answer.status for answer in answers] == [201, 204, 200, 200]
    assert [answer.body for answer in answers[2:]] == [b"one,", b"two"]
    assert alternatives == [f'h3=":{port_of(url)}"; ma=86400']


async def test_durable_streams_take_a_certificate() -> None:
    """There is no QUIC without one."""
    with pytest.raises(ValueError, match="without certfile and keyfile"):
        await serve_durable(port=0, http3=OverHttp3())

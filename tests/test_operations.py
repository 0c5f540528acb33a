"""How a server is run: probes, who may ask, how many at once, and the access log, on both hosts and every carrier."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.serving import CONFIG, HOSTED, HTTP, Face, Work, ask, read_answer, serving
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.service.access import AccessRecord, StreamRecord
from trio_streams.transports.exchange import ExchangeConfig
from trio_streams.urls import ServerConfig, connect

WEBSOCKETS: Final = (Face("ws"), Face("ws", carrier="trio-websocket"), *HOSTED)

UPGRADE: Final = (
    "GET / HTTP/1.1\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 13\n"
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-protocol: trio-streams.v1\n"
)


@pytest.mark.parametrize("face", HTTP, ids=str)
async def test_health(face: Face, tmp_path: Path) -> None:
    """`/healthz` answers 200 with a few numbers, whatever the request's host; other methods are the application's."""
    async with serving(Work().router, face, tmp_path) as served:
        async with (
            connect(f"ws:{served.url.partition(':')[2]}", config=CONFIG) as client,
            client.stream("items", returns=int) as items,
        ):
            await items.receive()
            status, headers, body = await ask(served.port, "GET /healthz HTTP/1.1\nhost: 10.1.2.3")
        report = json.loads(body)
        assert (status, headers["cache-control"]) == (200, "no-store")
        assert (report["status"], report["streams"]) == ("ok", 1)
        assert report["connections"] >= 2
        assert report["uptime_seconds"] >= 0
        assert (await ask(served.port, "POST /healthz HTTP/1.1\nhost: localhost\ncontent-length: 0"))[0] == 404


async def _no() -> bool:
    await trio.lowlevel.checkpoint()
    return False


async def _yes() -> bool:
    await trio.lowlevel.checkpoint()
    return True


async def _fails() -> bool:
    await trio.lowlevel.checkpoint()
    raise OSError("the database is gone")


async def _hangs() -> bool:
    await trio.sleep_forever()
    return True


@pytest.mark.parametrize("face", HTTP, ids=str)
@pytest.mark.parametrize(
    ("check", "status", "said"),
    [
        (_yes, 200, "ready"),
        (_no, 503, "not ready"),
        (_fails, 503, "the check failed"),
        (_hangs, 503, "the check took too long"),
    ],
)
async def test_the_applications_own_check(
    face: Face, check: object, status: int, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`/readyz` asks the application; one that fails or hangs is not ready, and the failure's text stays here."""
    rules = ServerConfig(check_ready=check, check_timeout=0.05)  # type: ignore[arg-type]
    async with serving(Work().router, face, tmp_path, rules) as served:
        answer = await ask(served.port, "GET /readyz HTTP/1.1\nhost: localhost")
    assert (answer[0], json.loads(answer[2])) == (status, {"status": said})
    assert ("the database is gone" in caplog.text) == (check is _fails)


@pytest.mark.parametrize("face", HTTP, ids=str)
async def test_probes_can_be_moved_and_turned_off(face: Face, tmp_path: Path) -> None:
    """Where there is no probe, the application's routes are."""
    rules = ServerConfig(health_path="/live", ready_path=None)
    async with serving(Work().router, face, tmp_path, rules) as served:
        answers = [await ask(served.port, f"GET {path} HTTP/1.1\nhost: localhost") for path in ("/live", "/healthz")]
        assert [answer[0] for answer in answers] == [200, 405]
    async with serving(Work().router, face, tmp_path, ServerConfig(health_path=None, ready_path=None)) as served:
        assert (await ask(served.port, "GET /readyz HTTP/1.1\nhost: localhost"))[0] == 405


REQUESTS: Final[Sequence[tuple[str, str | None, int]]] = (
    ("localhost", None, 200),
    ("127.0.0.1:7002", None, 200),
    ("evil.example", None, 421),
    ("evil.example:80", "http://evil.example:80", 421),
    ("localhost:7002", "http://localhost:7002", 200),
    ("localhost:7002", "http://localhost:7003", 403),
    ("localhost", "https://evil.example", 403),
    ("localhost", "null", 403),
    ("api.example.org", "https://app.example.org", 200),
)
RULES: Final = ServerConfig(allowed_hosts=("api.example.org",), allowed_origins=("https://app.example.org",))


@pytest.mark.parametrize("face", HTTP, ids=str)
@pytest.mark.parametrize(("host", "origin", "status"), REQUESTS)
async def test_who_may_ask_over_http(face: Face, host: str, origin: str | None, status: int, tmp_path: Path) -> None:
    """A host that is not the server's is answered 421, a foreign page 403, before the application hears of it."""
    extra = "" if origin is None else f"\norigin: {origin}"
    async with serving(Work().router, face, tmp_path, RULES) as served:
        head = f"POST /double HTTP/1.1\nhost: {host}\ncontent-length: 1{extra}"
        answer = await ask(served.port, head, body=b"4")
    assert answer[0] == status
    if status == 200:
        assert answer[2] == b"8"
    else:
        error = json.loads(answer[2])["error"]
        assert error["details"] == {"field": "host" if status == 421 else "origin"}


@pytest.mark.parametrize("face", WEBSOCKETS, ids=str)
@pytest.mark.parametrize(("host", "origin", "status"), REQUESTS)
async def test_who_may_open_a_websocket(
    face: Face, host: str, origin: str | None, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A WebSocket's handshake is judged as a request is, by every carrier and on both hosts."""
    extra = "" if origin is None else f"\norigin: {origin}"
    with caplog.at_level(logging.INFO):
        async with serving(Work().router, face, tmp_path, RULES) as served:
            answer = await ask(served.port, f"{UPGRADE}host: {host}{extra}")
            assert answer[0] == (101 if status == 200 else status)
            if status != 200:
                assert b"\n" in answer[2]
            async with served.connect() as client:  # the server goes on
                assert await client.call("double", 2) == 4


@pytest.mark.parametrize("face", HTTP, ids=str)
async def test_sizes_of_requests(face: Face, tmp_path: Path) -> None:
    """The head and the body of a request are bounded by one configuration on both hosts."""
    rules = ServerConfig(max_header_bytes=2_000, exchange=ExchangeConfig(max_body_bytes=1_000))
    async with serving(Work().router, face, tmp_path, rules) as served:
        head = "POST /double HTTP/1.1\nhost: localhost\ncontent-length: {}\nx: {}"
        assert (await ask(served.port, head.format(1, "x" * 1_000), body=b"1"))[0] == 200
        assert (await ask(served.port, head.format(1, "x" * 3_000), body=b"1"))[0] == 431
        assert (await ask(served.port, head.format(1_001, ""), body=b"1" * 1_001))[0] == 413


@pytest.mark.parametrize("face", [*HTTP, Face("ws")], ids=str)
async def test_one_connection_too_many_on_http(face: Face, tmp_path: Path) -> None:
    """It is answered 503 with `Retry-After`; as soon as another one is closed there is room."""
    async with serving(Work().router, face, tmp_path, ServerConfig(max_connections=2)) as served:
        streams = [await trio.open_tcp_stream("127.0.0.1", served.port) for _ in range(3)]
        async with streams.pop() as refused:
            status, headers, body = await read_answer(refused)
        assert (status, headers["retry-after"], body) == (503, "1", b"Too many connections now\n")
        for stream in streams:
            async with stream:  # who has asked for nothing is closed by hypercorn after its own timeout only
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                await read_answer(stream)
        await _wait_admitted(served.url if face.scheme == "ws" else f"ws:{served.url.partition(':')[2]}")


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
async def test_one_connection_too_many_elsewhere(scheme: str, tmp_path: Path) -> None:
    """It is closed without a word; as soon as another one is closed there is room."""
    async with serving(Work().router, Face(scheme), tmp_path, ServerConfig(max_connections=1)) as served:
        async with served.connect() as client:
            with pytest.raises(ConnectionLost):
                async with served.connect():
                    pass
            assert await client.call("double", 2) == 4
        await _wait_admitted(served.url)


async def _wait_admitted(url: str) -> None:
    while True:
        try:
            async with connect(url, config=CONFIG) as client:
                assert await client.call("double", 1) == 2
        except (ConnectionLost, RemoteProtocolError):
            await trio.sleep(0.01)
        else:
            return


@pytest.mark.parametrize("face", HTTP, ids=str)
async def test_exchanges_are_recorded(face: Face, tmp_path: Path) -> None:
    """Each exchange is told of once: the method, the target, the status, the body's size; refused ones as well."""
    records: list[AccessRecord | StreamRecord] = []
    told = trio.Event()

    def on_access(record: AccessRecord | StreamRecord) -> None:
        records.append(record)
        if len(records) == 3:
            told.set()

    async with serving(Work().router, face, tmp_path, ServerConfig(on_access=on_access)) as served:
        await ask(served.port, "POST /double?token=1 HTTP/1.1\nhost: localhost\ncontent-length: 2", body=b"21")
        await ask(served.port, "POST /nothing HTTP/1.1\nhost: localhost\ncontent-length: 0")
        await ask(served.port, "GET / HTTP/1.1\nhost: evil.example")
        await told.wait()
    seen = [
        (one.method, one.path, one.status, one.peer.partition(":")[0])
        for one in records
        if isinstance(one, AccessRecord)
    ]
    assert seen == [
        ("POST", "/double?token=1", 200, "127.0.0.1"),
        ("POST", "/nothing", 404, "127.0.0.1"),
        ("GET", "/", 421, "127.0.0.1"),
    ]
    assert records[0].sent_bytes == 2
    assert all(one.duration >= 0 for one in records)


@pytest.mark.parametrize("face", [Face("tcp"), Face("ws"), *HOSTED], ids=str)
async def test_streams_are_recorded(face: Face, tmp_path: Path) -> None:
    """Each stream is told of once: what it was, how it ended, and what went each way."""
    records: list[AccessRecord | StreamRecord] = []
    work = Work()
    async with (
        serving(work.router, face, tmp_path, ServerConfig(on_access=records.append)) as served,
        served.connect() as client,
    ):
        assert await client.call("double", 21) == 42
        async with client.stream("items", returns=int) as items:
            await items.receive()
        await work.over.wait()
    streams = [one for one in records if isinstance(one, StreamRecord)]
    assert [(one.procedure, one.code, one.transport) for one in streams] == [
        ("double", "OK", face.client or face.scheme),
        ("items", "CANCELLED", face.client or face.scheme),
    ]
    first = streams[0]
    assert (first.items_received, first.items_sent, first.received_bytes, first.sent_bytes) == (1, 1, 2, 2)
    assert first.peer.startswith("127.0.0.1:")

"""What a server says to peers that break the rules, over real sockets. One row each."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import pytest
import trio

from tests.conformance.faces import FACES, Face, open_server
from tests.conformance.raw import HELLO, RawPeer, frame, open_stream
from trio_streams import Router, connect
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.testing.peers import until
from trio_streams.wire.binary import PREFACE

# What a raw peer may do to a session of WebTransport is another protocol's matter: tests/webtransport/protocol has that.
SOCKET_FACES: Final = [
    face for face in FACES.values() if face.has_credit and not face.is_existing and face.name != "webtransport"
]
CONFIG: Final = ConnectionConfig(max_item_bytes=100_000)


@attrs.frozen
class Reading:
    """A typed input."""

    level: int
    factor: float = 1.0


@attrs.define
class Site:
    """An application that knows how many of its handlers run."""

    running: int = 0
    started: int = 0
    produced: int = 0

    def router(self) -> Router:
        app = Router()
        app.call("echo")(self.echo)
        app.call("typed")(self.typed)
        app.stream("wait")(self.wait)
        app.stream("flood")(self.flood)
        app.stream("sink", direction="client")(self.sink)
        return app

    async def echo(self, text: str) -> str:
        return text

    async def typed(self, reading: Reading) -> float:
        return reading.level * reading.factor

    async def wait(self) -> AsyncIterator[int]:
        self.started += 1
        self.running += 1
        try:
            await trio.sleep_forever()
            yield 1
        finally:
            self.running -= 1

    async def flood(self) -> AsyncIterator[str]:
        self.running += 1
        try:
            while True:
                self.produced += 1
                yield "x" * 998  # a thousand bytes as JSON
        finally:
            self.running -= 1

    async def sink(self, items: AsyncIterable[str]) -> None:
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1


@attrs.frozen
class Scene:
    """A server, and a peer that has not said anything yet."""

    url: str
    site: Site
    peer: RawPeer


@asynccontextmanager
async def scene(face: Face, config: ConnectionConfig = CONFIG, *, shakes_hands: bool = True) -> AsyncIterator[Scene]:
    """Set a scene; afterwards no handler runs, and a second connection works."""
    site = Site()
    async with open_server(face, site.router(), config=config) as served:
        async with RawPeer.connect(served.url, shakes_hands=shakes_hands) as peer:
            yield Scene(served.url, site, peer)
            async with connect(served.url, carrier=face.carrier) as client:
                assert await client.call("echo", "another connection") == "another connection"
        await until(lambda: site.running == 0)


@pytest.fixture(params=SOCKET_FACES, ids=str)
def face(request: pytest.FixtureRequest) -> Face:
    """Each of our dialect's transports in turn."""
    assert isinstance(request.param, Face)
    return request.param


SINK: Final = open_stream(1, "sink")
BIG: Final = frame(4, 1, b"x" * 16_000)


def opens(first: int, last: int) -> bytes:
    """Complete requests for streams that wait."""
    return b"".join(open_stream(n, "wait") + frame(5, n, b"") for n in range(1 + 2 * first, 1 + 2 * last, 2))


@attrs.frozen
class Fatal:
    """What ends a connection, and what the GOAWAY says: a code, and words that name field and limit."""

    name: str
    data: bytes
    code: Code
    words: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


FATAL: Final = (
    Fatal("frame-too-long", frame(4, 1, b"", length=65_535), Code.PROTOCOL_ERROR, ("max_frame_bytes", "16396")),
    Fatal("frame-of-no-type", frame(99, 1, b"?"), Code.PROTOCOL_ERROR, ("type 99",)),
    Fatal("flags-unheard-of", frame(4, 1, b"?", flags=64), Code.PROTOCOL_ERROR, ("flags 64",)),
    Fatal("run-too-short", SINK + frame(4, 1, b"\0\2\0\1\0\1x", 1), Code.PROTOCOL_ERROR, ("lengths", "8", "7")),
    Fatal(
        "item-too-large", SINK + frame(4, 1, b"\0\1\x86\xa1x", 2), Code.MESSAGE_TOO_LARGE, ("max_item_bytes", "100000")
    ),
    Fatal("credit-short", SINK + frame(8, 1, b"123"), Code.PROTOCOL_ERROR, ("CREDIT", "16")),
    Fatal("open-not-json", frame(2, 1, b"{"), Code.PROTOCOL_ERROR, ("OPEN", "1 bytes")),
    Fatal("open-wrong-type", frame(2, 1, b'{"name":7}'), Code.PROTOCOL_ERROR, ("OPEN", "$.name")),
    Fatal("open-nan", frame(2, 1, b'{"name":"a","priority":NaN}'), Code.PROTOCOL_ERROR, ("OPEN",)),
    Fatal("open-not-utf8", frame(2, 1, b'{"name":"\xff"}'), Code.PROTOCOL_ERROR, ("OPEN", "12 bytes")),
    Fatal("reason-not-utf8", SINK + frame(6, 1, b"\0\0\0\1\xff"), Code.PROTOCOL_ERROR, ("RESET.reason", "UTF-8")),
    Fatal(
        "priority-too-high", frame(2, 1, b'{"name":"a","priority":128}'), Code.PROTOCOL_ERROR, ("OPEN.priority", "127")
    ),
    Fatal(
        "deadline-negative", frame(2, 1, b'{"name":"a","timeout_ms":-1}'), Code.PROTOCOL_ERROR, ("OPEN.timeout_ms", "0")
    ),
    Fatal("stream-of-the-server", open_stream(2, "wait"), Code.PROTOCOL_ERROR, ("stream 2",)),
    Fatal("stream-never-opened", frame(4, 7, b"x"), Code.PROTOCOL_ERROR, ("stream 7", "never opened")),
    Fatal("two-hellos", HELLO.removeprefix(PREFACE), Code.PROTOCOL_ERROR, ("second HELLO",)),
    Fatal(
        "more-items-than-credit",
        SINK + b"".join(frame(4, 1, b"x") for _ in range(257)),
        Code.FLOW_CONTROL_ERROR,
        ("window_items", "257", "256"),
    ),
    Fatal("more-bytes-than-credit", SINK + BIG * 67, Code.FLOW_CONTROL_ERROR, ("window_bytes", "1048576")),
    Fatal(
        "ten-thousand-opens",
        opens(0, 10_000),
        Code.STREAM_LIMIT_ERROR,
        ("max_streams", "1025", "1024"),
    ),
)


@pytest.mark.parametrize("row", FATAL, ids=str)
async def test_what_ends_a_connection(row: Fatal, face: Face) -> None:
    """The peer is told what it did, with field and limit, in a GOAWAY; its handlers end; another connection works."""
    async with scene(face) as at, trio.open_nursery() as nursery:
        await at.peer.send(HELLO)
        await at.peer.find(records.Hello)
        nursery.start_soon(at.peer.send, row.data)
        goaway = await at.peer.find(records.GoAway)
        assert goaway.code is row.code
        for word in row.words:
            assert word in goaway.reason
        await until(lambda: at.site.running == 0)
        assert at.site.started <= 1_024


async def test_opens_beyond_a_full_connection(face: Face) -> None:
    """With 1,024 handlers running, 9,000 further OPENs end the connection, and with it each of those handlers."""
    async with scene(face) as at, trio.open_nursery() as nursery:
        await at.peer.send(HELLO + opens(0, 1_024))
        await until(lambda: at.site.running == 1_024)
        nursery.start_soon(at.peer.send, opens(1_024, 10_000))
        goaway = await at.peer.find(records.GoAway)
        assert goaway.code is Code.STREAM_LIMIT_ERROR
        assert "number 1025, max_streams allows 1024" in goaway.reason
        await until(lambda: at.site.running == 0)
        assert at.site.started == 1_024


async def test_more_than_the_connections_credit(face: Face) -> None:
    """A peer that passes the connection's credit is told of `connection_window_bytes` and its limit."""
    async with scene(face, ConnectionConfig(connection_window_bytes=50_000)) as at:
        await at.peer.send(HELLO + SINK + BIG * 5)
        goaway = await at.peer.find(records.GoAway)
        assert goaway.code is Code.FLOW_CONTROL_ERROR
        assert "connection_window_bytes" in goaway.reason
        assert "50000" in goaway.reason


async def test_another_protocol(face: Face) -> None:
    """A peer that speaks something else is told what was expected."""
    async with scene(face) as at:
        await at.peer.send(b"GET / HTTP/1.1\r\n\r\n")
        goaway = await at.peer.find(records.GoAway)
        assert goaway.code is Code.PROTOCOL_ERROR
        assert "trio-streams.v1" in goaway.reason


@attrs.frozen
class Refused:
    """What ends a stream, and the status it ends with."""

    name: str
    procedure: str
    payload: bytes
    code: str
    words: tuple[str, ...]
    path: str | None = None

    def __str__(self) -> str:
        return self.name


REFUSED: Final = (
    Refused("unknown-procedure", "nope", b"", "NOT_FOUND", ("'nope'",)),
    Refused("long-name", "n" * 5_000, b"", "NOT_FOUND", ("5000 characters",)),
    Refused("wrong-type", "typed", b'{"level":"high"}', "INVALID_ARGUMENT", ("$.level",), "$.level"),
    Refused("missing-field", "typed", b"{}", "INVALID_ARGUMENT", ("level",), "$.level"),
    Refused("not-json", "typed", b'{"level":', "INVALID_ARGUMENT", ("malformed", "9 bytes"), "$"),
    Refused("not-utf8", "echo", b'"\xff"', "INVALID_ARGUMENT", ("utf-8",), "$"),
    Refused("nan", "typed", b'{"level":1,"factor":NaN}', "INVALID_ARGUMENT", ("finite", "byte 20"), "$"),
    Refused("infinite", "typed", b'{"level":1,"factor":1e999}', "INVALID_ARGUMENT", ("finite",), "$.factor"),
)


@pytest.mark.parametrize("row", REFUSED, ids=str)
async def test_what_ends_a_stream(row: Refused, face: Face) -> None:
    """The stream ends with a status that names the field; a second stream on the connection works, and another one."""
    async with scene(face) as at:
        await at.peer.send(HELLO + open_stream(1, row.procedure) + frame(4, 1, row.payload) + frame(5, 1, b""))
        end = await at.peer.find(records.End)
        assert end.status.code == row.code
        for word in row.words:
            assert word in end.status.message.lower() or word in end.status.message
        if row.path is not None:
            assert isinstance(end.status.details, dict)
            assert end.status.details["path"] == row.path
        assert await at.peer.call(3, "echo", b'"alive"') == [b'"alive"']

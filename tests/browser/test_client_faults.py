"""`client.js` and peers that break the rules: a clear error that names what was wrong, told to the peer, and no hang."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from tests.browser.node import run_node
from tests.core.support import frame
from tests.wire.test_binary import BAD_FRAMES
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.transports.messages import accept_websocket
from trio_streams.transports.messages_websocket import WebSocketCarrier
from trio_streams.wire.binary import PREFACE, BinaryWire

WIRE = BinaryWire()
HELLO = PREFACE + WIRE.encode(
    0,
    records.Hello("s", window_items=9, window_bytes=999, connection_bytes=9999, max_streams=9, max_item_bytes=99),
)
RUN = WIRE.encode_run(1, [b"1"])
END = WIRE.encode(1, records.End())


def _piece(data: bytes, total: int | None = None) -> bytes:
    return b"".join(WIRE.encode_piece(1, Piece(data, total)))


@attrs.frozen
class Case:
    """What a peer sends once the client has opened stream 1, and what the client has to say to it."""

    name: str
    data: bytes
    field: str
    code: Code = Code.PROTOCOL_ERROR
    hello: bytes = HELLO


STATES = [
    Case("a second HELLO", HELLO[16:], "HELLO"),
    Case("DATA on a stream that never was", WIRE.encode_run(7, [b"1"]), "stream_id"),
    Case("END on a stream of the peer's that never was", WIRE.encode(2, records.End()), "stream_id"),
    Case("CREDIT on a stream that never was", WIRE.encode(9, records.Credit(1, 1)), "stream_id"),
    Case("OPEN, which nobody allowed", WIRE.encode(2, records.Open("x")), "max_streams", Code.STREAM_LIMIT_ERROR),
    Case("OPEN with the client's own number", WIRE.encode(1, records.Open("x")), "stream_id"),
    Case("END twice", RUN + END + END, ""),
    Case("an item after the end", RUN + END + RUN, ""),
    Case("a header after an item", RUN + WIRE.encode(1, records.Header({})), "header"),
    Case("an item inside of another", _piece(b"a", 9) + RUN, "piece"),
    Case("an item begun inside of another", _piece(b"a", 9) * 2, "piece"),
    Case("an end inside of an item", _piece(b"a", 9) + END, "piece"),
    Case("a piece of nothing", _piece(b"a"), "piece"),
    Case("a first piece that is all", _piece(b"abc", 3), "piece"),
    Case(
        "pieces longer than announced",
        _piece(b"a", 3) + _piece(b"abc"),
        "piece",
    ),
    Case(
        "an item that is too large",
        _piece(b"a", 100_001),
        "max_item_bytes",
        Code.MESSAGE_TOO_LARGE,
    ),
    Case("more items than the window", WIRE.encode_run(1, [b"1"] * 17), "window_items", Code.FLOW_CONTROL_ERROR),
    Case("giving up", WIRE.encode(0, records.GoAway(Code.INTERNAL, "a bug")), "", Code.INTERNAL),
    Case(
        "more pings than can be owed",
        WIRE.encode(0, records.Ping(1)) * 1_000,
        "max_control_bytes",
        Code.RESOURCE_EXHAUSTED,
    ),
    Case("no preface", b"", "preface", hello=b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    Case("another version", b"", "preface", hello=b"trio-streams.v2\n"),
    Case("no HELLO", b"", "HELLO", hello=PREFACE + RUN),
    Case("a HELLO without a name", b"", "HELLO.session_id", hello=PREFACE + frame(1, 0, b"{}")),
    Case(
        "a HELLO of other types",
        b"",
        "HELLO.max_streams",
        hello=PREFACE + frame(1, 0, b'{"session_id":"","max_streams":"9"}'),
    ),
]
MALFORMED = [Case(name, data, field) for name, data, field, _, _ in BAD_FRAMES if name != "OPEN wide"]
CASES = [*STATES, *MALFORMED]

# The client names its own limits as its options are called.
RENAMED = {"max_streams": "maxStreams", "max_item_bytes": "maxItemBytes", "max_control_bytes": "maxControlBytes"}

Serve = Callable[[WebSocketCarrier], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncGenerator[str, None]:
    """WebSockets for the block, each given to `serve`."""

    async def accept(stream: trio.SocketStream) -> None:
        carrier = await accept_websocket(stream, config=ConnectionConfig())
        try:
            await serve(carrier)
        except (ConnectionLost, RemoteProtocolError):
            pass  # the client may have left at any time
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, accept, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


async def _read(carrier: WebSocketCarrier, seen: list[object], until: type | None = None) -> None:
    """Decode what the client sends, up to a record of a type, or to its end."""
    wire = BinaryWire()
    while until is None or not any(isinstance(record, until) for record in seen):
        data = await carrier.receive()
        if not data:
            return
        seen += [record for _, record in wire.decode(data)]


async def test_every_fault_is_found_out_and_told() -> None:
    """Each is one ConnectionLost with the fault as its cause; the peer gets a GOAWAY with the same code."""
    told: dict[int, list[object]] = {}

    async def serve(carrier: WebSocketCarrier) -> None:
        number = int(carrier.path.removeprefix("/"))
        case, seen = CASES[number], told.setdefault(number, [])
        await carrier.send(case.hello)
        if case.hello == HELLO:
            wire = BinaryWire()
            while not any(isinstance(record, records.Open) for record in seen):
                seen += [record for _, record in wire.decode(await carrier.receive())]
            await carrier.send(case.data)
            while data := await carrier.receive():
                seen += [record for _, record in wire.decode(data)]
        else:
            await _read(carrier, seen)

    async with listening(serve) as url:
        answers = await run_node("faults.mjs", "meetAll", url, len(CASES))
    for number, (case, answer) in enumerate(zip(CASES, answers, strict=True)):
        assert (answer["name"], answer["cause"]) == ("ConnectionLost", "RemoteProtocolError"), (case.name, answer)
        field = RENAMED.get(case.field, case.field)
        assert (answer["field"] == field) or answer["field"].startswith(f"{field}."), (case.name, answer)
        assert answer["code"] == case.code.name, (case.name, answer)
        goodbyes = [record for record in told[number] if isinstance(record, records.GoAway)]
        assert [record.code for record in goodbyes] == [case.code], (case.name, answer)


async def test_a_text_message_and_a_foreign_subprotocol_are_refused() -> None:
    """Neither is our dialect, and both are said so."""

    async def serve(carrier: WebSocketCarrier) -> None:
        await carrier.send_messages(["hello"])
        await _read(carrier, [])

    async with listening(serve) as url:
        (answer,) = await run_node("faults.mjs", "meetAll", url, 1)
    assert (answer["cause"], answer["field"]) == ("RemoteProtocolError", "message")


async def test_a_silent_peer_is_given_up() -> None:
    """One without a hello after connectTimeout; one that goes silent, after a ping and idleTimeout."""
    pings: list[object] = []

    async def serve(carrier: WebSocketCarrier) -> None:
        if carrier.path == "/mute":
            await carrier.send(HELLO)
        await _read(carrier, pings)

    async with listening(serve) as url:
        silent = await run_node("faults.mjs", "silent", url)
        mute = await run_node("faults.mjs", "mute", f"{url}mute")
    assert (silent["cause"], silent["code"], silent["field"]) == (
        "RemoteProtocolError",
        "HANDSHAKE_TIMEOUT",
        "handshakeTimeout",
    )
    assert (mute["cause"], mute["code"], mute["field"]) == ("RemoteProtocolError", "IDLE_TIMEOUT", "idleTimeout")
    assert any(isinstance(record, records.Ping) for record in pings)

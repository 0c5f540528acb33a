"""A client or a server is killed after every byte of a WebSocket: handshake, headers, masks, fragments, controls, close."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from websockets.frames import Opcode

from tests.faults.readers import Readers
from tests.faults.scripted import ScriptedStream
from tests.faults.traces import FROM_CLIENT, FROM_SERVER, Said, Spoken, join, said_by
from tests.transports.links import IMPATIENT, client_carrier, frame
from trio_streams.carrier import Carrier
from trio_streams.errors import StreamsError
from trio_streams.testing.peers import live_tasks
from trio_streams.transports.messages import SUBPROTOCOL, accept_websocket

_REQUEST: Final = (
    b"GET /streams HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: %s\r\n\r\n" % SUBPROTOCOL.encode()
)


@attrs.frozen
class Framed:
    """One WebSocket frame: its bytes, and where in them the payload of our dialect begins."""

    data: bytes
    payload: bytes = b""


def _framed(conversation: Sequence[Spoken], *, mask: bool) -> list[Framed]:
    """A conversation in messages of every shape: whole, long, in fragments, with controls between those."""

    def make(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> Framed:
        is_data = opcode in {Opcode.BINARY, Opcode.CONT}
        return Framed(frame(opcode, payload, fin=fin, mask=mask), payload if is_data else b"")

    hello, rest = join(conversation[:2]), list(conversation[2:])
    frames = [make(Opcode.BINARY, hello)]
    while rest:
        data, rest = join(rest[:3]), rest[3:]
        if len(rest) % 2:
            frames.append(make(Opcode.BINARY, data))
            continue
        frames += [
            make(Opcode.BINARY, data[:5], fin=False),
            make(Opcode.PING, b"between"),
            make(Opcode.CONT, b"", fin=False),
            make(Opcode.CONT, data[5:20], fin=False),
            make(Opcode.PONG, b"unasked"),
            make(Opcode.CONT, data[20:]),
        ]
    return [*frames, make(Opcode.CLOSE, b"\x03\xe8bye")]


def _sizes(frames: Sequence[Framed], size: int) -> tuple[int, int]:
    """How many bytes of the dialect the first bytes hold: in frames that are whole, and at most."""
    whole = 0
    for one in frames:
        if size < len(one.data):
            begun = size - (len(one.data) - len(one.payload))
            return whole, whole + max(0, begun)
        size -= len(one.data)
        whole += len(one.payload)
    return whole, whole


def _check(readers: Readers, least: dict[int, Said], most: dict[int, Said], *, is_server: bool) -> None:
    assert readers.running == 0
    for stream_id, said in readers.streams.items():
        if is_server and stream_id == 5:
            continue  # it sends, and reads nothing
        low, high = least.get(stream_id, Said()), most.get(stream_id, Said())
        assert said.ending in {low.ending or "lost", high.ending or "lost"}
        if said.ending != "reset":
            assert said.items in (low.items, high.items)


async def _serve(stream: ScriptedStream, readers: Readers) -> None:
    try:
        carrier: Carrier = await accept_websocket(stream, config=IMPATIENT)
    except StreamsError as exc:
        readers.refused = exc
    else:
        await readers.serve(carrier, IMPATIENT)


async def _call(stream: ScriptedStream, readers: Readers) -> None:
    await readers.call(client_carrier(stream), IMPATIENT)


@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("side", ["server", "client"])
async def test_the_other_side_is_killed(side: str, ending: str, autojump_clock: MockClock) -> None:
    """After every byte: items as far as frames are whole, one ending for each open stream, and no task left."""
    heard = FROM_CLIENT if side == "server" else FROM_SERVER
    frames = _framed(heard, mask=side == "server")
    opening = _REQUEST if side == "server" else b""
    data = opening + b"".join(one.data for one in frames)
    greeted = len(opening) + len(frames[0].data)
    goodbye = len(data) - len(frames[-1].data)
    before = live_tasks()
    for size in range(len(data) + 1):
        readers, stream = Readers(), ScriptedStream()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_serve if side == "server" else _call, stream, readers)
                stream.say(data[: min(size, greeted)])
                await wait_all_tasks_blocked()
                stream.say(data[greeted : min(size, goodbye)])
                await wait_all_tasks_blocked()
                stream.say(data[goodbye:size])  # by itself: a goodbye cancels handlers, whatever came with it
                await wait_all_tasks_blocked()
                stream.die(ending)
        is_refused = size < len(opening) or (side == "client" and size < greeted)
        assert (readers.refused is not None) == is_refused, size
        low, high = _sizes(frames, max(0, size - len(opening)))
        _check(readers, said_by(heard, low), said_by(heard, high), is_server=side == "server")
        assert live_tasks() == before, size

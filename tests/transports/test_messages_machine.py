"""The fast path for plain frames, held against `websockets`' own machine on the same bytes."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidState
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side, State
from websockets.speedups import apply_mask

from tests.transports.links import frame
from trio_streams.transports.messages_machine import WebSocketMachine

LIMIT = 70_000
LOGGER = logging.getLogger("tests.machine")
LOGGER.setLevel(logging.CRITICAL + 1)

Outcome = tuple[list[tuple[int, bytes]], list[tuple[int, bytes]], "Close | None", str, State]
"""Whole messages and the beginning of one, answers, the goodbye, the fault, the state."""


def plain_machine(side: Side) -> Protocol:
    return Protocol(side, state=OPEN, max_size=LIMIT, logger=LOGGER)


def machine_of(side: Side) -> WebSocketMachine:
    return WebSocketMachine(plain_machine(side), logger=LOGGER)


def take_all(machine: WebSocketMachine, data: bytes) -> bytes:
    """Feed it, and what it leaves over again, as a carrier does; the answers."""
    answers = b""
    while data:
        data = machine.receive(data)
        answers += machine.answers()
    return answers


def joined(parts: Sequence[tuple[int, object, bool]]) -> list[tuple[int, bytes]]:
    """The messages; one that is not whole comes last."""
    messages: list[tuple[int, bytes]] = []
    is_open = False
    for opcode, data, is_last in parts:
        assert isinstance(data, (bytes, bytearray))
        assert is_open == (not opcode), "a message begins with its opcode, and goes on with none"
        if opcode:
            messages.append((int(opcode), b""))
        kind, begun = messages[-1]
        messages[-1] = kind, begun + data
        is_open = not is_last
    return messages


def unmasked(side: Side, answers: bytes) -> list[tuple[int, bytes]]:
    """Answers as the other side reads them: a client's are masked, each time with another mask."""
    reader = plain_machine(Side.CLIENT if side is Side.SERVER else Side.SERVER)
    reader.receive_data(answers)
    assert reader.parser_exc is None
    return [(one.opcode, bytes(one.data)) for one in reader.events_received() if isinstance(one, Frame)]


def words(fault: Exception | None) -> str:
    """A fault; of an early end only that it is one, for nobody is told where in a frame it was."""
    return type(fault).__name__ if isinstance(fault, EOFError) else f"{type(fault).__name__}: {fault}"


def of_ours(side: Side, chunks: Sequence[bytes], *, is_ended: bool) -> Outcome:
    machine = machine_of(side)
    answers = b"".join(take_all(machine, chunk) for chunk in chunks)
    if is_ended:
        machine.receive_eof()
        answers += machine.answers()
    return joined(machine.parts), unmasked(side, answers), machine.close, words(machine.fault), machine.state


def of_theirs(side: Side, chunks: Sequence[bytes], *, is_ended: bool) -> Outcome:
    machine = plain_machine(side)
    parts: list[tuple[int, bytes, bool]] = []
    answers = b""
    close: Close | None = None
    for chunk in chunks:
        machine.receive_data(chunk)
        answers += b"".join(machine.data_to_send())
    if is_ended:
        machine.receive_eof()
        answers += b"".join(machine.data_to_send())
    for one in machine.events_received():
        assert isinstance(one, Frame)
        if close is not None:
            continue  # it goes on parsing what came in one piece with a close frame
        if one.opcode is Opcode.CLOSE:
            close = Close.parse(one.data)
        elif one.opcode not in (Opcode.PING, Opcode.PONG):
            parts.append((one.opcode, bytes(one.data), one.fin))
    return joined(parts), unmasked(side, answers), close, words(machine.parser_exc), machine.state


def make_frame(
    opcode: int, data: bytes, fin: bool, reserved: int, is_masked: bool, mask: bytes, is_wide: bool
) -> bytes:
    """A frame with any fault; a wide one has a longer length field than it needs."""
    size, bit = len(data), 0x80 if is_masked else 0
    if is_wide or size > 65_535:
        length = bytes([bit | 127]) + size.to_bytes(8, "big")
    elif size > 125:
        length = bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([bit | size])
    payload = apply_mask(data, mask) if is_masked else data
    return bytes([(0x80 if fin else 0) | reserved | opcode]) + length + (mask if is_masked else b"") + payload


_payloads = st.one_of(
    st.binary(max_size=10),
    st.sampled_from([0, 1, 124, 125, 126, 127, 128, 16_383, 16_384, 16_385, 40_000]).map(bytes),
    st.sampled_from([65_535, 65_536, LIMIT, LIMIT + 1]).map(lambda n: b"\xa5" * n),
    st.sampled_from([b"\x03\xe8", b"\x03\xe8bye", b"\x03", b"\x00\x00", b"\x03\xe8\xff"]),
)


def frames_for(side: Side) -> st.SearchStrategy[bytes]:
    is_masked = side is Side.SERVER
    return st.builds(
        make_frame,
        st.sampled_from([1, 2, 2, 2, 2, 0, 0, 9, 10, 8, 3, 11]),
        _payloads,
        st.sampled_from([True, True, True, False]),
        st.sampled_from([0] * 12 + [0x40, 0x20, 0x10]),
        st.sampled_from([is_masked] * 15 + [not is_masked]),
        st.sampled_from([bytes(4), b"\x01\x02\x03\x04", b"\xff\x00\xff\x80"]),
        st.sampled_from([False] * 9 + [True]),
    )


def cut(data: bytes, seed: int, most: int = 8) -> list[bytes]:
    rng = random.Random(seed)
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(most)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), side=st.sampled_from(Side), seed=st.integers(0, 2**16), is_ended=st.booleans())
def test_the_same_as_websockets(data: st.DataObject, side: Side, seed: int, is_ended: bool) -> None:
    """On any frames, sound or broken, however they are cut: the same messages, answers, goodbye, fault and state."""
    frames = data.draw(st.lists(frames_for(side), max_size=8))
    stream = b"".join(frames)
    # A tail that is not whole, too.
    stream = stream[: len(stream) - data.draw(st.sampled_from([0, 0, 0, 1, 5, 20_000]))]
    chunks = cut(stream, seed)
    ours, theirs = (of(side, chunks, is_ended=is_ended) for of in (of_ours, of_theirs))
    if ours[0] != theirs[0]:
        # Part of a long message may be here before websockets has all of its frame; nothing else may differ.
        assert ours[0][:-1] == theirs[0]
        assert len(ours[0][-1][1]) >= 16_384
    assert ours[1:] == theirs[1:]


@settings(max_examples=200, deadline=None)
@given(stream=st.binary(max_size=300), side=st.sampled_from(Side), seed=st.integers(0, 2**16))
@example(stream=b"\x82", side=Side.SERVER, seed=0)
@example(stream=b"\x00\xff\x00\x00\x00\x00\x00\x01\x11q", side=Side.SERVER, seed=0)
def test_the_same_on_any_bytes(stream: bytes, side: Side, seed: int) -> None:
    """The same holds for bytes that are no frames at all."""
    chunks = cut(stream, seed)
    assert of_ours(side, chunks, is_ended=True) == of_theirs(side, chunks, is_ended=True)


@pytest.mark.parametrize("side", Side)
def test_byte_by_byte(side: Side) -> None:
    """Frames of every kind that come one byte at a time are the same frames."""
    is_masked = side is Side.SERVER
    stream = b"".join(
        [
            frame(Opcode.TEXT, b"text", mask=is_masked),
            frame(Opcode.BINARY, bytes(300), mask=is_masked),
            frame(Opcode.PING, b"ping", mask=is_masked),
            frame(Opcode.BINARY, b"be", fin=False, mask=is_masked),
            frame(Opcode.PONG, mask=is_masked),
            frame(Opcode.CONT, b"gun", mask=is_masked),
            frame(Opcode.BINARY, mask=is_masked),
            frame(Opcode.CLOSE, b"\x03\xe8", mask=is_masked),
        ]
    )
    chunks = [stream[n : n + 1] for n in range(len(stream))]
    messages = [(1, b"text"), (2, bytes(300)), (2, b"begun"), (2, b"")]
    assert of_ours(side, chunks, is_ended=False)[0] == messages
    assert of_ours(side, chunks, is_ended=False) == of_theirs(side, chunks, is_ended=False)


@pytest.mark.parametrize("side", Side)
def test_what_is_sent_is_what_websockets_reads(side: Side) -> None:
    """Messages of every length of head leave as frames that `websockets` reads as the same messages."""
    messages: list[str | bytes] = ["", b"", "grün", b"x" * 125, b"x" * 126, b"x" * 65_535, b"x" * 65_536, "y" * 66_000]
    sent = b"".join(machine_of(side).send(messages))
    expected = [(1, one.encode()) if isinstance(one, str) else (2, one) for one in messages]
    assert unmasked(side, sent) == expected
    if side is Side.CLIENT:
        assert sent != b"".join(machine_of(side).send(messages)), "masks are drawn anew"


@pytest.mark.parametrize("side", [Side.CLIENT, Side.SERVER])
def test_chunks_leave_as_one_message(side: Side) -> None:
    """However a payload is cut, `websockets` reads one binary message; a server's chunks are not copied."""
    for sizes in ((5,), (1, 2, 3, 4, 5), (12, 16_384, 12, 50_001, 7)):
        payload: list[bytes | memoryview] = [memoryview(bytes([n + 65]) * size) for n, size in enumerate(sizes)]
        sent = machine_of(side).send_chunks(list(payload))
        assert unmasked(side, b"".join(sent)) == [(2, b"".join(payload))]
        assert (sent[1:] == payload) == (side is Side.SERVER)
    machine = machine_of(side)
    machine.send_close(1000, "")
    with pytest.raises(InvalidState, match="closing"):
        machine.send_chunks([b"x"])


def test_masks_differ_within_one_run() -> None:
    """Each frame of a run has a mask of its own (RFC 6455 §5.3)."""
    sent = b"".join(machine_of(Side.CLIENT).send([bytes(4)] * 64))
    assert len({sent[n + 6 : n + 10] for n in range(0, len(sent), 10)}) > 32


def test_an_idle_machine_holds_none_of_theirs() -> None:
    """`websockets`' machine is there from the first odd frame on, and gone when its answer has been taken."""
    machine = machine_of(Side.SERVER)
    take_all(machine, frame(Opcode.BINARY, b"x"))
    assert machine._machine is None
    ping = frame(Opcode.PING, b"p")
    machine.receive(ping[:6])
    machine.answers()
    assert machine._machine is not None, "half of a ping is in it"
    machine.receive(ping[6:])
    assert machine.answers() == frame(Opcode.PONG, b"p", mask=False)
    assert machine._machine is None
    take_all(machine, frame(Opcode.BINARY, b"x", fin=False))
    assert machine._machine is not None, "half of a message is in it"
    take_all(machine, frame(Opcode.CONT, b"y"))
    assert machine._machine is None
    assert joined(machine.parts) == [(2, b"x"), (2, b"xy")]


def test_costly_frames_end_a_call_early() -> None:
    """A flood of pings is not answered all at once: what is over comes back, for after a schedule point."""
    machine = machine_of(Side.SERVER)
    flood = frame(Opcode.PING) * 2_000
    rest = machine.receive(flood)
    assert 0 < len(rest) < len(flood)
    calls = 1
    while rest:
        rest = machine.receive(rest)
        calls += 1
    assert calls == 4
    assert machine.answers() == frame(Opcode.PONG, mask=False) * 2_000


@pytest.mark.parametrize("size", [20_000, 60_000])
def test_long_binary_messages_come_in_parts_and_texts_do_not(size: int) -> None:
    """What is here of a long binary message is handed on, in parts of 16 KiB or more; a text comes whole."""
    machine = machine_of(Side.SERVER)
    whole = make_frame(2, b"\x81" * size, True, 0, True, b"\x01\x02\x03\x04", False)
    for n in range(0, len(whole), 5_000):
        machine.receive(whole[n : n + 5_000])
    assert len(machine.parts) > 1
    assert len(machine.parts[0][1]) >= 16_384
    assert joined(machine.parts) == [(2, b"\x81" * size)]
    machine.parts.clear()
    whole = make_frame(1, b"t" * size, True, 0, True, b"\x01\x02\x03\x04", False)
    machine.receive(whole[:-1])
    assert machine.parts == []
    machine.receive(whole[-1:])
    assert machine.parts == [(1, b"t" * size, True)]


def test_a_compressed_websocket_is_theirs_alone() -> None:
    """With an extension every byte goes through `websockets`, both ways."""
    client, server = (plain_machine(side) for side in (Side.CLIENT, Side.SERVER))
    for one in (client, server):
        one.extensions = [PerMessageDeflate(False, False, 15, 15)]
    ours = WebSocketMachine(server, logger=LOGGER)
    client.send_text(b"a" * 1_000)
    client.send_binary(b"b" * 40_000)
    (first, second) = client.data_to_send()
    take_all(ours, first + second)
    assert joined(ours.parts) == [(1, b"a" * 1_000), (2, b"b" * 40_000)]
    assert ours.complete() is server
    sent = b"".join(ours.send(["c" * 1_000, b"d"]))
    assert len(sent) < 100
    client.receive_data(sent)
    assert [bytes(one.data) for one in client.events_received() if isinstance(one, Frame)] == [b"c" * 1_000, b"d"]


@pytest.mark.parametrize("how", ["close", "fail"])
def test_nothing_is_sent_behind_a_goodbye(how: str) -> None:
    """After our goodbye or our refusal there is the close frame, and no message any more."""
    machine = machine_of(Side.SERVER)
    if how == "close":
        machine.send_close(1001, "away")
    else:
        machine.fail(CloseCode.INVALID_DATA, "away")
    code = 1001 if how == "close" else 1007
    assert machine.answers() == frame(Opcode.CLOSE, Close(code, "away").serialize(), mask=False)
    with pytest.raises(InvalidState, match="closing"):
        machine.send([b"x"])
    assert machine.state is State.CLOSING
    assert machine.has_ended == (how == "fail")


def test_no_limit_at_all() -> None:
    """Without a limit a message of any length is plain."""
    opened = Protocol(Side.CLIENT, state=OPEN, max_size=None, logger=LOGGER)
    machine = WebSocketMachine(opened, logger=LOGGER)
    take_all(machine, frame(Opcode.TEXT, b"x" * 200_000, mask=False)[:-1])
    assert machine.max_message_bytes is None
    take_all(machine, b"x")
    assert machine.parts == [(1, b"x" * 200_000, True)]

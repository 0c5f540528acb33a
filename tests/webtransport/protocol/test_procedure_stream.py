"""A stream of items on one stream of a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.support import frame
from tests.webtransport.protocol.port_log import PortLog
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.core.flow import ReceiveCredit, SendCredit
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.webtransport.protocol.procedure_stream import STREAM_NUMBER, ProcedureStream, encode_frame
from trio_streams.wire.binary import BinaryWire

LARGE = bytes(range(256)) * 400


def _machine() -> StreamMachine:
    credit = SendCredit(1_000, 10_000_000), ReceiveCredit(10, 1_000_000)
    return StreamMachine(*credit, priority=0, max_frame_bytes=16_384)


def _ours() -> tuple[ProcedureStream, StreamMachine, PortLog]:
    machine = _machine()
    return ProcedureStream(4, machine, encode_frame(records.Open("x"))), machine, PortLog()


def _said(port: PortLog) -> list[object]:
    decoded = BinaryWire(expects_preface=False).decode(port.sent[4])
    assert {number for number, _ in decoded} == {STREAM_NUMBER}
    return [content for _, content in decoded]


def test_everything_of_a_half_leaves_in_order_and_the_end_is_the_streams() -> None:
    """OPEN, head, items, END, and the end of the session's stream right behind; each byte is counted."""
    stream, machine, port = _ours()
    machine.head({"a": "b"})
    machine.send([b"1", b"2"], 1_000)
    machine.end(records.OK, {})
    assert stream.is_ours
    assert stream.has_output
    assert stream.flush(port) == len(port.sent[4])
    assert _said(port) == [records.Open("x"), records.Header({"a": "b"}), [b"1", b"2"], records.End()]
    assert port.take_calls() == [("end", 4)]
    assert (stream.has_output, stream.unsent_bytes, stream.flush(port)) == (False, 0, 0)
    assert port.take_calls() == []


class _Counting(PortLog):
    """Counts what is handed on at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        self.sizes.append(len(data))
        return super().send(stream_id, data)


def test_small_frames_are_handed_on_together() -> None:
    """OPEN, head, items and END of a call are one piece; behind a large item a new one begins."""
    stream, machine, _ = _ours()
    port = _Counting()
    machine.head({"a": "b"})
    machine.send([b"1", b"2"], 1_000)
    machine.end(records.OK, {})
    stream.flush(port)
    assert len(port.sizes) == 1
    stream, machine, _ = _ours()
    port = _Counting()
    machine.send([LARGE, b"1"], 1_000_000)
    machine.end(records.OK, {})
    stream.flush(port)
    assert len(port.sizes) == 5
    assert all(size < 32_768 + 100 for size in port.sizes)


def test_a_large_item_is_cut() -> None:
    """Its pieces are put together again by any decoder of the dialect."""
    stream, machine, port = _ours()
    machine.send([LARGE], 1_000_000)
    stream.flush(port)
    opened, *pieces = _said(port)
    assert opened == records.Open("x")
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert b"".join(bytes(piece.data) for piece in pieces if isinstance(piece, Piece)) == LARGE


def test_what_the_session_does_not_take_waits_in_frames() -> None:
    """At most a turn waits, items behind it are not yet in frames, and the end waits for them."""
    stream, machine, port = _ours()
    port.room[4] = 50
    machine.send([LARGE, b"last"], 1_000_000)
    machine.end(records.OK, {})
    assert stream.flush(port) == 50
    assert stream.is_full
    assert 0 < stream.unsent_bytes <= 33_000
    assert machine.has_output
    assert stream.has_output
    assert stream.flush(port) == 0
    assert port.take_calls() == []
    del port.room[4]
    stream.is_full = False
    stream.flush(port)
    assert _said(port)[-2:] == [[b"last"], records.End()]
    assert port.take_calls() == [("end", 4)]


def test_an_abandoned_half_hands_nothing_on() -> None:
    """What was in frames is dropped, and the session's stream is not ended: it is reset by whoever abandons it."""
    stream, machine, port = _ours()
    port.room[4] = 5
    stream.flush(port)
    machine.stopped()
    stream.abandon()
    del port.room[4]
    stream.is_full = False
    assert (stream.unsent_bytes, stream.has_output, stream.flush(port)) == (0, False, 0)
    assert port.take_calls() == []


def test_a_stream_of_the_peers_has_nothing_to_say_before_its_open() -> None:
    """There is no machine, no output, and it is not over."""
    stream, port = ProcedureStream(5), PortLog()
    assert (stream.is_ours, stream.has_output, stream.flush(port), stream.is_over) == (False, False, 0, False)
    assert port.take_calls() == []


def test_a_stream_is_over_when_both_halves_are_here_and_there() -> None:
    """Halves that are finished, the peer's end on the session's stream, and ours: each of them is waited for."""
    stream, machine, port = _ours()
    machine.end(records.OK, {})
    assert not stream.is_over
    machine.receive_end()
    assert not stream.is_over
    stream.peer_is_over = True
    assert not stream.is_over
    stream.flush(port)
    assert stream.is_over


def test_frames_are_decoded_in_whatever_chunks() -> None:
    """Half a frame waits for the rest."""
    stream = ProcedureStream(5)
    said = encode_frame(records.Open("x")) + frame(4, 1, b"a")
    assert list(stream.decode(said[:-1])) == [records.Open("x")]
    assert list(stream.decode(said[-1:])) == [[b"a"]]


def test_frames_are_decoded_up_to_a_fault() -> None:
    """What comes before it is taken; then it is raised."""
    stream = ProcedureStream(5)
    taken = []
    with pytest.raises(RemoteProtocolError, match="unknown type 77"):
        for content in stream.decode(frame(4, 1, b"a") + frame(77, 1)):
            taken.append(content)  # noqa: PERF402 - what was taken before it raises
    assert taken == [[b"a"]]


@pytest.mark.parametrize("number", [0, 2])
def test_a_frame_names_this_stream(number: int) -> None:
    """There is no other stream on this one, and the connection's frames are on the control streams."""
    kind, payload = (8, bytes(16)) if not number else (4, b"a")
    with pytest.raises(RemoteProtocolError, match=f"a frame of stream {number} on a stream of its own") as caught:
        list(ProcedureStream(5).decode(frame(kind, number, payload)))
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("stream_id", number, 1)


def test_a_preface_is_no_frame() -> None:
    """It is said once for the session, on the control streams."""
    with pytest.raises(RemoteProtocolError):
        list(ProcedureStream(5).decode(BinaryWire.preface))


def test_a_record_that_is_too_long_for_a_frame_is_refused() -> None:
    """As on any carrier."""
    with pytest.raises(LocalProtocolError, match="does not fit into a frame"):
        encode_frame(records.Open("x" * 20_000))


def test_whole_items_are_held_until_they_are_taken() -> None:
    """Heads of frames and parts of items are given back at once, an item's bytes when it is taken."""
    stream = ProcedureStream(5)
    assert stream.hold(112, 100) == 12
    assert stream.hold(50, 0) == 50
    assert stream.take(60) == 60
    assert stream.take(40) == 40
    assert stream.take(0) == 0


def test_an_item_whose_parts_were_given_back_holds_no_more_than_its_last_chunk() -> None:
    """What was given back once is not held any more."""
    stream = ProcedureStream(5)
    assert stream.hold(1_000, 0) == 1_000
    assert stream.hold(100, 1_050) == 0
    assert stream.take(1_050) == 100


def test_what_nobody_will_take_is_given_back() -> None:
    """All of it, once."""
    stream = ProcedureStream(5)
    stream.hold(112, 100)
    assert stream.settle() == 100
    assert stream.settle() == 0


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
)
def test_bytes_are_given_back_once_each(sizes: list[int], chunks: list[int], taking: list[int]) -> None:
    """Whatever the items, the chunks and when they are taken: no more is held than what waits, and in the end nothing is."""
    arrived = completed = taken = given_back = total = 0
    stream = ProcedureStream(5)
    position, pending = 0, list(sizes)
    whole_size = sum(sizes)
    step = 0
    while arrived < whole_size:
        size = min(chunks[step % len(chunks)], whole_size - arrived)
        arrived += size
        whole = 0
        while pending and position + pending[0] <= arrived:
            position += pending[0]
            whole += pending.pop(0)
        given_back += stream.hold(size, whole)
        completed += whole
        step += 1
        count = taking[step % len(taking)] and completed - taken
        given_back += stream.take(count)
        taken += count
        total += size
        assert 0 <= total - given_back <= completed - taken
    given_back += stream.take(completed - taken)
    assert given_back == total

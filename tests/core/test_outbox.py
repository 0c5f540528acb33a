"""What waits to be sent, and in which order it goes."""

from __future__ import annotations

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.flow import ReceiveCredit, SendCredit
from trio_streams.core.outbox import Outbox
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.wire.binary import PREFACE, BinaryWire


class Sender:
    """An outbox with streams, and a decoder for what it gives."""

    def __init__(self, max_send_buffer_bytes: int = 1_000_000, credit: int = 10**9) -> None:
        self.streams: dict[int, StreamMachine] = {}
        self.out = Outbox(BinaryWire(), self.streams, max_send_buffer_bytes)
        self.out.raise_credit(credit)
        self._decoder = BinaryWire()
        self._decoder.decode(PREFACE)

    def add(self, stream_id: int, priority: int = 0) -> StreamMachine:
        machine = StreamMachine(
            SendCredit(10**6, 10**9), ReceiveCredit(1, 1), priority=priority, max_frame_bytes=16_384
        )
        self.streams[stream_id] = machine
        return machine

    def send(self, stream_id: int, *payloads: bytes) -> int:
        machine = self.streams[stream_id]
        before = machine.queued_bytes
        taken = machine.send(payloads, self.out.room)
        self.out.queued_bytes += machine.queued_bytes - before
        self.out.schedule(stream_id, machine)
        return taken

    def take(self, max_bytes: int = 10**9, grants: list[bytes] | None = None) -> list[tuple[int, object]]:
        return list(self._decoder.decode(b"".join(self.out.take(grants or [], max_bytes)[0])))


def test_control_goes_first_then_grants_then_data() -> None:
    """What is small and urgent leads, in the order in which it was queued; grants follow; then the items."""
    sender = Sender()
    sender.add(1)
    sender.send(1, b"x")
    sender.out.put_record(0, records.Ping(1))
    sender.out.put_record(1, records.Stop(Code.OK))
    assert sender.out.control_bytes == 20 + 16
    grant = BinaryWire().encode(1, records.Credit(5, 6))
    assert sender.take(grants=[grant]) == [
        (0, records.Ping(1)),
        (1, records.Stop(Code.OK)),
        (1, records.Credit(5, 6)),
        (1, [b"x"]),
    ]
    assert (sender.out.has_output, sender.out.control_bytes, sender.out.queued_bytes) == (False, 0, 0)


def test_data_stops_at_max_bytes() -> None:
    """Control always goes; data stops when `max_bytes` is reached, after at most one more turn."""
    sender = Sender()
    sender.add(1)
    sender.send(1, *[bytes(1_000)] * 100)
    sender.out.put_record(0, records.Ping(1))
    assert sender.take(max_bytes=20) == [(0, records.Ping(1))]
    (_, run), *rest = sender.take(max_bytes=1)
    assert isinstance(run, list)
    assert (len(run), rest) == (16, [])
    assert sender.out.has_output


def test_streams_that_compete_take_turns_and_the_last_one_takes_what_is_left() -> None:
    """While two are ready each sends a frame's worth at a time; who is alone needs no turns."""
    sender = Sender()
    for stream_id in (1, 3):
        sender.add(stream_id)
        sender.send(stream_id, bytes(100_000 if stream_id == 1 else 30_000))
    order = [(stream_id, piece.frames) for stream_id, piece in sender.take() if isinstance(piece, Piece)]
    assert order == [(1, 1), (3, 1), (1, 1), (3, 1), (1, 5)]
    assert not sender.out.has_output


def test_head_and_end_cost_no_turn() -> None:
    """They travel with the items around them, and say who was served."""
    sender = Sender()
    machine = sender.add(1)
    machine.head({"a": "b"})
    sender.send(1, b"x")
    machine.end(records.OK, {})
    data, served = sender.out.take([], 1)
    assert served == [1]
    frames = sender._decoder.decode(b"".join(data))
    assert [frame for _, frame in frames] == [records.Header({"a": "b"}), [b"x"], records.End()]


def test_without_connection_credit_a_stream_is_parked() -> None:
    """A starved stream costs no turns; a grant brings it back, in the order of starving, and its end stays behind."""
    sender = Sender(credit=1)
    for stream_id in (1, 3):
        sender.add(stream_id)
        sender.send(stream_id, b"a", b"b")
    assert sender.take() == [(1, [b"a"])]
    assert not sender.out.has_output
    sender.streams[1].end(records.OK, {})
    sender.out.schedule(1, sender.streams[1])
    assert not sender.out.has_output
    sender.out.raise_credit(1)
    assert not sender.out.has_output
    sender.out.raise_credit(10_000)
    assert sender.take() == [(1, [b"b"]), (1, records.End()), (3, [b"a", b"b"])]


def test_a_large_item_is_charged_once_and_goes_on_without_credit() -> None:
    """Its first piece is charged with all of it; the others need no credit."""
    sender = Sender(credit=1)
    sender.add(1)
    item = bytes(40_000)
    sender.send(1, item, b"next")
    frames = [frame for _, frame in sender.take()]
    assert all(isinstance(frame, Piece) for frame in frames)
    assert b"".join(frame.data for frame in frames if isinstance(frame, Piece)) == item
    assert sender.out.credit.bytes == 40_064
    assert sender.out.queued_bytes == 68


def test_a_stream_that_is_forgotten_leaves_every_list() -> None:
    """Neither scheduled, starved nor waiting for room any more."""
    sender = Sender(max_send_buffer_bytes=1, credit=1)
    for stream_id in (1, 3):
        sender.add(stream_id)
        sender.send(stream_id, b"x")
    sender.take()
    sender.out.wait_for_room(3)
    sender.out.forget(3, 65)
    sender.out.raise_credit(10_000)
    assert (sender.out.queued_bytes, sender.out.has_output, sender.out.writable()) == (0, False, [])


def test_room_comes_back_at_half_a_buffer_or_with_an_empty_queue() -> None:
    """A full buffer wakes its senders at half, so that they do not wake for each item; one with nothing queued at
    once, so that a full buffer never locks out a more urgent stream."""
    sender = Sender(max_send_buffer_bytes=1_000)
    assert sender.out.writable() == []
    for stream_id in (1, 3):
        sender.add(stream_id)
        sender.send(stream_id, *[bytes(336)] * 2)
        sender.out.wait_for_room(stream_id)
    assert sender.out.room == 1_000 - 3 * 400
    assert sender.out.writable() == []
    machine = sender.streams[3]
    machine.pull(10_000, 10_000)
    sender.out.queued_bytes -= 400
    assert sender.out.writable() == [3]
    sender.take()
    assert sender.out.writable() == [1]
    assert sender.out.writable() == []


def test_a_stream_that_is_gone_does_not_wait_for_room() -> None:
    """One that ended and went while it waited is taken off the list, even while the buffer is full."""
    sender = Sender(max_send_buffer_bytes=100)
    for stream_id in (1, 3):
        sender.add(stream_id)
        sender.send(stream_id, bytes(100))
    sender.out.wait_for_room(1)
    del sender.streams[1]
    assert sender.out.writable() == [1]


def test_after_a_failure_only_queued_control_goes() -> None:
    """What was owed before the failure still goes; nothing is queued any more."""
    sender = Sender()
    sender.add(1)
    sender.send(1, b"x")
    sender.out.wait_for_room(1)
    sender.out.put_record(0, records.GoAway(Code.INTERNAL))
    sender.out.close()
    sender.out.put_record(0, records.Ping(1))
    sender.out.schedule(1, sender.streams[1])
    assert sender.take() == [(0, records.GoAway(Code.INTERNAL))]
    assert not sender.out.has_output
    assert sender.out.writable() == []


def test_control_can_be_sorted_out() -> None:
    """What belongs to a carrier that is gone is dropped, or all; what is left counts."""
    sender = Sender()
    sender.out.put_record(0, records.Ping(1))
    sender.out.put_record(1, records.Stop())
    sender.out.keep_control(BinaryWire().find_counted)
    assert sender.out.control_bytes == len(BinaryWire().encode(1, records.Stop()))
    assert sender.take() == [(1, records.Stop())]
    sender.out.put_record(0, records.Ping(2))
    sender.out.drop_control()
    assert (sender.out.control_bytes, sender.take()) == (0, [])


def test_a_streams_weight_counts_each_time_it_is_scheduled() -> None:
    """A stream that weighs 3 adds three frames where its equal adds one, also after it was starved of credit."""
    sender = Sender(max_send_buffer_bytes=10_000_000, credit=10_000)
    for stream_id, weight in ((1, 1), (3, 3)):
        sender.add(stream_id)
        sender.streams[stream_id].weight = weight
        sender.send(stream_id, *[bytes(16_000)] * 12)
    sender.out.take([], 1 << 20)
    sender.out.raise_credit(1 << 30)
    order: list[int] = []
    while len(order) < 8:
        data, served = sender.out.take([], 1)
        assert data
        order += served
    assert order.count(3) == 3 * order.count(1)

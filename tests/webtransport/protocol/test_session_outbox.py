"""What waits to be sent in a session of procedures."""

from __future__ import annotations

from tests.webtransport.protocol.port_log import PortLog
from trio_streams.core import records
from trio_streams.core.flow import ReceiveCredit, SendCredit
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.webtransport.protocol.control_streams import ControlStreams
from trio_streams.webtransport.protocol.procedure_stream import ProcedureStream
from trio_streams.webtransport.protocol.session_outbox import SessionOutbox
from trio_streams.wire.binary import BinaryWire


class _Sender:
    """An outbox whose control stream is open, and streams that queue in it."""

    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.port = PortLog()
        self.streams: dict[int, ProcedureStream] = {}
        self.control = ControlStreams(self.port, records.Hello("me"))
        self.out = SessionOutbox(self.port, self.streams, self.control, max_bytes)
        self.out.flush()
        self.port.take_calls()
        self.port.sent.clear()

    def open(self, stream_id: int) -> ProcedureStream:
        machine = StreamMachine(
            SendCredit(1_000, 10_000_000), ReceiveCredit(10, 1_000_000), priority=0, max_frame_bytes=16_384
        )
        self.streams[stream_id] = stream = ProcedureStream(stream_id, machine)
        return stream

    def send(self, stream: ProcedureStream, *payloads: bytes) -> int:
        machine = stream.machine
        assert machine is not None
        before = machine.queued_bytes
        taken = machine.send(payloads, self.out.room)
        self.out.queued_bytes += machine.queued_bytes - before
        if machine.is_blocked:
            self.out.wait_for_room(stream.id)
        self.out.schedule(stream)
        return taken

    def credits(self) -> list[object]:
        return [(n, r) for n, r in BinaryWire(expects_preface=False).decode(self.port.sent.get(2, b""))]


def test_each_stream_hands_its_own_on() -> None:
    """What streams queued is in the session's after a flush, and is counted."""
    sender = _Sender()
    before = sender.out.bytes_sent
    first, second = sender.open(4), sender.open(8)
    assert (sender.send(first, b"a"), sender.send(second, b"b", b"c")) == (1, 2)
    assert (sender.out.has_output, sender.out.is_flushed, sender.out.queued_bytes) == (True, False, 3 * 65)
    assert sender.out.flush() == [first, second]
    assert (sender.out.has_output, sender.out.is_flushed, sender.out.queued_bytes) == (False, True, 0)
    assert sender.out.bytes_sent - before == sum(map(len, sender.port.sent.values()))
    assert sender.out.flush() == []


def test_a_stream_that_is_full_holds_up_no_other() -> None:
    """It is not asked again before it is writable; the others go on."""
    sender = _Sender()
    full, other = sender.open(4), sender.open(8)
    sender.port.room[4] = 0
    sender.send(full, b"a")
    sender.send(other, b"b")
    sender.out.flush()
    assert (sender.port.sent[4], bool(sender.port.sent[8])) == (b"", True)
    sender.send(full, b"more")
    assert not sender.out.has_output
    assert not sender.out.is_flushed
    del sender.port.room[4]
    full.is_full = False
    sender.out.schedule(full)
    sender.out.flush()
    assert BinaryWire(expects_preface=False).decode(sender.port.sent[4]) == [(1, [b"a"]), (1, [b"more"])]


def test_a_full_buffer_lets_each_stream_queue_one_item() -> None:
    """All streams share a limit, but none is locked out by the others; they are told at half of it."""
    sender = _Sender(max_bytes=30_000)
    one, two = sender.open(4), sender.open(8)
    sender.port.room = {4: 0, 8: 0}
    assert sender.send(one, *[bytes(9_000)] * 5) == 4
    assert sender.send(two, bytes(9_000), bytes(9_000)) == 1
    sender.out.flush()
    assert sender.out.writable() == [8]  # it has nothing queued any more: its item is in frames
    assert sender.out.queued_bytes > 15_000
    del sender.port.room[4]
    one.is_full = False
    sender.out.schedule(one)
    sender.out.flush()
    assert sender.out.writable() == [4]


def test_a_stream_that_has_gone_waits_no_more() -> None:
    """Neither to be told, nor to be flushed, nor for a grant."""
    sender = _Sender(max_bytes=60_000)
    stream = sender.open(4)
    sender.send(stream, *[bytes(10_000)] * 10)
    sender.out.grant(4)
    del sender.streams[4]
    assert sender.out.flush() == []
    assert sender.out.writable() == [4]
    assert sender.credits() == []


def test_what_is_abandoned_is_not_counted() -> None:
    """A stream that forgets what it had queued neither waits nor is scheduled."""
    sender = _Sender(max_bytes=60_000)
    stream = sender.open(4)
    sender.send(stream, *[bytes(10_000)] * 10)
    machine = stream.machine
    assert machine is not None
    queued = machine.queued_bytes
    machine.stopped()
    sender.out.forget(stream, queued)
    assert (sender.out.queued_bytes, sender.out.has_output, sender.out.writable(), sender.out.flush()) == (
        0,
        False,
        [],
        [],
    )
    assert sender.port.sent == {}


def test_grants_are_the_newest_limits() -> None:
    """They are marked and coalesce; what is granted is looked up when it leaves, and a half that is over gets none."""
    sender = _Sender()
    open_, over = sender.open(4), sender.open(8)
    assert open_.machine is not None
    assert over.machine is not None
    over.machine.receive_end()
    sender.streams[12] = ProcedureStream(12)
    for stream_id in (4, 4, 8, 12):
        sender.out.grant(stream_id)
    open_.machine.receive_credit.consumed_items = 3
    assert (sender.out.has_output, sender.out.is_flushed) == (True, False)
    sender.out.flush()
    assert sender.credits() == [(4, records.Credit(13, 1_000_000))]
    assert (sender.out.has_output, sender.out.is_flushed) == (False, True)


def test_what_joins_is_news_now_and_then() -> None:
    """A stream that has something to hand on is news once, and again after sixteen more items; a grant always is."""
    sender = _Sender()
    stream = sender.open(4)
    assert not sender.out.has_news

    def news() -> int:
        count = 0
        for _ in range(100):
            sender.send(stream, b"a")
            count += sender.out.has_news
            sender.out.has_news = False
        return count

    assert news() == 6
    sender.out.flush()
    sender.send(stream, b"a")
    assert sender.out.has_news
    sender.out.has_news = False
    sender.out.grant(4)
    assert sender.out.has_news


def test_a_full_stream_is_no_news() -> None:
    """Nothing of it could be handed on."""
    sender = _Sender()
    stream = sender.open(4)
    stream.is_full = True
    sender.send(stream, b"a")
    assert not (sender.out.has_news or sender.out.has_output)

"""Sessions over a line that is cut anywhere: between frames and inside them, while they greet and while they replay."""

from __future__ import annotations

import random

import pytest

from tests.core.sessions import Talk, make_line
from tests.core.support import consume, items, only
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core import events, records
from trio_streams.wire.binary import BinaryWire

RUNS_PER_TEST = 50
_WIDE = ConnectionConfig(stream=StreamLimits(window_items=100_000, window_bytes=1 << 24), max_send_buffer_bytes=1 << 24)


@pytest.mark.parametrize("first", range(0, 1_000, RUNS_PER_TEST))
def test_every_item_arrives_once_and_in_order(first: int) -> None:
    """A thousand seeded talks, both ways, each cut many times: every item once and in order, every end once."""
    cuts = 0
    for seed in range(first, first + RUNS_PER_TEST):
        talk = Talk(random.Random(seed))
        talk.run()
        cuts += talk.cuts
    assert cuts > RUNS_PER_TEST


def _conversation(size: int, side: int) -> tuple[list[bytes], list[bytes], bool]:
    """A fixed one that is cut when so many bytes of one side have arrived: what was said, what was heard, and if it was cut."""
    line = make_line()
    said = [b"%d" % n * 40 for n in range(12)] + [bytes(20_000)]
    stream = line.client.open("s")
    left, is_cut = size, False
    line.client.send(stream, said)
    line.client.end(stream)
    while line.write(side) or line.write(1 - side):
        line.deliver(1 - side)
        arrives = len(line.under_way[side])
        if not is_cut and arrives >= left:
            line.deliver(side, left)
            line.cut()
            line.mend()
            is_cut = True
        else:
            line.deliver(side)
            left -= arrives
    line.settle()
    happened = line.take(1)
    heard = items(happened, stream)
    consume(line.server, stream, heard)
    assert len(only(events.Opened, happened)) == len(only(events.Ended, happened)) == 1
    return said, heard, is_cut


def test_a_cut_after_every_byte_of_the_first_frames() -> None:
    """Wherever between two bytes the line is cut, at a frame's end or inside it, nothing is lost and nothing comes twice."""
    for size in [*range(700), *range(700, 21_000, 997)]:
        said, heard, is_cut = _conversation(size, 0)
        assert (size, heard) == (size, said)
        assert is_cut == (size < 20_700), size


def test_a_stream_goes_on_over_another_carrier() -> None:
    """What was lost on the way goes again, once; the streams see nothing of it."""
    line = make_line()
    stream = line.client.open("s")
    line.client.send(stream, [b"1", b"2"])
    line.settle()
    line.client.send(stream, [b"3"])
    assert line.write(0)
    line.cut()
    assert not line.client.is_attached
    line.client.send(stream, [b"4"])
    line.client.end(stream)
    assert not line.client.has_output
    line.mend()
    line.settle()
    happened = line.take(1)
    assert items(happened, stream) == [b"1", b"2", b"3", b"4"]
    assert len(only(events.Ended, happened)) == 1
    assert (line.client.resumes, line.server.resumes) == (1, 1)
    assert not only(events.Greeted, [*happened, *line.take(0)])


def test_consumption_while_there_is_no_carrier_is_granted_later() -> None:
    """Credit that falls due between two carriers goes out on the second."""
    line = make_line(ConnectionConfig(stream=StreamLimits(window_items=4, window_bytes=1_000)))
    stream = line.client.open("s")
    assert line.client.send(stream, [b"x"] * 10) == 4
    line.settle()
    taken = items(line.take(1), stream)
    line.cut()
    consume(line.server, stream, taken)
    line.mend()
    line.settle()
    assert only(events.Writable, line.take(0)) == [events.Writable(stream)]


def test_senders_wait_at_any_size_of_write() -> None:
    """However the writes fall, a receiver's acknowledgements are always enough to go on."""
    for max_bytes in (1, 20_000, 69_632, 139_264):
        line = make_line(_WIDE, max_retained_bytes=131_072)
        stream = line.client.open("s")
        sent = [bytes(size) for size in (10, 3_000, 70_000, 16_384) * 30]
        line.client.send(stream, sent)
        while line.write(0, max_bytes) or line.deliver(0) or line.write(1) or line.deliver(1):
            pass
        assert [len(item) for item in items(line.take(1), stream)] == [len(item) for item in sent]


def test_the_second_hello_tells_what_has_arrived() -> None:
    """A hello on another carrier has the same session id and the number of counted frames that are here."""
    line = make_line()
    stream = line.client.open("s")
    for item in (b"1", b"2"):
        line.client.send(stream, [item])
        line.settle()
    line.cut()
    line.server.attach(1.0)
    ((_, greeting),) = BinaryWire().decode(line.server.to_send(1.0, 65_536))
    assert isinstance(greeting, records.Hello)
    assert (greeting.session_id, greeting.frames_received) == ("server", 3)

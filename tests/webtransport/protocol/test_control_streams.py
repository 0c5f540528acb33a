"""The two streams of a session that carry what belongs to all of it."""

from __future__ import annotations

from tests.webtransport.protocol.port_log import PortLog
from trio_streams.core import records
from trio_streams.webtransport.protocol.control_streams import ControlStreams
from trio_streams.wire.binary import PREFACE, BinaryWire

HELLO = records.Hello("me")


def test_it_begins_as_a_connection_does() -> None:
    """Our stream is unidirectional, goes before procedures, and begins with the preface and HELLO."""
    port = PortLog()
    control = ControlStreams(port, HELLO)
    assert (control.id, control.has_output) == (None, True)
    said = PREFACE + BinaryWire().encode(0, HELLO)
    assert control.queued_bytes == len(said)
    assert control.flush() == len(said)
    assert port.take_calls() == [("open", 2, 128)]
    assert port.sent == {2: said}
    assert (control.id, control.queued_bytes, control.has_output, control.flush()) == (2, 0, False, 0)


def test_what_is_put_follows_in_order() -> None:
    """Records of the session and of its streams share the stream, each with its number."""
    port = PortLog()
    control = ControlStreams(port, HELLO)
    control.put(4, records.Credit(1, 2))
    control.flush()
    control.put(0, records.Ping(3))
    assert control.has_output
    control.flush()
    assert BinaryWire().decode(port.sent[2]) == [(0, HELLO), (4, records.Credit(1, 2)), (0, records.Ping(3))]


def test_it_waits_until_it_can_be_opened() -> None:
    """Without credit for a stream nothing is asked for, and nothing is lost."""
    port = PortLog()
    port.allowed = [True, False]
    control = ControlStreams(port, HELLO)
    assert (control.has_output, control.flush()) == (False, 0)
    assert port.take_calls() == []
    port.allowed = [True, True]
    assert control.has_output
    control.flush()
    assert BinaryWire().decode(port.sent[2]) == [(0, HELLO)]


def test_what_is_not_taken_waits_until_the_stream_is_writable() -> None:
    """A stream that took less than it was given is not asked again before it says so."""
    port = PortLog()
    port.room[2] = 10
    control = ControlStreams(port, HELLO)
    assert control.flush() == 10
    assert (control.has_output, control.flush()) == (False, 0)
    control.put(0, records.Ping(1))
    assert not control.has_output
    del port.room[2]
    control.writable()
    assert control.has_output
    control.flush()
    assert BinaryWire().decode(port.sent[2]) == [(0, HELLO), (0, records.Ping(1))]


def test_the_peers_frames_are_decoded_in_whatever_chunks() -> None:
    """Half a frame waits for the rest."""
    control = ControlStreams(PortLog(), HELLO)
    said = PREFACE + BinaryWire().encode(0, HELLO)
    assert control.decode(said[:20]) == []
    assert control.decode(said[20:]) == [(0, HELLO)]

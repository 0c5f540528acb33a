"""A machine that is taken off one carrier and put on another."""

from __future__ import annotations

import attrs
import pytest

from tests.core.sessions import make_line, make_session
from tests.core.support import frame, greeted, items, make_mux, only
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core import events, records
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.core.session import RESUME, Session
from trio_streams.core.wire import Frame
from trio_streams.errors import ConnectionLost
from trio_streams.wire.binary import PREFACE, BinaryWire

WIRE = BinaryWire()
WIDE = ConnectionConfig(stream=StreamLimits(window_items=100_000, window_bytes=1 << 24), max_send_buffer_bytes=1 << 24)


def hello(session_id: str = "peer", received: int = 0, *features: str) -> bytes:
    """What a peer says first on a carrier."""
    said = records.Hello(session_id, received, 256, 262_144, 1 << 24, 100, 1 << 24, features=frozenset(features))
    return PREFACE + WIRE.encode(0, said)


def said(session: Session, max_bytes: int = 65_536) -> list[Frame]:
    """All that a session has to say now, after a preface where it greets."""
    data = b""
    while session.has_output:
        data += session.to_send(0.0, max_bytes)
    if not data.startswith(PREFACE):
        data = PREFACE + data
    return [one for _, one in BinaryWire().decode(data)]


def failed(session: Session) -> RemoteProtocolError:
    (event,) = only(events.Failed, list(session.events()))
    assert isinstance(event.error, RemoteProtocolError)
    return event.error


def make_talking() -> Session:
    """A client whose peer is the test, and that has one stream."""
    session = make_session(is_client=True)
    session.receive(hello("peer", 0, RESUME), 0.0)
    said(session)
    assert session.open("s") == 1
    return session


def test_a_session_greets_and_offers_to_resume() -> None:
    """The first hello is that of any connection, with `resume` among its features."""
    session = make_session(is_client=True)
    (greeting,) = said(session)
    assert isinstance(greeting, records.Hello)
    (plain,) = [one for _, one in BinaryWire().decode(make_mux(is_client=True).to_send(0.0, 65_536))]
    assert isinstance(plain, records.Hello)
    assert greeting == attrs.evolve(plain, features=frozenset({RESUME}))


def test_nothing_goes_before_the_peer_has_greeted_again() -> None:
    """Neither what is repeated nor what is new: the other end may be somebody else."""
    line = make_line()
    stream = line.client.open("s")
    line.settle()
    line.client.send(stream, [b"1"])
    line.write(0)
    line.cut()
    line.mend()
    line.client.send(stream, [b"2"])
    assert [type(one) for one in said(line.client)] == [records.Hello]
    assert not line.client.has_output
    assert line.client.to_send(0.0, 65_536) == b""
    line.client.receive(hello("server", 1, RESUME), 0.0)
    assert said(line.client) == [[b"1"], [b"2"]]


def test_frames_of_a_carrier_stay_with_it() -> None:
    """Pings, their answers and acknowledgements that were not sent yet are dropped, what belongs to streams is not."""
    session = make_talking()
    session.receive(WIRE.encode(0, records.Ping(7)), 0.0)
    session.ping(0.0)
    session.stop(1, Code.CANCELLED)
    session.detach()
    session.attach(0.0)
    session.receive(hello("peer", 0, RESUME), 0.0)
    _, *rest = said(session)
    assert [type(one) for one in rest] == [records.Open, records.Stop]
    session.receive(WIRE.encode(0, records.Pong(1)), 0.0)
    assert session.round_trip is None


def test_half_a_frame_is_dropped_with_its_carrier() -> None:
    """The peer repeats whole frames, so the first half of one is of no use."""
    session = make_talking()
    data = WIRE.encode_run(1, [b"whole"])
    session.receive(data[:-2], 0.0)
    session.detach()
    session.attach(0.0)
    session.receive(hello("peer", 0, RESUME) + data, 0.0)
    assert items(list(session.events()), 1) == [b"whole"]


def test_a_session_that_the_peer_has_lost_ends_with_one_error() -> None:
    """Another session id means that this session is gone; what was meant for it does not reach the other one."""
    session = make_talking()
    session.send(1, [b"old"])
    session.detach()
    session.attach(0.0)
    session.receive(hello("another", 0, RESUME), 0.0)
    error = failed(session)
    assert (error.code, error.field) == (Code.UNAVAILABLE, "session_id")
    assert "the session could not be resumed: the peer does not have it any more" in str(error)
    assert not session.is_flushed
    greeting, goodbye = said(session)
    assert isinstance(greeting, records.Hello)
    assert isinstance(goodbye, records.GoAway)
    assert not session.can_outlive
    assert session.is_flushed  # what was kept for a resume keeps nobody waiting


def test_a_peer_that_wants_a_session_that_is_not_here_is_refused() -> None:
    """A first hello that has received frames already is the second one of another session."""
    session = make_session(is_client=False)
    session.receive(hello("client", 5, RESUME), 0.0)
    error = failed(session)
    assert (error.code, error.field, error.size) == (Code.UNAVAILABLE, "frames_received", 5)
    assert [type(one) for one in said(session)] == [records.Hello, records.GoAway]


@pytest.mark.parametrize(("received", "field"), [(9, "frames"), (0, "frames_received")])
def test_a_replay_that_can_not_be_is_refused(received: int, field: str) -> None:
    """A peer that has what was never sent, or lacks what it has acknowledged, is told so."""
    session = make_talking()
    session.send(1, [b"x"])
    said(session)
    session.receive(WIRE.encode(0, records.Ack(1)), 0.0)
    session.detach()
    session.attach(0.0)
    session.receive(hello("peer", received, RESUME), 0.0)
    assert failed(session).field == field
    assert not session.can_outlive
    assert [type(one) for one in said(session)] == [records.Hello, records.GoAway]


def test_an_acknowledgement_of_what_was_never_sent_ends_the_session() -> None:
    """The peer's fault, with both numbers."""
    session = make_talking()
    said(session)
    session.receive(WIRE.encode(0, records.Ack(2)), 0.0)
    error = failed(session)
    assert (error.field, error.size, error.limit) == ("frames", 2, 1)


def test_a_second_hello_on_one_carrier_is_refused() -> None:
    """As on a plain connection, also after a resume; and so is one's own."""
    session = make_talking()
    session.detach()
    session.attach(0.0)
    session.receive(hello("peer", 0, RESUME) + hello("peer", 0, RESUME)[len(PREFACE) :], 0.0)
    assert failed(session).field == "HELLO"
    again = make_session(is_client=True, session_id="same")
    again.receive(hello("same", 0, RESUME), 0.0)
    assert failed(again).field == "session_id"


def test_a_peer_without_the_feature_makes_it_a_plain_connection() -> None:
    """Nothing is retained or acknowledged, and the carrier's loss is the end."""
    session = make_session(is_client=True)
    session.receive(hello("peer"), 0.0)
    said(session)
    session.open("s")
    session.send(1, [bytes(1_000)])
    said(session)
    assert (session.retained_bytes, session.can_outlive) == (0, False)
    session.receive(b"".join(WIRE.encode(1, records.Credit(n + 300, 1 << 20)) for n in range(300)), 0.0)
    session.receive(WIRE.encode(0, records.Ack(1_000)), 0.0)
    assert session.failure is None
    assert not session.has_output
    with pytest.raises(LocalProtocolError, match="can't be resumed"):
        session.detach()
    assert not session.outlives(ConnectionLost("gone"))


def test_attach_needs_a_session_without_a_carrier() -> None:
    """Two carriers at once would mix two runs of bytes."""
    session = make_talking()
    with pytest.raises(LocalProtocolError, match="is attached"):
        session.attach(0.0)


def test_acknowledgements_go_with_whatever_is_written() -> None:
    """One that is owed goes with the next write, and only once."""
    session = make_talking()
    said(session)
    session.receive(WIRE.encode_run(1, [b"x"]), 0.0)
    assert not session.has_output
    session.send(1, [b"y"])
    assert said(session) == [records.Ack(1), [b"y"]]
    session.send(1, [b"z"])
    assert said(session) == [[b"z"]]


@pytest.mark.parametrize(("count", "size"), [(256, 0), (3, 16_000)])
def test_acknowledgements_come_by_themselves(count: int, size: int) -> None:
    """After 256 frames or 32 KiB the peer gets one, though there is nothing else to say."""
    session = make_talking()
    said(session)
    for _ in range(count - 1):
        session.receive(WIRE.encode_run(1, [bytes(size)]), 0.0)
    assert not session.has_output
    session.receive(WIRE.encode_run(1, [bytes(size)]), 0.0)
    assert records.Ack(count) in said(session)
    session.receive(WIRE.encode(0, records.Ping(1)) * 3_000, 0.0)
    assert not [one for one in said(session) if isinstance(one, records.Ack)]  # nothing that counts has come


def test_a_full_retention_takes_no_more_data_until_it_is_acknowledged() -> None:
    """Senders wait, nothing is lost; control still goes, such as answers to pings."""
    line = make_line(WIDE, max_retained_bytes=131_072)
    stream = line.client.open("s")
    sent = [b"%d" % n * 100 for n in range(4_000)]
    taken = line.client.send(stream, sent)
    assert taken == len(sent)
    while line.write(0, 16_384):
        pass
    retained = line.client.retained_bytes
    assert 131_072 <= retained < 131_072 + 40_000
    assert line.client.queued_bytes > 0
    assert not line.client.has_output
    assert not line.client.is_flushed
    line.client.ping(0.0)
    assert line.client.has_output
    assert line.write(0)
    assert not line.client.has_output
    line.settle()
    assert items(line.take(1), stream) == sent
    assert line.client.is_flushed


def test_control_that_nobody_acknowledges_ends_the_session() -> None:
    """Past `max_retained_bytes` control goes on for `max_control_bytes`; then the peer is at fault."""
    config = attrs.evolve(WIDE, max_control_bytes=1_024)
    session = make_session(is_client=True, config=config, max_retained_bytes=131_072)
    session.receive(hello("peer", 0, RESUME), 0.0)
    session.open("s")
    session.send(1, [bytes(100_000)])
    assert session.send(1, [bytes(100_000)]) == 1
    said(session)
    assert session.failure is None
    for number in range(30):
        stream = session.open(f"{number:0100}")
        said(session)
        assert stream == 3 + 2 * number
        if session.failure is not None:
            break
    error = failed(session)
    assert (error.code, error.field, error.limit) == (Code.RESOURCE_EXHAUSTED, "max_control_bytes", 1_024)
    assert "the peer acknowledges nothing" in str(error)
    assert not session.has_output


def test_streams_wait_to_be_opened_until_there_is_a_carrier() -> None:
    """What is opened while there is none would pile up; whoever wishes to is told when it is possible again."""
    line = make_line()
    line.cut()
    assert not line.client.can_open
    with pytest.raises(LocalProtocolError):
        line.client.open("s")
    line.client.note_wish_to_open()
    line.mend()
    line.settle()
    assert line.take(0) == [events.StreamsAllowed()]
    assert line.client.can_open


def test_limits_are_those_of_the_first_hello() -> None:
    """A second one grants nothing and takes nothing away."""
    session = make_talking()
    said(session)
    session.detach()
    session.attach(0.0)
    small = records.Hello("peer", 1, 1, 1, 1, 0, 1, features=frozenset({RESUME}))
    session.receive(PREFACE + WIRE.encode(0, small), 0.0)
    assert session.can_open
    assert session.send(1, [bytes(10)] * 5) == 5


def test_a_silence_is_the_carriers_fault() -> None:
    """At `idle_timeout` the carrier is given up, not the session; a plain connection would be over."""
    session = make_talking()
    said(session)
    assert session.next_deadline() == 30.0
    session.handle_deadline(30.0)
    assert said(session) == [records.Ping(1)]
    session.handle_deadline(60.0)
    assert session.failure is None
    assert "silent" in str(session.carrier_fault)
    assert session.next_deadline() == float("-inf")
    session.ping(60.0)
    assert session.wants_input
    assert not session.has_output
    assert not session.is_flushed
    session.handle_deadline(61.0)  # without effect
    session.detach()
    assert (session.carrier_fault, session.next_deadline()) == (None, None)
    session.attach(70.0)
    assert session.next_deadline() == 80.0
    session.handle_deadline(80.0)
    assert "handshake_timeout" in str(session.carrier_fault)
    session.detach()
    session.attach(90.0)
    session.receive(hello("peer", 1, RESUME), 91.0)
    assert session.next_deadline() == 121.0


def test_before_the_first_hello_a_silence_is_the_end() -> None:
    """Nobody has offered to resume yet."""
    session = make_session(is_client=True)
    session.handle_deadline(10.0)
    assert failed(session).code is Code.HANDSHAKE_TIMEOUT


def test_a_write_that_is_stuck_is_the_carriers_fault() -> None:
    """The driver tells, and learns that the session lives on."""
    session = make_talking()
    fault = ConnectionLost("took no bytes")
    assert session.outlives(fault)
    assert session.carrier_fault is fault
    assert not greeted().outlives(fault)


def test_a_session_that_the_peer_ends_is_over() -> None:
    """After its GOAWAY there is nothing to come back to."""
    session = make_talking()
    assert session.can_outlive
    session.receive(WIRE.encode(0, records.GoAway()), 0.0)
    assert not session.can_outlive


def test_a_second_loss_during_the_replay_loses_nothing() -> None:
    """What was repeated, and lost again, is repeated once more; a write is no larger than it was asked to be."""
    line = make_line()
    stream = line.client.open("s")
    sent = [b"%d" % n * 1_000 for n in range(40)]
    for item in sent:
        line.client.send(stream, [item])
        line.write(0)
    line.cut()
    line.mend()
    for side in (0, 1):
        line.write(side)
    for side in (0, 1):
        line.deliver(side)
    assert line.write(0, 10_000)
    assert len(line.under_way[0]) <= 10_000
    line.deliver(0, 5_000)
    line.cut()
    assert line.client.is_flushed is False
    line.mend()
    line.settle()
    assert items(line.take(1), stream) == sent
    assert line.client.resumes == line.server.resumes == 2


def test_a_connection_that_fails_while_it_replays_says_only_goodbye() -> None:
    """The rest of the replay is of no use to anybody."""
    session = make_talking()
    for _ in range(3):
        session.send(1, [bytes(1_000)])
        session.to_send(0.0, 65_536)
    session.detach()
    session.attach(0.0)
    session.to_send(0.0, 1)
    session.receive(hello("peer", 0, RESUME), 0.0)
    session.to_send(0.0, 1)
    session.receive(frame(99), 0.0)
    assert [type(one) for one in said(session)] == [records.GoAway]


def test_a_failure_ends_the_acknowledgements() -> None:
    """What was owed to a peer that broke the rules is its loss."""
    session = make_talking()
    said(session)
    session.receive(WIRE.encode_run(1, [b""] * 1) * 255, 0.0)
    session.receive(WIRE.encode_run(1, [b""]), 0.0)
    session.receive(frame(99), 0.0)
    assert [type(one) for one in said(session)][-1] is records.GoAway
    assert not session.has_output


def test_a_line_at_rest_is_flushed() -> None:
    """Nothing is left to say; what is only retained does not count while there is a carrier, and does while there is none."""
    line = make_line()
    assert line.client.is_flushed
    stream = line.client.open("s")
    assert not line.client.is_flushed
    line.settle()
    assert line.client.is_flushed
    assert line.client.get(stream) is not None
    line.cut()
    assert not line.client.is_flushed


def test_a_session_that_is_given_up_holds_nothing() -> None:
    """There is nobody to say it to, so nobody waits until it is said."""
    session = make_talking()
    session.send(1, [bytes(1_000)])
    said(session)
    session.detach()
    session.reset(1)
    assert not session.is_flushed
    session.give_up()
    assert session.is_flushed
    assert (session.retained_bytes, session.can_outlive) == (0, False)

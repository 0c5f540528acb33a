"""HTTP/3 as a whole: two machines back to back, GOAWAY, resets and stops, and what a peer may not do."""

from __future__ import annotations

import pytest

from tests.webtransport.protocol.http3_fake import GET, OK, FakeQuic, Pair, Side, data, headers
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import (
    BodyReceived,
    HeadReceived,
    MessageFailed,
    MessageReset,
    MessageStopped,
    PriorityUpdated,
    WentAway,
)
from trio_streams.webtransport.protocol.http3_frames import encode_frame, encode_settings, parse_settings
from trio_streams.webtransport.protocol.priority import Priority
from trio_streams.webtransport.protocol.qpack import Qpack
from trio_streams.webtransport.protocol.requests import RawHeaders

POST: RawHeaders = [(b":method", b"POST"), *GET[1:]]
CONTROL, ENCODER = 2, 6
"""A client's streams."""


def started(*, is_client: bool = False, config: Http3Config | None = None) -> Side:
    """A side whose peer has sent its settings."""
    side = Side(is_client=is_client, config=config)
    side.http3.start()
    side.http3.receive(CONTROL + is_client, [b"\x00" + encode_settings({})], is_ended=False)
    side.take_events()
    side.quic.consumed_bytes.clear()
    return side


def section(head: RawHeaders) -> bytes:
    """A HEADERS frame that names nothing of the table."""
    return headers(Qpack(Http3Config()).encode(0, head, uses_table=False)[1])


# Two of ours.


def test_settings_say_what_is_allowed() -> None:
    """Ours, QPACK's, the size of fields, and one that nobody knows; control comes first on its stream."""
    side = Side(is_client=False, config=Http3Config(qpack_blocked_streams=3), settings={0x33: 1})
    side.http3.start()
    assert not side.http3.has_news
    wire = bytes(side.quic.sent[3])
    assert wire[0] == 0
    sent = parse_settings(wire[3:])
    grease = next(setting for setting in sent if setting % 0x1F == 0x21 % 0x1F and setting > 0x40)
    assert sent == {0x08: 1, 0x33: 1, 0x01: 4_096, 0x07: 3, 0x06: 65_536, grease: 0}
    assert (bytes(side.quic.sent[7]), bytes(side.quic.sent[11])) == (b"\x02", b"\x03")


# The beginning.


def test_a_peer_that_allows_too_few_streams() -> None:
    """HTTP/3 needs three (RFC 9114 §6.2); nothing is opened else."""
    side = Side(is_client=True, quic=FakeQuic(is_client=True, streams=2))
    with pytest.raises(Http3Error) as caught:
        side.http3.start()
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_GENERAL_PROTOCOL_ERROR, True)
    assert caught.value.size == 2
    assert side.quic.streams_available(unidirectional=True) == 2


def test_settings_that_come_before_we_have_started() -> None:
    """The peer's table is used as soon as there is a stream to say so on."""
    side = Side(is_client=True)
    side.http3.receive(3, [b"\x00" + encode_settings({0x01: 4_096, 0x07: 16})], is_ended=False)
    assert 6 not in side.quic.sent
    side.http3.start()
    assert side.quic.sent[6] == b"\x02\x3f\xe1\x1f"


def test_heads_may_be_sent_before_anything_else() -> None:
    """Without an encoder stream a head names no entry."""
    side = Side(is_client=True)
    stream_id = side.http3.open_request()
    side.http3.send_head(stream_id, GET, is_ended=True)
    assert side.quic.ended == {0}


# Faults of the connection.


@pytest.mark.parametrize(
    ("stream_id", "wire", "code"),
    [
        (2, b"\x00" + encode_frame(0x07, b"\x00"), Http3Code.H3_MISSING_SETTINGS),
        (2, b"\x01", Http3Code.H3_STREAM_CREATION_ERROR),
        (6, b"\x02\x80\x00", Http3Code.QPACK_ENCODER_STREAM_ERROR),
        (10, b"\x03\x80", Http3Code.QPACK_DECODER_STREAM_ERROR),
        (1, b"\x00", Http3Code.H3_STREAM_CREATION_ERROR),
        (0, data(b"a"), Http3Code.H3_FRAME_UNEXPECTED),
        (0, headers(b""), Http3Code.QPACK_DECOMPRESSION_FAILED),
        (0, b"\x40\x41\x00", Http3Code.H3_FRAME_ERROR),
    ],
)
def test_after_a_fault_nothing_is_looked_at(stream_id: int, wire: bytes, code: Http3Code) -> None:
    """It is raised once; whatever comes then is neither parsed nor told, and makes no noise."""
    side = Side(is_client=False)
    side.http3.start()
    with pytest.raises(Http3Error) as caught:
        side.http3.receive(stream_id, [wire], is_ended=False)
    assert (caught.value.http3_code, caught.value.ends_connection) == (code, True)
    side.http3.receive(4, [section(GET)], is_ended=True)
    side.http3.receive(stream_id, [wire], is_ended=False)
    side.http3.receive_reset(2, 0)
    side.http3.receive_stop(3, 0)
    assert side.take_events() == []


@pytest.mark.parametrize("own_id", [3, 7, 11])
def test_our_critical_streams_must_not_be_stopped(own_id: int) -> None:
    """H3_CLOSED_CRITICAL_STREAM (§6.2.1)."""
    side = started()
    with pytest.raises(Http3Error) as caught:
        side.http3.receive_stop(own_id, 0)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_CLOSED_CRITICAL_STREAM, True)


def test_the_peers_critical_streams_must_not_be_reset() -> None:
    """Likewise."""
    side = started()
    with pytest.raises(Http3Error) as caught:
        side.http3.receive_reset(CONTROL, 0)
    assert caught.value.http3_code is Http3Code.H3_CLOSED_CRITICAL_STREAM


def test_a_peer_that_never_reads_what_it_must() -> None:
    """Our decoder stream is full: the connection is over, and nobody waits (§10.5)."""
    side = started()
    side.quic.rooms[11] = len(side.quic.sent[11])
    side.http3.receive(0, [section(GET)], is_ended=False)
    side.http3.stop(0, Http3Code.H3_REQUEST_CANCELLED)  # it makes an instruction, which finds no room
    with pytest.raises(Http3Error) as caught:
        side.http3.receive(4, [section(GET)], is_ended=False)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_EXCESSIVE_LOAD, True)
    assert caught.value.field == "QPACK_DECODER"


# Faults of a request.


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (section(OK), Http3Code.H3_MESSAGE_ERROR),
        (b"", Http3Code.H3_REQUEST_INCOMPLETE),
        (b"\x01\x80\x01\x00\x01", Http3Code.H3_EXCESSIVE_LOAD),
    ],
)
def test_a_fault_of_a_request(wire: bytes, code: Http3Code) -> None:
    """Both halves are reset and stopped with its code, an event says so, and the connection goes on."""
    side = started()
    side.http3.receive(0, [wire], is_ended=True)
    (failed,) = side.take_events()
    assert isinstance(failed, MessageFailed)
    assert (failed.stream_id, failed.error.http3_code, failed.error.ends_connection) == (0, code, False)
    assert (side.quic.resets, side.quic.stops) == ({0: code}, {0: code})
    assert bytes(side.quic.sent[11]) == b"\x03\x40"  # the decoder says that it is cancelled
    with pytest.raises(LocalProtocolError):
        side.http3.send_head(0, OK)
    side.http3.release(0)
    side.http3.receive(4, [section(GET)], is_ended=True)
    assert side.take_events() == [HeadReceived(4, GET, is_ended=True)]


def test_a_fault_of_a_request_that_waited() -> None:
    """It is found while the table's stream is read, and is that request's all the same."""
    side = started()
    encoder = Qpack(Http3Config())
    first = encoder.apply_settings({0x01: 4_096, 0x07: 16})
    malformed: RawHeaders = [*GET, (b"upgrade", b"b" * 50)]
    sound: RawHeaders = [*GET, (b"x-a", b"b" * 50)]
    sent = [encoder.encode(4 * number, head) for number, head in enumerate([malformed, sound] * 2)]
    for number, (_, encoded) in enumerate(sent):
        side.http3.receive(4 * number, [headers(encoded), data(b"abc")], is_ended=True)
    side.http3.receive(ENCODER, [b"\x02", first, *[instructions for instructions, _ in sent]], is_ended=False)
    events = side.take_events()
    assert {event.stream_id for event in events if isinstance(event, MessageFailed)} == {0, 8}
    assert {event.stream_id for event in events if isinstance(event, BodyReceived)} == {4, 12}
    assert side.quic.consumed_bytes[12] == len(headers(sent[3][1])) + len(data(b"abc"))


def test_priorities_are_told() -> None:
    """An update may come before its request."""
    side = started()
    side.http3.receive(CONTROL, [encode_frame(0xF0700, b"\x08u=1")], is_ended=False)
    assert side.take_events() == [PriorityUpdated(8, Priority(1))]


def test_a_request_makes_room_for_more_updates() -> None:
    """So many updates without a request are too many, and not so many in all."""
    side = started(config=Http3Config(max_idle_frames=3))
    update = encode_frame(0xF0700, b"\x08u=1")
    for number in range(4):
        side.http3.receive(CONTROL, [update * 3], is_ended=False)
        side.http3.receive(4 * number, [b"\x01"], is_ended=False)
    with pytest.raises(Http3Error):
        side.http3.receive(CONTROL, [update * 4], is_ended=False)


# Resets and stops.


def test_a_peer_that_resets_its_message() -> None:
    """The event has the code, the decoder is told, and our half goes on."""
    side = started()
    side.http3.receive(0, [section(POST)], is_ended=False)
    side.http3.receive_reset(0, 0x10C)
    side.http3.receive_reset(0, 0x10C)
    assert side.take_events()[1:] == [MessageReset(0, 0x10C)]
    assert bytes(side.quic.sent[11]) == b"\x03\x40"
    side.http3.send_head(0, OK, is_ended=True)
    assert side.quic.ended == {0}


def test_a_request_that_is_reset_before_its_head() -> None:
    """Nobody was told of it, so nobody is told that it is over: it is rejected and let go (§4.1.1)."""
    side = started()
    side.http3.receive(0, [b"\x01\x05a"], is_ended=False)
    side.http3.receive_reset(0, 0x10C)
    assert side.take_events() == []
    assert side.quic.resets == {0: Http3Code.H3_REQUEST_REJECTED}
    assert side.quic.released == {0: Http3Code.H3_REQUEST_REJECTED}
    assert not side.http3.owns(0)


def test_an_answer_that_is_reset_before_its_head() -> None:
    """Whoever asked is told."""
    side = started(is_client=True)
    side.http3.send_head(side.http3.open_request(), GET, is_ended=True)
    side.http3.receive_reset(0, 0x10B)
    assert side.take_events() == [MessageReset(0, 0x10B)]


def test_a_request_that_is_reset_while_it_waits() -> None:
    """The entry that it waited for wakes nobody."""
    side = started()
    side.http3.receive(0, [headers(b"\x02\x00\x80")], is_ended=False)
    side.http3.receive_reset(0, 0)
    side.http3.receive(ENCODER, [b"\x02\x3f\xe1\x1f\x41a\x03abc"], is_ended=False)
    assert side.take_events() == []


def test_a_peer_that_stops_our_message() -> None:
    """QUIC has reset our half; nothing more is sent on it."""
    side = started()
    side.http3.receive(0, [section(GET)], is_ended=True)
    side.http3.send_head(0, OK)
    side.http3.receive_stop(0, 0x10C)
    assert side.take_events()[1:] == [MessageStopped(0, 0x10C)]
    with pytest.raises(LocalProtocolError):
        side.http3.send_body(0, b"a")


def test_streams_that_are_not_known_are_no_matter() -> None:
    """A reset and a stop may cross a release."""
    side = started()
    side.http3.receive_reset(0, 0)
    side.http3.receive_stop(0, 0)
    side.http3.receive_reset(14, 0)
    side.http3.receive(18, [b"\x40"], is_ended=False)
    side.http3.receive_reset(18, 0)
    assert not side.http3.receive_writable(0)
    assert side.take_events() == []
    client = started(is_client=True)
    client.http3.receive(0, [section(OK)], is_ended=False)
    assert client.take_events() == []


def test_we_reset_and_stop() -> None:
    """Each half on its own; what comes on a stopped one is not told."""
    side = started()
    side.http3.receive(0, [section(POST)], is_ended=False)
    side.http3.stop(0, Http3Code.H3_REQUEST_CANCELLED)
    side.http3.receive(0, [data(b"abc")], is_ended=True)
    side.http3.reset(0, Http3Code.H3_INTERNAL_ERROR)
    assert side.take_events() == [HeadReceived(0, POST, is_ended=False)]
    assert side.quic.stops == {0: Http3Code.H3_REQUEST_CANCELLED}
    assert side.quic.resets == {0: Http3Code.H3_INTERNAL_ERROR}
    with pytest.raises(LocalProtocolError):
        side.http3.end(0)


def test_a_release_in_the_middle_cancels_what_would_come() -> None:
    """The decoder is told, and QUIC stops the peer with the code."""
    side = started()
    side.http3.receive(0, [section(POST)], is_ended=False)
    side.http3.send_head(0, OK, is_ended=True)
    side.http3.release(0, Http3Code.H3_NO_ERROR)
    assert bytes(side.quic.sent[11]) == b"\x03\x40"
    assert side.quic.released == {0: Http3Code.H3_NO_ERROR}
    with pytest.raises(LocalProtocolError, match="no request"):
        side.http3.release(0)


def full(*, room_bytes: int = 10) -> Side:
    """A server whose answer was ended and released while half of its head had not left."""
    side = started()
    side.http3.receive(0, [section(POST)], is_ended=False)
    side.quic.rooms[0] = room_bytes
    side.http3.send_head(0, [*OK, (b"x-a", b"v" * 40)], is_ended=True)
    assert side.http3.unsent_bytes(0) > 0
    side.http3.release(0, Http3Code.H3_NO_ERROR)
    assert side.quic.stops == {0: Http3Code.H3_NO_ERROR}
    assert side.quic.released == {}
    side.take_events()
    with pytest.raises(LocalProtocolError):
        side.http3.release(0)
    return side


def test_what_is_released_still_leaves() -> None:
    """The stream is let go behind its last byte."""
    side = full()
    assert side.http3.owns(0)
    side.quic.rooms[0] = 20
    assert not side.http3.receive_writable(0)
    assert side.quic.released == {}
    side.quic.rooms[0] = 1_000
    assert not side.http3.receive_writable(0)
    assert side.quic.ended == {0}
    assert side.quic.released == {0: Http3Code.H3_NO_ERROR}
    assert not side.http3.owns(0)


def test_what_is_released_may_be_stopped() -> None:
    """Then nothing is left to send, and nobody is told."""
    side = full()
    side.http3.receive_reset(0, 0)
    side.http3.receive(0, [data(b"abc")], is_ended=False)
    side.http3.receive_stop(0, 0)
    assert side.quic.released == {0: Http3Code.H3_NO_ERROR}
    assert side.take_events() == []


# GOAWAY.


def test_requests_behind_a_goaway() -> None:
    """The server rejects them, untold (§4.1.1); the client is told that they are not looked at, and may ask elsewhere."""
    pair = Pair()
    pair.move()
    ids = [pair.client.http3.open_request() for _ in range(4)]
    pair.client.http3.send_head(ids[0], GET, is_ended=True)
    pair.move()
    pair.server.http3.go_away(4)
    for stream_id in ids[1:]:
        pair.client.http3.send_head(stream_id, POST)
    pair.client.http3.stop(ids[2], Http3Code.H3_REQUEST_CANCELLED)
    pair.client.http3.reset(ids[3], Http3Code.H3_REQUEST_CANCELLED)
    pair.client.http3.release(ids[3])
    pair.move()
    rejected = Http3Code.H3_REQUEST_REJECTED
    assert [event for event in pair.client.told if isinstance(event, MessageReset)] == [MessageReset(4, rejected)]
    assert pair.client.quic.resets.keys() == {4, 8, 12}
    assert {id_: code for id_, code in pair.server.quic.released.items() if id_} == {
        4: rejected,
        8: rejected,
        12: rejected,
    }
    assert not any(getattr(event, "stream_id", 0) for event in pair.server.told)
    pair.client.http3.release(4)


def test_a_client_goes_away() -> None:
    """It names a push, of which there is none; the server hears of it and goes on."""
    pair = Pair()
    pair.client.http3.go_away()
    pair.client.http3.go_away()
    pair.move()
    assert [event for event in pair.server.told if isinstance(event, WentAway)] == [WentAway(0)]
    assert pair.server.http3.peer_went_away
    assert pair.client.http3.open_request() == 0


@pytest.mark.parametrize("next_id", [1, 2, 3, 4, 12])
def test_wrong_goaways_are_not_sent(next_id: int) -> None:
    """No request's id, one that was seen, and one above the last."""
    side = started()
    side.http3.receive(4, [section(GET)], is_ended=True)
    side.http3.go_away(8)
    sent = bytes(side.quic.sent[3])
    with pytest.raises(LocalProtocolError) as caught:
        side.http3.go_away(next_id)
    assert caught.value.field == "next_id"
    assert bytes(side.quic.sent[3]) == sent
    with pytest.raises(LocalProtocolError, match="not started"):
        Side(is_client=False).http3.go_away()


# Sending.


def test_the_peers_limit_of_fields() -> None:
    """What is above MAX_FIELD_SECTION_SIZE is our own error and is not sent; what is not, is."""
    side = Side(is_client=True)
    side.http3.start()
    side.http3.receive(3, [b"\x00" + encode_settings({0x06: 200})], is_ended=False)
    stream_id = side.http3.open_request()
    with pytest.raises(LocalProtocolError) as caught:
        side.http3.send_head(stream_id, [*GET, (b"x", b"v" * 100)])
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("MAX_FIELD_SECTION_SIZE", 310, 200)
    assert stream_id not in side.quic.sent
    side.http3.send_head(stream_id, GET)
    with pytest.raises(LocalProtocolError):
        side.http3.send_trailers(stream_id, [(b"x", b"v" * 200)])
    side.http3.send_trailers(stream_id, [(b"x", b"v")])


def test_only_clients_ask() -> None:
    """A server opens no request."""
    with pytest.raises(LocalProtocolError, match="server"):
        started().http3.open_request()


def test_an_encoder_stream_without_room_is_left_alone() -> None:
    """A peer that gives it no credit gets heads that name no entry, and nobody waits (RFC 9204 §2.1.3)."""
    side = Side(is_client=True)
    side.http3.start()
    side.http3.receive(3, [b"\x00" + encode_settings({0x01: 4_096, 0x07: 16})], is_ended=False)
    for room_bytes in (len(side.quic.sent[6]), 1 << 20):
        side.quic.rooms[6] = room_bytes
        before = len(side.quic.sent[6])
        for _ in range(3):
            stream_id = side.http3.open_request()
            side.http3.send_head(stream_id, [*GET, (b"x-a", b"v" * 60)])
        assert (len(side.quic.sent[6]) > before) is (room_bytes == 1 << 20)

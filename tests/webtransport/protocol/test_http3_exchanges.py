"""Whole exchanges between two machines of HTTP/3, in any split and order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webtransport.protocol.http3_fake import GET, OK, FakeQuic, Pair, Side, data, headers, merged
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import (
    BodyReceived,
    HeadReceived,
    InterimReceived,
    SettingsReceived,
    TrailersReceived,
    WentAway,
)
from trio_streams.webtransport.protocol.http3_frames import encode_settings
from trio_streams.webtransport.protocol.qpack import Qpack
from trio_streams.webtransport.protocol.requests import RawHeaders

POST: RawHeaders = [(b":method", b"POST"), *GET[1:]]


def test_a_request_and_its_answer() -> None:
    """Heads, bodies and trailers arrive both ways, and every byte is consumed by one of the two who do."""
    pair = Pair()
    stream_id = pair.client.http3.open_request()
    pair.client.http3.send_head(stream_id, POST)
    assert pair.client.http3.send_body(stream_id, b"question") == 8
    pair.client.http3.end(stream_id)
    pair.move()
    pair.server.http3.send_head(stream_id, [(b":status", b"103")])
    pair.server.http3.send_head(stream_id, OK)
    pair.server.http3.send_body(stream_id, b"answer")
    pair.server.http3.send_trailers(stream_id, [(b"checksum", b"1")])
    pair.move()
    settings = [event for event in pair.server.told if isinstance(event, SettingsReceived)]
    assert merged(event for event in pair.server.told if not isinstance(event, SettingsReceived)) == [
        ("HeadReceived", 0, tuple(POST)),
        ("BodyReceived", 0, b"question"),
        ("end", 0),
    ]
    assert merged(event for event in pair.client.told if not isinstance(event, SettingsReceived)) == [
        ("InterimReceived", 0, ((b":status", b"103"),)),
        ("HeadReceived", 0, tuple(OK)),
        ("BodyReceived", 0, b"answer"),
        ("TrailersReceived", 0, ((b"checksum", b"1"),)),
        ("end", 0),
    ]
    assert len(settings) == 1
    assert pair.server.http3.peer_settings == settings[0].settings
    for side in (pair.client, pair.server):
        assert side.http3.owns(stream_id)
        side.http3.release(stream_id)
        assert not side.http3.owns(stream_id)
        assert side.quic.released == {stream_id: Http3Code.H3_NO_ERROR}
        assert side.quic.urgent == set(side.http3._own_streams.values())
        assert all(side.http3.owns(own_id) for own_id in side.quic.urgent)


HEADS = st.lists(
    st.tuples(st.sampled_from([b"x-a", b"x-b", b"accept"]), st.sampled_from([b"1", b"v" * 60, b"w" * 200])), max_size=4
)
MESSAGE = st.tuples(HEADS, st.binary(max_size=200), st.none() | HEADS)
Message: TypeAlias = tuple[RawHeaders, bytes, RawHeaders | None]


def send(side: Side, stream_id: int, head: RawHeaders, message: Message) -> None:
    fields, body, trailers = message
    side.http3.send_head(stream_id, [*head, *fields])
    side.http3.send_body(stream_id, body)
    if trailers is None:
        side.http3.end(stream_id)
    else:
        side.http3.send_trailers(stream_id, trailers)


def told(stream_id: int, head: RawHeaders, message: Message) -> list[tuple[object, ...]]:
    """What such a message is told as."""
    fields, body, trailers = message
    expected: list[tuple[object, ...]] = [("HeadReceived", stream_id, (*head, *fields))]
    expected += [("BodyReceived", stream_id, body)] if body else []
    expected += [] if trailers is None else [("TrailersReceived", stream_id, tuple(trailers))]
    return [*expected, ("end", stream_id)]


def told_by(side: Side, stream_id: int) -> list[tuple[object, ...]]:
    return merged(event for event in side.told if getattr(event, "stream_id", None) == stream_id)


@settings(max_examples=60)
@given(st.lists(st.tuples(MESSAGE, MESSAGE), min_size=1, max_size=5), st.integers(0, 2**32), st.integers(1, 300))
def test_any_split_and_order_gives_the_same_exchange(
    exchanges: list[tuple[Message, Message]], seed: int, piece_bytes: int
) -> None:
    """However bytes are cut and whichever stream comes first, each request and each answer is what was sent."""
    rng = random.Random(seed)

    def shuffled(streams: Iterable[int]) -> list[int]:
        return rng.sample(sorted(streams), len(list(streams)))

    pair = Pair()
    pair.move(shuffled, piece_bytes=piece_bytes)
    for question, _ in exchanges:
        send(pair.client, pair.client.http3.open_request(), POST, question)
        # Some exchanges are under way at once, so that entries of the table are in use while others come.
        if rng.random() < 0.5:
            pair.move(shuffled, piece_bytes=piece_bytes)
    pair.move(shuffled, piece_bytes=piece_bytes)
    for number, (_, answer) in enumerate(exchanges):
        send(pair.server, 4 * number, OK, answer)
    pair.move(shuffled, piece_bytes=piece_bytes)
    for number, (question, answer) in enumerate(exchanges):
        assert told_by(pair.server, 4 * number) == told(4 * number, POST, question)
        assert told_by(pair.client, 4 * number) == told(4 * number, OK, answer)
    for side in (pair.client, pair.server):
        assert side.http3._receiving.pending_field_bytes == 0


def test_an_answer_to_head_has_no_body() -> None:
    """Both sides know the method."""
    pair = Pair()
    stream_id = pair.client.http3.open_request()
    pair.client.http3.send_head(stream_id, [(b":method", b"HEAD"), *GET[1:]], is_ended=True)
    pair.move()
    head: RawHeaders = [*OK, (b"content-length", b"7")]
    pair.server.http3.send_head(stream_id, head, is_ended=True)
    pair.move()
    assert pair.client.told[-1] == HeadReceived(stream_id, head, is_ended=True)


def test_extended_connect_needs_the_setting() -> None:
    """A client asks for a protocol when the server has said that it may (RFC 8441 §3)."""
    connect: RawHeaders = [(b":method", b"CONNECT"), (b":protocol", b"webtransport"), *GET[1:]]
    pair = Pair()
    stream_id = pair.client.http3.open_request()
    with pytest.raises(LocalProtocolError, match="protocol"):
        pair.client.http3.send_head(stream_id, connect)
    pair.move()
    pair.client.http3.send_head(stream_id, connect)
    pair.move()
    assert pair.server.told[-1] == HeadReceived(stream_id, connect, is_ended=False)
    pair.server.http3.send_head(stream_id, OK)
    pair.server.http3.send_body(stream_id, b"capsule")
    pair.move()
    assert isinstance(pair.client.told[-1], BodyReceived)


def test_a_body_goes_on_when_there_is_room() -> None:
    """As much as there is room for, and the rest when the stream is writable."""
    pair = Pair(client=Side(is_client=True, quic=FakeQuic(is_client=True, room_bytes=100)))
    http3, quic = pair.client.http3, pair.client.quic
    stream_id = http3.open_request()
    pair.move()
    http3.send_head(stream_id, POST)
    left = bytes(range(256)) * 4
    while left:
        left = left[http3.send_body(stream_id, left) :]
        if left:
            assert quic.wanting == {stream_id}
            quic.wanting.clear()
        pair.move()
        assert http3.receive_writable(stream_id)
    http3.end(stream_id)
    pair.move()
    told = [event for event in pair.server.told if isinstance(event, HeadReceived | BodyReceived)]
    assert merged(told)[1:] == [("BodyReceived", stream_id, bytes(range(256)) * 4), ("end", stream_id)]


def test_the_bytes_on_the_wire() -> None:
    """A request put down by hand: entries of the static table and a literal, then DATA."""
    side = Side(is_client=True)
    stream_id = side.http3.open_request()
    side.http3.send_head(
        stream_id, [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
    )
    side.http3.send_body(stream_id, b"abc")
    assert bytes(side.quic.sent[0]).hex(" ") == "01 08 00 00 d4 d7 50 01 61 c1 00 03 61 62 63"


def section(head: RawHeaders) -> bytes:
    """A HEADERS frame that names nothing of the table."""
    return headers(Qpack(Http3Config()).encode(0, head, uses_table=False)[1])


def test_the_events_of_an_answer() -> None:
    """Interim, head, body, trailers: each a class of its own."""
    side = Side(is_client=True)
    side.http3.start()
    side.http3.receive(3, [b"\x00" + encode_settings({})], is_ended=False)
    side.take_events()
    side.http3.send_head(side.http3.open_request(), GET, is_ended=True)
    wire = section([(b":status", b"103")]) + section(OK) + data(b"a") + section([(b"t", b"1")])
    side.http3.receive(0, [wire], is_ended=True)
    kinds = [type(event) for event in side.take_events()]
    assert kinds == [InterimReceived, HeadReceived, BodyReceived, TrailersReceived]
    assert side.quic.consumed_bytes[0] == len(wire)


def test_a_graceful_end() -> None:
    """First any request still counts, then none behind the last; ids never grow (§5.2)."""
    pair = Pair()
    pair.move()
    first = pair.client.http3.open_request()
    pair.server.http3.go_away()
    pair.client.http3.send_head(first, GET, is_ended=True)
    pair.move()
    assert WentAway(2**62 - 4) in pair.client.told
    assert HeadReceived(0, GET, is_ended=True) in pair.server.told
    assert pair.client.http3.peer_went_away
    with pytest.raises(LocalProtocolError, match="went away"):
        pair.client.http3.open_request()
    pair.server.http3.go_away()
    pair.server.http3.go_away()
    pair.move()
    assert [event for event in pair.client.told if isinstance(event, WentAway)] == [WentAway(2**62 - 4), WentAway(4)]
    pair.server.http3.send_head(first, OK, is_ended=True)
    pair.move()
    assert pair.client.told[-1] == HeadReceived(0, OK, is_ended=True)

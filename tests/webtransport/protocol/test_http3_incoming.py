"""A message that arrives: the order of its frames, its end, its length, and what waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webtransport.protocol.http3_fake import GET, OK, data, headers, merged
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import (
    BodyReceived,
    HeadReceived,
    InterimReceived,
    TrailersReceived,
)
from trio_streams.webtransport.protocol.http3_frames import encode_frame
from trio_streams.webtransport.protocol.http3_incoming import Incoming, Receiving
from trio_streams.webtransport.protocol.qpack import BLOCKED_STREAMS, MAX_TABLE_CAPACITY, Qpack
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.protocol.varint import encode_varint

UNKNOWN = encode_frame(0x21, b"grease")
TRAILERS: RawHeaders = [(b"checksum", b"1")]


def receiving(*, is_client: bool = False, config: Http3Config | None = None) -> Receiving:
    config = config or Http3Config()
    return Receiving(config=config, is_client=is_client, allows_protocol=True, qpack=Qpack(config))


def section(head: RawHeaders) -> bytes:
    """A HEADERS frame that names nothing of the table."""
    return headers(Qpack(Http3Config()).encode(0, head, uses_table=False)[1])


def post(length: int | None = None) -> RawHeaders:
    head = [(b":method", b"POST"), *GET[1:]]
    return head if length is None else [*head, (b"content-length", b"%d" % length)]


def fails(
    code: Http3Code, wire: bytes, *, is_ended: bool = False, is_client: bool = False, method: bytes = b""
) -> bool:
    """Whether the code is the connection's; it fails in any split."""
    ends = set()
    for size in (1, 2, len(wire) or 1):
        incoming = Incoming(0, receiving(is_client=is_client))
        incoming.method = method
        with pytest.raises(Http3Error) as caught:
            incoming.receive([wire[at : at + size] for at in range(0, len(wire), size)], is_ended=is_ended)
        assert caught.value.http3_code is code
        ends.add(caught.value.ends_connection)
    (is_connections,) = ends
    return is_connections


def test_a_request_of_one_piece() -> None:
    """A head that is ended, and all of it is dealt with."""
    shared = receiving()
    incoming = Incoming(4, shared)
    wire = section(GET) + UNKNOWN
    assert incoming.receive([wire], is_ended=True) == len(wire)
    assert list(shared.events) == [HeadReceived(4, GET, is_ended=True)]
    assert incoming.is_over
    assert (incoming.was_told, incoming.method) == (True, b"GET")
    assert incoming.receive([b"more"], is_ended=False) == 0


def test_bodies_are_for_others_to_consume() -> None:
    """What is dealt with is all but the body; pieces pass as they are, joined to a run over frames."""
    shared = receiving()
    incoming = Incoming(0, shared)
    head, piece = section(post()), bytes(500)
    assert incoming.receive([head, b"\x00\x43\xe8", piece], is_ended=False) == len(head) + 3
    assert incoming.receive([piece, UNKNOWN, data(b"abc")], is_ended=True) == len(UNKNOWN) + 2
    first, body, last = shared.events
    assert first == HeadReceived(0, post(), is_ended=False)
    assert isinstance(body, BodyReceived) and isinstance(last, BodyReceived)
    assert body.run[0] is piece
    assert (body.size, body.is_ended) == (500, False)
    assert (last.run, last.size, last.is_ended) == ([piece, b"abc"], 503, True)


def test_an_end_of_its_own() -> None:
    """Where the end comes alone it is an empty body."""
    shared = receiving()
    incoming = Incoming(0, shared)
    incoming.receive([section(GET)], is_ended=False)
    incoming.receive([], is_ended=True)
    assert list(shared.events) == [HeadReceived(0, GET, is_ended=False), BodyReceived(0, [], 0, is_ended=True)]


def test_trailers_are_told_with_the_end() -> None:
    """Unknown frames may stand behind them; then the message is over."""
    shared = receiving()
    incoming = Incoming(0, shared)
    incoming.receive([section(post(3)), data(b"abc"), section(TRAILERS)], is_ended=False)
    incoming.receive([UNKNOWN], is_ended=False)
    assert not any(isinstance(event, TrailersReceived) for event in shared.events)
    incoming.receive([], is_ended=True)
    assert shared.events[-1] == TrailersReceived(0, TRAILERS)
    assert merged(shared.events)[-1] == ("end", 0)


MESSAGES = st.tuples(st.lists(st.binary(max_size=99), max_size=4), st.booleans(), st.booleans(), st.booleans())


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_every_split_gives_the_same_message(
    parts: tuple[list[bytes], bool, bool, bool], sizes: list[int], late_end: bool
) -> None:
    """Frames may be cut anywhere, and the end may come with the last bytes or alone."""
    chunks, has_trailers, has_length, has_unknown = parts
    size = sum(map(len, chunks))
    between = UNKNOWN if has_unknown else b""
    head = post(size if has_length else None)
    wire = between + section(head) + between + between.join(map(data, chunks))
    wire += (section(TRAILERS) if has_trailers else b"") + between
    shared = receiving()
    incoming = Incoming(0, shared)
    start = turn = done = 0
    while start < len(wire):
        end = start + sizes[turn % len(sizes)]
        done += incoming.receive([wire[start:end]], is_ended=end >= len(wire) and not late_end)
        start, turn = end, turn + 1
    if late_end:
        incoming.receive([], is_ended=True)
    expected: list[tuple[object, ...]] = [("HeadReceived", 0, tuple(head))]
    expected += [("BodyReceived", 0, b"".join(chunks))] if size else []
    expected += [("TrailersReceived", 0, tuple(TRAILERS))] if has_trailers else []
    assert merged(shared.events) == [*expected, ("end", 0)]
    assert done == len(wire) - size
    assert shared.pending_field_bytes == 0


def test_answers_that_are_not_final() -> None:
    """Any number of them, then the answer."""
    shared = receiving(is_client=True)
    incoming = Incoming(0, shared)
    hint: RawHeaders = [(b":status", b"103")]
    incoming.receive([section(hint), section(hint), section(OK)], is_ended=True)
    assert list(shared.events) == [InterimReceived(0, hint)] * 2 + [HeadReceived(0, OK, is_ended=True)]


def test_cookies_are_joined_in_requests() -> None:
    """RFC 9114 §4.2.1."""
    shared = receiving()
    Incoming(0, shared).receive([section([*GET, (b"cookie", b"a"), (b"cookie", b"b")])], is_ended=True)
    assert shared.events[0] == HeadReceived(0, [*GET, (b"cookie", b"a; b")], is_ended=True)


@pytest.mark.parametrize(
    "wire",
    [
        data(b"a"),
        data(b""),
        section(post()) + section(TRAILERS) + data(b"a"),
        section(post()) + section(TRAILERS) + section(TRAILERS),
        section([(b":method", b"CONNECT"), (b":authority", b"a")]) + section(TRAILERS),
        section(GET) + encode_frame(0x03, b"\x00"),
        section(GET) + encode_frame(0x04, b""),
        encode_frame(0x05, b"\x00"),
        section(GET) + encode_frame(0x07, b"\x00"),
        section(GET) + encode_frame(0x0D, b"\x00"),
        section(GET) + encode_frame(0xF0700, b"\x00"),
        section(GET) + encode_frame(0xF0701, b"\x00"),
        section(GET) + encode_frame(0x02, b""),
    ],
)
def test_frames_out_of_place(wire: bytes) -> None:
    """Wrong order, trailers in a tunnel, and frames of other streams end the connection with H3_FRAME_UNEXPECTED (§4.1, §7.2)."""
    assert fails(Http3Code.H3_FRAME_UNEXPECTED, wire)


@pytest.mark.parametrize(
    ("code", "wire"),
    [
        (Http3Code.H3_ID_ERROR, section(OK) + encode_frame(0x05, b"\x00")),
        (Http3Code.H3_FRAME_UNEXPECTED, section([(b":status", b"103")]) + data(b"a")),
        (Http3Code.H3_FRAME_UNEXPECTED, section(OK) + encode_frame(0x0D, b"\x00")),
        (Http3Code.H3_FRAME_ERROR, section(OK) + b"\x40\x41\x00"),
    ],
)
def test_frames_out_of_place_in_answers(code: Http3Code, wire: bytes) -> None:
    """A promise that nobody allowed is H3_ID_ERROR (§7.2.5); a body needs a final head."""
    assert fails(code, wire, is_client=True)


def test_a_tunnel_has_no_trailers() -> None:
    """Behind a 2xx for CONNECT there is nothing but DATA (§4.4); a refusal is an answer like others."""
    assert fails(Http3Code.H3_FRAME_UNEXPECTED, section(OK) + section(TRAILERS), is_client=True, method=b"CONNECT")
    shared = receiving(is_client=True)
    incoming = Incoming(0, shared)
    incoming.method = b"CONNECT"
    incoming.receive([section([(b":status", b"404")]), section(TRAILERS)], is_ended=True)
    assert shared.events[-1] == TrailersReceived(0, TRAILERS)


@pytest.mark.parametrize("wire", [section(GET) + b"\x00", section(GET) + data(b"ab")[:-1], b"\x01\x05a", b"\x40"])
def test_a_stream_that_ends_within_a_frame(wire: bytes) -> None:
    """H3_FRAME_ERROR for the connection (§7.1)."""
    assert fails(Http3Code.H3_FRAME_ERROR, wire, is_ended=True)


def test_a_stream_that_ends_before_its_head() -> None:
    """A request is H3_REQUEST_INCOMPLETE (§4.1); an answer is malformed, also behind one that is not final."""
    assert not fails(Http3Code.H3_REQUEST_INCOMPLETE, UNKNOWN, is_ended=True)
    assert not fails(Http3Code.H3_MESSAGE_ERROR, UNKNOWN, is_ended=True, is_client=True)
    assert not fails(Http3Code.H3_MESSAGE_ERROR, section([(b":status", b"100")]), is_ended=True, is_client=True)
    incoming = Incoming(0, receiving())
    with pytest.raises(Http3Error):
        incoming.receive([], is_ended=True)


@pytest.mark.parametrize(
    "wire",
    [
        section(post(3)),
        section(post(3)) + data(b"ab"),
        section(post(3)) + data(b"ab") + section(TRAILERS),
        section(post(3)) + data(b"ab") + data(b"cd"),
        section(post(0)) + data(b"a"),
        section([*GET, (b"Upper", b"")]),
        section(post()) + section([(b":path", b"/")]),
        section(OK),
    ],
)
def test_malformed_messages(wire: bytes) -> None:
    """A body that is not as long as content-length, and malformed heads and trailers, are H3_MESSAGE_ERROR (§4.1.2)."""
    assert not fails(Http3Code.H3_MESSAGE_ERROR, wire, is_ended=True)


def test_too_much_is_noticed_before_it_comes() -> None:
    """A frame that would pass content-length fails with its first byte."""
    incoming = Incoming(0, receiving())
    with pytest.raises(Http3Error) as caught:
        incoming.receive([section(post(3)), b"\x00\x04"], is_ended=False)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("content-length", 4, 3)


def test_a_fault_does_not_swallow_what_was_before_it() -> None:
    """Head and body that were sound are told."""
    shared = receiving()
    with pytest.raises(Http3Error):
        Incoming(0, shared).receive([section(post(3)), data(b"ab"), data(b"cd")], is_ended=True)
    assert merged(shared.events) == [("HeadReceived", 0, tuple(post(3))), ("BodyReceived", 0, b"ab")]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")])
def test_answers_that_never_have_content(method: bytes, status: bytes) -> None:
    """Their content-length says what there would have been; a byte of it is malformed (§4.1.2)."""
    head: RawHeaders = [(b":status", status), (b"content-length", b"5")]
    shared = receiving(is_client=True)
    incoming = Incoming(0, shared)
    incoming.method = method
    incoming.receive([section(head)], is_ended=True)
    assert list(shared.events) == [HeadReceived(0, head, is_ended=True)]
    assert not fails(Http3Code.H3_MESSAGE_ERROR, section(head) + data(b"12345"), is_client=True, method=method)


def test_a_tunnel_has_no_length() -> None:
    """What it carries is no content, whatever its head says (RFC 9110 §9.3.6)."""
    shared = receiving(is_client=True)
    incoming = Incoming(0, shared)
    incoming.method = b"CONNECT"
    incoming.receive([section([*OK, (b"content-length", b"1")]), data(b"abc")], is_ended=True)
    assert merged(shared.events)[1:] == [("BodyReceived", 0, b"abc"), ("end", 0)]


LIMITED = Http3Config(max_field_section_bytes=200, max_pending_field_bytes=250, max_idle_frames=3)


def test_a_head_above_the_limit() -> None:
    """It is refused by its length, before it comes; the connection goes on."""
    incoming = Incoming(0, receiving(config=LIMITED))
    with pytest.raises(Http3Error) as caught:
        incoming.receive([b"\x01\x40\xc9"], is_ended=False)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_EXCESSIVE_LOAD, False)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_field_section_bytes", 201, 200)


def test_heads_that_are_begun_and_not_ended() -> None:
    """All of them together have a limit, which ends the connection; those that end or are abandoned give room."""
    shared = receiving(config=LIMITED)
    messages = [Incoming(4 * number, shared) for number in range(4)]
    messages[0].receive([section(GET)[:-1]], is_ended=False)
    assert shared.pending_field_bytes == len(section(GET)) - 3
    messages[0].receive([section(GET)[-1:]], is_ended=False)
    assert shared.pending_field_bytes == 0
    messages[1].receive([b"\x01\x40\x90", bytes(140)], is_ended=False)
    messages[1].abandon()
    assert shared.pending_field_bytes == 0
    messages[2].receive([b"\x01\x40\x90", bytes(140)], is_ended=False)
    with pytest.raises(Http3Error) as caught:
        messages[3].receive([b"\x01\x40\x90", bytes(140)], is_ended=False)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_EXCESSIVE_LOAD, True)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_pending_field_bytes", 280, 250)


@pytest.mark.parametrize("idle", [data(b""), UNKNOWN, encode_frame(0x21, b"")])
def test_frames_that_carry_nothing(idle: bytes) -> None:
    """So many in a row and no more: H3_EXCESSIVE_LOAD for the connection (§10.5); a byte of body begins anew."""
    incoming = Incoming(0, receiving(config=LIMITED))
    incoming.receive([section(post()), idle * 3, data(b"a"), idle * 3], is_ended=False)
    with pytest.raises(Http3Error) as caught:
        incoming.receive([idle], is_ended=False)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_EXCESSIVE_LOAD, True)
    assert caught.value.field == "max_idle_frames"


def test_answers_that_are_never_final() -> None:
    """They carry nothing, either."""
    incoming = Incoming(0, receiving(is_client=True, config=LIMITED))
    with pytest.raises(Http3Error) as caught:
        incoming.receive([section([(b":status", b"103")]) * 4], is_ended=False)
    assert caught.value.field == "max_idle_frames"


def test_skipping_keeps_nothing() -> None:
    """An unknown frame of a terabyte may come; its bytes are dealt with at once."""
    incoming = Incoming(0, receiving())
    assert incoming.receive([b"\x21" + encode_varint(2**40)], is_ended=False) == 9
    assert incoming.receive([bytes(100_000)] * 10, is_ended=False) == 1_000_000


# Fields that wait for QPACK.

INSERT = b"\x3f\xe1\x1f\x41a\x03abc"
"""The table, and an entry `a: abc`"""
NAMES_ENTRY = b"\x02\x00\x80"


def waiting_head(shared: Receiving) -> tuple[bytes, bytes]:
    """What makes an entry of the table, and a request's head that names it."""
    sender = Qpack(Http3Config())
    first = sender.apply_settings({MAX_TABLE_CAPACITY: 4_096, BLOCKED_STREAMS: 16})
    head = [*GET, (b"x-a", b"b" * 50)]
    sender.encode(0, head)
    instructions, encoded = sender.encode(4, head)
    return first + instructions, headers(encoded)


@given(st.lists(st.integers(1, 40), min_size=1), st.integers(0, 5))
def test_what_is_behind_fields_that_wait_waits_too(sizes: list[int], late: int) -> None:
    """Nothing is told, and no credit given, until the table has the entry; then all is as if it had never waited."""
    shared = receiving()
    instructions, head = waiting_head(shared)
    wire = head + data(b"abc") + UNKNOWN + data(b"de")
    incoming = Incoming(4, shared)
    start = turn = done = 0
    while start < len(wire):
        end = start + sizes[turn % len(sizes)]
        done += incoming.receive([wire[start:end]], is_ended=end >= len(wire))
        start, turn = end, turn + 1
        if turn == late and incoming.is_waiting:
            assert shared.qpack.receive_encoder(instructions) == [4]
            done += incoming.resume()
            instructions = b""
    if incoming.is_waiting:
        assert done == len(head)
        assert not shared.events
        assert shared.pending_field_bytes == len(head) - 2
        shared.qpack.receive_encoder(instructions)
        done += incoming.resume()
    elif instructions:
        shared.qpack.receive_encoder(instructions)
    assert merged(shared.events)[1:] == [("BodyReceived", 4, b"abcde"), ("end", 4)]
    assert done == len(wire) - 5
    assert shared.pending_field_bytes == 0


def test_trailers_may_wait_again() -> None:
    """A head and then trailers that each name an entry which is not there yet."""
    shared = receiving()
    instructions, head = waiting_head(shared)
    incoming = Incoming(4, shared)
    rest = data(b"abc") + headers(b"\x06\x00\x80")  # the fifth entry
    assert incoming.receive([head, rest], is_ended=True) == len(head)
    shared.qpack.receive_encoder(instructions)
    assert incoming.resume() == len(rest) - 3
    assert incoming.is_waiting
    assert merged(shared.events)[1:] == [("BodyReceived", 4, b"abc")]
    shared.qpack.receive_encoder(INSERT[3:] * 5)
    assert incoming.resume() == 0
    assert shared.events[-1] == TrailersReceived(4, [(b"a", b"abc")])


def test_a_message_that_is_abandoned_while_it_waits() -> None:
    """The decoder drops its section and the peer is told; the entry wakes nobody."""
    shared = receiving()
    incoming = Incoming(0, shared)
    incoming.receive([headers(NAMES_ENTRY), data(b"abc")], is_ended=False)
    incoming.abandon()
    incoming.abandon()
    assert incoming.is_over
    assert not incoming.is_waiting
    assert shared.qpack.take_feedback() == b"\x40"
    assert shared.qpack.receive_encoder(INSERT) == []
    assert shared.pending_field_bytes == 0


def test_waiting_fields_have_a_limit() -> None:
    """They are counted with the heads that are not whole."""
    shared = receiving(config=Http3Config(max_pending_field_bytes=5))
    Incoming(0, shared).receive([headers(NAMES_ENTRY)], is_ended=False)
    with pytest.raises(Http3Error) as caught:
        Incoming(4, shared).receive([headers(NAMES_ENTRY)], is_ended=False)
    assert caught.value.field == "max_pending_field_bytes"

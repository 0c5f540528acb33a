"""QPACK: tables, waiting sections, and sections that are larger than they look."""

from __future__ import annotations

import pylsqpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.qpack import (
    BLOCKED_STREAMS,
    MAX_TABLE_CAPACITY,
    Qpack,
    _has_more_fields,
    field_section_bytes,
)
from trio_streams.webtransport.protocol.requests import RawHeaders

HEAD: RawHeaders = [(b":method", b"GET"), (b"x-a", b"b" * 50), (b"cookie", b"c" * 30)]
TABLE = {MAX_TABLE_CAPACITY: 4_096, BLOCKED_STREAMS: 16}

SET_CAPACITY = b"\x3f\xe1\x1f"
INSERT = b"\x41a\x03abc"
"""a: abc"""
LARGE = b"\x41a" + b"\x7f\xde\x1e" + b"v" * (0x7F + 0x5E + (0x1E << 7))
"""a, with a value that fills the table"""
NAMES_ENTRY = b"\x02\x00\x80"


def pair() -> tuple[Qpack, Qpack]:
    """A sender that uses the table, and a receiver that knows so."""
    sender, receiver = Qpack(Http3Config()), Qpack(Http3Config())
    assert receiver.receive_encoder(sender.apply_settings(TABLE)) == []
    return sender, receiver


def test_sections_survive_the_round_trip() -> None:
    """The second time a section names the table's entries; the third time it is known that they are there."""
    sender, receiver = pair()
    sizes = []
    for stream_id in (0, 4, 8):
        instructions, section = sender.encode(stream_id, HEAD)
        receiver.receive_encoder(instructions)
        assert receiver.decode(stream_id, section) == HEAD
        sender.receive_decoder(receiver.take_feedback())
        assert receiver.take_feedback() == b""
        sizes.append(len(section))
    assert sizes[2] < 8 < sizes[0]


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from([b"a", b"content-type", b":path"]), st.sampled_from([b"", b"x" * 99, b"\xff"])),
            max_size=9,
        ),
        max_size=6,
    ),
    st.data(),
)
def test_any_order_of_arrival(heads: list[RawHeaders], data: st.DataObject) -> None:
    """Whether a section or the table's entries come first, the fields are the same."""
    sender, receiver = pair()
    for number, head in enumerate(heads):
        instructions, section = sender.encode(4 * number, head)
        if data.draw(st.booleans()):
            receiver.receive_encoder(instructions)
            instructions = b""
        fields = receiver.decode(4 * number, section)
        resumed = receiver.receive_encoder(instructions)
        if fields is None:
            assert resumed == [4 * number]
            fields = receiver.resume(4 * number)
        assert fields == head
        sender.receive_decoder(receiver.take_feedback())


@pytest.mark.parametrize("limits", [{"qpack_sent_table_bytes": 0}, {"qpack_sent_blocked_streams": 0}])
def test_our_own_limits_hold_too(limits: dict[str, int]) -> None:
    """The peer may allow a table and waiting streams; what we say is not used is not."""
    sender = Qpack(Http3Config(**limits))
    sender.apply_settings(TABLE)
    sections = [sender.encode(4 * number, HEAD)[1] for number in range(3)]
    assert all(section.startswith(b"\x00\x00") for section in sections)


def test_without_settings_there_is_no_table() -> None:
    """A peer that says nothing allows none (RFC 9204 §5)."""
    sender = Qpack(Http3Config())
    assert sender.apply_settings({}) == b""
    assert [sender.encode(4 * number, HEAD)[0] for number in range(3)] == [b"", b"", b""]


def test_an_encoder_stream_without_room_is_left_alone() -> None:
    """Where an instruction might be cut there is none, and the section is right all the same (RFC 9204 §2.1.3)."""
    sender, receiver = pair()
    for stream_id in (0, 4, 8):
        instructions, section = sender.encode(stream_id, HEAD, uses_table=False)
        assert instructions == b""
        assert receiver.decode(stream_id, section) == HEAD


def test_an_empty_section() -> None:
    """Trailers may have no field."""
    sender, receiver = pair()
    assert sender.encode(0, []) == (b"", b"\x00\x00")
    assert receiver.decode(0, b"\x00\x00") == []


def test_what_cannot_be_encoded() -> None:
    """A name that the encoder does not take is our own error."""
    with pytest.raises(LocalProtocolError, match="name"):
        Qpack(Http3Config()).encode(0, [(b"a" * 70_000, b"")])


def test_a_cancelled_stream_waits_no_longer() -> None:
    """A section that waited is dropped, the peer is told, and the entry wakes only the others."""
    receiver = Qpack(Http3Config())
    assert receiver.decode(0, NAMES_ENTRY) is None
    assert receiver.decode(4, NAMES_ENTRY) is None
    receiver.cancel(0)
    assert receiver.take_feedback() == b"\x40"
    assert receiver.receive_encoder(SET_CAPACITY + INSERT) == [4]
    assert receiver.resume(4) == [(b"a", b"abc")]
    assert receiver.take_feedback() == b"\x84"


def test_without_a_table_nobody_is_told_of_cancelled_streams() -> None:
    """There is nothing that the peer could keep for them (RFC 9204 §2.2.2.2)."""
    receiver = Qpack(Http3Config(qpack_table_bytes=0))
    receiver.cancel(0)
    assert receiver.take_feedback() == b""


def refused(receiver: Qpack, section: bytes) -> tuple[Http3Code, bool]:
    with pytest.raises(Http3Error) as caught:
        receiver.decode(0, section)
    return caught.value.http3_code, caught.value.ends_connection


@pytest.mark.parametrize("section", [b"", b"\x00", b"\x00\x00\x50", b"\x00\x00\xff\x24", b"\x00\x00\x20\x01x"])
def test_sections_that_make_no_sense(section: bytes) -> None:
    """A cut section, an entry that the static table has not and an empty name are QPACK_DECOMPRESSION_FAILED (§2.2.3)."""
    assert refused(Qpack(Http3Config()), section) == (Http3Code.QPACK_DECOMPRESSION_FAILED, True)


@pytest.mark.parametrize(
    "config", [Http3Config(qpack_blocked_streams=1), Http3Config(qpack_blocked_streams=1, qpack_table_bytes=64)]
)
def test_more_waiting_streams_than_allowed(config: Http3Config) -> None:
    """One stream more that waits is QPACK_DECOMPRESSION_FAILED (RFC 9204 §2.1.2)."""
    receiver = Qpack(config)
    assert receiver.decode(4, NAMES_ENTRY) is None
    assert refused(receiver, NAMES_ENTRY) == (Http3Code.QPACK_DECOMPRESSION_FAILED, True)


def test_a_waiting_section_that_makes_no_sense() -> None:
    """It names an entry that will never be."""
    receiver = Qpack(Http3Config())
    assert receiver.decode(0, b"\x02\x00\x81") is None
    assert receiver.receive_encoder(SET_CAPACITY + INSERT) == [0]
    with pytest.raises(Http3Error) as caught:
        receiver.resume(0)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.QPACK_DECOMPRESSION_FAILED, True)


@pytest.mark.parametrize("data", [b"\x3f\xe1\xff\x7f", b"\x80\x00", b"\x1f", b"\x5f\xff\xff\xff\xff\x0f"])
def test_an_encoder_stream_that_makes_no_sense(data: bytes) -> None:
    """A table above the limit, entries that are not there, and names of gigabytes are QPACK_ENCODER_STREAM_ERROR (§4.1.3)."""
    receiver = Qpack(Http3Config(qpack_table_bytes=64))
    with pytest.raises(Http3Error) as caught:
        receiver.receive_encoder(data)
        receiver.receive_encoder(bytes(100))
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.QPACK_ENCODER_STREAM_ERROR, True)


@pytest.mark.parametrize("data", [b"\x80", b"\x01", b"\x00"])
def test_a_decoder_stream_that_makes_no_sense(data: bytes) -> None:
    """An acknowledgement of what was not sent is QPACK_DECODER_STREAM_ERROR (§4.4)."""
    sender, _ = pair()
    with pytest.raises(Http3Error) as caught:
        sender.receive_decoder(data)
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.QPACK_DECODER_STREAM_ERROR, True)


def test_fields_count_32_bytes_more_than_they_have() -> None:
    """RFC 9114 §4.2.2."""
    assert field_section_bytes([(b"ab", b"c"), (b"d", b"")]) == 35 + 33


def test_a_section_may_be_as_large_as_the_limit() -> None:
    """The limit is reached; one byte more is the stream's end, and not the connection's."""
    head: RawHeaders = [(b"a", b"v" * 100)]
    _, section = Qpack(Http3Config()).encode(0, head, uses_table=False)
    assert Qpack(Http3Config(max_field_section_bytes=133)).decode(0, section) == head
    assert refused(Qpack(Http3Config(max_field_section_bytes=132)), section) == (Http3Code.H3_EXCESSIVE_LOAD, False)


def test_a_section_that_waited_has_the_same_limit() -> None:
    """It does not get around it."""
    receiver = Qpack(Http3Config(max_field_section_bytes=35))
    assert receiver.decode(0, NAMES_ENTRY) is None
    receiver.receive_encoder(SET_CAPACITY + INSERT)
    with pytest.raises(Http3Error) as caught:
        receiver.resume(0)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_field_section_bytes", 36, 35)


def test_a_bomb_is_not_decoded() -> None:
    """Sixty thousand bytes that each name an entry of four thousand bytes are refused by their number, with nothing made."""
    config = Http3Config()
    receiver = Qpack(config)
    receiver.receive_encoder(SET_CAPACITY + LARGE)
    lines = config.max_field_section_bytes // 32
    assert refused(receiver, b"\x02\x00" + b"\x80" * (lines + 1)) == (Http3Code.H3_EXCESSIVE_LOAD, False)
    assert receiver.take_feedback() == b""  # an acknowledgement would say that it was decoded
    assert refused(receiver, b"\x02\x00" + b"\x80" * lines) == (Http3Code.H3_EXCESSIVE_LOAD, False)
    assert receiver.take_feedback() != b""


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"x-" + b"n" * 40, b":path", b"content-type", b"cookie"]),
        st.sampled_from([b"", b"/", b"v" * 20, b"w" * 300, b"text/html"]),
    ),
    min_size=1,
    max_size=40,
)


@given(FIELDS, FIELDS)
def test_lines_are_counted_as_the_decoder_counts_them(first: RawHeaders, second: RawHeaders) -> None:
    """With static entries, dynamic ones, those behind the base, names and literals, in both codings."""
    encoder = pylsqpack.Encoder()
    encoder.apply_settings(4_096, 16)
    for stream_id, head in enumerate([first, second, first, second]):
        _, section = encoder.encode(stream_id, head)
        assert _has_more_fields(section, len(head) - 1)
        assert not _has_more_fields(section, len(head))


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (b"\x10", 1),  # an entry behind the base
        (b"\x1f\x80\x01", 1),
        (b"\x00\x01v", 1),  # a name behind the base
        (b"\x07\x00\x01v", 1),
        (b"\x21a\x01v", 1),
        (b"\x27\x00abcdefg\x00", 1),
        (b"\xff\xff\xff\x03", 1),
    ],
)
def test_lines_of_each_kind(line: bytes, count: int) -> None:
    """Every representation of RFC 9204 §4.5 counts as one."""
    assert _has_more_fields(b"\x00\x00" + line * 3, 2 * count)
    assert not _has_more_fields(b"\x00\x00" + line * 3, 3 * count)


@pytest.mark.parametrize("section", [b"", b"\x00", b"\xff", b"\x00\x00\x7f", b"\x00\x00\xff" + b"\xff" * 40_000])
def test_what_is_cut_has_no_more_lines(section: bytes) -> None:
    """A cut number, or one without end, is for the decoder to refuse."""
    assert not _has_more_fields(section, 5)
    assert refused(Qpack(Http3Config()), section) == (Http3Code.QPACK_DECOMPRESSION_FAILED, True)


def test_an_absent_peer_costs_nothing() -> None:
    """A peer that acknowledges no section lets the encoder fall back to literals, and not keep all of them."""
    sender, receiver = pair()
    instructions, section = sender.encode(0, HEAD)
    instructions, section = sender.encode(4, HEAD)
    assert instructions != b""
    sender.receive_decoder(b"\x01")  # the entries are there
    for number in range(2, 5_000):
        instructions, section = sender.encode(4 * number, HEAD)
    assert instructions == b""
    assert section.startswith(b"\x00\x00")
    assert receiver.decode(0, section) == HEAD

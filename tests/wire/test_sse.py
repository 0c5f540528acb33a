"""The event stream format, against vectors written from the standard and a reference parser written from its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.wire import sse
from trio_streams.wire.sse import Event, SseParser


def parse(*chunks: bytes) -> list[Event]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.receive(chunk)]


def reference(stream: bytes) -> list[Event]:
    """The standard's algorithm, word by word, on the whole text at once."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    events: list[Event] = []
    data, event_type, last_id = b"", b"", b""
    for line in lines[:-1]:  # "Once the end of the file is reached, any pending data must be discarded."
        if not line:
            if data:
                events.append(Event(data[:-1], event_type.decode("utf-8", "replace") or "message", last_id.decode()))
            data, event_type = b"", b""
        elif line[:1] != b":":
            field, _, value = line.partition(b":")
            value = value[1:] if value[:1] == b" " else value
            if field == b"event":
                event_type = value
            elif field == b"data":
                data += value + b"\n"
            elif field == b"id" and b"\0" not in value:
                last_id = value
    return events


VECTORS: list[tuple[bytes, list[Event]]] = [
    # The examples of §9.2.6.
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event(b"YHOO\n+2\n10")]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [Event(b"first event", id="1"), Event(b"second event"), Event(b" third event")],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [Event(b""), Event(b"\n")]),
    (b"data:test\n\ndata: test\n\n", [Event(b"test"), Event(b"test")]),
    # Its sentences, one by one.
    (b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [Event(b"b")]),
    (b"\xef\xbbdata: a\n\ndata: b\n\n", [Event(b"b")]),
    (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [Event(b"a"), Event(b"b"), Event(b"c")]),
    (b"data: a\r\n\rdata: b\n\r\n", [Event(b"a"), Event(b"b")]),
    (b"event: x\n\ndata: a\n\n", [Event(b"a")]),
    (b"event: x\nevent: y\ndata: a\n\ndata: b\n\n", [Event(b"a", "y"), Event(b"b")]),
    (b"event:\ndata: a\n\n", [Event(b"a")]),
    (b"id: 7\n\ndata: a\n\n", [Event(b"a", id="7")]),
    (
        b"id: 7\ndata: a\n\nid: x\0y\ndata: b\n\nid\ndata: c\n\n",
        [Event(b"a", id="7"), Event(b"b", id="7"), Event(b"c")],
    ),
    (b"Data: a\n data: b\ndatax: c\nunknown\ndata : d\n\n", []),
    (b"data: a: b\n\n", [Event(b"a: b")]),
    (b"data: a\0b\n\n", [Event(b"a\0b")]),
    (b":data: a\n\n:\n\n", []),
    (b"\n\n\ndata: a\n\n\n\n", [Event(b"a")]),
    (b"data: a\n\ndata: lost\n", [Event(b"a")]),
    (b"data: a\n\ndata: lost", [Event(b"a")]),
    (b"data: a\n\nevent: x\ndata: b\n\ndata: c\n\n", [Event(b"a"), Event(b"b", "x"), Event(b"c")]),
    (b"event: \xff\ndata: a\n\n", [Event(b"a", "\ufffd")]),
]


@pytest.mark.parametrize(("stream", "expected"), VECTORS)
def test_vectors_at_every_split_point(stream: bytes, expected: list[Event]) -> None:
    """The standard's own examples and sentences hold whole, byte by byte and cut at every point."""
    assert reference(stream) == expected
    assert parse(stream) == expected
    assert parse(*(bytes([byte]) for byte in stream)) == expected
    for cut in range(len(stream) + 1):
        assert parse(stream[:cut], stream[cut:]) == expected
        assert parse(stream[:cut], b"", stream[cut:]) == expected


@given(
    st.lists(
        st.sampled_from(
            [
                b"data",
                b"event",
                b"id",
                b"retry",
                b":",
                b": ",
                b" ",
                b"\n",
                b"\r",
                b"\n\n",
                b"a",
                b"\0",
                b"9",
                b"data: x\n\n",
            ]
        )
    ),
    st.booleans(),
    st.lists(st.integers(0, 200)),
)
def test_any_stream_under_any_chunking_is_read_as_the_standard_says(
    tokens: list[bytes], has_bom: bool, cuts: list[int]
) -> None:
    """Every way of cutting every stream gives what the standard's algorithm gives for the whole."""
    stream = (b"\xef\xbb\xbf" if has_bom else b"") + b"".join(tokens)
    assert parse(*chunked(stream, cuts)) == reference(stream)


def chunked(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    points = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(points)]


PAYLOADS = st.binary(max_size=40).map(lambda data: data.replace(b"\r", b""))


@given(
    st.lists(PAYLOADS, max_size=20), st.none() | st.sampled_from(["data", "end", "x y"]), st.lists(st.integers(0, 900))
)
def test_a_run_survives_encoding_and_any_chunking(items: list[bytes], event: str | None, cuts: list[int]) -> None:
    """parse(encode(items)) gives the same items, in order, with their type."""
    encoded = sse.encode_events(items, event=event)
    assert parse(*chunked(encoded, cuts)) == [Event(item, event or "message") for item in items]
    assert encoded == b"".join(sse.encode_event(item, event=event) for item in items)


@given(PAYLOADS, st.text("abc é\u2028", max_size=5), st.text("123 é", max_size=5))
def test_one_event_survives_with_its_type_and_id(data: bytes, event: str, event_id: str) -> None:
    """parse(encode(data, event, id)) gives all three back."""
    assert parse(sse.encode_event(data, event=event, id=event_id)) == [Event(data, event or "message", event_id)]


def test_line_ends_in_a_payload_become_data_lines() -> None:
    """The format knows one line end: CR and CRLF in a payload arrive as LF."""
    encoded = sse.encode_event(b"a\r\nb\rc\n")
    assert encoded == b"data: a\ndata: b\ndata: c\ndata: \n\n"
    assert parse(sse.encode_events([b"a\rb", b"c"])) == [Event(b"a\nb"), Event(b"c")]
    assert sse.encode_events([]) == b""


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\ndata: forged"])
def test_a_line_end_in_a_field_is_refused(value: str) -> None:
    """An event's type, id or comment can't smuggle another field in."""
    calls: list[Callable[[], bytes]] = [
        lambda: sse.encode_event(b"", event=value),
        lambda: sse.encode_event(b"", id=value),
        lambda: sse.encode_events([b""], event=value),
        lambda: sse.encode_comment(value),
    ]
    for call in calls:
        with pytest.raises(LocalProtocolError, match="line end") as info:
            call()
        assert info.value.code is Code.INVALID_ARGUMENT
    with pytest.raises(LocalProtocolError, match="NUL") as info:
        sse.encode_event(b"", id="a\0")
    assert info.value.field == "id"


def test_an_id_alone_is_no_event() -> None:
    """It is what a client brings that is lost before the next event; items without an id keep it."""
    parser = SseParser()
    assert parser.receive(sse.encode_id("a@0.0")) == []
    assert parser.last_event_id == "a@0.0"
    assert parser.receive(b"data: x\n\n") == [Event(b"x", "message", "a@0.0")]
    assert reference(sse.encode_id("b") + b"data: x\n\n") == [Event(b"x", "message", "b")]
    for forged in ("a\nb", "a\rb", "a\0"):
        with pytest.raises(LocalProtocolError, match="id"):
            sse.encode_id(forged)


def test_comments_and_retry_are_no_events() -> None:
    """A heartbeat is skipped, and the reconnection time is kept for who reconnects."""
    parser = SseParser()
    assert parser.receive(sse.encode_comment("still here") + sse.encode_comment() + sse.encode_retry(1500)) == []
    assert parser.retry_ms == 1500
    for ignored in (
        b"retry: -1\n",
        b"retry: 1.5\n",
        b"retry:\n",
        b"retry: \xd9\xa3\n",
        b"retry: " + b"9" * 5000 + b"\n",
    ):
        assert parser.receive(ignored) == []
        assert parser.retry_ms == 1500
    parser.receive(b"retry: 0000000000000000000\n")
    assert parser.retry_ms == 0
    for refused in (-1, 10**15):
        with pytest.raises(LocalProtocolError, match="retry"):
            sse.encode_retry(refused)


def test_the_last_event_id_is_set_by_the_empty_line_and_kept() -> None:
    """An id counts once its event is complete, also one without data, and until another replaces it."""
    parser = SseParser()
    parser.receive(b"id: 1\ndata: a\n\nid: 2\n")
    assert parser.last_event_id == "1"
    parser.receive(b"\n")
    assert parser.last_event_id == "2"
    assert parser.receive(b"data: b\n\ndata: c\n\n") == [Event(b"b", id="2"), Event(b"c", id="2")]


@pytest.mark.parametrize(
    "stream",
    [
        b"id: 1\ndata: a\n\nid: \ndata:  b\n\nid: \xff\ndata: \n\n",
        b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
        b"id: 1\ndata: a\n\nxid: 2\ndata: b\n\n",
        b"id: 1\ndata: a\n\nid: 2\n\nid: 3\ndata: c\n\n",
        b"id: 1\ndata: a\n\nid: 2\ndata: b\ndata: c\n\n",
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\nid: 3\ndata: d",
    ],
)
def test_runs_with_ids_are_read_as_lines_are(stream: bytes) -> None:
    """The fast way for runs with ids gives what the bytes one by one give, or leaves them alone."""
    whole, single = SseParser(), SseParser()
    assert whole.receive(stream) == [event for byte in stream for event in single.receive(bytes([byte]))]
    assert whole.last_event_id == single.last_event_id


def test_a_parser_can_go_on_behind_an_id() -> None:
    """Events before the first id of a resumed stream have the one that it was resumed with."""
    parser = SseParser(last_event_id="7")
    assert parser.receive(b"data: a\n\n:\nid: 8\ndata: b\n\n") == [Event(b"a", id="7"), Event(b"b", id="8")]
    assert parser.last_event_id == "8"


def test_text_replaces_what_is_not_utf8() -> None:
    """Payloads stay bytes; their text is what a browser would show."""
    (event,) = parse(b"data: caf\xc3\xa9 \xff\n\n")
    assert event.data == b"caf\xc3\xa9 \xff"
    assert event.text == "café \ufffd"


@pytest.mark.parametrize(
    ("stream", "delivered", "fails"),
    [
        (b"data: 1234567890\n\n", 1, False),
        (b"data: 12345678901\n\n", 0, True),
        (b"data: 1\n\ndata: 12345678901\n\ndata: 2\n\n", 1, True),
        (b"data: 1\n\ndata: 123456\ndata: 123\n\n", 2, False),
        (b"data: 1\n\ndata: 123456\ndata: 1234\n\n", 1, True),
        (b"data: 1\n\n: comments have no end", 1, True),
        (b"data: 1\n\n" + b"\n: short\n" * 20 + b"data: 2\n\n", 2, False),
        (b"data: 1\n\ndata: 2\n\ndata: 3\n\nevent: a name that is too long\n\n", 3, True),
    ],
)
def test_an_event_past_the_limit_fails_after_the_events_before_it(stream: bytes, delivered: int, fails: bool) -> None:
    """Nothing larger than the limit is held; the events before it are delivered, and the error names it."""
    for chunks in ([stream], [bytes([byte]) for byte in stream], [stream[:9], stream[9:]]):
        parser = SseParser(max_event_bytes=10)
        events: list[Event] = []
        error: RemoteProtocolError | None = None
        for chunk in [*chunks, b"", b""]:
            try:
                events += parser.receive(chunk)
            except RemoteProtocolError as exc:
                error = exc
        assert len(events) == delivered
        assert (error is not None) == fails
        if error is not None:
            assert (error.code, error.field, error.limit) == (Code.MESSAGE_TOO_LARGE, "event", 10)
            assert error.size is not None
            assert error.size > 10


def test_a_limit_must_be_positive() -> None:
    """A wrong limit fails where it is written."""
    with pytest.raises(ValueError, match="max_event_bytes"):
        SseParser(max_event_bytes=0)


@pytest.mark.parametrize(
    "unit", [b"x", b"data: x\n", b"\n", b"\r", b":\n", b"data: x\n\n", b"\r\n", b"id: 1\ndata: x\n\n"]
)
def test_parsing_is_linear(unit: bytes) -> None:
    """Eight times the input, fed in small pieces, costs about eight times the time: no byte is scanned again."""

    def seconds(size: int) -> float:
        stream = unit * (size // len(unit))
        best = float("inf")
        for _ in range(5):
            parser = SseParser()
            start = process_time()
            for at in range(0, len(stream), 64):
                parser.receive(stream[at : at + 64])
            best = min(best, process_time() - start)
        return best

    # Quadratic work would give 64; the allowance is for a shared processor, whose caches others use, too.
    assert seconds(160_000) / seconds(20_000) < 32

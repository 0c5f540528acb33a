"""JSON bodies cut into messages that keep their bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.durable.protocol.json_messages import MAX_DEPTH, join_messages, message_ends, split_body, to_array
from trio_streams.durable.protocol.refusals import Refused

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé"\\[]{}'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("k]}", max_size=3), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b'{"a": 1.10, "a" :12345678901234567890}', [b'{"a": 1.10, "a" :12345678901234567890}']),
        (b' [ 1.10 ,{"k":"w", "k":2}\n, "[" ] \r\n', [b"1.10", b'{"k":"w", "k":2}', b'"["']),
        (b"[[1,2], [3,4]]", [b"[1,2]", b"[3,4]"]),
        (b"[[[1,2,3]]]", [b"[[1,2,3]]"]),
        (b"[]", []),
        (b" 1e999 ", [b"1e999"]),
        ('"é"'.encode(), ['"é"'.encode()]),
    ],
)
def test_bytes_are_preserved(body: bytes, messages: list[bytes]) -> None:
    """One level is flattened, and every message is the very bytes that were sent."""
    assert split_body(body) == messages


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"{", "not JSON"),
        (b"[1] 2", "not JSON"),
        (b"NaN", "not JSON"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'[{"\xc3":1}]', "not UTF-8 at byte 3"),
        (b"[" * 100_000 + b"]" * 100_000, f"deeper than {MAX_DEPTH}"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
    ],
)
def test_what_is_not_json_is_refused(body: bytes, words: str) -> None:
    """Malformed text, bytes that are no UTF-8 and nesting without bounds are refused, and the message says why."""
    with pytest.raises(Refused, match=words) as caught:
        split_body(body)
    assert caught.value.status == 400
    assert caught.value.details is not None
    assert caught.value.details["field"] == "body"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b"[" * (MAX_DEPTH - 1) + b"[],[]" + b"]" * (MAX_DEPTH - 1),
        b"[" + b'{"a":[]},' * 1000 + b"{}]",
        b'["' + b"[" * 1000 + rb"\"{" + b'"]',
    ],
)
def test_depth_is_not_breadth(body: bytes) -> None:
    """Nesting is bounded, and neither how much there is of it nor brackets within strings count."""
    assert join_messages(split_body(body)) == body.strip()[1:-1] + b","


@given(st.lists(JSON))
def test_a_batch_comes_back_whole(values: list[object]) -> None:
    """What is split and joined is the same array, and the ends of messages are found in it."""
    messages = split_body(json.dumps(values).encode())
    entry = join_messages(messages)
    assert json.loads(to_array([entry] if entry else [])) == values
    if entry:
        ends = message_ends(entry)
        assert [entry[a:b] for a, b in zip([0, *ends], ends, strict=False)] == [message + b"," for message in messages]

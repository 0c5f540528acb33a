"""Messages of ts-signal-rpc: text to record and back, and what is refused."""

from __future__ import annotations

import contextlib
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core import records
from trio_streams.wire.signal import (
    Category,
    RpcMessage,
    SignalFault,
    StreamMessage,
    StreamMessageType,
    decode,
    decode_data,
    encode,
    encode_data,
    quote,
)

CAPTURED = [
    b'{"category":"welcome","clientId":"6aa1bdc7","sessionId":"79da53bf","restoredSession":false}',
    b'{"category":"request","from":"b956a3d0","fromName":"A","requestId":"4a5f2128","data":{"method":"go"}}',
    b'{"type":"StreamData","streamId":"sid-1","payload":1}',
    b'{"type":"StreamData","streamId":"sid-1","payload":{"x":2}}',
    b'{"type":"StreamEnd","streamId":"sid-1"}',
    b'{"type":"StreamError","streamId":"sid-2","error":"Something went wrong"}',
]


@pytest.mark.parametrize("text", CAPTURED)
def test_what_the_original_sends_comes_back_byte_for_byte(text: bytes) -> None:
    """The captured messages survive a round trip, in bytes and as a string."""
    assert encode(decode(text)) == text
    assert decode(text.decode()) == decode(text)


def test_fields_are_the_originals() -> None:
    """Each field is where its name on the wire says."""
    text = (
        b'{"category":"response","requestId":"r","from":"a","fromName":"A","to":"b","toName":"B","data":[1],'
        b'"unknown":true}'
    )
    assert decode(text) == RpcMessage(
        category=Category.RESPONSE,
        request_id="r",
        sender="a",
        sender_name="A",
        to="b",
        to_name="B",
        data=b"[1]",
    )
    assert decode(b'{"category":"ping","timestamp":1.5}') == RpcMessage(category=Category.PING, timestamp=1.5)
    assert decode(b'{"category":"error","error":"no","details":{"a":1}}') == RpcMessage(
        category=Category.ERROR, error="no", details={"a": 1}
    )


def test_stream_messages_are_recognised_first() -> None:
    """What has a type and a streamId is a stream's, whatever else it says."""
    found = decode(b'{"category":"request","requestId":"r","type":"StreamEnd","streamId":"s","to":"p"}')
    assert found == StreamMessage(StreamMessageType.STREAM_END, "s", to="p")
    assert decode(b'{"type":"StreamData","streamId":"s"}') == StreamMessage(
        StreamMessageType.STREAM_DATA, "s", payload=b"null"
    )


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"[]", "message"),
        (b'{"category":1}', "category"),
        (b'{"type":1,"streamId":"a"}', "type"),
        (b"{}", "category"),
        (b'{"type":"StreamData"}', "category"),
        (b'{"category":"stream"}', "category"),
        (b'{"category":"request"}', "requestId"),
        (b'{"category":"response"}', "requestId"),
        (b'{"category":"welcome"}', "clientId"),
        (b'{"category":"ping"}', "timestamp"),
        (b'{"category":"pong"}', "timestamp"),
        (b'{"type":"StreamStop","streamId":"a"}', "type"),
        (b'{"type":"StreamError","streamId":"a"}', "error"),
        (b'{"type":"StreamError","streamId":"a","error":{"message":"m"}}', "error"),
        (b'{"type":"StreamError","streamId":"a","error":7}', "error"),
    ],
)
def test_what_is_no_message_is_refused_by_its_field(text: bytes, field: str) -> None:
    """A message that lacks what its kind has is refused, and the field is named."""
    with pytest.raises(SignalFault) as caught:
        decode(text)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.details == {"field": field}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"nonsense", "malformed"),
        (b'{"category":"caf\xff"}', "UTF-8 at byte 16"),
        (b'{"data":' + b"[" * 100_000, "too deeply"),
    ],
)
def test_what_is_no_json_is_refused(text: bytes, words: str) -> None:
    """Text that is no JSON is refused with what is wrong with it."""
    with pytest.raises(SignalFault, match=words):
        decode(text)


def test_a_response_may_say_that_the_handler_failed() -> None:
    """The error beside a response's data is a status, whatever form it has."""
    failed = RpcMessage(
        category=Category.RESPONSE, request_id="r", status=records.Status("NOT_FOUND", "no such thing", {"id": 7})
    )
    text = encode(failed)
    assert json.loads(text) == {
        "category": "response",
        "requestId": "r",
        "data": None,
        "error": {"code": "NOT_FOUND", "message": "no such thing", "details": {"id": 7}},
    }
    assert decode(text) == attrs.evolve(failed, data=b"null")
    plain = RpcMessage(category=Category.RESPONSE, request_id="r", status=records.Status("ABORTED", "x"))
    assert json.loads(encode(plain))["error"] == {"code": "ABORTED", "message": "x"}

    def status(error: bytes) -> records.Status:
        found = decode(b'{"category":"response","requestId":"r","error":' + error + b"}")
        assert isinstance(found, RpcMessage)
        return found.status

    assert status(b'"words"') == records.Status("UNKNOWN", "words")
    assert status(b'{"code":"OK","message":"m"}') == records.Status("UNKNOWN", "m")
    assert status(b"7") == records.Status("UNKNOWN", "the peer's error cannot be read")
    assert status(b"null") == records.OK


def test_an_error_of_nobody_has_words() -> None:
    """The words of an error message are read in each form, and may be missing."""
    assert decode(b'{"category":"error"}') == RpcMessage(category=Category.ERROR, error="")
    assert decode(b'{"category":"error","error":{"message":"m"}}') == RpcMessage(category=Category.ERROR, error="m")


def test_items_are_put_into_messages_as_they_are() -> None:
    """A run of items becomes one message each, with no item decoded; nothing stands for null."""
    messages = encode_data(quote('a"b'), [b"1", b"", b'{"x":2}'])
    assert [decode(one) for one in messages] == [
        StreamMessage(StreamMessageType.STREAM_DATA, 'a"b', payload=b"1"),
        StreamMessage(StreamMessageType.STREAM_DATA, 'a"b', payload=b"null"),
        StreamMessage(StreamMessageType.STREAM_DATA, 'a"b', payload=b'{"x":2}'),
    ]
    assert messages[0] == encode(decode(messages[0]))
    assert (
        encode(StreamMessage(StreamMessageType.STREAM_DATA, "s"))
        == b'{"type":"StreamData","streamId":"s","payload":null}'
    )


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
MAYBE = st.none() | TEXTS


@given(
    message=st.builds(
        RpcMessage,
        category=st.just(Category.REQUEST),
        request_id=TEXTS,
        data=st.integers().map(lambda n: str(n).encode()),
        sender=MAYBE,
        sender_name=MAYBE,
        to=MAYBE,
        to_name=MAYBE,
    )
    | st.builds(StreamMessage, st.just(StreamMessageType.STREAM_ERROR), TEXTS, error=TEXTS, to=MAYBE)
)
def test_every_message_survives_its_json(message: RpcMessage | StreamMessage) -> None:
    """Whatever texts the fields hold, decoding gives the same message."""
    assert decode(encode(message)) == message


@given(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Any input is a message or a fault."""
    with contextlib.suppress(SignalFault):
        assert decode(encode(decode(data))) == decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
ITEMS = st.fixed_dictionaries(
    {"type": st.just("StreamData") | st.just("StreamEnd")},
    optional={"streamId": TEXTS | st.integers(), "payload": JSON, "to": MAYBE | st.integers(), "other": JSON},
)


@given(item=ITEMS, is_ascii=st.booleans(), cut=st.none() | st.integers(0, 40))
def test_the_short_way_to_an_item_agrees_with_the_long_one(
    item: dict[str, object], is_ascii: bool, cut: int | None
) -> None:
    """What it takes is the same message; what it leaves, such as other types and broken text, the long way judges."""
    text = json.dumps(item, separators=(",", ":"), ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")[:cut]
    found = decode_data(text)
    if found is not None:
        assert found.message() == decode(text)


def test_the_short_way_takes_what_the_original_sends() -> None:
    """An item as the original writes it; not ends, nor text that has to be looked at for its UTF-8."""
    found = decode_data(CAPTURED[3])
    assert found is not None
    assert found.message() == StreamMessage(StreamMessageType.STREAM_DATA, "sid-1", b'{"x":2}')
    missing = decode_data(b'{"type":"StreamData","streamId":"s"}')
    assert missing is not None
    assert missing.message().payload == b"null"
    for other in (
        *CAPTURED[:2],
        *CAPTURED[4:],
        b'{"type":"StreamData","streamId":"\xc3\xa9"}',
        b'{"type":"StreamData",',
    ):
        assert decode_data(other) is None

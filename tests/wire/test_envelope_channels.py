"""Channels' messages, as Raffel's clients send and hear them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trio_streams.core.records import Status
from trio_streams.wire.envelope_channels import (
    ChannelMessage,
    ChannelType,
    Publish,
    Subscribe,
    Unsubscribe,
    channel_type,
    encode_channel_error,
    encode_channel_event,
    encode_subscribed,
    encode_unsubscribed,
    parse_channel_message,
    unroutable,
)
from trio_streams.wire.envelope_records import Envelope, EnvelopeFault, parse


def read(**envelope: Any) -> ChannelMessage:
    return parse_channel_message(parse(json.dumps(envelope).encode()), max_name_bytes=10)


def test_messages_are_records() -> None:
    """The envelopes of a capture."""
    assert read(id="1", type="subscribe", channel="room") == Subscribe("1", "room")
    assert read(id=3, type="unsubscribe", channel="room") == Unsubscribe("3", "room")
    published = read(id="2", type="publish", channel="room", event="m", data={"a": 1})
    assert published == Publish("2", "room", "m", b'{"a": 1}')
    assert read(type="publish", channel="room") == Publish("", "room", "", b"null")


@pytest.mark.parametrize(
    ("envelope", "code", "details"),
    [
        ({"type": "subscribe"}, "INVALID_ENVELOPE", {"field": "channel"}),
        (
            {"type": "subscribe", "channel": "x" * 11},
            "MESSAGE_TOO_LARGE",
            {"field": "channel", "size": 11, "limit": 10},
        ),
        (
            {"type": "publish", "channel": "x", "event": "ü" * 6},
            "MESSAGE_TOO_LARGE",
            {"field": "event", "size": 12, "limit": 10},
        ),
    ],
)
def test_what_names_nothing_or_too_much_is_refused(
    envelope: dict[str, Any], code: str, details: dict[str, object]
) -> None:
    """With the field and its limit, and the id."""
    with pytest.raises(EnvelopeFault) as info:
        read(id="i", **envelope)
    assert (info.value.code, info.value.id, info.value.details) == (code, "i", details)


def test_prefixes_say_who_may_listen() -> None:
    """As the original has them."""
    kinds = [channel_type(name) for name in ("room", "private-x", "presence-x", "privateer")]
    assert kinds == [ChannelType.PUBLIC, ChannelType.PRIVATE, ChannelType.PRESENCE, ChannelType.PUBLIC]


def test_answers_are_the_originals() -> None:
    """Letter by letter, where a capture has them."""
    assert encode_subscribed("1", "room") == b'{"id":"1","type":"subscribed","channel":"room"}'
    assert json.loads(encode_subscribed("1", "presence-x", [{"id": "a"}]))["members"] == [{"id": "a"}]
    assert encode_unsubscribed("3", "room") == b'{"id":"3","type":"unsubscribed","channel":"room"}'
    heard = encode_channel_event("room", "msg", b'{"t":"hi"}')
    assert heard == b'{"type":"event","channel":"room","event":"msg","data":{"t":"hi"}}'
    assert json.loads(encode_channel_error("2", Status("PERMISSION_DENIED", "no", {"x": 1}))) == {
        "id": "2",
        "type": "error",
        "code": "PERMISSION_DENIED",
        "status": 403,
        "message": "no",
    }


def test_who_asks_is_in_the_metadata() -> None:
    """It travels with a request to listen and to speak."""
    for type_ in ("subscribe", "publish"):
        found = parse_channel_message(
            parse(json.dumps({"type": type_, "channel": "room"}).encode()), max_name_bytes=10, metadata={"a": "1"}
        )
        assert not isinstance(found, Unsubscribe)
        assert found.metadata == {"a": "1"}


@pytest.mark.parametrize(
    ("type_", "code"), [("", "INVALID_ENVELOPE"), ("subscribe", "UNIMPLEMENTED"), ("nope", "INVALID_TYPE")]
)
def test_what_goes_nowhere_is_told_why(type_: str, code: str) -> None:
    """No type, a type of channels where there are none, and one that nobody knows."""
    assert unroutable(Envelope(type=type_)).code == code

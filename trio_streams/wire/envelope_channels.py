"""Messages about channels, as Raffel has them on a WebSocket: who wants to hear one, and what is said there.

They share a connection with calls and streams, and nothing else. A name's prefix says who may listen: `private-` asks
for leave, `presence-` for leave and a list of those who are there.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs
import msgspec

from trio_streams.core import records
from trio_streams.wire.envelope_records import Envelope, EnvelopeFault, error_body, id_text, quote

__all__ = [
    "CHANNEL_TYPES",
    "ChannelMessage",
    "ChannelType",
    "Publish",
    "Subscribe",
    "Unsubscribe",
    "channel_type",
    "encode_channel_error",
    "encode_channel_event",
    "encode_subscribed",
    "encode_unsubscribed",
    "parse_channel_message",
    "unroutable",
]

CHANNEL_TYPES: Final = frozenset({"subscribe", "unsubscribe", "publish"})
"""The types of envelopes that are about channels."""


class ChannelType(enum.Enum):
    """Who may listen to a channel."""

    PUBLIC = "public"
    PRIVATE = "private"  # whoever has leave
    PRESENCE = "presence"  # as above, and all of them learn who is there


@attrs.frozen
class Subscribe:
    """A client wants to hear a channel.

    Attributes:
      metadata: who asks, and what else a check of its leave may look at.
    """

    id: str
    channel: str
    metadata: Mapping[str, str] = records.NO_METADATA


@attrs.frozen
class Unsubscribe:
    """A client wants to hear no more of it."""

    id: str
    channel: str


@attrs.frozen
class Publish:
    """A client says something on a channel.

    Attributes:
      data: JSON text.
      metadata: as for `Subscribe`.
    """

    id: str
    channel: str
    event: str
    data: bytes
    metadata: Mapping[str, str] = records.NO_METADATA


ChannelMessage: TypeAlias = Subscribe | Unsubscribe | Publish


def channel_type(channel: str) -> ChannelType:
    """What the prefix of a channel's name says."""
    if channel.startswith("presence-"):
        return ChannelType.PRESENCE
    return ChannelType.PRIVATE if channel.startswith("private-") else ChannelType.PUBLIC


def parse_channel_message(
    envelope: Envelope, *, max_name_bytes: int, metadata: Mapping[str, str] = records.NO_METADATA
) -> ChannelMessage:
    """The record of an envelope whose type is one of `CHANNEL_TYPES`.

    Args:
      envelope: parsed.
      max_name_bytes: the longest name of a channel or an event.
      metadata: the envelope's, as strings.

    Raises:
      EnvelopeFault: it names no channel, or one that is too long.
    """
    id_ = id_text(envelope.id)
    if not envelope.channel:
        raise EnvelopeFault("INVALID_ENVELOPE", f"{envelope.type} names no channel", id_, {"field": "channel"})
    for field, name in (("channel", envelope.channel), ("event", envelope.event)):
        if (size := len(name.encode())) > max_name_bytes:
            raise EnvelopeFault.too_large(field, size, max_name_bytes, id_)
    if envelope.type == "subscribe":
        return Subscribe(id_, envelope.channel, metadata)
    if envelope.type == "unsubscribe":
        return Unsubscribe(id_, envelope.channel)
    return Publish(id_, envelope.channel, envelope.event, bytes(envelope.data) or b"null", metadata)


def encode_subscribed(id_: str, channel: str, members: list[object] | None = None) -> bytes:
    """The answer to `Subscribe`.

    Args:
      id_: the request's.
      channel: its channel.
      members: of a presence channel, each any JSON value; None leaves them out.
    """
    tail = b"" if members is None else b',"members":' + msgspec.json.encode(members)
    return b'{"id":%s,"type":"subscribed","channel":%s%s}' % (quote(id_), quote(channel), tail)


def encode_unsubscribed(id_: str, channel: str) -> bytes:
    """The answer to `Unsubscribe`."""
    return b'{"id":%s,"type":"unsubscribed","channel":%s}' % (quote(id_), quote(channel))


def encode_channel_event(channel: str, event: str, data: bytes) -> bytes:
    """What a listener hears; `data` is JSON text. One encoding serves all listeners."""
    return b'{"type":"event","channel":%s,"event":%s,"data":%s}' % (quote(channel), quote(event), data)


def encode_channel_error(id_: str, status: records.Status) -> bytes:
    """Why a channel's request was refused; the error's parts stand beside the id here, not in a payload."""
    body = error_body(status, is_stream=False)
    body.pop("details", None)
    return msgspec.json.encode({"id": id_, "type": "error", **body})


def unroutable(envelope: Envelope) -> EnvelopeFault:
    """Why an envelope goes nowhere: its type is missing, unknown, or of channels where there are none."""
    id_ = id_text(envelope.id)[:64]
    if not envelope.type:
        return EnvelopeFault("INVALID_ENVELOPE", "Missing procedure or type", id_, {"field": "type"})
    if envelope.type in CHANNEL_TYPES:
        return EnvelopeFault("UNIMPLEMENTED", "There are no channels here", id_, {"field": "type"})
    return EnvelopeFault("INVALID_TYPE", f"Cannot route envelope type: {envelope.type[:64]}", id_, {"field": "type"})

"""A call as a stream: for whom it is, who made it, and its one answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.connection import Connection
from trio_streams.core.records import NO_METADATA
from trio_streams.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.streams.wire import WireStream
from trio_streams.wire.signal_writer import FROM, FROM_NAME, TO

__all__ = ["Caller", "address_to", "current_caller", "note_caller", "only_item", "refuse", "reply_address"]

_Raw = WireStream[bytes, bytes]


@attrs.frozen
class Caller:
    """Who made a call.

    Attributes:
      client_id: what `to=` reaches it by, through a relay; None where the dialect does not say. The relay vouches for it;
        a peer that is connected directly may say anything.
      name: what it calls itself, for people; None where it does not say.
    """

    client_id: str | None = None
    name: str | None = None


_CALLER: Final[ContextVar[Caller]] = ContextVar("trio_streams_caller")


def current_caller() -> Caller:
    """Who made the call that the current handler answers.

    Raises:
      LocalProtocolError: no handler of a peer is running here.
    """
    caller = _CALLER.get(None)
    if caller is None:
        raise LocalProtocolError("no handler of a peer is running here: nobody has called")
    return caller


def note_caller(stream: _Raw) -> None:
    """What runs from here on in this task answers this call."""
    _CALLER.set(Caller(stream.metadata.get(FROM), stream.metadata.get(FROM_NAME)))


def address_to(connection: Connection, to: str | None) -> Mapping[str, str]:
    """The metadata of a stream that is for one peer behind a relay; None for whoever is there.

    Raises:
      LocalProtocolError: UNIMPLEMENTED: no relay is between.
    """
    if to is None:
        return NO_METADATA
    if not connection.machine.has_addresses:
        raise LocalProtocolError(
            "to= is for peers behind a relay, and there is none", code=Code.UNIMPLEMENTED, field="to"
        )
    return {TO: to}


def reply_address(connection: Connection, stream: _Raw) -> str | None:
    """For whom the streams are that answer a call; None where nobody else could hear them."""
    return stream.metadata.get(FROM) if connection.machine.has_addresses else None


async def only_item(stream: _Raw) -> bytes:
    """The answer of a call. Cancellation: as the stream's `receive`.

    Raises:
      RemoteProtocolError: there was none, or there were two.
    """
    try:
        item = await stream.receive()
    except trio.EndOfChannel:
        raise RemoteProtocolError("the peer answered a call without data") from None
    try:
        await stream.receive()
    except trio.EndOfChannel:
        return item
    raise RemoteProtocolError("the peer answered a call twice")


def refuse(connection: Connection, stream: _Raw, code: Code, reason: str) -> None:
    """Take nothing of a stream that the peer has opened."""
    stream.reset(code, reason)
    stream.stop(code, reason)
    connection.let_go(stream)

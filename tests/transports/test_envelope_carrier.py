"""Texts of a WebSocket as framed messages, a connection whose beginning was looked at, and who is let in for it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import trio
import trio.testing

from tests.transports.carrier_checks import open_socket_pair
from trio_streams.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.transports.envelope_carrier import EnvelopeCarrier, as_envelopes, receive_start
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.transports.messages import accept_websocket
from trio_streams.wire.message_framing import frame

HEAD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@attrs.define
class Messages:
    """A WebSocket whose client says what a test chose."""

    said: list[list[str | bytes]] = attrs.field(factory=list[list[str | bytes]])
    heard: list[str | bytes] = attrs.field(factory=list[str | bytes])
    is_closed: bool = False
    peer: str = "somebody"
    subprotocol: str | None = None

    async def receive_messages(self) -> list[str | bytes]:
        await trio.lowlevel.checkpoint()
        return self.said.pop(0) if self.said else []

    async def send_messages(self, messages: Sequence[str | bytes]) -> None:
        await trio.lowlevel.checkpoint()
        self.heard += messages

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_closed = True

    # The other view of the same thing.

    async def receive(self) -> bytes:
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        raise NotImplementedError


async def test_texts_become_frames_and_frames_texts() -> None:
    """Both ways, empty ones too; binary messages are read as texts, and the end is the end."""
    messages = Messages([["ü", b"b"], [""]])
    carrier = EnvelopeCarrier(messages)
    assert await carrier.receive() == frame("ü".encode()) + frame(b"b")
    assert await carrier.receive() == frame(b"")
    assert await carrier.receive() == b""
    await carrier.send(frame("ü".encode()) + frame(b"{}"))
    assert messages.heard == ["ü", "{}"]
    with pytest.raises(LocalProtocolError, match="not whole"):
        await carrier.send(frame(b"{}")[:-1])
    await carrier.wait_writable()
    await carrier.aclose()
    assert messages.is_closed
    assert carrier.peer == "somebody"
    assert not hasattr(carrier, "is_writable"), "nobody knows"


async def test_a_cancelled_receive_or_send_takes_nothing() -> None:
    """Neither has begun."""
    messages = Messages([["a"]])
    carrier = EnvelopeCarrier(messages)
    for operation in (carrier.receive, lambda: carrier.send(frame(b"x"))):
        with trio.CancelScope() as scope:
            scope.cancel()
            await operation()
        assert scope.cancelled_caught
    assert (messages.heard, await carrier.receive()) == ([], frame(b"a"))


def test_only_a_websocket_without_subprotocol_speaks_envelopes() -> None:
    """Not one that agreed on ours, and nothing that has no messages."""
    carrier, _ = memory_carrier_pair()
    assert as_envelopes(Messages()) is not None
    assert as_envelopes(Messages(subprotocol="trio-streams.v1")) is None
    assert as_envelopes(carrier) is None


async def test_the_beginning_is_waited_for_in_vain(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing comes of a client that says nothing in time, or ends its side."""
    carrier, other = memory_carrier_pair()
    assert await receive_start(carrier, patience=3) == b""
    assert trio.current_time() == 3
    await other.aclose()
    assert await receive_start(carrier, patience=3) == b""
    assert trio.current_time() == 3


async def test_who_offers_nothing_is_let_in_where_texts_are_spoken() -> None:
    """With the limit of such messages; a client that offers something else is refused all the same."""
    ADMISSION.set(Admission(lambda listener: listener, None, 1_000))
    async with open_socket_pair() as (left, right):
        await right.send_all(HEAD + b"\r\n")
        carrier = await accept_websocket(left)
        assert carrier.subprotocol is None
        assert b" 101 " in await right.receive_some()
        await right.send_all(b"\x81\xfe\x03\xe8\0\0\0\0" + b"x" * 1_000)
        assert await carrier.receive_messages() == ["x" * 1_000]
        await right.send_all(b"\x81\xfe\x03\xe9\0\0\0\0" + b"x" * 1_001)
        with pytest.raises(RemoteProtocolError, match="max_message_bytes=1000"):
            await carrier.receive_messages()
        await right.aclose()
        await carrier.aclose()
    async with open_socket_pair() as (left, right):
        await right.send_all(HEAD + b"Sec-WebSocket-Protocol: chat\r\n\r\n")
        with pytest.raises(RemoteProtocolError, match="offered: chat"):
            await accept_websocket(left)


async def test_text_that_is_not_utf_8_ends_a_websocket() -> None:
    """With 1007, as RFC 6455 §8.1 asks."""
    ADMISSION.set(Admission(lambda listener: listener, None, 1_000))
    async with open_socket_pair() as (left, right):
        await right.send_all(HEAD + b"\r\n")
        carrier = await accept_websocket(left)
        await right.receive_some()
        await right.send_all(b"\x81\x81\0\0\0\0\xff")
        with pytest.raises(RemoteProtocolError, match="UTF-8"):
            await EnvelopeCarrier(carrier).receive()
        assert (await right.receive_some())[2:4] == (1007).to_bytes(2, "big")
        await right.aclose()
        await carrier.aclose()

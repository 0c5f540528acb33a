"""Carriers for JSON envelopes: a WebSocket's texts as framed messages, and a look at a connection's beginning.

The machine of envelopes speaks messages behind their lengths, as on TCP. A WebSocket has no need of the lengths, so they
are taken off and put on here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import trio

from trio_streams.carrier import Carrier, PromptCarrier
from trio_streams.wire.message_framing import frame, split

__all__ = ["EnvelopeCarrier", "MessageCarrier", "as_envelopes", "receive_start"]


_Wait: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@runtime_checkable
class MessageCarrier(Protocol):
    """A WebSocket whose messages stay apart."""

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        ...

    @property
    def subprotocol(self) -> str | None:
        """What both sides agreed on, or None."""
        ...

    async def receive_messages(self) -> list[str | bytes]:
        """Take the messages that have arrived, waiting until there is one; none once the peer has said goodbye."""
        ...

    async def send_messages(self, messages: Sequence[str | bytes]) -> None:
        """Send each message."""
        ...

    async def wait_writable(self) -> None:
        """As a carrier's."""
        ...

    async def aclose(self) -> None:
        """As a carrier's."""
        ...


class EnvelopeCarrier:
    """A WebSocket as a carrier of framed messages: each is a text, and binary messages are read as if they were.

    Args:
      carrier: one without a subprotocol; it belongs to this one.
    """

    def __init__(self, carrier: MessageCarrier) -> None:
        self._carrier = carrier
        self.peer: str = carrier.peer
        self.wait_writable: _Wait = carrier.wait_writable
        self.aclose: _Wait = carrier.aclose
        if isinstance(carrier, PromptCarrier):
            self.is_writable: Callable[[], bool] = carrier.is_writable

    async def receive(self) -> bytes:
        """Take the messages that have arrived, as frames; `b""` once the peer has said goodbye.

        Raises:
          Exception: as the WebSocket's own `receive_messages`.
        Cancellation: atomic.
        """
        messages = await self._carrier.receive_messages()
        return b"".join([frame(message.encode() if isinstance(message, str) else message) for message in messages])

    async def send(self, data: bytes) -> None:
        """Send each of some whole frames as a text.

        Raises:
          Exception: as the WebSocket's own `send_messages`.
          LocalProtocolError: the last frame is not whole.
        Cancellation: as there.
        """
        await self._carrier.send_messages([message.decode() for message in split(data)])


def as_envelopes(carrier: Carrier) -> Carrier | None:
    """A WebSocket without a subprotocol as a carrier of envelopes; None for anything else."""
    if isinstance(carrier, MessageCarrier) and carrier.subprotocol is None:
        return EnvelopeCarrier(carrier)
    return None


async def receive_start(carrier: Carrier, *, patience: float) -> bytes:
    """The first bytes that a peer says; nothing where it says none in time, or has ended its side.

    Args:
      carrier: connected.
      patience: seconds.

    Raises:
      ConnectionLost: the connection broke.
    Cancellation: atomic.
    """
    with trio.move_on_after(patience):
        return await carrier.receive()
    return b""

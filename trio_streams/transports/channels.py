"""A carrier over two channels of messages, for whatever a program has that moves `bytes` from here to there."""

from __future__ import annotations

from typing import Final

import trio

from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import describe_fault

__all__ = ["ChannelCarrier"]

_MESSAGE_BYTES: Final = 65_536
_CLOSED: Final = "this side of the channel was closed"


class ChannelCarrier:
    """A carrier over a channel of messages to send and one of messages to receive.

    Where one message ends means nothing; they have to arrive, and in order. The send channel's own bound is the
    back-pressure: an unbounded one would take everything at once.

    Args:
      send_channel: takes `bytes`; the carrier owns it.
      receive_channel: gives `bytes`; likewise.
      peer: who is on the other side, for people.
      close_timeout: seconds that `aclose` waits for the peer to close, too.
      max_message_bytes: what is longer is sent in several messages.
    """

    def __init__(
        self,
        send_channel: trio.abc.SendChannel[bytes],
        receive_channel: trio.abc.ReceiveChannel[bytes],
        *,
        peer: str = "channel",
        close_timeout: float = 2.0,
        max_message_bytes: int = _MESSAGE_BYTES,
    ) -> None:
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, not {max_message_bytes}")
        self._sending = send_channel
        self._receiving = receive_channel
        self._peer = peer
        self._close_timeout = close_timeout
        self._max_message_bytes = max_message_bytes
        # A channel does not wake those who wait in it when it is closed on their own side.
        self._receive_scope = trio.CancelScope()
        self._send_scope = trio.CancelScope()
        self._is_ended = False
        self._is_closed = False

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        return self._peer

    async def receive(self) -> bytes:
        """Take the next message that is not empty; `b""` once the channel is at its end.

        Raises:
          ConnectionLost: the channel broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as the channel's own `receive`; Trio's loses nothing.
        """
        self._check_open()
        if self._is_ended:
            await trio.lowlevel.checkpoint()
            return b""
        try:
            with trio.CancelScope() as self._receive_scope:
                while True:
                    data = await self._receiving.receive()
                    if data:
                        return data
        except trio.EndOfChannel:
            self._is_ended = True
            await trio.lowlevel.cancel_shielded_checkpoint()  # a channel at its end answers without one
            return b""
        except trio.BrokenResourceError as exc:
            self._is_ended = True
            raise ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}") from exc
        raise trio.ClosedResourceError(_CLOSED)

    async def send(self, data: bytes) -> None:
        """Send all of `data`, in one message if it is short enough.

        Raises:
          ConnectionLost: the channel broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: whole messages of `data` may have been sent.
        """
        self._check_open()
        if not data:
            await trio.lowlevel.checkpoint()
        size = self._max_message_bytes
        try:
            with trio.CancelScope() as self._send_scope:
                for start in range(0, len(data), size):
                    await self._sending.send(data[start : start + size] if len(data) > size else data)
        except trio.BrokenResourceError as exc:
            raise ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}") from exc
        self._check_open()

    async def wait_writable(self) -> None:
        """A checkpoint: a channel can't be asked; `send` is what waits.

        Raises:
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        self._check_open()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the send channel, wait at most `close_timeout` seconds for the other one's end, and close it. Idempotent.

        Cancellation: closes at once.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        self._receive_scope.cancel()
        self._send_scope.cancel()
        try:
            with trio.move_on_after(self._close_timeout):
                await self._sending.aclose()
                while not self._is_ended:
                    await self._receiving.receive()
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            try:
                await trio.aclose_forcefully(self._sending)
            finally:  # a cancellation from outside passes through the first
                await trio.aclose_forcefully(self._receiving)

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError(_CLOSED)

"""Carriers seen as Trio's byte streams, so that Trio's own checkers can judge them."""

from __future__ import annotations

import trio
import trio.abc

from trio_streams.errors import ConnectionLost
from trio_streams.transports.carrier import Carrier

__all__ = ["ReceiveView", "SendView"]


class _Conflict:
    """A carrier leaves this to its driver; the view has none."""

    def __init__(self) -> None:
        self._is_busy = False

    def __enter__(self) -> None:
        if self._is_busy:
            raise trio.BusyResourceError
        self._is_busy = True

    def __exit__(self, *exc_info: object) -> None:
        self._is_busy = False


class SendView(trio.abc.SendStream):
    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._conflict = _Conflict()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._conflict:
            await self._carrier.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        with self._conflict:
            try:
                await self._carrier.wait_writable()
            except ConnectionLost:
                pass  # Trio allows it to say that sending would not block, since it would fail at once

    async def aclose(self) -> None:
        await self._carrier.aclose()


class ReceiveView(trio.abc.ReceiveStream):
    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._conflict = _Conflict()
        self._buffer = b""
        self._is_closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and (not isinstance(max_bytes, int)):
            raise TypeError
        if max_bytes is not None and max_bytes < 1:
            raise ValueError
        with self._conflict:
            if self._is_closed:
                raise trio.ClosedResourceError
            if self._buffer:
                await trio.lowlevel.checkpoint()
            else:
                self._buffer = await self._carrier.receive()
            data = self._buffer[:max_bytes]
            self._buffer = self._buffer[len(data) :]
            return data

    async def aclose(self) -> None:
        self._is_closed = True
        await self._carrier.aclose()

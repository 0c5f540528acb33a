"""What one connection of the lean host writes: from the exchange through the machine to the kernel, as far as it goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import Final

import trio

from trio_streams.streams.parking import Parking
from trio_streams.transports.exchange import HostedExchange
from trio_streams.transports.http_host import Host
from trio_streams.transports.http_link import Link
from trio_streams.wire.http1 import Http1Server

__all__ = ["NOTHING", "HttpOutput"]

NOTHING: Final = memoryview(b"")


class HttpOutput(Parking, ABC):
    """The writing half of an `HttpConnection`; who reads and who answers is for that one to say.

    Args:
      host: what connections share.
      link: the connection's bytes.
    """

    __slots__ = (
        "_exchange", "_head_sent", "_host", "_is_gone", "_is_sending", "_link", "_machine", "_receiving", "_sent",
        "_stalls_at", "_unsent", "_unwritten", "is_marked",
    )  # fmt: skip

    def __init__(self, host: Host, link: Link) -> None:
        super().__init__()
        self._host = host
        self._link = link
        self._machine = Http1Server(host.limits, trio.current_time())
        self._exchange: HostedExchange | None = None  # being answered
        self._receiving: HostedExchange | None = None  # whose body arrives
        self._is_sending = self._is_gone = self._head_sent = False
        self._sent = self._unwritten = 0
        self._unsent = NOTHING
        self._stalls_at = inf
        self.is_marked: bool = False

    @abstractmethod
    def lose(self) -> None:
        """There is nobody to answer, or nothing more to be said. Whoever waits is told."""

    @abstractmethod
    def _sort(self) -> None:
        """Hand on what the machine has made of its input."""

    def _move_output(self, exchange: HostedExchange) -> None:
        """From the exchange to the machine."""
        machine = self._machine
        head = exchange.head
        if head is None:
            return
        is_first = not self._head_sent
        if is_first:
            self._head_sent = True
            fields = head.fields
            if fields.value("date") is None:
                fields = fields.joined(self._host.date())
            if self._host.is_closing:
                machine.request_close()
            machine.send_head(head.status, fields)
            self._unwritten += 256
        data = exchange.take_nowait()
        if data:
            machine.send_body(data)
            self._sent += len(data)
            self._unwritten += len(data)
        if exchange.is_ended:
            self._exchange = None
            self._receiving = None
            machine.end(trio.current_time())
            if machine.has_events:
                self._sort()
        elif is_first:
            machine.forget_head()

    def _take_output(self) -> bytes:
        exchange = self._exchange
        if exchange is not None:
            if self._head_sent and exchange.takes_chunks and self._machine.is_chunking:
                data = exchange.take_chunks()
                self._sent += len(data)
                return data
            self._move_output(exchange)
        return self._machine.to_send()

    def write(self) -> None:
        """Write what there is, as far as it goes without waiting. Whoever finishes the rest asks for more by itself."""
        if self._is_sending or self._is_gone or self._unsent:
            return
        while data := self._take_output():
            self._unwritten = 0
            try:
                data = self._link.encode(data)
                taken = self._link.send_nowait(data)
            except (OSError, trio.ClosedResourceError):
                self.lose()
                return
            if taken < len(data):
                self._unsent = memoryview(data)[taken:]
                return

    def pull(self) -> None:
        """Write what there is; what the kernel does not take is finished by a task of its own. See `ExchangeConnection`."""
        self.write()
        if self._unsent and not self._is_sending:
            self._is_sending = True
            self._host.nursery.start_soon(self._send_unsent)

    def write_marked(self) -> None:
        """As `pull`, for the host's writer."""
        self.is_marked = False
        self.pull()

    async def _send_rest(self) -> None:
        while self._is_sending:
            await self._park()
        self.write()
        if self._unsent and not self._is_sending:
            await self._send_unsent()

    async def _send_unsent(self) -> None:
        """Write what the kernel did not take at once, and what has come to wait behind it."""
        self._is_sending = True
        config = self._host.config
        size = config.send_buffer_bytes
        try:
            while self._unsent:
                if config.stall_timeout is not None:
                    self._stalls_at = trio.current_time() + config.stall_timeout
                await self._link.send(self._unsent[:size])
                self._unsent = self._unsent[size:]
                if not self._unsent and self._exchange is not None:
                    self._unsent = memoryview(self._link.encode(self._take_output()))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.lose()
        finally:
            self._stalls_at = inf
            self._is_sending = False
            self._wake()

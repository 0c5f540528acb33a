"""A client of HTTP/3 over our own connection, for tests: it reads no faster than it is told to.

Answers are rendered as HTTP/1.1 would say them, so that what is claimed of other hosts can be claimed of this one, too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

import trio

from trio_streams.streams.parking import Parking
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.dial import dial
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import client_configuration

__all__ = ["Http3Request", "ask_http3", "connect_http3"]


class Http3Request(Parking):
    """A request under way, as much of a Trio stream as tests of hosts need.

    Attributes:
      headers: of the answer.
      reset: the code with which the server broke it off.
      stopped: the code with which the server refused the rest of the request.
    """

    def __init__(self, link: Link, headers: RawHeaders, *, is_ended: bool) -> None:
        super().__init__()
        self._link = link
        self._chunks: list[bytes] = []
        self._is_ended = False
        self._lost: Exception | None = None
        self._is_over = False
        self.headers: dict[str, str] = {}
        self.reset: int | None = None
        self.stopped: int | None = None
        self.stream_id: int = link.machine.open_request()
        link.take_request(self.stream_id, self)
        link.machine.send_head(self.stream_id, headers, is_ended=is_ended)
        link.kick()

    async def send_all(self, data: bytes) -> None:
        """Send a part of the body."""
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            self._check_wanted()
            view = view[self._link.machine.send_body(self.stream_id, view) :]
            self._link.kick()
            if view:
                await self._park()

    async def send_eof(self) -> None:
        """End the body."""
        await trio.lowlevel.checkpoint()
        self._check_wanted()
        self._link.machine.end_body(self.stream_id)
        self._link.kick()

    async def wait_head(self) -> int:
        """The answer's status."""
        while not self.headers:
            self._check()
            await self._park()
        return int(self.headers[":status"])

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, the head among them; nothing at the end."""
        await trio.lowlevel.checkpoint()
        while not self._chunks:
            if self._is_ended:
                return b""
            self._check()
            await self._park()
        return self._take()

    def _take(self) -> bytes:
        chunk = self._chunks.pop(0)
        if not chunk.startswith(b"HTTP/1.1 "):
            self._link.machine.consumed(self.stream_id, len(chunk))
            self._link.kick()
        return chunk

    def _check_wanted(self) -> None:
        self._check()
        if self.stopped is not None:
            raise trio.BrokenResourceError(f"the server refuses more: {self.stopped:#x}")

    def _check(self) -> None:
        if self._lost is not None:
            raise trio.BrokenResourceError(str(self._lost)) from self._lost
        if self.reset is not None:
            raise trio.BrokenResourceError(f"the server has reset the answer: {self.reset:#x}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.receive_some():
            yield data

    async def aclose(self) -> None:
        """Have done with it: what is unfinished is cancelled."""
        if not self._is_over and self._lost is None:
            self._is_over = True
            self._link.machine.abandon(self.stream_id, Http3Code.H3_REQUEST_CANCELLED)
            self._link.release_request(self.stream_id)
            self._link.kick()
        await trio.lowlevel.checkpoint()

    # The link's.

    def on_head(self, headers: RawHeaders, is_ended: bool) -> None:
        self.headers = {name.decode(): value.decode("latin-1") for name, value in headers}
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items() if name != ":status"]
        self._chunks.append(f"HTTP/1.1 {self.headers[':status']} \r\n{''.join(lines)}\r\n".encode("latin-1"))
        self._end(is_ended)

    def on_body(self, run: Sequence[bytes], size: int, is_ended: bool) -> None:
        assert sum(map(len, run)) == size
        self._chunks += [bytes(chunk) for chunk in run if chunk]
        self._end(is_ended)

    def on_trailers(self, headers: RawHeaders) -> None:
        self._end(True)

    def _end(self, is_ended: bool) -> None:
        self._is_ended = self._is_ended or is_ended
        self._wake()

    def on_reset(self, code: int) -> None:
        self.reset = code
        self._wake()

    def on_stopped(self, code: int) -> None:
        self.stopped = code
        self._wake()

    def on_writable(self) -> None:
        self._wake()

    def on_delivered(self) -> None:
        pass

    def on_lost(self, over: Callable[[], Exception]) -> None:
        self._lost = over()
        self._wake()


def ask_http3(
    link: Link,
    path: str,
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    is_ended: bool = True,
    authority: str = "localhost",
) -> Http3Request:
    """Begin a request on a connection."""
    pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in [*pseudo, *headers]]
    return Http3Request(link, raw, is_ended=is_ended)


@asynccontextmanager
async def connect_http3(port: int, config: WebTransportConfig | None = None) -> AsyncIterator[Link]:
    """A connection to a server on this machine, for as long as the block."""
    config = config or WebTransportConfig()

    def make(address: tuple[str, int]) -> Link:
        quic = Quic(client_configuration(config.quic, server_name="localhost", verify=False), config.quic)
        quic.connect(address, trio.current_time())
        machine = ConnectionMachine(quic, is_client=True, limits=config.limits)
        return Link(machine, peer=f"127.0.0.1:{port}", config=config, is_client=True)

    async with dial("127.0.0.1", port, make, Link.wait_ready) as link:
        yield link

"""One GET on a connection of its own, whose answer is read as it comes: what streams of events are read with.

A pool has nothing to offer a stream, which keeps its connection until one of them ends. So this is `wire.http1_client`
over a carrier: a read can be cancelled without a loss, and gives all that the kernel had in one piece. Measured
against httpcore2 by `tests/benchmarks/bench_sse_client.py`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import trio

from trio_streams.carrier import Carrier
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.transports.bytes import ByteCarrier, host_port, open_tcp_stream
from trio_streams.transports.exchange import Headers
from trio_streams.transports.tls import connect_tls
from trio_streams.wire.http1_client import Answer, encode_get

__all__ = ["HttpGet", "open_get"]


class HttpGet:
    """An answer whose head is here and whose body is still arriving.

    Attributes:
      url: what was asked for.

    Args:
      url: for messages.
      carrier: the connection, which now belongs to it.
    """

    def __init__(self, url: str, carrier: Carrier) -> None:
        self.url = url
        self._carrier = carrier
        self._answer = Answer()
        self._first = b""

    @property
    def status(self) -> int:
        """As a number."""
        return self._answer.status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names in lower case."""
        return self._answer.headers

    async def request(self, data: bytes) -> None:
        """Send the request and wait for the answer's head; the first thing to do.

        Raises:
          ConnectionLost, RemoteProtocolError: as `receive`.
        Cancellation: the connection is of no further use.
        """
        await self._carrier.send(data)
        while not self._answer.status:
            self._first = self._decode(await self._carrier.receive())

    async def receive(self) -> bytes:
        """The next bytes of the body, as many as are here; empty at its end.

        Raises:
          ConnectionLost: the connection broke, or ended before the body did.
          RemoteProtocolError: this is not HTTP.
        Cancellation: atomic.
        """
        piece, self._first = self._first, b""
        while not piece and not self._answer.is_ended:
            piece = self._decode(await self._carrier.receive())
        return piece

    def _decode(self, data: bytes) -> bytes:
        try:
            return self._answer.receive(data)
        except RemoteProtocolError as exc:
            if not data:
                raise ConnectionLost(f"connection to {self.url} lost: {exc}") from exc
            raise RemoteProtocolError(f"{self.url}: {exc}", field=exc.field) from exc

    async def receive_body(self, max_bytes: int) -> bytes:
        """The rest of the body.

        Raises:
          RemoteProtocolError: it is larger than `max_bytes`.
          ConnectionLost: as for `receive`.
        Cancellation: what was received is lost.
        """
        pieces: list[bytes] = []
        size = 0
        while piece := await self.receive():
            size += len(piece)
            if size > max_bytes:
                raise RemoteProtocolError(
                    f"the answer to {self.url} is {size} bytes or more, the limit is {max_bytes}",
                    code=Code.MESSAGE_TOO_LARGE,
                    field="body",
                    size=size,
                    limit=max_bytes,
                )
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Close the connection, at once; there is nobody to say goodbye to. Idempotent, and no checkpoint."""
        with trio.CancelScope() as scope:
            scope.cancel()
            await self._carrier.aclose()


async def open_get(
    url: str, headers: Headers, *, connect_timeout: float, find_tls: Callable[[], ssl.SSLContext]
) -> HttpGet:
    """Send the request and wait for the answer's head.

    Args:
      url: absolute, `http` or `https`, ASCII.
      headers: names in lower case.
      connect_timeout: seconds to connect, and again to shake hands.
      find_tls: makes the context for `https`, where it is needed.

    Raises:
      ConnectionLost, RemoteProtocolError: as `HttpGet.receive`; and nobody listens there, or refuses TLS.
      LocalProtocolError: a header can't be sent.
    Cancellation: the connection is closed.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not any(name == "host" for name, _ in headers):
        headers = [("host", parts.netloc.rpartition("@")[2]), *headers]
    request = encode_get(target, headers)
    get = HttpGet(url, await _connect(url, connect_timeout, find_tls))
    is_open = False
    try:
        await get.request(request)
        is_open = True
    finally:
        if not is_open:
            await get.aclose()
    return get


async def _connect(url: str, connect_timeout: float, find_tls: Callable[[], ssl.SSLContext]) -> Carrier:
    parts = urlsplit(url)
    host = parts.hostname or ""
    config = ConnectionConfig(connect_timeout=connect_timeout, handshake_timeout=connect_timeout)
    if parts.scheme == "https":
        return await connect_tls(host, parts.port or 443, config=config, ssl_context=find_tls())
    port = parts.port or 80
    where = f"http://{host_port(host, port)}"
    stream = await open_tcp_stream(host, port, url=where, connect_timeout=connect_timeout)
    return ByteCarrier(stream, close_timeout=config.close_timeout)

"""An HTTP client for streams: httpcore2's pool, our limits and errors, and chunks as large as they come.

The pool belongs to an `async with`. Two things are made when they are first needed and not before: the TLS context
(tens of milliseconds, shared by every client of the process) and the pool that uses it.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

import attrs
import httpcore2
import trio

from trio_streams.codes import Code
from trio_streams.config import positive
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from trio_streams.transports.bytes import describe_fault, host_port
from trio_streams.transports.exchange import Headers
from trio_streams.transports.host_names import resolving
from trio_streams.transports.http_get import HttpGet, open_get

__all__ = ["ClientExchange", "HttpClient", "HttpClientConfig", "HttpResponse", "NotConnected"]

_PORTS: Final = {"http": 80, "https": 443}


class NotConnected(ConnectionLost):
    """Nobody was reached, so nothing was sent: whatever it was may be tried again."""


@attrs.frozen(kw_only=True)
class HttpClientConfig:
    """Limits and timeouts of a client.

    Attributes:
      connect_timeout: seconds to connect, TLS included.
      max_connections: connections at once; more requests wait. An open stream holds one on HTTP/1.1.
      keepalive_timeout: seconds that an idle connection is kept. Less than servers keep theirs (hypercorn 5), so that
        a request seldom meets a connection that is being closed.
      max_body_bytes: the largest answer that `request` and `receive_body` take.
      http2: whether to offer HTTP/2 over TLS; needs the `h2` package.
    """

    connect_timeout: float = attrs.field(default=10.0, validator=positive)
    max_connections: int = attrs.field(default=1_000, validator=positive)
    keepalive_timeout: float = attrs.field(default=4.0, validator=positive)
    max_body_bytes: int = attrs.field(default=16_777_216, validator=positive)
    http2: bool = False


@attrs.frozen
class HttpResponse:
    """A whole answer.

    Attributes:
      status: as a number.
      headers: names in lower case.
      body: all of it.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by commas; None where there is none."""
        return _header(self.headers, name)


class ClientExchange:
    """An answer whose body is still arriving. Iterate it for its chunks, then close it.

    Attributes:
      status: as a number.
      headers: names in lower case.
      url: what was asked for.
    """

    def __init__(
        self,
        url: str,
        response: httpcore2.Response,
        max_body_bytes: int,
    ) -> None:
        self.url = url
        self.status: int = response.status
        self.headers: tuple[tuple[str, str], ...] = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers
        )
        self._response = response
        self._chunks: AsyncGenerator[bytes, None] = response.aiter_stream()
        self._max_body_bytes = max_body_bytes

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by commas; None where there is none."""
        return _header(self.headers, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk of the body, decoded from its transfer coding, as large as it came.

        Raises:
          ConnectionLost: the connection broke, or the server ended it before the body's end.
        Cancellation: ends the exchange; what was on its way is lost.
        """
        with _translated(self.url):
            return await anext(self._chunks)

    async def receive_body(self) -> bytes:
        """The rest of the body.

        Raises:
          RemoteProtocolError: it is larger than the client's limit.
          ConnectionLost: as for a chunk.
        """
        chunks: list[bytes] = []
        size = 0
        async for chunk in self:
            size += len(chunk)
            if size > self._max_body_bytes:
                raise RemoteProtocolError(
                    f"the answer to {self.url} is {size} bytes or more, the limit is {self._max_body_bytes}",
                    code=Code.MESSAGE_TOO_LARGE,
                    field="body",
                    size=size,
                    limit=self._max_body_bytes,
                )
            chunks.append(chunk)
        return b"".join(chunks)

    async def aclose(self) -> None:
        """Let go of the connection: back to the pool behind the body's end, else closed. Idempotent."""
        with trio.CancelScope(shield=True):  # closes a socket; waits for nobody
            await self._chunks.aclose()
            await self._response.aclose()


class HttpClient:
    """A pool of connections: `async with HttpClient() as client`, or close it by `aclose`.

    It has no task: a connection is opened by the request that needs it, and a client that was closed opens new ones.

    Args:
      config: limits and timeouts.
      tls: the TLS context for https; None for one that trusts what the system trusts, shared by all clients.
    """

    def __init__(self, config: HttpClientConfig | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self._config = HttpClientConfig() if config is None else config
        self._tls = tls
        self._pools: dict[str, httpcore2.AsyncConnectionPool] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection; requests under way fail. Idempotent.

        Cancellation: closes all the same.
        """
        self._pools.clear()
        # The pool awaits while it closes each connection; cancelled, it would forget the rest.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.connect_timeout):
            await self._stack.aclose()

    async def request(
        self, method: str, url: str, *, headers: Headers = (), body: bytes | AsyncIterable[bytes] | None = None
    ) -> HttpResponse:
        """Send a request and take the whole answer, whatever its status.

        Raises:
          ConnectionLost: nobody listens there (`NotConnected`), or the connection broke; one line that says which.
          RemoteProtocolError: the answer is not HTTP, or larger than the limit.
          LocalProtocolError: the URL or a header can't be sent.
        Cancellation: the connection is closed; whether the server acted is unknown.
        """
        async with self.open_exchange(method, url, headers=headers, body=body) as exchange:
            return HttpResponse(exchange.status, exchange.headers, await exchange.receive_body())

    @asynccontextmanager
    async def open_exchange(
        self, method: str, url: str, *, headers: Headers = (), body: bytes | AsyncIterable[bytes] | None = None
    ) -> AsyncGenerator[ClientExchange, None]:
        """Send a request and enter with the answer's head; leaving before the body's end closes the connection.

        The request's body is sent before the answer is read: this is HTTP/1.1 as servers expect it.

        Args:
          method: in upper case.
          url: absolute, `http` or `https`.
          headers: added to `host` and the body's length or coding.
          body: bytes, or chunks that are sent as they come.

        Raises:
          ConnectionLost, RemoteProtocolError, LocalProtocolError: as for `request`.
        """
        exchange = await self.start_exchange(method, url, headers=headers, body=body)
        try:
            yield exchange
        finally:
            await exchange.aclose()

    async def start_exchange(
        self, method: str, url: str, *, headers: Headers = (), body: bytes | AsyncIterable[bytes] | None = None
    ) -> ClientExchange:
        """As `open_exchange`, for an answer that outlives a block; the caller closes it.

        Raises:
          NotConnected: nobody was reached, and nothing was sent.
          ConnectionLost, RemoteProtocolError, LocalProtocolError: as for `request`.
        Cancellation: the connection is closed; whether the server acted is unknown.
        """
        request = _request(method, url, headers, body, self._config.connect_timeout)
        pool = await self._pool(request.url.scheme.decode())
        with _translated(url):
            response = await pool.handle_async_request(request)
        return ClientExchange(url, response, self._config.max_body_bytes)

    async def open_get(self, url: str, *, headers: Headers = ()) -> HttpGet:
        """Send a GET on a connection of its own, for a stream that is read as it comes; the caller closes it.

        Args:
          url: absolute, `http` or `https`.
          headers: added to `host`.

        Raises:
          ConnectionLost, RemoteProtocolError, LocalProtocolError: as for `request`.
        Cancellation: the connection is closed.
        """
        _check_url(url)
        return await open_get(
            url,
            [(name.lower(), value) for name, value in headers],
            connect_timeout=self._config.connect_timeout,
            find_tls=lambda: self._tls or shared_tls_context(),
        )

    @property
    def config(self) -> HttpClientConfig:
        """Limits and timeouts."""
        return self._config

    @property
    def open_connections(self) -> int:
        """How many connections the pools hold, used and idle ones; those of `open_get` are not among them."""
        return sum(len(pool.connections) for pool in self._pools.values())

    async def _pool(self, scheme: str) -> httpcore2.AsyncConnectionPool:
        pool = self._pools.get(scheme)
        if pool is None:
            tls = (self._tls or shared_tls_context()) if scheme == "https" else None
            pool = self._pools[scheme] = httpcore2.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=self._config.max_connections,
                keepalive_expiry=self._config.keepalive_timeout,
                http2=self._config.http2,
            )
            self._stack.push_async_callback(pool.aclose)
        return pool


@functools.cache
def shared_tls_context() -> ssl.SSLContext:
    """The TLS context of all clients that bring none: what the system trusts."""
    return httpcore2.default_ssl_context()


def _check_url(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise LocalProtocolError(f"can't request {url!r}: not an absolute http or https URL", field="url")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise LocalProtocolError(f"can't request {url!r}: percent-encode what is not ASCII", field="url")
    with resolving(parts.hostname):  # as the resolver's caller would, but with nothing of the request's body around it
        parts.hostname.encode("idna")
    try:
        port = parts.port
    except ValueError as exc:
        raise LocalProtocolError(f"can't request {url!r}: {exc}", field="port") from exc
    if port == 0:
        raise LocalProtocolError(f"can't request {url!r}: a port is 1 to 65535", field="port", size=0, limit=65_535)
    return parts


def _request(
    method: str, url: str, headers: Headers, body: bytes | AsyncIterable[bytes] | None, connect_timeout: float
) -> httpcore2.Request:
    parts = _check_url(url)
    names = {name.lower() for name, _ in headers}
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if "host" not in names:
        pairs.insert(0, (b"host", parts.netloc.rpartition("@")[2].encode()))
    if isinstance(body, bytes) and "content-length" not in names:
        pairs.append((b"content-length", str(len(body)).encode()))
    elif body is not None and not isinstance(body, bytes) and "content-length" not in names:
        pairs.append((b"transfer-encoding", b"chunked"))
    # httpcore2 times its pool and its connections; reading and writing take as long as a stream takes.
    extensions = {"timeout": {"connect": connect_timeout}}
    return httpcore2.Request(method, url, headers=pairs, content=body, extensions=extensions)


@contextmanager
def _translated(url: str) -> Generator[None, None, None]:
    try:
        yield
    except httpcore2.UnsupportedProtocol as exc:
        raise LocalProtocolError(f"can't request {url}: {exc}", field="url") from exc
    except httpcore2.LocalProtocolError as exc:
        raise LocalProtocolError(f"can't request {url}: {exc}") from exc
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
        parts = urlsplit(url)
        where = host_port(parts.hostname or "", parts.port or _PORTS[parts.scheme])
        why = "no answer in time" if isinstance(exc, httpcore2.ConnectTimeout) else _why(exc)
        raise NotConnected(f"cannot connect to {parts.scheme}://{where}: {why}") from exc
    except httpcore2.RemoteProtocolError as exc:
        if "disconnect" in str(exc) or "closed connection" in str(exc):
            raise ConnectionLost(f"connection to {url} lost: {exc}") from exc
        raise RemoteProtocolError(f"the answer to {url} is not HTTP: {exc}") from exc
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProxyError) as exc:
        raise ConnectionLost(f"connection to {url} lost: {_why(exc)}") from exc


def _why(exc: Exception) -> str:
    # The pool cuts the chain of causes with `from None`.
    cause = exc.__cause__ or exc.__context__ or exc
    fault: BaseException | None = cause
    while fault is not None and not isinstance(fault, ssl.SSLError):
        fault = fault.__cause__
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"the certificate was refused: {fault.verify_message}"
    if fault is not None:
        return f"TLS failed: {fault.reason}"
    return describe_fault(cause)


def _header(headers: tuple[tuple[str, str], ...], name: str) -> str | None:
    values = [value for key, value in headers if key == name]
    return ", ".join(values) if values else None

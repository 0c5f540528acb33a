"""A carrier over any Trio byte stream, and the TCP sockets that it is mostly used on.

What the kernel is told, and why:

- `TCP_NODELAY`: the driver already joins what is ready into one write; Nagle's algorithm would only add a delay.
- `TCP_NOTSENT_LOWAT` of 16 KiB: a priority can reorder what we still hold, not what the kernel hoards. With it a socket
  counts as writable only while less than 16 KiB of it are unsent.
- `TCP_USER_TIMEOUT`, if asked for: how long sent data may stay unacknowledged before the kernel gives the peer up. It
  bounds what a peer that vanished, or never reads, can delay.
- `SO_KEEPALIVE`, on a server: a peer that vanished in a silence is noticed, whatever its dialect.

A close lingers. Closing a socket that holds unread bytes makes the kernel send RST, and RST may destroy the last bytes
that we sent. So the goodbye is: end our side, then discard what still arrives until the peer ends its own side.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket as stdlib_socket
import ssl
import sys
from typing import Final, cast

import trio

from trio_streams.carrier import RECEIVE_BYTES, next_read_bytes
from trio_streams.config import ConnectionConfig
from trio_streams.core.errors import StreamsError
from trio_streams.errors import ConnectionLost
from trio_streams.transports.admission import guard_listeners
from trio_streams.transports.gather import Chunk, send_some
from trio_streams.transports.host_names import resolving
from trio_streams.transports.reading import receive_some

__all__ = [
    "ByteCarrier",
    "ListenError",
    "connect_tcp",
    "keep_alive",
    "open_tcp_listeners",
    "open_tcp_stream",
    "open_url_listeners",
    "peer_name",
]

NOTSENT_LOWAT_BYTES: Final = 16_384

# CPython names the option on Linux only; macOS has it under this number (sys/socket headers of XNU).
_TCP_NOTSENT_LOWAT: Final[int | None] = getattr(
    stdlib_socket, "TCP_NOTSENT_LOWAT", 0x201 if sys.platform == "darwin" else None
)
_PROBES: Final = 4  # unanswered ones after which the kernel gives a silent peer up
_LONGEST_KEEPALIVE: Final = 32_767  # seconds; Linux takes no more

_TCP_USER_TIMEOUT: Final[int | None] = getattr(stdlib_socket, "TCP_USER_TIMEOUT", None)


class ListenError(StreamsError, OSError):
    """An address cannot be listened on; the message is one line and names it.

    `errno` is the kernel's, where there is one.
    """


class ByteCarrier:
    """A carrier over a Trio byte stream: a TCP or Unix socket, TLS, a pipe, a subprocess, a test's memory stream.

    Args:
      stream: the byte stream; the carrier owns it from now on. A stream with `send_eof` gets a clean goodbye.
      peer: who is on the other side, for people; None to ask the socket.
      close_timeout: seconds that `aclose` waits for the peer's end of the goodbye.
    """

    def __init__(self, stream: trio.abc.Stream, *, peer: str | None = None, close_timeout: float = 2.0) -> None:
        self._stream = stream
        self._peer = peer_name(stream) if peer is None else peer
        self._close_timeout = close_timeout
        self._read_bytes = RECEIVE_BYTES
        self._is_receiving = False
        self._is_ended = False  # the peer ended its side, or the world did
        self._is_closed = False
        tune_stream(stream)

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        return self._peer

    async def receive(self) -> bytes:
        """Take the next bytes, at most 64 KiB, growing to 256 KiB while reads come back full; `b""` once the peer has ended its side.

        Raises:
          ConnectionLost: the connection broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic on sockets, TLS and pipes; elsewhere as the stream's own `receive_some`.
        """
        self._is_receiving = True
        try:
            data = await receive_some(self._stream, self._read_bytes)
        except trio.BrokenResourceError as exc:
            self._is_ended = True
            raise ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}") from exc
        finally:
            self._is_receiving = False
        if not data:
            self._is_ended = True
        self._read_bytes = next_read_bytes(self._read_bytes, len(data))
        return bytes(data)  # no copy where it is bytes already

    async def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
          ConnectionLost: the connection broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: Trio's `send_all` may then have sent any part of `data`, and nobody knows which. The driver never
          cancels a send except to kill the connection.
        """
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as exc:
            raise ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}") from exc

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Send all of `chunks`; of many bytes a socket needs no copy.

        Raises:
          ConnectionLost: the connection broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as `send`.
        """
        stream = self._stream
        if not isinstance(stream, trio.SocketStream):
            await self.send(b"".join(chunks))
            return
        try:
            while chunks:
                await send_some(stream.socket, chunks)
        except OSError as exc:
            if stream.socket.fileno() == -1:
                raise trio.ClosedResourceError("this side of the connection was closed") from exc
            raise ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}") from exc

    async def wait_writable(self) -> None:
        """Wait until the kernel would take bytes: on TCP, until less than 16 KiB are unsent.

        Raises:
          ConnectionLost: the connection broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        try:
            await self._stream.wait_send_all_might_not_block()
        except trio.BrokenResourceError as exc:
            raise ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}") from exc

    def is_writable(self) -> bool:
        """Whether the kernel would take bytes now; False where it can't be asked."""
        return not self._is_closed and takes_bytes(self._stream)

    async def aclose(self) -> None:
        """End this side, wait at most `close_timeout` seconds for the peer to end its own, and close. Idempotent.

        Cancellation: closes at once.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            with trio.move_on_after(self._close_timeout):
                await self._linger()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _linger(self) -> None:
        stream = self._stream
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            if not isinstance(stream, trio.abc.HalfCloseableStream):
                # TLS says goodbye in its own close; for the others there is nothing to say.
                await stream.aclose()
                return
            await trio.lowlevel.checkpoint_if_cancelled()  # a forceful close should not look like a goodbye
            await stream.send_eof()
            # A task that still receives would fight with us for the bytes; closing ends it with ClosedResourceError.
            while not self._is_ended and not self._is_receiving:
                if not await stream.receive_some(RECEIVE_BYTES):
                    return


async def connect_tcp(
    host: str, port: int, *, config: ConnectionConfig | None = None, user_timeout: float | None = None
) -> ByteCarrier:
    """Connect to a TCP server.

    Args:
      host: a name or an address.
      port: the port.
      config: for its `connect_timeout` and `close_timeout`; None for the defaults.
      user_timeout: seconds that sent data may stay unacknowledged, where the kernel has `TCP_USER_TIMEOUT`; None for
        the kernel's own patience, which is minutes.

    Returns:
      A carrier that owns the socket.

    Raises:
      ConnectionLost: nobody listens there, or nobody answered in time; one line that says which.
      LocalProtocolError: `host` is no name.
    Cancellation: atomic; nothing stays open.
    """
    config = ConnectionConfig() if config is None else config
    url = f"tcp://{host_port(host, port)}"
    stream = await open_tcp_stream(host, port, url=url, connect_timeout=config.connect_timeout)
    _set_user_timeout(stream.socket, user_timeout)
    return ByteCarrier(stream, close_timeout=config.close_timeout)


async def open_tcp_stream(host: str, port: int, *, url: str, connect_timeout: float) -> trio.SocketStream:
    """Open a TCP connection, with a failure that is one line naming `url`.

    Args:
      host: a name or an address.
      port: the port.
      url: what the user asked to connect to, for the message.
      connect_timeout: seconds for all addresses of the name together.

    Returns:
      The connected stream.

    Raises:
      ConnectionLost: nobody listens there, or nobody answered in time.
      LocalProtocolError: `host` is no name.
    Cancellation: atomic; nothing stays open.
    """
    try:
        with resolving(host), trio.fail_after(connect_timeout):
            return await trio.open_tcp_stream(host, port)
    except trio.TooSlowError as exc:
        raise ConnectionLost(f"cannot connect to {url}: no answer within {connect_timeout:g} s") from exc
    except OSError as exc:
        raise ConnectionLost(f"cannot connect to {url}: {describe_fault(exc)}") from exc


async def open_tcp_listeners(
    host: str | None, port: int, *, backlog: int | None = None, user_timeout: float | None = None
) -> list[trio.SocketListener]:
    """Listen on a TCP address.

    The address can be taken again at once after a restart (`SO_REUSEADDR`), except on Windows, where that option
    would let a second server steal it.

    Args:
      host: an address, a name of this machine, or None for every interface.
      port: the port; 0 for one that is free.
      backlog: connections that may wait to be accepted; None for the most that the system allows.
      user_timeout: `TCP_USER_TIMEOUT` of the accepted sockets, in seconds, where the kernel has it; None for its own
        patience.

    Returns:
      One listener for each address that `host` stands for.

    Raises:
      ListenError: the port is taken, or the address is not ours; one line that names it.
      LocalProtocolError: `host` is no name.
    Cancellation: atomic; nothing stays open.
    """
    try:
        with resolving(host):
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    except OSError as exc:
        error = ListenError(f"cannot listen on tcp://{host_port(host or '*', port)}: {describe_fault(exc)}")
        error.errno = exc.errno
        raise error from exc
    for listener in listeners:
        _set_user_timeout(listener.socket, user_timeout)  # Linux hands it on to each accepted socket
    return listeners


async def open_url_listeners(
    scheme: str, host: str, port: int, *, user_timeout: float | None = None
) -> list[trio.SocketListener]:
    """Listen where a URL says: `open_tcp_listeners` for servers that are known by a URL.

    Args:
      scheme: of the URL, for errors.
      host: an address, or a name of this machine.
      port: the port; 0 for one that is free, on the first address of a name: the system would choose another one for
        each, and a URL has room for one.
      user_timeout: as for `open_tcp_listeners`.

    Raises:
      ListenError: the port is taken, or the address is not ours; one line that names the URL.
      LocalProtocolError: `host` is no name.
    Cancellation: atomic; nothing stays open.
    """
    try:
        listeners = await open_tcp_listeners(host, port, user_timeout=user_timeout)
    except ListenError as exc:
        error = ListenError(f"cannot listen on {scheme}://{host_port(host, port)}: {describe_fault(exc)}")
        error.errno = exc.errno
        raise error from exc
    if port == 0:
        for listener in listeners[1:]:
            listener.socket.close()
        del listeners[1:]
    return guard_listeners(listeners)


def peer_name(stream: trio.abc.Stream) -> str:
    """Who is on the other side of a byte stream, for people.

    Returns:
      `127.0.0.1:5123`, `[::1]:5123`, `unix` or a socket's path, or the type of a stream that has no address.
    """
    inner: trio.abc.Stream = stream
    while isinstance(inner, trio.SSLStream):
        inner = cast("trio.SSLStream[trio.abc.Stream]", inner).transport_stream
    if not isinstance(inner, trio.SocketStream):
        return type(inner).__name__
    try:
        address: object = inner.socket.getpeername()
    except OSError:
        return "disconnected peer"
    if isinstance(address, tuple):
        host, port, *_ = cast("tuple[str, int]", address)
        return host_port(host, port)
    return str(address) or "unix"


def tune_stream(stream: trio.abc.Stream) -> None:
    """Tell the kernel what a driver needs of a TCP socket; anything else is left alone."""
    if not isinstance(stream, trio.SocketStream):
        return
    # Trio sets NODELAY, and LOWAT where CPython names it. The user may have changed either, and macOS lacks the name.
    with contextlib.suppress(OSError):  # a Unix socket has no such options
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        if _TCP_NOTSENT_LOWAT is not None:
            stream.setsockopt(trio.socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)


def keep_alive(stream: trio.SocketStream, idle_timeout: float | None) -> None:
    """Have the kernel notice that a silent peer's machine is gone, for dialects that have no ping; TCP only.

    It asks after half of the time, and the connection breaks after about all of it; whole seconds are the finest it knows.

    Args:
      stream: connected.
      idle_timeout: seconds; None leaves the socket as it is.
    """
    if idle_timeout is None:
        return
    socket = trio.socket
    values = {"TCP_KEEPIDLE": idle_timeout / 2, "TCP_KEEPINTVL": idle_timeout / (2 * _PROBES), "TCP_KEEPCNT": _PROBES}
    with contextlib.suppress(OSError):  # a Unix socket has no such options
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in values.items():
            if (option := getattr(socket, name, None)) is not None:
                stream.setsockopt(socket.IPPROTO_TCP, option, min(max(1, math.ceil(value)), _LONGEST_KEEPALIVE))


def takes_bytes(stream: trio.abc.Stream) -> bool:
    """Ask the kernel, without waiting, whether a stream's socket takes bytes.

    `poll` counts `TCP_NOTSENT_LOWAT` in, as `wait_writable` does.

    Args:
      stream: open, or closed by somebody else meanwhile.

    Returns:
      The answer; False for what is no socket, or is closed, and on Windows, which has no `poll`.
    """
    if sys.platform == "win32" or not isinstance(stream, trio.SocketStream):
        return False
    descriptor = stream.socket.fileno()
    if descriptor < 0:
        return False  # whoever waits or sends next is told
    poll = select.poll()  # a new one costs half a microsecond; to keep one costs each connection half a KiB
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _set_user_timeout(socket: trio.socket.SocketType, user_timeout: float | None) -> None:
    if user_timeout is not None and _TCP_USER_TIMEOUT is not None:
        socket.setsockopt(trio.socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, max(1, int(user_timeout * 1000)))


def host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe_fault(exc: BaseException) -> str:
    """Why the kernel refused, in its own words and in lower case, from under whatever Trio wrapped around it."""
    inner: BaseException = exc
    while True:
        if isinstance(inner, BaseExceptionGroup):
            # All addresses of a name fail alike in practice; the first one speaks for them.
            inner = cast("BaseExceptionGroup[BaseException]", inner).exceptions[0]
        elif inner.__cause__ is not None:
            inner = inner.__cause__
        else:
            break
    if isinstance(inner, ssl.SSLError):
        return inner.reason or str(inner)  # its errno is OpenSSL's, and means something else to the kernel
    if isinstance(inner, OSError) and inner.errno is not None:
        text = inner.strerror if isinstance(inner, stdlib_socket.gaierror) else os.strerror(inner.errno)
        return (text or str(inner)).lower()
    return str(inner) or type(inner).__name__

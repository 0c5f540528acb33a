"""A UDP socket that takes and gives many datagrams a system call, where the kernel can.

The kernel joins what one peer sent in a row (GRO) and cuts up what is sent to one peer in a row (GSO). Where it can't, or its
network card refuses when it comes to it, datagrams go one by one. A datagram that can't be sent is a lost one, and losses are
QUIC's business: nothing but the end of the socket is an error here.
"""

from __future__ import annotations

import contextlib
import errno
import socket as stdlib_socket
import sys
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from trio_streams.transports.host_names import resolving
from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.udp_options import (
    SOL_UDP,
    UDP_SEGMENT,
    can_join,
    can_segment,
    forbid_fragments,
    set_buffers,
)

__all__ = ["DatagramSocket", "UdpSocket", "bind_udp", "connect_udp"]

_MOST_DATAGRAMS: Final = 64
"""In one go: then others get their turn. A joined read may bring as many again."""

_MOST_SEGMENTS: Final = 64  # UDP_MAX_SEGMENTS of older kernels
_MOST_SEGMENTED_BYTES: Final = 65_000  # below what the length field of IP can say, with every header
_READ_BYTES: Final = 65_535
_JOINED_SPACE: Final = 64  # for one control message with an int, with room to spare
_BUFFER_BYTES: Final = 4_194_304
"""Asked of the kernel. 64 KiB would be full within a millisecond, and what comes then is lost."""

_NO_OFFLOAD: Final = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT})
"""What kernels and network cards answer to a write that they can't cut up."""


class DatagramSocket(Protocol):
    """What an endpoint asks of its socket: tests have one without a network."""

    @property
    def address(self) -> Address:
        """Where it is bound to."""
        ...

    async def wait_readable(self) -> None:
        """Wait until there may be something to receive."""
        ...

    def receive_nowait(self) -> list[tuple[bytes, Address]]:
        """Take what is here, about 64 datagrams at most; empty where nothing is."""
        ...

    async def wait_writable(self) -> None:
        """Wait until there may be room to send."""
        ...

    def send_nowait(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send from the start of a list until there is no more room. What can't be sent for another reason counts as lost.

        Returns:
          How many are done with.
        """
        ...

    def take_refusal(self) -> bool:
        """Whether a connected socket was told, since the last call, that nobody listens at its peer's port."""
        ...

    def close(self) -> None:
        """Close it, which wakes whoever waits with `trio.ClosedResourceError`."""
        ...


class UdpSocket:
    """A `DatagramSocket` of the kernel. `bind_udp` and `connect_udp` make it.

    Args:
      socket: bound or connected; it belongs to this object from here on.
      peer: whom it is connected to; None for a socket that receives from anybody.

    Attributes:
      segments: whether runs of datagrams go to the kernel as one write; it turns false if that fails.
      lost_datagrams: how many could not be sent.
    """

    def __init__(self, socket: stdlib_socket.socket, peer: Address | None = None) -> None:
        socket.setblocking(False)
        set_buffers(socket, _BUFFER_BYTES)
        forbid_fragments(socket)
        self._socket = socket
        self._peer = peer
        self._is_refused = False
        self._joins = can_join(socket)
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self.segments: bool = can_segment(socket)
        self.lost_datagrams: int = 0

    @property
    def address(self) -> Address:
        """Where it is bound to."""
        return self._socket.getsockname()

    def close(self) -> None:
        """Close it, which wakes whoever waits with `trio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def take_refusal(self) -> bool:
        """Whether a connected socket was told, since the last call, that nobody listens at its peer's port."""
        was_refused, self._is_refused = self._is_refused, False
        return was_refused

    # Receiving.

    async def wait_readable(self) -> None:
        """Wait until there may be something to receive.

        Raises:
          trio.ClosedResourceError: it was closed here.
        Cancellation: atomic.
        """
        self._check_open()
        await trio.lowlevel.wait_readable(self._socket)

    def receive_nowait(self) -> list[tuple[bytes, Address]]:
        """Take what is here, about 64 datagrams at most; empty where nothing is.

        Raises:
          trio.ClosedResourceError: it was closed here.
        """
        self._check_open()
        found: list[tuple[bytes, Address]] = []
        receive_into = self._receive_joined if self._joins else self._receive_plain
        # Errors are counted, too: each is one datagram that somebody refused.
        for _ in range(_MOST_DATAGRAMS):
            try:
                receive_into(found)
            except BlockingIOError:
                break
            except OSError as exc:
                self._note_error(exc)
            if len(found) >= _MOST_DATAGRAMS:
                break
        return found

    def _receive_plain(self, found: list[tuple[bytes, Address]]) -> None:
        found.append(self._socket.recvfrom(_READ_BYTES))

    def _receive_joined(self, found: list[tuple[bytes, Address]]) -> None:
        size, told, _, addr = self._socket.recvmsg_into([self._buffer], _JOINED_SPACE)
        view = self._view
        if not told:
            found.append((bytes(view[:size]), addr))
            return
        # Nothing else was asked to be told.
        step = int.from_bytes(told[0][2], sys.byteorder)
        found.extend((bytes(view[start : min(start + step, size)]), addr) for start in range(0, size, step))

    # Sending.

    async def wait_writable(self) -> None:
        """Wait until there may be room to send.

        Raises:
          trio.ClosedResourceError: it was closed here.
        Cancellation: atomic.
        """
        self._check_open()
        await trio.lowlevel.wait_writable(self._socket)

    def send_nowait(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send from the start of a list until there is no more room. What can't be sent for another reason counts as lost.

        Args:
          datagrams: each with where it goes to.

        Returns:
          How many are done with.

        Raises:
          trio.ClosedResourceError: the socket was closed here.
        """
        self._check_open()
        done = 0
        total = len(datagrams)
        with contextlib.suppress(BlockingIOError):
            while done < total:
                end = self._run_end(datagrams, done) if self.segments else done + 1
                if end - done == 1 or not self._send_run(datagrams[done:end]):
                    end = done + 1
                    self._send_one(*datagrams[done])
                done = end
        return done

    def _run_end(self, datagrams: Sequence[tuple[bytes, Address]], start: int) -> int:
        """Behind the datagrams from `start` that one write can take: all of one size to one address, and a shorter one last."""
        first, to = datagrams[start]
        size = len(first)
        most = min(len(datagrams), start + min(_MOST_SEGMENTS, _MOST_SEGMENTED_BYTES // max(1, size)))
        end = start + 1
        while end < most:
            data, addr = datagrams[end]
            # What is empty would vanish among the others.
            if not 0 < len(data) <= size or (addr is not to and addr != to):
                break
            end += 1
            if len(data) < size:
                break
        return end

    def _send_run(self, run: Sequence[tuple[bytes, Address]]) -> bool:
        """Send several as one write, where that is possible."""
        first, addr = run[0]
        told = [(SOL_UDP, UDP_SEGMENT, len(first).to_bytes(2, sys.byteorder))]
        chunks = [data for data, _ in run]
        try:
            self._socket.sendmsg(chunks, told, 0, None if addr == self._peer else addr)
        except BlockingIOError:
            raise
        except OSError as exc:
            if exc.errno in _NO_OFFLOAD:
                self.segments = False
            self._note_error(exc)
            return False
        return True

    def _send_one(self, data: bytes, addr: Address) -> None:
        # A second time, since what the first call may say was the fate of an earlier datagram.
        for _ in range(2):
            try:
                if addr == self._peer:
                    self._socket.send(data)
                else:
                    self._socket.sendto(data, addr)
            except BlockingIOError:
                raise
            except ConnectionError as exc:
                self._note_error(exc)
            except OSError:
                break
            else:
                return
        self.lost_datagrams += 1

    def _note_error(self, exc: OSError) -> None:
        # Windows says it by a reset, and says it of sockets that are not connected, where it means nothing.
        if isinstance(exc, (ConnectionRefusedError, ConnectionResetError)) and self._peer is not None:
            self._is_refused = True

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this socket was closed")


def bind_udp(host: str, port: int) -> UdpSocket:
    """A server's socket. It has one family: what is reachable by both has two sockets.

    Args:
      host: an address, or a name of this machine.
      port: 0 for a free one.

    Raises:
      OSError: it can't be bound.
      LocalProtocolError: `host` is no name.
    """
    with resolving(host):
        found = stdlib_socket.getaddrinfo(host, port, type=stdlib_socket.SOCK_DGRAM, flags=stdlib_socket.AI_PASSIVE)
    family, _, _, _, addr = found[0]
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(stdlib_socket.socket(family, stdlib_socket.SOCK_DGRAM))
        if family == stdlib_socket.AF_INET6:
            socket.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
        socket.bind(addr)
        stack.pop_all()
    return UdpSocket(socket)


def connect_udp(addr: Address) -> UdpSocket:
    """A client's socket: only its peer's datagrams are received, and that nobody listens there is noticed.

    Args:
      addr: as `getaddrinfo` gives it, of IPv4 or IPv6.

    Raises:
      OSError: there is no way to the address.
    """
    family = stdlib_socket.AF_INET if len(addr) == 2 else stdlib_socket.AF_INET6
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(stdlib_socket.socket(family, stdlib_socket.SOCK_DGRAM))
        socket.connect(addr)
        stack.pop_all()
    return UdpSocket(socket, socket.getpeername())

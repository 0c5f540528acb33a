"""What kernels are told of a UDP socket. Each option is tried, and does without where it is not known.

Python does not name most of them; the numbers are those of each system's headers.
"""

from __future__ import annotations

import contextlib
import socket as stdlib_socket
import sys
from collections.abc import Iterable
from typing import Final

__all__ = ["SOL_UDP", "UDP_SEGMENT", "can_join", "can_segment", "forbid_fragments", "set_buffers"]

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104

_NO_FRAGMENTS: Final[dict[str, dict[int, tuple[tuple[int, int], ...]]]] = {
    # On Linux PROBE sets the flag and forgets what the path is said to carry, so that a forged ICMP can't shrink it; DO is older.
    "linux": {stdlib_socket.AF_INET: ((10, 3), (10, 2)), stdlib_socket.AF_INET6: ((23, 3), (23, 2))},
    "darwin": {stdlib_socket.AF_INET: ((28, 1),), stdlib_socket.AF_INET6: ((62, 1),)},
    "win32": {stdlib_socket.AF_INET: ((14, 1),), stdlib_socket.AF_INET6: ((14, 1),)},
}
"""By platform and family: options and values, of which the first that is taken counts."""


def can_segment(socket: stdlib_socket.socket) -> bool:
    """Whether the kernel may cut one write into datagrams (GSO); a network card can still refuse it."""
    if sys.platform != "linux" or not hasattr(socket, "sendmsg"):
        return False
    try:
        socket.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def can_join(socket: stdlib_socket.socket) -> bool:
    """Let the kernel join datagrams of one sender in a read (GRO), and say whether it may."""
    if sys.platform != "linux" or not hasattr(socket, "recvmsg_into"):
        return False
    return _set_first(socket, SOL_UDP, ((_UDP_GRO, 1),))


def forbid_fragments(socket: stdlib_socket.socket) -> bool:
    """Let datagrams that are too large for the path be lost, not cut up (RFC 9000 §14), and say whether that is possible."""
    level = stdlib_socket.IPPROTO_IPV6 if socket.family == stdlib_socket.AF_INET6 else stdlib_socket.IPPROTO_IP
    return _set_first(socket, level, _NO_FRAGMENTS.get(sys.platform, {}).get(socket.family, ()))


def set_buffers(socket: stdlib_socket.socket, size_bytes: int) -> None:
    """Ask for room in the kernel, which may give less."""
    for option in (stdlib_socket.SO_RCVBUF, stdlib_socket.SO_SNDBUF):
        with contextlib.suppress(OSError):
            socket.setsockopt(stdlib_socket.SOL_SOCKET, option, size_bytes)


def _set_first(socket: stdlib_socket.socket, level: int, choices: Iterable[tuple[int, int]]) -> bool:
    for option, value in choices:
        with contextlib.suppress(OSError):
            socket.setsockopt(level, option, value)
            return True
    return False

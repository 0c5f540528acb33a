"""Unix sockets: byte streams between processes of one machine, named by a file or, on Linux, by an abstract name.

A socket's file outlives a server that crashed, and then nobody can bind there; but to remove what is in the way may take a
running server's place. So: bind beside it, set the permissions before anybody can connect, look whether the old socket
still answers, and rename over it. At no moment is there no file, or one with wrong permissions. A lock on the directory
keeps two servers that start at once from both finding the place free. Anything but a dead socket is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket as stdlib_socket
import stat
import struct
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import trio

from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost
from trio_streams.transports.admission import guard_listeners
from trio_streams.transports.bytes import ByteCarrier, ListenError, describe_fault, peer_name

__all__ = ["DEFAULT_MODE", "connect_unix", "open_unix_listener", "unix_peer"]

DEFAULT_MODE: Final = 0o600
"""Who may connect, unless said otherwise: this user."""

_LOCK_SECONDS: Final = 1.0
"""The lock guards a handful of system calls; who holds it for longer is no server of ours."""

_RETRY_SECONDS: Final = 0.01
_MAX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103  # `sun_path`, without the NUL
_PEER_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: `struct ucred` of Linux


async def connect_unix(path: str, *, config: ConnectionConfig | None = None) -> ByteCarrier:
    """Connect to a Unix socket.

    Args:
      path: its file; or `@` and an abstract name, on Linux.
      config: for its `connect_timeout` and `close_timeout`; None for the defaults.

    Returns:
      A carrier that owns the socket.

    Raises:
      ConnectionLost: nobody listens there, or nobody accepted in time; one line that says which.
    Cancellation: atomic; nothing stays open.
    """
    config = ConnectionConfig() if config is None else config
    try:
        with trio.fail_after(config.connect_timeout):
            stream = await _open_stream(_kernel_name(path))
    except trio.TooSlowError as exc:
        raise ConnectionLost(
            f"cannot connect to unix:{path}: it accepts nobody within {config.connect_timeout:g} s"
        ) from exc
    except OSError as exc:
        raise ConnectionLost(f"cannot connect to unix:{path}: {describe_fault(exc)}") from exc
    return ByteCarrier(stream, peer=f"unix:{path}", close_timeout=config.close_timeout)


async def _open_stream(name: str) -> trio.SocketStream:
    while True:
        socket = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            await socket.connect(name)
            socket.getpeername()
        except OSError as exc:
            socket.close()
            # Linux answers EAGAIN where a backlog is full. That looks like a connection under way, and is none.
            if exc.errno not in {errno.EAGAIN, errno.ENOTCONN}:
                raise
            await trio.sleep(_RETRY_SECONDS)
        except BaseException:
            socket.close()
            raise
        else:
            return trio.SocketStream(socket)


@contextlib.asynccontextmanager
async def open_unix_listener(path: str, *, mode: int | None = None) -> AsyncGenerator[trio.SocketListener, None]:
    """Listen on a Unix socket for as long as the block; its file is removed at the end.

    The file of a server that is gone is replaced; a server that still answers, and what is no socket, is not.

    Args:
      path: its file; or `@` and an abstract name, on Linux.
      mode: the file's permissions; None for 600. An abstract name has none: anybody on the machine may connect.

    Yields:
      The listener.

    Raises:
      ListenError: the place is taken or can't be used; one line that names it.
    Cancellation: nothing stays behind.
    """
    socket = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(socket.close)
        try:
            if path.startswith("@"):
                await socket.bind(_kernel_name(path))
                socket.listen()
            else:
                await _bind_file(socket, path, DEFAULT_MODE if mode is None else mode)
                stack.push_async_callback(_remove, Path(path), _identity(Path(path)))
        except (OSError, ValueError) as exc:
            raise _listen_error(path, exc) from exc
        # The file is removed while the socket is open: until then no other file can have its inode's number.
        (listener,) = guard_listeners([trio.SocketListener(socket)])
        yield listener


def unix_peer(stream: trio.SocketStream) -> str:
    """Who is on the other side of an accepted Unix socket, for people.

    Returns:
      `unix:pid=4711,uid=1000`, as the kernel vouches for; elsewhere than on Linux, the socket's name.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            data = stream.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
            pid, uid, _ = _PEER_CREDENTIALS.unpack(bytes(data))
            return f"unix:pid={pid},uid={uid}" if pid else f"unix:uid={uid}"  # 0: of another namespace
    return peer_name(stream)


def _kernel_name(path: str) -> str:
    return f"\0{path[1:]}" if path.startswith("@") else path


def _listen_error(path: str, exc: Exception) -> ListenError:
    error = ListenError(f"cannot listen on unix:{path}: {describe_fault(exc)}")
    error.errno = exc.errno if isinstance(exc, OSError) else None
    return error


async def _bind_file(socket: trio.socket.SocketType, path: str, mode: int) -> None:
    place = Path(path)
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    # No longer than the name where that can be, since that one fits.
    beside = place.with_name(f".{secrets.token_hex(8)}"[: max(8, len(place.name))])
    await socket.bind(str(beside))
    try:
        beside.chmod(mode)
        socket.listen()
        async with _locked(place.parent):
            _check_replaceable(place)
            beside.rename(place)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _check_replaceable(path: Path) -> None:
    """Raise OSError if there is something at `path` that is not the socket of a server that has gone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError("there is a file that is no socket")
    with stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # its backlog is full: it is busy, not gone
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


async def _remove(path: Path, identity: tuple[int, int]) -> None:
    """Remove the file, unless another server has taken its place."""
    # The shield is bounded by the lock's own patience.
    with trio.CancelScope(shield=True), contextlib.suppress(OSError):
        async with _locked(path.parent):
            _unlink_own(path, identity)


def _unlink_own(path: Path, identity: tuple[int, int]) -> None:
    if _identity(path) == identity:
        path.unlink()


@contextlib.asynccontextmanager
async def _locked(folder: Path) -> AsyncGenerator[None, None]:
    """Keep other servers that start or stop in a directory waiting; best effort on filesystems without locks."""
    import fcntl  # noqa: PLC0415 - not on Windows

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with trio.move_on_after(_LOCK_SECONDS):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await trio.sleep(_RETRY_SECONDS)
                except OSError:
                    break
                else:
                    break
        yield
    finally:
        os.close(descriptor)

"""Unix sockets: their files, who may connect, and what is there already."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
import trio.testing

from tests.transports.links import IMPATIENT
from trio_streams import Context, Router, connect, serve
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import ListenError
from trio_streams.transports.unix import connect_unix, open_unix_listener, unix_peer

app = Router()


@app.call("who")
async def who(ctx: Context) -> str:
    return ctx.peer


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose path is short: the kernel allows 107 bytes for a socket's."""
    with TemporaryDirectory() as name:
        yield Path(name)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("query", "mode"), [("", 0o600), ("?mode=660", 0o660), ("?mode=0666", 0o666)])
async def test_a_socket_has_the_permissions_asked_for(folder: Path, query: str, mode: int) -> None:
    """The file is for this user only unless the URL says otherwise, whatever the umask; it goes with its server."""
    path = folder / "socket"
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, app, f"unix:{path}{query}"))
        assert bound == [f"unix:{path}{query}"]
        assert mode_of(path) == mode
        async with connect(bound[0]) as client:
            await client.call("who", returns=str)
        nursery.cancel_scope.cancel()
    assert names(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word is Linux's")
async def test_the_kernel_says_who_calls(folder: Path) -> None:
    """A handler sees the process and the user on the other side."""
    for url in (f"unix:{folder}/socket", f"unix:@{folder.name}"):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, app, url))
            async with connect(url) as client:
                assert await client.call("who", returns=str) == f"unix:pid={os.getpid()},uid={os.getuid()}"
            nursery.cancel_scope.cancel()
    assert names(folder) == []


async def test_the_socket_of_a_dead_server_is_replaced(folder: Path) -> None:
    """What a crashed server left is replaced, and at no time is there nothing."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with open_unix_listener(str(path)) as listener:
        client = await connect_unix(str(path), config=IMPATIENT)
        async with await listener.accept():
            await client.aclose()
    assert names(folder) == []


async def test_a_server_that_lives_is_left_alone(folder: Path) -> None:
    """A socket that somebody answers is not taken away, busy or not, and nothing is left beside it."""
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen(0)
        for _ in range(3):  # the third finds a backlog that is full
            with pytest.raises(ListenError, match=f"cannot listen on unix:{path}: address already in use"):
                async with open_unix_listener(str(path)):
                    pytest.fail("took it away")
    assert names(folder) == ["socket"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_is_left_alone(folder: Path, kind: str) -> None:
    """A file, a directory or a link is never replaced."""
    path = folder / "socket"
    make: dict[str, Callable[[], None]] = {
        "file": partial(write, path, "precious"),
        "folder": path.mkdir,
        "link": partial(path.symlink_to, folder / "elsewhere"),
    }
    make[kind]()
    with pytest.raises(ListenError, match="there is a file that is no socket"):
        async with open_unix_listener(str(path)):
            pytest.fail("took it away")
    assert names(folder) == ["socket"]


async def test_a_file_that_changed_hands_is_left_to_its_new_owner(folder: Path) -> None:
    """A server removes only the file that it made."""
    path = folder / "socket"
    async with open_unix_listener(str(path)):
        remove(path)
        async with open_unix_listener(str(path)):
            assert names(folder) == ["socket"]
        assert names(folder) == []
        write(path, "somebody else's")
    assert names(folder) == ["socket"]


async def test_two_servers_at_once_take_turns(folder: Path) -> None:
    """Of two that start at the same time one gets the place, and the other one is told."""
    path = str(folder / "socket")
    outcomes: list[str] = []

    async def start(scope: trio.CancelScope) -> None:
        with scope:
            try:
                async with open_unix_listener(path):
                    outcomes.append("listens")
                    await trio.sleep_forever()
            except ListenError:
                outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(start, trio.CancelScope())
        with trio.fail_after(30):
            while len(outcomes) < 2:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert sorted(outcomes) == ["listens", "refused"]
    assert names(folder) == []


async def test_nobody_there(folder: Path) -> None:
    """A connection that fails is one line that names the URL and the reason."""
    with pytest.raises(ConnectionLost, match=f"^cannot connect to unix:{folder}/none: no such file or directory$"):
        await connect_unix(f"{folder}/none")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{folder}/dead")
    with pytest.raises(ConnectionLost, match="connection refused"):
        await connect_unix(f"{folder}/dead")
    with pytest.raises(ListenError, match="cannot listen on unix:"):
        async with open_unix_listener(f"{folder}/{'x' * 120}"):
            pytest.fail("listens")
    with pytest.raises(ListenError, match="no such file or directory"):
        async with open_unix_listener(f"{folder}/no/where"):
            pytest.fail("listens")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel refuses at once")
async def test_a_full_backlog_is_waited_for(folder: Path) -> None:
    """A server that accepts nobody is waited for until `connect_timeout`, and a call then goes through."""
    path = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(path)
        busy.listen(0)
        first = await connect_unix(path, config=IMPATIENT)
        with pytest.raises(ConnectionLost, match="it accepts nobody within 0.05 s"):
            await connect_unix(path, config=ConnectionConfig(connect_timeout=0.05))

        async def accept() -> None:
            await trio.testing.wait_all_tasks_blocked()
            busy.accept()[0].close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            second = await connect_unix(path, config=IMPATIENT)
        for carrier in (first, second):
            await carrier.aclose()


async def test_cancelling_leaves_no_file(folder: Path) -> None:
    """A server that is cancelled, even before it listens, leaves nothing behind."""
    for turns in range(4):
        with trio.CancelScope() as scope:
            if not turns:
                scope.cancel()
            async with open_unix_listener(str(folder / "socket")):
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert names(folder) == []
    with trio.CancelScope() as scope:
        scope.cancel()
        await connect_unix(str(folder / "socket"))
    assert scope.cancelled_caught


async def test_the_peer_of_an_unnamed_socket() -> None:
    """A socket without a name has a peer all the same."""
    left, right = socket.socketpair()
    async with trio.SocketStream(trio.socket.from_stdlib_socket(left)) as stream:
        assert unix_peer(stream).startswith("unix")
    right.close()

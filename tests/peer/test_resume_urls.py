"""`open_peer` and `serve_peers` with sessions, over a real network that is cut."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.conformance.relay import Relay, open_relay
from tests.peer.cuts import Books, converse
from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.peer import ReconnectOptions, ResumeOptions, RpcPeer
from trio_streams.testing.peers import until
from trio_streams.urls import Drain, open_peer, serve_peers

AT_ONCE = ReconnectOptions(initial_delay=0.01)
PATIENCE = 60


class Served:
    """A server, and the network before it.

    Attributes:
      peers: those that have come.
      books: what their handlers have done.
      drain: ends the server.
      over: set when it has ended.
      relay: the network.
    """

    def __init__(self) -> None:
        self.peers: list[RpcPeer] = []
        self.books = Books()
        self.drain = Drain()
        self.over = trio.Event()
        self.relay: Relay

    async def handle(self, peer: RpcPeer) -> None:
        self.books.declare(peer)
        self.peers.append(peer)

        @peer.method("wait")
        async def wait() -> None:
            await trio.sleep_forever()

        await peer.wait_closed()


@asynccontextmanager
async def serving(scheme: str, folder: Path, **options: Any) -> AsyncGenerator[Served, None]:
    served = Served()
    url = f"unix:{folder / 'socket'}" if scheme == "unix" else f"{scheme}://127.0.0.1:0"

    async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await serve_peers(
            served.handle,
            url,
            drain=served.drain,
            task_status=task_status,
            **{"resume": True, **options},
        )
        served.over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            (bound,) = await nursery.start(serve)
            async with open_relay(bound, folder) as served.relay:
                yield served
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["tcp", "unix", "ws"])
async def test_both_sides_go_on(scheme: str, tmp_path: Path) -> None:
    """A conversation from both sides, cut again and again: there is one handler, each call is made once, each item comes once."""
    async with serving(scheme, tmp_path) as served, open_peer(served.relay.url, reconnect=AT_ONCE) as peer:
        near = Books()
        near.declare(peer)
        await until(lambda: bool(served.peers))
        is_over = trio.Event()

        async def cut() -> None:
            for _ in range(8):  # a machine that is busy elsewhere shall get on between two cuts
                await trio.sleep(0.05)
                if not is_over.is_set():
                    served.relay.cut()

        async with trio.open_nursery() as cutting:
            cutting.start_soon(cut)
            async with trio.open_nursery() as nursery:
                for one, other in ((peer, served.peers[0]), (served.peers[0], peer)):
                    nursery.start_soon(partial(converse, one, other, calls=30, items=2_000))
            served.relay.cut()
            is_over.set()
        await until(lambda: len(near.told) == len(served.books.told) == 30)
        assert near.calls == served.books.calls == list(range(30))
        await until(lambda: peer.connection.statistics().resumes > 0)
        assert len(served.peers) == 1  # a connection that is cut before its hello is nobody's
        await peer.drain()


async def test_only_the_same_principal_comes_back(tmp_path: Path) -> None:
    """Whoever `identify` takes for somebody else gets one clear error."""
    names = itertools.chain(["alice"], itertools.repeat("mallory"))
    options = ResumeOptions(identify=lambda carrier: next(names))
    async with (
        serving("tcp", tmp_path, resume=options) as served,
        open_peer(served.relay.url, reconnect=AT_ONCE) as peer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_cut_once, served)
        with pytest.raises(ConnectionLost, match="^Connection closed: .*could not be resumed"):
            await peer.request({"method": "wait"})


@pytest.mark.parametrize(("there", "here"), [(None, True), (True, None)], ids=["no server", "no client"])
async def test_one_side_alone_changes_nothing(tmp_path: Path, there: bool | None, here: bool | None) -> None:
    """Where only one of the two asks for sessions a cut closes the connection, and nobody connects again."""
    async with (
        serving("tcp", tmp_path, resume=there) as served,
        open_peer(served.relay.url, resume=here) as peer,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_once, served)
            with pytest.raises(ConnectionLost, match="^Connection closed: "):
                await peer.request({"method": "wait"})
        assert served.relay.count == 1


async def _cut_once(served: Served) -> None:
    await until(lambda: bool(served.peers) and bool(served.peers[0].connection.streams))
    served.relay.cut()


async def test_a_drain_ends_sessions(tmp_path: Path) -> None:
    """A server that drains lets go of a session that has nothing under way; its client does not come back."""
    async with serving("tcp", tmp_path) as served, open_peer(served.relay.url, reconnect=AT_ONCE) as peer:
        assert (await peer.request({"method": "call", "params": [1]})).data == 2
        served.drain.begin()
        await served.over.wait()
        assert not served.drain.was_cut
        await peer.wait_closed()
        assert served.relay.count == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [({"resume": False, "reconnect": AT_ONCE}, "reconnect"), ({"resume": True}, "resume")],
    ids=["nothing to resume", "a process"],
)
async def test_what_can_not_be_had_is_refused(options: dict[str, Any], field: str) -> None:
    """That is said before anything is opened."""
    url = "process:true" if field == "resume" else "tcp://127.0.0.1:1"
    with pytest.raises(LocalProtocolError, match="can't re") as caught:
        async with open_peer(url, **options):
            raise AssertionError("it is open")
    assert caught.value.field == field

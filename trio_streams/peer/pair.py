"""Two peers in one process: for tests, examples, and parts of a program that should not know each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_connection
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer.peer import RpcPeer
from trio_streams.peer.signal import PeerDialect, Signal
from trio_streams.peer.stream_options import StreamOptions
from trio_streams.transports.memory import memory_carrier_pair

__all__ = ["open_peer_pair"]


def _make_none(*, is_client: bool) -> None:
    """Our own dialect has a machine of its own for either side."""


@asynccontextmanager
async def open_peer_pair(
    *,
    config: ConnectionConfig | None = None,
    options: StreamOptions | None = None,
    dialect: PeerDialect = "trio-streams",
) -> AsyncIterator[tuple[RpcPeer, RpcPeer]]:
    """Open two peers that talk to each other, for as long as the block.

    Args:
      config: limits and timeouts of the connection between them; None for those that `options` make.
      options: limits of streams, for both.
      dialect: what they speak: ours, or the JSON messages of ts-signal-rpc.

    Cancellation: what is under way is cancelled on both sides.
    """
    options = options or StreamOptions()
    config = config or options.connection_config()
    near, far = memory_carrier_pair()
    signal = Signal.choose(options, config, None, name=None)
    make = partial(signal.machine_maker, is_text=False, signs=None) if dialect == "signal" else _make_none
    opened, is_over = trio.Event(), trio.Event()
    others: list[RpcPeer] = []

    async def run_other() -> None:
        async with (
            run_connection(far, is_client=False, config=config, make_machine=make(is_client=False)) as connection,
            RpcPeer(connection, options=options) as other,
        ):
            others.append(other)
            opened.set()
            await is_over.wait()

    async with open_bare_nursery() as nursery:
        nursery.start_soon(run_other)  # each waits for the other's hello
        async with (
            run_connection(near, is_client=True, config=config, make_machine=make(is_client=True)) as connection,
            RpcPeer(connection, options=options) as peer,
        ):
            await opened.wait()
            yield peer, others[0]
        is_over.set()

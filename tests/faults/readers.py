"""Readers of streams that keep what they get: handlers of a server, and the tasks of a client."""

from __future__ import annotations

from contextlib import AsyncExitStack

import attrs
import trio

from tests.faults.traces import Said
from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.driver import run_client, run_server
from trio_streams.errors import ConnectionLost, RpcError, StreamReset, StreamStopped
from trio_streams.testing.peers import ByteItems

__all__ = ["Readers"]


@attrs.define
class Readers:
    """Both ends' programs, and what they saw.

    Attributes:
      streams: what was read of each stream.
      refused: why the client was not let in, if it was not.
    """

    streams: dict[int, Said] = attrs.field(factory=dict)
    refused: Exception | None = None
    running: int = 0

    async def serve(self, carrier: Carrier, config: ConnectionConfig | None = None) -> None:
        """A server whose handlers read, or send."""
        await run_server(
            carrier, lambda stream: self._produce if stream.name == "produce" else self._collect, config=config
        )

    async def _collect(self, stream: ByteItems) -> None:
        said = self.streams.setdefault(stream.id, Said())
        self.running += 1
        try:
            await _read(stream, said)
        except trio.Cancelled:
            said.ending = "reset" if isinstance(stream.cancel_reason, StreamReset) else "lost"
            raise
        finally:
            self.running -= 1

    async def _produce(self, stream: ByteItems) -> None:
        self.streams.setdefault(stream.id, Said())
        self.running += 1
        try:
            while True:
                await stream.send(b"x" * 1_000)
        finally:
            self.running -= 1

    async def call(self, carrier: Carrier, config: ConnectionConfig | None = None) -> None:
        """A client that opens the streams 1 to 9 and reads each to its end."""
        try:
            async with run_client(carrier, config=config) as connection, AsyncExitStack() as stack:
                streams = [await stack.enter_async_context(connection.open_stream("any")) for _ in range(5)]
                async with trio.open_nursery() as nursery:
                    for stream in streams:
                        said = self.streams[stream.id] = Said()
                        nursery.start_soon(_read, stream, said)
                    nursery.start_soon(_send, streams[2])
        except ConnectionLost as exc:
            assert not self.streams, "with streams open, only they tell of the loss"
            self.refused = exc


async def _read(stream: ByteItems, said: Said) -> None:
    try:
        async for item in stream:
            said.items.append(item)
        said.ending = "end"
    except StreamReset:
        said.ending = "reset"
    except RpcError:
        said.ending = "status"
    except ConnectionLost:
        said.ending = "lost"


async def _send(stream: ByteItems) -> None:
    try:
        while True:
            await stream.send(b"y" * 1_000)
    except (StreamStopped, ConnectionLost):
        pass

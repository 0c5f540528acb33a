"""The demo's own clients: they use every procedure over every transport, so that there is something to see."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_streams.config import ReconnectOptions
from trio_streams.demo.upload import Chunk, Uploaded
from trio_streams.demo.watch import OWN, Watch
from trio_streams.errors import RpcError
from trio_streams.procedures.client import Client
from trio_streams.urls import connect

__all__ = ["Clients", "Report"]

Report = Callable[[str, str, object], Awaitable[None]]
"""Told of each item that a client takes: the transport, the procedure, the item."""

_CHUNK_BYTES: Final = 16_384
_UPLOAD_BYTES: Final = 1_048_576
"""What is sent of a large file: at the pace below it takes three seconds, long enough to be seen."""
_CHUNK_PAUSE: Final = 0.05
_FIRST_PAUSE: Final = 0.5
"""By then the log has some lines."""
_UPLOAD_PAUSE: Final = 4.0
_SLOW_PAUSE: Final = 0.5
_BACK: Final = ReconnectOptions(initial_delay=0.2, max_delay=1.0)
"""A person is watching."""
_SLOW_MARK: Final = 16


@attrs.frozen
class Clients:
    """The clients of one demo.

    Args:
      watch: shows their streams.
      report: is told what they take.
      log_path: a file to upload.
    """

    watch: Watch
    report: Report
    log_path: Path

    async def run(self, urls: dict[str, str]) -> None:
        """Use the demo until cancelled.

        Args:
          urls: by scheme: `tcp`, `ws` and `http`; the first two may lose their network.

        Raises:
          Exception: what the procedures should not have raised.
        """
        async with (
            connect(urls["tcp"], reconnect=_BACK) as tcp,
            connect(urls["ws"], reconnect=_BACK) as ws,
            connect(urls["http"]) as http,
            trio.open_nursery() as nursery,
        ):
            self.watch.goes_on("tcp", tcp)
            self.watch.goes_on("ws", ws)
            nursery.start_soon(self._call, tcp)
            nursery.start_soon(self._stream, tcp, "tcp", "system.cpu", {"interval": 1.0})
            nursery.start_soon(self._stream, tcp, "tcp", "system.memory", {"interval": 1.0})
            nursery.start_soon(self._upload, tcp)
            nursery.start_soon(self._job, ws)
            nursery.start_soon(self._chat, tcp, "tcp", "ada", ["hello over TCP", "status"])
            nursery.start_soon(self._stream, ws, "ws", "system.network", {"interval": 1.0})
            nursery.start_soon(self._stream_slowly, ws)
            nursery.start_soon(self._chat, ws, "ws", "bob", ["hello over WebSocket"])
            nursery.start_soon(self._stream, http, "sse", "system.disk", {"interval": 1.0})
            nursery.start_soon(self._stream, http, "sse", "logs.tail", {"limit": 5})

    async def _call(self, client: Client) -> None:
        await self.report("tcp", "system.info", await client.call("system.info", metadata=OWN))
        try:
            await client.call("system.coffee", metadata=OWN)
        except RpcError as exc:
            await self.report("tcp", "system.coffee", {"error": exc.code, "message": exc.message})

    async def _stream(self, client: Client, transport: str, name: str, query: object) -> None:
        async with client.stream(name, query, metadata=OWN) as items:
            with self.watch.own(transport, name, items):
                async for item in items:
                    await self.report(transport, name, item)

    async def _job(self, client: Client) -> None:
        """Reads a job's log as far as it has come, and then along with it."""
        async with client.durable_stream("jobs.run", metadata=OWN) as steps:
            async for step in steps:
                await self.report("ws", "jobs.run", step)

    async def _stream_slowly(self, client: Client) -> None:
        """Asks for twenty items a second and takes two: the queue fills to its mark, and the server waits."""
        async with client.stream("system.cpu", {"interval": 0.05}, metadata=OWN, high_water_mark=_SLOW_MARK) as items:
            with self.watch.own("ws", "system.cpu", items):
                async for item in items:
                    await self.report("ws", "system.cpu", item)
                    await trio.sleep(_SLOW_PAUSE)

    async def _upload(self, client: Client) -> None:
        await trio.sleep(_FIRST_PAUSE)
        for path in itertools.cycle([self.log_path, _large_file()]):
            data = await trio.to_thread.run_sync(_read_start, path)
            # A client stream is a bidirectional one with a single answer; opened as one, it can be watched.
            async with client.bidi("files.upload", returns=Uploaded, metadata={**OWN, "size": str(len(data))}) as file:
                with self.watch.own("tcp", "files.upload", file):
                    for start in range(0, len(data), _CHUNK_BYTES):
                        await file.send(Chunk(data=data[start : start + _CHUNK_BYTES]))
                        await trio.sleep(_CHUNK_PAUSE)
                    file.end()
                    answer = await file.receive()
            is_same = answer.sha256 == hashlib.sha256(data).hexdigest()
            shown = {"file": path.name, "size": answer.size, "sha256": answer.sha256, "is_same": is_same}
            await self.report("tcp", "files.upload", shown)
            await trio.sleep(_UPLOAD_PAUSE)

    async def _chat(self, client: Client, transport: str, name: str, texts: list[str]) -> None:
        async with client.bidi("chat", metadata=OWN) as stream, trio.open_nursery() as nursery:

            async def talk() -> None:
                for text in itertools.cycle(texts):
                    await stream.send({"text": text, "name": name})
                    await trio.sleep(2)

            nursery.start_soon(talk)
            with self.watch.own(transport, "chat", stream):
                async for event in stream:
                    await self.report(transport, "chat", event)


def _large_file() -> Path:
    """A file that is large enough for its upload to be watched: Python itself, or its longest documentation."""
    spec = importlib.util.find_spec("pydoc_data.topics")
    topics = [Path(spec.origin)] if spec is not None and spec.origin else []
    return max([Path(sys.executable), *topics], key=lambda path: path.stat().st_size)


def _read_start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_UPLOAD_BYTES)

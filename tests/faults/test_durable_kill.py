"""A server of durable streams dies by SIGKILL under load, again and again."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs
import h11
import trio

from tests.faults.children import open_child

KILLS: Final = 10
STREAMS: Final = 3
WRITERS: Final = 9
MAX_APPENDS: Final = 300
"""Between two kills, at most."""

SECONDS: Final = 150.0
"""A fail-safe."""


class _Http:
    """One connection, by a client that we did not write."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._machine = h11.Connection(h11.CLIENT)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[_Http]:
        stream = await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0)
        try:
            yield cls(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[h11.Response, bytes]:
        """Raises a `trio.BrokenResourceError` or an `h11.RemoteProtocolError` where the server dies meanwhile."""
        fields = [("host", "x"), ("content-length", str(len(body)))]
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        request = h11.Request(method=method, target=f"/v1/stream/{path}", headers=fields)
        parts = [self._machine.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
        await self._stream.send_all(b"".join(part or b"" for part in parts))
        response = await self._event()
        assert isinstance(response, h11.Response), response
        content = b""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            content += event.data
        self._machine.start_next_cycle()
        return response, content

    async def _event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        while (event := self._machine.next_event()) is h11.NEED_DATA:
            self._machine.receive_data(await self._stream.receive_some(65_536))
        return event


LOST: Final = (trio.BrokenResourceError, h11.RemoteProtocolError, OSError)


@attrs.define
class _Writer:
    """An idempotent producer that sends a batch again until it hears of it.

    Attributes:
      name: its id.
      path: its stream.
      acknowledged: how many batches were.
      is_retrying: whether nobody knows what became of the next one.
    """

    name: str
    path: str
    acknowledged: int = 0
    is_retrying: bool = False

    async def write(self, url: str, tally: Counter[str], enough: trio.Event, appends: int) -> None:
        """Append until the server dies; `enough` is for whoever kills it."""
        try:
            async with _Http.open(url) as http:
                while True:
                    await self._append(http, tally)
                    if tally["round"] >= appends:
                        enough.set()
        except LOST:
            tally["lost"] += self.is_retrying

    async def _append(self, http: _Http, tally: Counter[str]) -> None:
        seq, was_retrying = self.acknowledged, self.is_retrying
        self.is_retrying = True
        headers = {
            "content_type": "text/plain",
            "producer_id": self.name,
            "producer_epoch": "1",
            "producer_seq": str(seq),
        }
        response, _ = await http.ask("POST", self.path, f"{self.name}:{seq};".encode(), **headers)
        assert response.status_code in {200, 204}, response
        if response.status_code == 204:
            assert was_retrying, "a batch that was never sent is no duplicate"
            tally["duplicates"] += 1
        self.acknowledged += 1
        self.is_retrying = False
        tally["round"] += 1
        tally["all"] += 1


async def _read(http: _Http, path: str) -> bytes:
    """A whole stream."""
    data, offset = b"", "-1"
    while True:
        response, part = await http.ask("GET", f"{path}?offset={offset}")
        assert response.status_code == 200
        headers = dict(response.headers)
        data, offset = data + part, headers[b"stream-next-offset"].decode()
        if headers.get(b"stream-up-to-date") == b"true":
            return data


async def _check(http: _Http, writers: list[_Writer]) -> None:
    """What was acknowledged is there once and in order, and of what was not at most the next batch."""
    for path in sorted({writer.path for writer in writers}):
        found: dict[str, list[int]] = {writer.name: [] for writer in writers if writer.path == path}
        for token in (await _read(http, path)).decode().split(";")[:-1]:
            name, _, seq = token.partition(":")
            found[name].append(int(seq))
        for writer in writers:
            if writer.path == path:
                seqs = found[writer.name]
                assert seqs == list(range(len(seqs))), f"{writer.name} is out of order, or doubled"
                assert writer.acknowledged <= len(seqs) <= writer.acknowledged + writer.is_retrying


async def test_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    """Nine producers append to three streams while their server is killed at random moments: each time what was
    acknowledged is there, once and in order, and a batch that had no answer is taken once, whether it was there or not."""
    rng = random.Random()
    writers = [_Writer(f"w{n}", f"s{n % STREAMS}") for n in range(WRITERS)]
    tally: Counter[str] = Counter()
    with trio.fail_after(SECONDS):
        for _ in range(KILLS):
            async with open_child("tests.faults.durable_server", str(tmp_path)) as server:
                url = server.hello["url"]
                await _begin(url, writers)
                enough, appends = trio.Event(), rng.randrange(MAX_APPENDS)
                tally["round"] = 0
                async with trio.open_nursery() as nursery:
                    for writer in writers:
                        nursery.start_soon(writer.write, url, tally, enough, appends)
                    await enough.wait()
                    server.process.kill()
        async with open_child("tests.faults.durable_server", str(tmp_path)) as server:
            await _begin(server.hello["url"], writers)
            await _settle(server.hello["url"], writers, tally)
    figures = f"{tally['all']} appends, {tally['lost']} without an answer, {tally['duplicates']} of them durable"
    sys.stdout.write(f"{KILLS} kills, {figures}\n")
    assert tally["lost"] > 0, "no kill came into an append"


async def _begin(url: str, writers: list[_Writer]) -> None:
    """Make the streams, or find them again, as they have to be."""
    async with _Http.open(url) as http:
        for path in sorted({writer.path for writer in writers}):
            response, _ = await http.ask("PUT", path, content_type="text/plain")
            assert response.status_code in {200, 201}
        await _check(http, writers)


async def _settle(url: str, writers: list[_Writer], tally: Counter[str]) -> None:
    """Send again what had no answer; after that everything is there exactly once."""
    async with _Http.open(url) as http:
        for writer in writers:
            if writer.is_retrying:
                await writer._append(http, tally)
        await _check(http, writers)

"""What the demo does in a session of WebTransport, with our own client in place of the page."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.demo.links import open_client
from trio_streams.codes import Code
from trio_streams.demo.visit import ECHO, FLOOD
from trio_streams.demo.webtransport import Door, Endpoint, add_endpoint, serve_webtransport
from trio_streams.procedures.router import Router
from trio_streams.webtransport import (
    QuicLimits,
    WebTransportConfig,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStreamReset,
    connect,
)

PATIENCE = 60


@attrs.define
class Visitor:
    """A session with the demo.

    Attributes:
      session: ours.
      ticks: the stream on which the server tells what it has done.
      notes: what it has told its log.
    """

    session: WebTransportSession
    ticks: WebTransportReceiveStream
    notes: list[str]
    _rest: bytes = b""

    async def wait_tick(self, condition: Callable[[dict[str, Any]], bool] = lambda tick: True) -> dict[str, Any]:
        """The next tick that is as wanted."""
        while True:
            while b"\n" not in self._rest:
                chunk = await self.ticks.read()
                assert chunk, "the ticks have ended"
                self._rest += chunk
            line, _, self._rest = self._rest.partition(b"\n")
            tick: dict[str, Any] = json.loads(line)
            if condition(tick):
                return tick


@asynccontextmanager
async def visiting(folder: Path, config: WebTransportConfig | None = None) -> AsyncGenerator[Visitor, None]:
    """The demo's server, and a session with it."""
    notes, has_left = list[str](), trio.Event()

    def note(text: str) -> None:
        notes.append(text)
        if " left " in text:
            has_left.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            start = partial(serve_webtransport, "127.0.0.1:0", folder, Door("127.0.0.1"), note)
            endpoint: Endpoint = await nursery.start(start)
            async with connect(endpoint.url, verify=False, config=config) as session:
                ticks = await session.accept_unidirectional_stream()
                yield Visitor(session, ticks, notes)
            await has_left.wait()
            nursery.cancel_scope.cancel()


async def test_streams_and_datagrams_come_back(tmp_path: Path) -> None:
    """What is sent is what returns, and the ticks count it."""
    async with visiting(tmp_path) as visitor:
        session = visitor.session
        async with await session.create_bidirectional_stream() as stream:
            await stream.write(ECHO + b"hello", end_stream=True)
            assert await stream.read_all() == b"hello"
        with trio.move_on_after(PATIENCE):
            while True:
                session.send_datagram(b"ping")
                with trio.move_on_after(1):
                    assert await session.receive_datagram() == b"ping"
                    break
        tick = await visitor.wait_tick(lambda tick: tick["datagrams_received"] > 0)
        assert (tick["streams_opened"], tick["streams_accepted"], tick["flood_bytes"]) == (1, 1, 0)


async def test_a_flood_stands_still_while_nobody_reads(tmp_path: Path) -> None:
    """The writer fills our window and its buffer, the ticks go on; when we read, it writes, and our stop ends it."""
    config = WebTransportConfig(quic=QuicLimits(window_bytes=262_144))
    async with visiting(tmp_path, config) as visitor:
        stream = await visitor.session.create_bidirectional_stream()
        await stream.write(FLOOD)
        written = await _standstill(visitor)
        assert 262_144 <= written < 1_048_576
        async for chunk in stream.read_iter():
            assert not any(chunk)
            if stream.bytes_received > 2 * written:
                break
        stream.abort()
        over = await visitor.wait_tick(lambda tick: not tick["is_flooding"])
        assert over["flood_bytes"] >= stream.bytes_received


async def _standstill(visitor: Visitor) -> int:
    """How much was written when four ticks had told the same."""
    told = [-1, -2, -3, -4]
    while len(set(told)) > 1 or told[0] == 0:
        told = [*told[1:], (await visitor.wait_tick())["flood_bytes"]]
    return told[0]


@pytest.mark.parametrize(("kind", "code"), [(b"?", Code.INVALID_ARGUMENT), (FLOOD, Code.RESOURCE_EXHAUSTED)])
async def test_what_is_not_offered_is_refused(tmp_path: Path, kind: bytes, code: Code) -> None:
    """A kind that nobody knows, and a second flood; other streams go on."""
    async with visiting(tmp_path) as visitor:
        if kind == FLOOD:
            await (await visitor.session.create_bidirectional_stream()).write(FLOOD)
            await visitor.wait_tick(lambda tick: tick["is_flooding"])
        stream = await visitor.session.create_bidirectional_stream()
        await stream.write(kind)
        with pytest.raises(WebTransportStreamReset) as refused:
            await stream.read()
        assert refused.value.code is code
        await visitor.wait_tick()


async def test_a_visit_is_noted_with_its_end(tmp_path: Path) -> None:
    """Who came, and the code and the words with which they left."""
    async with visiting(tmp_path) as visitor:
        visitor.session.close(7, "seen enough")
    came, left = visitor.notes
    assert came.startswith("webtransport: 127.0.0.1:")
    assert left.endswith(" left with code 7: 'seen enough'")


async def test_the_endpoint_is_told() -> None:
    """URL, hash and expiry, as the page needs them."""
    router = Router()
    expires_at = "2026-12-05T10:00:00+00:00"
    told = Endpoint(
        url="https://127.0.0.1:1/demo", certificate_sha256="AA==", expires_at=datetime.fromisoformat(expires_at)
    )
    add_endpoint(router, told)
    async with open_client(router) as client:
        answer = await client.call("webtransport.endpoint", returns=dict[str, str])
    assert answer.keys() == {"url", "certificate_sha256", "expires_at"}
    assert datetime.fromisoformat(answer["expires_at"]) == told.expires_at

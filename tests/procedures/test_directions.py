"""Every direction on every connection that has all of them, whatever dialect is spoken on it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.procedures.envelope_site import Handled, make_router, open_envelopes
from tests.serving import HOSTED, OWN, Face, serving
from trio_streams import Client, Router, connect, serve

app: Final = Router()


@app.stream("count")
async def count(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        yield number


@app.stream("total", direction="client")
async def total(numbers: AsyncIterable[int]) -> int:
    return sum([number async for number in numbers])


@app.stream("double", direction="bidi")
async def double(numbers: AsyncIterable[int]) -> AsyncIterator[int]:
    async for number in numbers:
        yield 2 * number


async def check_directions(client: Client) -> None:
    """Down, up, and both ways in turns."""
    async with client.stream("count", 3, returns=int) as numbers:
        assert [number async for number in numbers] == [0, 1, 2]
    assert await client.upload("total", [1, 2, 3], returns=int) == 6
    async with client.bidi("double", returns=int) as pair:
        for number in (4, 5):
            await pair.send(number)
            assert await pair.receive() == 2 * number
        pair.end()
        assert [number async for number in pair] == []


@pytest.mark.parametrize("face", [*OWN, *HOSTED], ids=str)
async def test_on_sockets(face: Face, tmp_path: Path) -> None:
    """TCP, TLS, Unix sockets and WebSockets, by either carrier and on both hosts of HTTP."""
    async with serving(app, face, tmp_path) as served, served.connect() as client:
        await check_directions(client)


async def test_on_a_child_process() -> None:
    """Standard input and output carry them, too."""
    command = shlex.join([sys.executable, "-m", "tests.procedures.test_directions"])
    with trio.fail_after(60):
        async with connect(f"process:{command}") as client:
            await check_directions(client)


@asynccontextmanager
async def envelopes_of(face: Face, folder: Path) -> AsyncGenerator[str, None]:
    """A URL for a client of envelopes."""
    async with serving(make_router(Handled()), face, folder) as served:
        url = served.url
        yield f"{face.client}:{url.partition(':')[2]}" if face.client else url


SPOKEN: Final = tuple(
    face for face in (*OWN, *HOSTED) if str(face) in {"tcp", "unix", "ws-by-websockets"} or face.client
)


@pytest.mark.parametrize("face", SPOKEN, ids=str)
async def test_among_envelopes(face: Face, tmp_path: Path) -> None:
    """The original's wire has them on each connection that speaks it."""
    async with envelopes_of(face, tmp_path) as url, open_envelopes(url) as client:
        await client.say({"type": "stream:start", "id": "s", "procedure": "counter", "payload": {"count": 2}})
        assert [one["payload"] for one in await client.hear_until("stream:end")] == [None, {"n": 0}, {"n": 1}, None]
        await client.say({"type": "stream:start", "id": "u", "procedure": "sum"})
        await client.say(*({"type": "stream:data", "id": "u", "payload": {"value": n}} for n in (1, 2)))
        await client.say({"type": "stream:end", "id": "u"})
        assert (await client.hear())["payload"] == {"sum": 3}
        await client.say({"type": "stream:start", "id": "b", "procedure": "echo"})
        await client.say({"type": "stream:data", "id": "b", "payload": {"n": 7}}, {"type": "stream:end", "id": "b"})
        assert [one["payload"] for one in await client.hear_until("stream:end")] == [None, {"n": 7}, None]


if __name__ == "__main__":
    trio.run(serve, app, "stdio:")

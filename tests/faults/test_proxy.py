"""Every carrier over a real proxy that delays, splits, falls silent and cuts."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.faults.faces import FACES, Face, Place, open_place
from tests.faults.proxy import Cut, Ending, Weather
from trio_streams import Client, connect
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost
from trio_streams.testing.peers import live_tasks, until

SECONDS: Final = 60.0
"""A fail-safe: no test needs more than a few."""

ITEMS: Final = 1_000

IMPATIENT: Final = ConnectionConfig(idle_timeout=1.0, close_timeout=0.5, handshake_timeout=10.0)

CUTS: Final = [
    Cut(ending, is_upwards, after_bytes)
    for ending in (Ending.FIN, Ending.RESET)
    for is_upwards, after_bytes in ((True, 0), (True, 100), (False, 0), (False, 900), (False, 20_000))
]

SILENT: Final = [Cut(Ending.SILENCE, is_upwards, after) for is_upwards, after in ((True, 2_500), (False, 20_000))]


@pytest.fixture(params=FACES, ids=str)
def face(request: pytest.FixtureRequest) -> Face:
    """Each carrier in turn."""
    assert isinstance(request.param, Face)
    return request.param


async def _echo(client: Client, stream_number: int) -> None:
    """Items go there and come back while others are on their way; none is lost, changed or overtaken."""
    sent = [f"{stream_number}:{n}:" + "e" * (n % 31) for n in range(ITEMS)]
    async with client.bidi("echo", returns=str) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            await stream.send_many(sent)
            stream.end()

        nursery.start_soon(send)
        assert [item async for item in stream] == sent


async def _count(client: Client, stream_number: int) -> None:
    """What HTTP can carry: a stream of numbers, and calls beside it."""
    async with client.stream("count", {"last": ITEMS + stream_number}, returns=int) as stream:
        assert [item async for item in stream] == list(range(ITEMS + stream_number))
    text = "s" * 10_000
    assert await client.call("say", text, returns=str) == text


@pytest.mark.parametrize(
    "weather",
    [Weather(1, max_chunk=21), Weather(2, max_chunk=3_000, latency=(0.0, 0.004))],
    ids=["pieces", "delays"],
)
async def test_items_pass_through(face: Face, weather: Weather) -> None:
    """Thousands of items on three streams arrive whole and in order, in pieces of a few bytes and with delays."""
    use = _count if face.is_http else _echo
    with trio.fail_after(SECONDS):
        async with (
            open_place(face, weather) as place,
            connect(place.url, carrier=face.carrier, ssl_context=face.trust) as client,
            trio.open_nursery() as nursery,
        ):
            for number in range(3):
                nursery.start_soon(use, client, number)


async def _read_until_cut(place: Place, received: list[int], errors: list[Exception]) -> None:
    face = place.face
    try:
        async with (
            connect(place.url, config=IMPATIENT, carrier=face.carrier, ssl_context=face.trust) as client,
            client.stream("count", {"last": 1_000_000}, returns=int) as stream,
        ):
            try:
                while True:
                    received.append(await stream.receive())
            except (ConnectionLost, trio.EndOfChannel) as exc:
                errors.append(exc)
    except ConnectionLost as exc:
        errors.append(exc)  # of connecting; where the stream has told already, leaving the blocks must not tell again


async def _call_directly(place: Place) -> None:
    async with connect(place.direct, carrier=place.face.carrier, ssl_context=place.face.trust) as client:
        assert await client.call("say", "next", returns=str) == "next"


async def _check_cut(face: Face, weather: Weather) -> None:
    before = live_tasks()
    with trio.fail_after(SECONDS):
        async with open_place(face, weather, IMPATIENT) as place:
            received: list[int] = []
            errors: list[Exception] = []
            await _read_until_cut(place, received, errors)
            assert received == list(range(len(received)))
            assert len(received) < 1_000_000
            (error,) = errors
            assert isinstance(error, ConnectionLost), repr(error)
            assert "\n" not in str(error)
            await until(lambda: place.site.running == 0)
            if not face.is_process:  # where the next one would be another process, with another server
                await _call_directly(place)
    assert live_tasks() == before


@pytest.mark.parametrize("cut", CUTS, ids=str)
async def test_a_cut(face: Face, cut: Cut) -> None:
    """What arrived is a prefix; then comes one clear ConnectionLost; no handler stays, and the next client is served."""
    if face.is_process and cut.after_bytes == 100:
        pytest.skip("two processes for each: the other cuts are enough")
    await _check_cut(face, Weather(3, max_chunk=1_000, cut=cut))


@pytest.mark.parametrize("cut", SILENT, ids=str)
async def test_a_silence(face: Face, cut: Cut) -> None:
    """A direction that falls silent is a lost connection after `idle_timeout`, on both sides."""
    if face.is_http:
        pytest.skip("HTTP's client waits as long as its caller does")
    await _check_cut(face, Weather(4, max_chunk=1_000, cut=cut))

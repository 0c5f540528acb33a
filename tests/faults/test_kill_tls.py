"""A client or a server on TLS is killed in the handshake, and in the middle of records."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.faults.faces import FACES, Face, Place, open_place
from tests.faults.proxy import Cut, Ending, Weather, open_proxy
from tests.faults.site import count_descriptors
from tests.faults.test_proxy import IMPATIENT
from trio_streams import connect
from trio_streams.errors import ConnectionLost
from trio_streams.testing.peers import live_tasks, until

STEP_BYTES = 29
"""A prime, so that cuts fall everywhere in records of any size, their headers among them."""

LAST_BYTES = 3_000

TLS_FACES = [face for face in FACES if face.scheme in {"tls", "wss"}]


async def _strike(place: Place, cut: Cut) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = partial(trio.open_tcp_stream, "127.0.0.1", urlsplit(place.direct).port or 0)
    url = f"{place.face.scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with open_proxy(listener, server, Weather(cut.after_bytes, max_chunk=700, cut=cut)):
        received: list[int] = []
        with pytest.raises(ConnectionLost):
            async with (
                connect(url, config=IMPATIENT, ssl_context=place.face.trust) as client,
                client.stream("count", {"last": 1_000_000}, returns=int) as stream,
                client.bidi("echo", returns=str) as echo,
            ):
                # What is sent upwards meets the cut there.
                async for item in stream:
                    received.append(item)
                    await echo.send("x" * 50)
        assert received == list(range(len(received)))


@pytest.mark.parametrize("is_upwards", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("ending", [Ending.FIN, Ending.RESET], ids=lambda ending: ending.value)
@pytest.mark.parametrize("face", TLS_FACES, ids=str)
async def test_a_cut_anywhere(face: Face, ending: Ending, is_upwards: bool) -> None:
    """Handshake or record, header or middle: one ConnectionLost, items a prefix, nothing left, the next is served."""
    with trio.fail_after(120):
        async with open_place(face, Weather(), IMPATIENT) as place:
            before, descriptors = len(live_tasks()), count_descriptors()
            for after_bytes in range(0, LAST_BYTES, STEP_BYTES):
                await _strike(place, Cut(ending, is_upwards, after_bytes))
            await until(lambda: place.site.running == 0)
            await until(lambda: len(live_tasks()) <= before)
            await until(lambda: count_descriptors() <= descriptors)
            async with connect(place.direct, ssl_context=face.trust) as client:
                assert await client.call("say", "next", returns=str) == "next"

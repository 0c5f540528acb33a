"""A server's connections among all that the server around has: who takes a place, from when on, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from tests.conformance.http.hosts import until
from tests.webtransport.http3_client import ask_http3, connect_http3
from trio_streams.errors import ConnectionLost
from trio_streams.service.exchange import Exchange, respond
from trio_streams.transports.admission import ADMISSION, Admission
from trio_streams.webtransport.certificates import make_certificate
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.http3_serving import serve_http3
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import client_configuration


@attrs.define
class Places:
    """So many, and what was asked of them."""

    free: int = 10
    looks_full: bool = False
    taken: list[str] = attrs.field(factory=list[str])
    given_back: int = 0

    def is_full(self, host: str) -> bool:
        return self.looks_full

    def take_place(self, host: str) -> Callable[[], None] | None:
        if not self.free:
            return None
        self.taken.append(host)
        return self._give_back

    def _give_back(self) -> None:
        self.given_back += 1


@asynccontextmanager
async def serving(places: Places, folder: Path) -> AsyncIterator[int]:
    """A server below one with places; its port."""
    certfile, keyfile = make_certificate().write(folder)

    async def hello(exchange: Exchange) -> None:
        await respond(exchange, 200, b"hello")

    async def run(*, task_status: trio.TaskStatus[str]) -> None:
        ADMISSION.set(Admission(lambda listener: listener, places=places))
        await serve_http3(hello, certfile=str(certfile), keyfile=str(keyfile), task_status=task_status)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            yield urlsplit(await nursery.start(run)).port or 0
            nursery.cancel_scope.cancel()


async def test_a_connection_has_a_place_until_it_is_over(tmp_path: Path) -> None:
    """One, from its handshake on, however many requests there are."""
    places = Places()
    async with serving(places, tmp_path) as port:
        async with connect_http3(port) as link:
            for _ in range(2):
                async with ask_http3(link, "/") as request:
                    assert await request.wait_head() == 200
            assert (places.taken, places.given_back) == (["127.0.0.1"], 0)
        await until(lambda: places.given_back == 1)
    assert (len(places.taken), places.given_back) == (1, 1)


async def test_the_places_are_given_back_with_the_server(tmp_path: Path) -> None:
    """A server that ends under its clients holds none any more."""
    places = Places()

    async def stay(port: int) -> None:
        async with connect_http3(port):
            await trio.sleep_forever()

    async with trio.open_nursery() as clients:
        async with serving(places, tmp_path) as port:
            clients.start_soon(stay, port)
            await until(lambda: len(places.taken) == 1)
        assert places.given_back == 1
        clients.cancel_scope.cancel()


async def test_a_full_server_makes_no_connection(tmp_path: Path) -> None:
    """Its client is told at once."""
    places = Places(looks_full=True)
    async with serving(places, tmp_path) as port:
        with pytest.raises(ConnectionLost, match=r"ended with QUIC's code 0x2"):
            async with connect_http3(port):
                raise AssertionError("let in")
    assert places.taken == []


async def test_who_comes_for_the_last_place_too_late_is_told(tmp_path: Path) -> None:
    """Several may be let in at once; those that find no place behind their handshake are sent away, unheard."""
    places = Places(free=0)
    async with serving(places, tmp_path) as port:
        with pytest.raises((trio.BrokenResourceError, ConnectionLost), match="H3_EXCESSIVE_LOAD: too many connections"):
            async with connect_http3(port) as link, ask_http3(link, "/") as request:
                await request.wait_head()
    assert places.given_back == 0


async def test_what_anybody_can_send_in_anothers_name_takes_no_place(tmp_path: Path) -> None:
    """A first packet is answered, and its address counts for nothing before the handshake."""
    places = Places()
    config = WebTransportConfig().quic
    async with serving(places, tmp_path) as port:
        quic = Quic(client_configuration(config, server_name="localhost", verify=False), config)
        quic.connect(("127.0.0.1", port), trio.current_time())
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
            await socket.connect(("127.0.0.1", port))
            for datagram, _ in quic.datagrams_to_send(trio.current_time()):
                await socket.send(datagram)
            assert await socket.recv(2_000)
        assert places.taken == []

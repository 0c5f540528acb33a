"""Sessions over every carrier that can be connected again: what is lost with one goes on over the next."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Hashable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio

from tests.conformance.relay import Relay, open_relay
from tests.serving import CONFIG, HOSTED, OWN, Face, Served, Work, serving
from trio_streams.config import ReconnectOptions, ResumeOptions
from trio_streams.connection import Connection
from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.procedures.client import Client
from trio_streams.procedures.router import Router
from trio_streams.service.server_config import ServerConfig
from trio_streams.testing.peers import until
from trio_streams.urls import connect

AT_ONCE = ReconnectOptions(initial_delay=0.01)
FACES = pytest.mark.parametrize("face", [*OWN, *HOSTED], ids=str)


class Counting(Work):
    """Procedures that would notice anything that is lost or comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

        @self.router.call("slow")
        async def slow(number: int) -> int:
            self.calls.append(number)
            await self.go.wait()
            return number

        @self.router.stream("count")
        async def count(most: int) -> AsyncIterator[int]:
            for number in range(most):
                yield number

        @self.router.stream("next", direction="bidi")
        async def add_one(numbers: AsyncIterable[int]) -> AsyncIterator[int]:
            async for number in numbers:
                yield number + 1


@asynccontextmanager
async def relayed(
    router: Router, face: Face, folder: Path, rules: ServerConfig | None = None, **options: object
) -> AsyncGenerator[tuple[Served, Relay, list[Connection]], None]:
    connections: list[Connection] = []
    options = {"resume": True, "on_connection": connections.append, **options}
    async with serving(router, face, folder, rules, **options) as served, open_relay(served.url, folder) as relay:
        yield served, relay, connections


@asynccontextmanager
async def connected(served: Served, relay: Relay, resume: ResumeOptions | bool = True) -> AsyncGenerator[Client, None]:
    face = served.face
    url = f"{face.client}:{relay.url.partition(':')[2]}" if face.client else relay.url
    async with connect(
        url,
        config=CONFIG,
        carrier=face.carrier,
        ssl_context=served.tls,
        resume=resume,
        reconnect=AT_ONCE if resume else None,
    ) as client:
        yield client


@FACES
async def test_a_chat_goes_on(face: Face, tmp_path: Path) -> None:
    """Each item is answered once and in order, however often the network breaks, by one handler of one connection."""
    app = Counting()
    async with relayed(app.router, face, tmp_path) as (served, relay, connections), connected(served, relay) as client:
        async with client.bidi("next", returns=int) as chat:
            for number in range(30):
                await chat.send(number)
                if number % 10 == 5:
                    relay.cut()
                assert await chat.receive() == number + 1
        assert relay.count == 4
        assert len(connections) == 1
        assert connections[0].statistics().resumes == 3


@FACES
async def test_a_download_and_a_call_go_on(face: Face, tmp_path: Path) -> None:
    """A stream that is under way delivers every item once and in order, and a call is made once."""
    app = Counting()
    answers: list[int] = []
    async with relayed(app.router, face, tmp_path) as (served, relay, _), connected(served, relay) as client:

        async def call() -> None:
            answers.append(await client.call("slow", 7, returns=int))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await until(lambda: bool(app.calls))
            async with client.stream("count", 5_000, returns=int) as numbers:
                expected = 0
                async for number in numbers:
                    assert number == expected
                    expected += 1
                    if number % 1_500 == 700:
                        relay.cut()
                assert expected == 5_000
            app.go.set()
        assert (answers, app.calls) == ([7], [7])
        assert relay.count > 1


@FACES
async def test_leaving_ends_the_session(face: Face, tmp_path: Path) -> None:
    """A client that closes is not waited for: a drain has nothing to do."""
    app = Counting()
    async with relayed(app.router, face, tmp_path) as (served, relay, connections):
        async with connected(served, relay) as client:
            assert await client.call("double", 2, returns=int) == 4
        await until(lambda: connections[0].lost is not None)
        served.drain.begin()
        await served.over.wait()
        assert not served.drain.was_cut
        assert relay.count == 1


@FACES
async def test_a_client_that_does_not_ask_for_it(face: Face, tmp_path: Path) -> None:
    """It is served as ever, and its connection ends with its carrier."""
    app = Counting()
    async with relayed(app.router, face, tmp_path) as (served, relay, connections):
        async with connected(served, relay, resume=False) as client:
            assert await client.call("double", 2, returns=int) == 4
            async with client.stream("items", returns=int) as numbers:
                assert await numbers.receive() == 1
                relay.cut()
                with pytest.raises(ConnectionLost):
                    await numbers.receive()
        await until(lambda: connections[0].lost is not None)


@FACES
async def test_a_server_that_does_not_offer_it(face: Face, tmp_path: Path) -> None:
    """A client that asks for it in vain works until its carrier is lost."""
    app = Counting()
    async with (
        relayed(app.router, face, tmp_path, resume=None) as (served, relay, _),
        connected(served, relay) as client,
    ):
        assert await client.call("double", 2, returns=int) == 4
        async with client.stream("items", returns=int) as numbers:
            assert await numbers.receive() == 1
            relay.cut()
            with pytest.raises(ConnectionLost):
                await numbers.receive()
        assert relay.count == 1


@pytest.mark.parametrize("is_idle", [True, False])
async def test_a_drain_ends_sessions_that_wait(is_idle: bool, tmp_path: Path) -> None:
    """One that has streams gets the drain's time, one that has none ends at once."""
    app = Counting()
    patient = ServerConfig(drain_timeout=10 if is_idle else 0.5)  # the goodbye to nobody takes `close_timeout`
    async with relayed(app.router, Face("tcp"), tmp_path, patient) as (served, relay, connections):
        with pytest.raises(ConnectionLost):
            async with connected(served, relay, ResumeOptions(max_session_age=1)) as client:
                assert await client.call("double", 2, returns=int) == 4
                if is_idle:
                    await _lose(relay, connections)
                    served.drain.begin()
                    await served.over.wait()
                    await client.call("double", 2, returns=int)
                async with client.stream("items", returns=int) as numbers:
                    assert await numbers.receive() == 1
                    await _lose(relay, connections)
                    served.drain.begin()
                    await served.over.wait()
                    await numbers.receive()
        assert served.drain.was_cut is not is_idle
        assert app.ended == ([] if is_idle else ["items"])


async def _lose(relay: Relay, connections: list[Connection]) -> None:
    relay.is_down = True
    relay.cut()
    await until(lambda: not connections[0].statistics().is_attached)


@pytest.mark.parametrize("face", [Face("unix"), Face("tcp")], ids=str)
async def test_only_the_same_principal_comes_back(face: Face, tmp_path: Path) -> None:
    """Whoever `identify` takes for another one gets one clear error."""
    app = Counting()
    names = iter(["alice", "mallory"])
    options = ResumeOptions(identify=lambda carrier: next(names))
    async with (
        relayed(app.router, face, tmp_path, resume=options) as (served, relay, _),
        connected(served, relay) as client,
        client.stream("items", returns=int) as numbers,
    ):
        assert await numbers.receive() == 1
        relay.cut()
        with pytest.raises(ConnectionLost, match="could not be resumed"):
            await numbers.receive()


@pytest.mark.parametrize("found", [None, ["not hashable"]])
async def test_who_can_not_be_identified_is_nobody(
    found: list[str] | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An `identify` that fails ends no connection, but its session can't be resumed; the people who run it are told."""
    app = Counting()

    def identify(carrier: object) -> Hashable:
        if found is None:
            raise KeyError("no token")
        return cast("Hashable", found)

    async with (
        relayed(app.router, Face("tcp"), tmp_path, resume=ResumeOptions(identify=identify)) as (served, relay, _),
        connected(served, relay) as client,
    ):
        assert await client.call("double", 2, returns=int) == 4
        relay.cut()
        with pytest.raises(ConnectionLost, match="could not be resumed"):
            await client.call("double", 2, returns=int)
    assert "nobody can come back to its session" in caplog.text


async def test_one_session_holds_one_connection(tmp_path: Path) -> None:
    """A session that has come back counts once for `max_connections`."""
    app = Counting()
    tight = ServerConfig(max_connections=1)
    async with (
        relayed(app.router, Face("tcp"), tmp_path, tight) as (served, relay, _),
        connected(served, relay) as client,
    ):
        for _ in range(3):
            relay.cut()
            assert await client.call("double", 2, returns=int) == 4


@pytest.mark.parametrize("url", ["process:true", "http://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_what_can_not_be_joined_again_is_refused(url: str) -> None:
    """A process that has ended is gone, and HTTP has no session; that is said before anything is opened."""
    with pytest.raises(LocalProtocolError, match="can't resume over") as caught:
        async with connect(url, resume=True):
            raise AssertionError("it is open")
    assert caught.value.field == "resume"


async def test_reconnecting_needs_something_to_resume() -> None:
    """A new connection without the old streams would be no help."""
    with pytest.raises(LocalProtocolError, match="can't reconnect without resume"):
        async with connect("tcp://127.0.0.1:1", resume=False, reconnect=AT_ONCE):
            raise AssertionError("it is open")

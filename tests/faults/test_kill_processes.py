"""Real processes die by SIGKILL in the middle of their streams."""

from __future__ import annotations

import signal
from typing import Any, Final

import pytest
import trio

from tests.faults.children import Child, open_child
from trio_streams import Client, connect
from trio_streams.errors import ConnectionLost

SECONDS: Final = 60.0
"""A fail-safe."""

TRANSPORTS: Final = ["tcp", "ws", "ws-lean", "ws-hypercorn"]


def _url(server: Child) -> str:
    url: str = server.hello["url"]
    return url.replace("http", "ws", 1)


async def _read(client: Client, kind: str, losses: list[str], is_busy: trio.Event) -> None:
    """Use a stream until it fails; how it failed."""
    try:
        if kind == "flood":
            async with client.stream("flood") as flood:
                async for _ in flood:
                    is_busy.set()
        else:
            async with client.bidi("echo", returns=str) as echo:
                for n in map(str, range(1_000_000)):
                    await echo.send(n)
                    assert await echo.receive() == n
                    is_busy.set()
    except ConnectionLost as exc:
        losses.append(str(exc))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_server_is_killed(transport: str) -> None:
    """Ten busy streams, and each has one ConnectionLost; the client's block can still be left as usual."""
    losses: list[str] = []
    with trio.fail_after(SECONDS):
        async with (
            open_child("tests.faults.soak_server", transport, "30", "10") as server,
            connect(_url(server)) as client,
            trio.open_nursery() as nursery,
        ):
            events = [trio.Event() for _ in range(10)]
            for n, event in enumerate(events):
                nursery.start_soon(_read, client, ("flood", "echo")[n % 2], losses, event)
            for event in events:
                await event.wait()
            server.process.send_signal(signal.SIGKILL)
    assert len(losses) == 10
    assert {"\n" in loss for loss in losses} == {False}


@pytest.mark.parametrize("transport", [*TRANSPORTS, "http-lean", "http-hypercorn"])
async def test_clients_are_killed(transport: str) -> None:
    """A process with clients of every kind dies; the server is as it was before them."""
    with trio.fail_after(SECONDS):
        async with open_child("tests.faults.soak_server", transport, "30", "10") as server:
            before = await server.ask("begin")
            url = server.hello["url"] if transport.startswith("http") else _url(server)
            async with open_child("tests.faults.soak_clients", url, "1", "10", "3", "3", "3", "1e6") as clients:
                await clients.ask("quiet", 0)
                await clients.ask("faults", 0.5)
                busy = await server.ask("glance")
                assert busy["handlers"] > before["handlers"]
                clients.process.send_signal(signal.SIGKILL)
            await _wait_even(server, before)


async def _wait_even(server: Child, before: dict[str, Any]) -> None:
    """Wait until the server holds no more than at its beginning."""
    while True:
        report = await server.ask("glance")
        if all(report[name] <= before[name] for name in ("tasks", "descriptors", "handlers")):
            return
        await trio.sleep(0.05)

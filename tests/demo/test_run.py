"""The demo as a whole: real sockets, real figures, in this process."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from trio_streams.codes import Code
from trio_streams.demo import run, sampling
from trio_streams.demo.run import DemoOptions, run_demo
from trio_streams.errors import RpcError
from trio_streams.procedures.client import Client
from trio_streams.transports.bytes import ListenError
from trio_streams.urls import connect
from trio_streams.webtransport import SessionRefused
from trio_streams.webtransport import connect as open_session

ANY_PORTS = {"tcp": 0, "ws": 0, "http": 0, "wt": 0}
PLAIN = DemoOptions(duration=30, plain=True, ports=ANY_PORTS)
PATIENCE = 20


class Terminal:
    """Takes what is written, and tells when something has been."""

    def __init__(self) -> None:
        self.text = ""
        self._changed = trio.Event()

    async def write(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.text += text
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for(self, condition: Callable[[str], bool]) -> str:
        with trio.fail_after(PATIENCE):
            while not condition(self.text):
                await self._changed.wait()
        return self.text


@asynccontextmanager
async def _demo(options: DemoOptions, size: tuple[int, int] = (120, 40)) -> AsyncGenerator[Terminal, None]:
    terminal = Terminal()

    async def start() -> None:
        await run_demo(options, sampling.find_source(), terminal.write, size=lambda: size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        yield terminal
        nursery.cancel_scope.cancel()


def _items(text: str) -> dict[tuple[str, str], list[Any]]:
    """The items of a plain demo by transport and procedure."""
    found: dict[tuple[str, str], list[Any]] = {}
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and line.split()[0] in {"tcp", "ws", "sse"}:
            transport, name, item = line.split(maxsplit=2)
            found.setdefault((transport, name), []).append(json.loads(item))
    return found


ALL = {
    ("tcp", "system.info"),
    ("tcp", "system.coffee"),
    ("tcp", "system.cpu"),
    ("tcp", "system.memory"),
    ("tcp", "files.upload"),
    ("tcp", "chat"),
    ("ws", "chat"),
    ("ws", "system.network"),
    ("ws", "system.cpu"),
    ("ws", "jobs.run"),
    ("sse", "system.disk"),
    ("sse", "logs.tail"),
}


def _has_shown_all(text: str) -> bool:
    """Whether every procedure has been used, and those who chat over two transports have heard each other."""
    found = _items(text)
    return found.keys() >= ALL and all(
        {event["name"] for event in found[transport, "chat"]} >= {"ada", "bob"} for transport in ("tcp", "ws")
    )


async def test_real_items_flow_over_three_transports() -> None:
    """Every procedure is used; figures are plausible, checksums agree, the log tells what the demo did, errors are errors."""
    before = logging.getLogger("trio_streams").handlers[:]
    async with _demo(PLAIN) as terminal:
        found = _items(await terminal.wait_for(_has_shown_all))
    assert found.keys() == ALL
    assert 0 <= found["tcp", "system.cpu"][0]["percent"] <= 100
    assert found["tcp", "system.memory"][0]["total_bytes"] == found["tcp", "system.info"][0]["memory_bytes"]
    assert found["sse", "system.disk"][0]["total_bytes"] > 0
    assert found["tcp", "files.upload"][0]["is_same"]
    assert found["tcp", "files.upload"][0]["size"] > 0
    assert found["tcp", "system.coffee"][0]["error"] == "NOT_FOUND"
    assert any(" starts for 127.0.0.1" in line["message"] for line in found["sse", "logs.tail"])
    assert logging.getLogger("trio_streams").handlers == before


async def test_it_ends_after_its_duration() -> None:
    """All of it, servers included, and a last line tells how much there was."""
    terminal = Terminal()
    with trio.fail_after(PATIENCE):
        await run_demo(attrs.evolve(PLAIN, duration=0.5), sampling.find_source(), terminal.write)
    told = re.search(r" items in (\d+\.\d) s$", terminal.text.splitlines()[-1])
    assert told is not None
    assert float(told[1]) >= 0.5


def _has_visitor(text: str) -> bool:
    """Whether the last picture has the rows of the demo's own streams and one of somebody else's."""
    rows = [
        line.split() for line in text.rsplit("\x1b[H", maxsplit=1)[-1].splitlines() if line[:3] in {"tcp", "ws ", "sse"}
    ]
    own = {row[0] for row in rows if row[2:3] == ["demo"]}
    others = [row[:2] for row in rows if row[2:] and row[2].startswith("127.0.0.1:")]
    return own == {"tcp", "ws", "sse"} and others == [["tcp", "system.memory"]]


async def test_a_strangers_stream_is_in_the_picture() -> None:
    """The demo's own streams and a visitor's, redrawn in place; when it is cancelled the terminal is as before."""
    async with _demo(attrs.evolve(PLAIN, plain=False)) as terminal:
        text = await terminal.wait_for(lambda text: text.count("\x1b[H") >= 2)
        url = next(word for word in text.split() if word.startswith("tcp://"))
        async with connect(url) as client, client.stream("system.memory", {"interval": 0.1}) as items:
            assert await items.receive()
            await terminal.wait_for(_has_visitor)
    assert terminal.text.startswith("\x1b[?1049h\x1b[?25l")
    assert terminal.text.endswith("\x1b[?25h\x1b[?1049l")


async def test_a_cut_network_is_seen_and_streams_go_on() -> None:
    """Whoever calls `network.cut` sees the demo's own clients away, and then on with the same streams."""
    async with _demo(attrs.evolve(PLAIN, plain=False), size=(160, 50)) as terminal:
        text = await terminal.wait_for(lambda text: "network tcp connected, resumed 0x" in text)
        url = next(word for word in text.split() if word.startswith("tcp://"))
        async with connect(url) as client:
            answer = await client.call("network.cut", {"seconds": 0.5}, returns=dict[str, float])
            assert answer["connections"] == 2
        await terminal.wait_for(lambda text: "network tcp AWAY" in text and " ws AWAY" in text)
        await terminal.wait_for(lambda text: "tcp connected, resumed 1x" in text and "ws connected, resumed 1x" in text)
        before = _counted(terminal.text)
        await terminal.wait_for(lambda text: all(_counted(text)[name] > count for name, count in before.items()))


def _counted(text: str) -> dict[str, int]:
    """Items of the demo's own endless streams over TCP in the last picture."""
    lines = [line.split() for line in text.rsplit("\x1b[H", maxsplit=1)[-1].splitlines()]
    return {
        line[1]: next(int(word) for word in reversed(line[:-3]) if word.isdigit())
        for line in lines
        if line[:1] == ["tcp"] and line[1] in {"system.cpu", "system.memory"} and line[2] == "demo"
    }


async def test_a_port_that_is_asked_for_and_taken_is_an_error() -> None:
    """One line that names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = attrs.evolve(PLAIN, ports={**ANY_PORTS, "ws": port})
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
            await run_demo(options, sampling.find_source(), Terminal().write)


def test_a_usual_port_that_is_taken_gives_way() -> None:
    """Then any free one will do; a usual port that is free is used."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run._usual_or_any(port) == 0
    assert run._usual_or_any(port) == port


def test_a_usual_udp_port_that_is_taken_gives_way() -> None:
    """It is UDP's that counts for WebTransport: both kinds have ports of their own."""
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert run._usual_or_any(port, socket.SOCK_DGRAM) == 0
    assert run._usual_or_any(port, socket.SOCK_DGRAM) == port


async def test_webtransport_is_served_with_a_hash_to_trust_it_by() -> None:
    """The procedure tells URL and hash; the demo's own page may open a session, another page may not, a program may."""
    async with _demo(PLAIN) as terminal:
        text = await terminal.wait_for(lambda text: text.count("\n") >= 9)
        urls = dict(line.split("://") for line in text.split()[:3])
        async with connect(f"tcp://{urls['tcp']}") as client:
            told = await client.call("webtransport.endpoint", returns=dict[str, str])
        assert f"# trio-streams webtransport bench {told['url'].removesuffix('demo')}echo --insecure" in text
        enter = partial(open_session, told["url"], certificate_hashes=[base64.b64decode(told["certificate_sha256"])])
        port = urls["http"].rpartition(":")[2]
        for origin in (None, f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
            async with enter(origin=origin) as session:
                assert await (await session.accept_unidirectional_stream()).read(size=1) == b"{"
        with pytest.raises(SessionRefused) as refused:
            async with enter(origin="http://evil.example"):
                pass
        assert refused.value.status == 403


async def test_without_the_extra_there_is_a_line_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No aioquic: the demo runs, has no such procedure, and says what is missing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    async with _demo(PLAIN) as terminal:
        text = await terminal.wait_for(lambda text: text.count("\n") >= 9)
        assert "# pip install 'trio_streams[quic]' brings WebTransport to the page\n" in text
        async with connect(text.split()[0]) as client:
            with pytest.raises(RpcError) as unknown:
                await client.call("webtransport.endpoint")
            assert unknown.value.known_code is Code.NOT_FOUND


async def test_a_udp_port_that_is_asked_for_and_taken_is_an_error() -> None:
    """One line that names the address."""
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        options = attrs.evolve(PLAIN, ports={**ANY_PORTS, "wt": port})
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port} over UDP"):
            await run_demo(options, sampling.find_source(), Terminal().write)


async def test_an_operators_file_is_followed(tmp_path: Path) -> None:
    """`logs.tail` shows the file that the command line names, over every transport."""
    path = tmp_path / "app.log"
    path.write_text("ERROR it burns\n", encoding="utf-8")

    async def first_line(client: Client, query: object) -> object:
        async with client.stream("logs.tail", query) as lines:
            return await lines.receive()

    async with _demo(attrs.evolve(PLAIN, log_path=path)) as terminal:
        urls = (await terminal.wait_for(lambda text: text.count("\n") >= 3)).split()[:3]
        for url in urls:
            async with connect(url) as client:
                line = await first_line(client, {"level": "error"})
                assert line == {"timestamp": None, "level": "error", "message": "it burns"}


def test_an_item_fits_into_a_line() -> None:
    """Chat and log lines are shown as people write them, the rest as JSON."""
    assert run._brief("chat", {"type": "echo", "name": "ada", "text": "HI"}) == "ada echo: HI"
    assert run._brief("chat", {"type": "left", "name": "ada", "text": ""}) == "ada left"
    assert run._brief("logs.tail", {"level": "info", "message": "x y"}) == "info: x y"
    assert run._brief("files.upload", {"size": 1}) == '{"size":1}'

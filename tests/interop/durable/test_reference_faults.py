"""What the published server gets wrong, ours does right: each fault of it is a test here.

These speak bare HTTP, so that no client smooths anything over.
"""

from __future__ import annotations

import http.client
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs
import pytest

from tests.interop.durable.process import ServerProcess
from tests.interop.durable.servers import OURS, PREFIX, Kind, start_ours

PATIENCE: Final = 60
MEBIBYTE: Final = 1_048_576
LONG_BYTES: Final = 96 * MEBIBYTE
"""Of the long stream: more than the store keeps in memory of what is new."""
MAX_ANSWER_BYTES: Final = 2 * MEBIBYTE
MAX_GROWTH_KIB: Final = 4 * 1024
"""What one reader may cost, stalled or not; the published server takes more than the stream is long."""
STALLED: Final = 16
"""Readers that stall, so that what one costs is told from what comes and goes."""


@attrs.frozen
class Site:
    """A server, asked in bare HTTP."""

    server: ServerProcess

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.server.url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """The status, headers and body of an answer."""
        connection = self.connect()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, PREFIX + path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def create(self, content_type: str = "text/plain") -> str:
        path = f"/{uuid.uuid4()}"
        status, _, _ = self.ask("PUT", path, content_type=content_type)
        assert status == 201
        return path

    @property
    def resident_kib(self) -> int:
        """What the server's process has in memory."""
        status = Path(f"/proc/{self.server.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1])


@pytest.fixture(scope="module", params=OURS, ids="-".join)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Ours, on each host with each store; one for all tests."""
    kind: Kind = request.param
    with start_ours(kind, tmp_path_factory.mktemp("streams"), long_poll_ms=PATIENCE * 1000) as server:
        yield Site(server)


@pytest.fixture(scope="module", params=["lean", "hypercorn"])
def long_stream(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """A server with one long stream on its disk."""
    with start_ours((request.param, "disk"), tmp_path_factory.mktemp("streams")) as server:
        site = Site(server)
        path = site.create("application/octet-stream")
        for _ in range(LONG_BYTES // MEBIBYTE):
            status, _, _ = site.ask("POST", path, bytes(MEBIBYTE), content_type="application/octet-stream")
            assert status == 204
        yield site, path


def _catch_up(site: Site, path: str) -> tuple[int, int]:
    """How many bytes there are, and in how many answers they came."""
    offset, received, answers = "-1", 0, 0
    while True:
        status, headers, data = site.ask("GET", f"{path}?offset={offset}")
        assert status == 200
        assert len(data) <= MAX_ANSWER_BYTES
        received, answers, offset = received + len(data), answers + 1, str(headers["Stream-Next-Offset"])
        if headers["Stream-Up-To-Date"] is not None:
            return received, answers


def _stall(site: Site, path: str) -> socket.socket:
    """A reader by SSE that has got the beginning of its answer, and reads nothing more."""
    parts = urlsplit(site.server.url)
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.settimeout(PATIENCE)
    stalled.connect((parts.hostname, parts.port))
    stalled.sendall(f"GET {PREFIX}{path}?offset=-1&live=sse HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    assert stalled.recv(9) == b"HTTP/1.1 "
    return stalled


@pytest.mark.parametrize("word", ["true", "TRUE", "True"])
def test_true_is_true_in_any_case(site: Site, word: str) -> None:
    """`Stream-Closed: TRUE` closes; the published server overlooks it and leaves the stream open."""
    path = site.create()
    status, headers, _ = site.ask("POST", path, b"last", content_type="text/plain", stream_closed=word)
    assert (status, headers["Stream-Closed"]) == (204, "true")
    assert site.ask("POST", path, b"late", content_type="text/plain")[0] == 409


@pytest.mark.parametrize("word", ["false", "1", "yes", ""])
def test_another_word_closes_nothing(site: Site, word: str) -> None:
    """Whatever else `Stream-Closed` says counts as its absence."""
    path = site.create()
    status, headers, _ = site.ask("POST", path, b"more", content_type="text/plain", stream_closed=word)
    assert (status, headers["Stream-Closed"]) == (204, None)
    assert site.ask("POST", path, b"and more", content_type="text/plain")[0] == 204


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_reader_of_a_deleted_stream_ends(site: Site, live: str) -> None:
    """A reader that waits is let go when its stream is deleted; the published server keeps one by SSE for ever."""
    path = site.create()
    connection = site.connect()
    connection.request("GET", f"{PREFIX}{path}?offset=now&live={live}")
    if live == "sse":
        answer = connection.getresponse()
        assert answer.readline() == b"event: control\n"
    assert site.ask("DELETE", path)[0] == 204
    if live == "sse":
        assert b"streamNextOffset" in answer.read()
    else:
        answer = connection.getresponse()
        assert answer.status in {204, 404}
    connection.close()


def test_a_leading_space_survives_events(site: Site) -> None:
    """What begins with a space does so at the other end of an event; the published server loses it."""
    path = site.create()
    assert site.ask("POST", path, b" one\n  two", content_type="text/plain", stream_closed="true")[0] == 204
    _, _, events = site.ask("GET", f"{path}?offset=-1&live=sse")
    lines = [line.removeprefix(b"data:") for line in events.split(b"\n\n")[0].split(b"\n") if line.startswith(b"data:")]
    assert [line.removeprefix(b" ") for line in lines] == [b" one", b"  two"]


def test_json_keeps_its_bytes(site: Site) -> None:
    """Large numbers, final zeros and doubled keys come back as they were; the published server writes them anew."""
    path = site.create("application/json")
    for body in (b'{"n":12345678901234567890}', b'[1.10, {"a":1,"a":2}]', b'["\\u00e9\\/"]'):
        assert site.ask("POST", path, body, content_type="application/json")[0] == 204
    _, _, read = site.ask("GET", f"{path}?offset=-1")
    assert read == b'[{"n":12345678901234567890},1.10,{"a":1,"a":2},"\\u00e9\\/"]'


def test_catching_up_costs_little(long_stream: tuple[Site, str]) -> None:
    """The rest of a long stream comes in bounded answers; the published server answers all of it at once."""
    site, path = long_stream
    _catch_up(site, path)  # it has what it keeps in memory anyway
    before = site.resident_kib
    received, answers = _catch_up(site, path)
    assert (received, answers >= LONG_BYTES // MAX_ANSWER_BYTES) == (LONG_BYTES, True)
    assert site.resident_kib - before < MAX_GROWTH_KIB


def test_stalled_readers_cost_little(long_stream: tuple[Site, str]) -> None:
    """Readers by SSE that read nothing are sent no more than fits; the published server keeps it all in memory.

    Meanwhile others are served.
    """
    site, path = long_stream
    with ExitStack() as stack:
        for _ in range(4):  # until the store's connections have what they keep anyway
            stack.enter_context(_stall(site, path))
        _catch_up(site, path)
        before = site.resident_kib
        for _ in range(STALLED):
            stack.enter_context(_stall(site, path))
        assert _catch_up(site, path)[0] == LONG_BYTES
        assert (site.resident_kib - before) / STALLED < MAX_GROWTH_KIB

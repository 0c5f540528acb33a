"""WebTransport in a real Chromium, which is let in by the hash of a certificate of ours.

The same pages visit aioquic's own server, so that what they ask for is what Chromium gives.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tests.benchmarks.child import resident_bytes
from tests.interop.webtransport.peers import PeerServer, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT: Final = Path(__file__).resolve().parent.parent.parent
RUN: Final = """async ([name, ...args]) => {
    const scenario = (await import("/tests/browser/js/webtransport.mjs"))[name];
    return await scenario(...args) ?? null;
}"""
SCENARIOS: Final = (
    "bidirectional",
    "unidirectional",
    "datagrams",
    "serverOpened",
    "manyStreams",
    "resetReceived",
    "stopReceived",
    "resetSent",
    "stopSent",
    "closeReceived",
    "closeSent",
    "subprotocol",
    "unknownPath",
)
PATIENCE_MS: Final = 60_000
MEBIBYTE: Final = 1_048_576
MAX_GROWTH_BYTES: Final = 24 * MEBIBYTE
"""Of the server's memory, for one stream that is not read: windows and buffers, and what an allocator keeps."""


@attrs.frozen
class Visit:
    """A page beside a server of WebTransport that lets it in.

    Attributes:
      chromium: the browser.
      site: where pages are.
      server: of WebTransport.
      page: a page of the site.
    """

    chromium: Browser
    site: str
    server: PeerServer
    page: Page

    def run(self, scenario: str, *arguments: object, page: Page | None = None) -> object:
        """Run a scenario of `webtransport.mjs` in a page."""
        server = self.server
        call = [scenario, server.url, server.certificate.sha256_base64, *arguments]
        return (page or self.page).evaluate(RUN, call)


@contextlib.contextmanager
def open_page(chromium: Browser, url: str) -> Generator[Page]:
    """A page in a fresh profile."""
    with contextlib.closing(chromium.new_context()) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(url)
        yield page


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Where pages and scenarios are."""
    command = [sys.executable, "-m", "tests.browser.client_child", "lean"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module", params=["aioquic", "ours"])
def visit(
    request: pytest.FixtureRequest, chromium: Browser, site: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visit]:
    """A page beside each server in turn."""
    with (
        start_server(request.param, tmp_path_factory.mktemp("certificate"), site) as server,
        open_page(chromium, site) as page,
    ):
        yield Visit(chromium, site, server, page)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_holds_in_a_page(visit: Visit, scenario: str) -> None:
    """What the scenario's comment says."""
    visit.run(scenario)


def test_a_page_of_another_origin_is_refused(visit: Visit) -> None:
    """The same page under another name of its host may not come in."""
    with open_page(visit.chromium, visit.site.replace("127.0.0.1", "localhost")) as page:
        visit.run("wrongOrigin", page=page)


def test_a_page_that_does_not_read_stops_the_server(visit: Visit) -> None:
    """The server's writer waits, while datagrams of the session pass, and its memory does not grow."""
    before = resident_bytes(visit.server.pid)
    written = visit.run("unread")
    assert isinstance(written, int)
    assert resident_bytes(visit.server.pid) - before < MAX_GROWTH_BYTES
    print(f"{visit.server.library} had written {written:,} bytes when it stood still")  # noqa: T201 - for people


def test_a_server_that_does_not_read_stops_the_page(visit: Visit) -> None:
    """The page's writer waits once the stream's window is full."""
    if visit.server.library == "aioquic":
        pytest.skip("aioquic grants credit for what nobody has read")
    before = resident_bytes(visit.server.pid)
    written = visit.run("unreadByServer")
    assert isinstance(written, int)
    assert resident_bytes(visit.server.pid) - before < MAX_GROWTH_BYTES
    print(f"the page had written {written:,} bytes when it stood still")  # noqa: T201 - for people


def test_a_page_that_goes_elsewhere_cancels_the_handler(visit: Visit) -> None:
    """Navigation in the middle of a stream ends the server's handler of it."""
    with open_page(visit.chromium, visit.site) as page:
        assert visit.run("stay", page=page) == 1
        page.goto("about:blank")
        visit.run("untilPouring", 0)

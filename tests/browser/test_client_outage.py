"""`client.js` in a real Chromium that loses its network: the page goes on where it was, and the peers' scenarios hold there, too."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tests.browser.test_client_chromium import ROOT
from tests.browser.test_client_peers import SCENARIOS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

OUTAGE_SECONDS: Final = 10
RUN: Final = """async ([file, name, ...args]) => {
    const scenario = (await import(`/tests/browser/js/${file}`))[name];
    const late = new Promise((_, reject) => setTimeout(reject, 60_000, new Error("the scenario hangs")));
    return await Promise.race([scenario(...args), late]) ?? null;
}"""
PROGRESS: Final = """async () => (await import("/tests/browser/js/resume.mjs")).progress"""


@attrs.frozen
class Place:
    """A page, its origin, and the WebSockets' URL, which leads through a proxy."""

    page: Page
    pages: str
    url: str

    def post(self, path: str) -> None:
        """Tell the proxy something, past the browser."""
        request = urllib.request.Request(f"{self.pages}/{path}", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 204

    def run(self, file: str, name: str, *arguments: object) -> object:
        return self.page.evaluate(RUN, [file, name, *arguments])

    def wait_progress(self, condition: str) -> None:
        """Wait until the scenario under way has come so far."""
        self.page.evaluate("async () => { window.progress = (await import('/tests/browser/js/resume.mjs')).progress }")
        self.page.wait_for_function(f"() => window.progress.error ?? ({condition})", polling=20)
        assert self.page.evaluate("() => window.progress.error") is None


@pytest.fixture
def place(chromium: Browser) -> Iterator[Place]:
    """A page of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.browser.resuming_site"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with contextlib.closing(chromium.new_context()) as context:
                context.set_default_timeout(60_000)
                pages, url = process.stdout.readline().split()
                page = context.new_page()
                page.goto(pages)
                yield Place(page, pages.rstrip("/"), url)
        finally:
            process.kill()


def _emulate(session: CDPSession, *, offline: bool) -> None:
    conditions = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", conditions)


def test_a_tab_without_a_network_for_ten_seconds(place: Place) -> None:
    """A stream, an upload and a call go on where they were, each item once and in order.

    The proxy cuts what is open, since Chromium's emulation lets an open WebSocket live, and only holds its bytes. The emulation
    then takes the network from the page for ten seconds, with the proxy mended: nothing can be fetched or connected to.
    """
    page = place.page
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    page.evaluate(
        "url => { import('/tests/browser/js/resume.mjs').then((scenarios) => scenarios.goesOnInPage(url)); }", place.url
    )
    place.wait_progress("window.progress.items >= 1000")

    place.post("cut/0")
    place.wait_progress("window.progress.state === 'detached'")
    _emulate(session, offline=True)
    place.post("mend")
    began = time.monotonic()
    assert page.evaluate("() => navigator.onLine") is False
    assert page.evaluate("() => fetch('/').then(() => true, () => false)") is False
    assert place.run("resume.mjs", "canOpen", place.url) is False
    before = _settled(place)
    page.wait_for_timeout(1000 * max(0.0, OUTAGE_SECONDS - (time.monotonic() - began)))
    assert page.evaluate(PROGRESS)["items"] == before, "something came over a network that was not there"
    assert page.evaluate(PROGRESS)["state"] == "detached"

    _emulate(session, offline=False)
    place.wait_progress("window.progress.isOver")
    outcome = page.evaluate(PROGRESS)["outcome"]
    assert outcome["resumes"] == 1
    assert outcome["away"] >= 1000 * OUTAGE_SECONDS
    print(outcome)  # noqa: T201 - for people


def _settled(place: Place) -> int:
    """How many items have come once no more do."""
    before, items = -1, 0
    while items != before:
        place.page.wait_for_timeout(500)
        before, items = items, place.page.evaluate(PROGRESS)["items"]
    return items


@pytest.mark.parametrize("scenario", [name for name, _ in SCENARIOS])
def test_a_peers_scenario_holds_in_a_page(place: Place, scenario: str) -> None:
    """What `SCENARIOS` says of each, where WebSocket, streams and timers are a browser's."""
    place.run("peers.mjs", scenario, place.url, place.pages)


def test_peers_go_on_in_a_page(place: Place) -> None:
    """Calls and streams of both directions outlive a second without a network."""
    place.run("peers.mjs", "goesOn", place.url, place.pages, 1_000)


@pytest.mark.parametrize("scenario", ["closedMeanwhile", "usedMeanwhile", "backpressure"])
def test_a_resumed_scenario_holds_in_a_page(place: Place, scenario: str) -> None:
    """What a page does while it is detached, as in Node."""
    place.run("resume.mjs", scenario, place.url, place.pages)

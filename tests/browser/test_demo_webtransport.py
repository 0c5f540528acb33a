"""The demo's panel of WebTransport: a real session over HTTP/3 between Chromium and the demo, used as a person would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.browser.page import LivePage
from tests.browser.serving import DemoServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TILE: Final = """([label, pattern]) => [...document.querySelectorAll("#webtransport-tiles .tile")].some((tile) =>
    tile.firstElementChild.innerText === label && new RegExp(`^(?:${pattern})$`).test(tile.lastElementChild.innerText))"""
SOME: Final = "[1-9][\\d.,]* .*"
"""A figure with a unit that is not zero."""


def _wait_tile(live: LivePage, label: str, pattern: str) -> None:
    live.wait(TILE, [label, pattern])


def test_figures_of_a_session_move(chromium: Browser, demo: DemoServer) -> None:
    """Round trips are measured and drawn, streams of either side counted, an echo runs for as long as it is wanted."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_state("live", "webtransport-state")
        _wait_tile(live, "Round trip", "[\\d.]+ (?:µs|ms|s)")
        _wait_tile(live, "By the server", "1")
        _wait_tile(live, "Echo", "0 B/s")
        live.wait("() => /now [\\d.]+ (µs|ms|s)/.test(document.querySelector('#webtransport-plot').ariaLabel)")
        live.page.click("#webtransport-many")
        _wait_tile(live, "Streams opened here", "100")
        live.page.press("#webtransport-echo", "Enter")
        live.wait("() => document.querySelector('#webtransport-echo').ariaPressed === 'true'")
        _wait_tile(live, "Echo", SOME)
        live.page.press("#webtransport-echo", "Enter")
        live.wait("() => document.querySelector('#webtransport-echo').ariaPressed === 'false'")
        _wait_tile(live, "Echo", "0 B/s")
        assert live.count_colors("webtransport-plot") > 10


def test_a_page_that_stops_reading_has_the_servers_writer_wait(chromium: Browser, demo: DemoServer) -> None:
    """The server's bytes stand still while the ticks go on, and move when the page reads on."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_state("live", "webtransport-state")
        assert live.page.is_disabled("#webtransport-hold")
        live.page.click("#webtransport-flood")
        _wait_tile(live, "Server writes", SOME)
        live.page.click("#webtransport-hold")
        _wait_tile(live, "Server writes", "0 B/s")
        _wait_tile(live, "Round trip", "[\\d.]+ (?:µs|ms|s)")
        live.page.click("#webtransport-hold")
        _wait_tile(live, "Server writes", SOME)
        live.page.click("#webtransport-flood")
        _wait_tile(live, "Server writes", "0 B/s")
        assert live.page.is_disabled("#webtransport-hold")


def test_a_session_is_closed_with_a_code_and_opened_again(chromium: Browser, demo: DemoServer) -> None:
    """The panel shows how it ended, the server's log has code and reason, and the same button connects anew."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_state("live", "webtransport-state")
        live.page.fill("#webtransport-code", "4000000001")
        live.page.fill("#webtransport-reason", "bis bald ✓")
        live.page.press("#webtransport-reason", "Enter")
        live.wait_state("ended", "webtransport-state")
        assert live.page.inner_text("#webtransport-result") == "Closed with code 4000000001: bis bald ✓."
        assert live.page.is_disabled("#webtransport-echo")
        live.wait(
            "() => [...document.querySelectorAll('#logs li')].some((it) => it.innerText.includes('code 4000000001'))"
        )
        live.page.press("#webtransport-submit", "Enter")
        live.wait_state("live", "webtransport-state")
        assert live.page.inner_text("#webtransport-submit") == "Close the session"


def test_a_browser_without_it_has_no_panel(chromium: Browser, demo: DemoServer) -> None:
    """Nothing is shown, and nothing fails."""
    with LivePage.open(chromium, demo.page) as live:
        live.page.add_init_script("delete window.WebTransport")
        live.page.reload()
        live.wait_state("live", "chat-state")
        assert live.page.is_hidden("#webtransport-panel")

"""The demo's panels: each is used as a person would, and shows what the server did."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.browser.page import LivePage
from tests.browser.serving import DemoServer

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


def test_the_processors_are_drawn(chromium: Browser, demo: DemoServer) -> None:
    """A figure, a line over time, and words for those who do not see it."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait("() => /^\\d+ %$/.test(document.querySelector('#cpu-now').innerText)")
        live.wait("() => /now \\d+ percent/.test(document.querySelector('#cpu').ariaLabel)")
        # Whatever the figure, the line grows.
        live.wait("() => (window.pictures ??= new Set()).add(document.querySelector('#cpu').toDataURL()).size > 3")
        assert live.count_colors("cpu") > 10
        assert "processors; load" in live.page.inner_text("#cpu-note")


def test_the_log_is_filtered_by_level_and_text(chromium: Browser, demo: DemoServer) -> None:
    """The server filters: `error` leaves nothing of a healthy demo, a text leaves the lines that have it."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait("() => document.querySelectorAll('#logs li[data-level=info]').length > 3")
        live.wait("() => document.querySelectorAll('#logs li[data-level=debug]').length > 0")
        live.page.select_option("#logs-level", "info")
        live.wait(
            "() => document.querySelectorAll('#logs li').length > 3 && !document.querySelector('#logs li[data-level=debug]')"
        )
        live.page.select_option("#logs-level", "error")
        live.wait("() => document.querySelectorAll('#logs li').length === 0")
        live.page.select_option("#logs-level", "")
        live.page.fill("#logs-text", "LOGS.TAIL: starts")
        only = """() => {
            const lines = [...document.querySelectorAll("#logs li .text")];
            return lines.length > 0 && lines.every((line) => line.innerText.includes("logs.tail: starts"));
        }"""
        live.wait(only)
        live.page.press("#logs-text", "Escape")
        live.wait(
            "() => [...document.querySelectorAll('#logs li .text')].some((it) => it.innerText.includes('system.'))"
        )
        assert live.page.input_value("#logs-text") == ""


def test_a_message_that_is_typed_is_echoed_and_reaches_the_others(chromium: Browser, demo: DemoServer) -> None:
    """Over one WebSocket each; what was said appears as text, whatever it says."""
    with LivePage.open(chromium, demo.page) as live, LivePage.open(chromium, demo.page) as other:
        for one in (live, other):
            one.wait_state("live", "chat-state")
        live.page.fill("#chat-name", "grace")
        live.page.focus("#chat-text")
        live.page.keyboard.type("<b>hello</b> & goodbye")
        live.page.keyboard.press("Enter")
        said = "grace <B>HELLO</B> & GOODBYE"
        has = "(said) => [...document.querySelectorAll('#chat li')].some((line) => line.innerText === said)"
        live.wait(has, said)
        assert live.page.locator("#chat li[data-type=echo]").last.inner_text() == said
        assert live.page.input_value("#chat-text") == ""
        other.wait(has, said)
        live.page.fill("#chat-text", "status")
        live.page.click("#chat-form button")
        live.wait(
            "() => [...document.querySelectorAll('#chat li[data-type=status]')].some((it) => /grace/.test(it.innerText))"
        )


def test_a_file_is_uploaded_and_its_checksum_agrees(chromium: Browser, demo: DemoServer, tmp_path: Path) -> None:
    """Chosen by hand, sent by the button; the server's checksum is that of the file."""
    data = bytes(range(256)) * 4_000
    path = tmp_path / "figures.bin"
    path.write_bytes(data)
    with LivePage.open(chromium, demo.page) as live:
        live.page.press("#upload-send", "Enter")
        assert "Choose a file first" in live.page.inner_text("#upload-result")
        live.page.set_input_files("#upload-file", path)
        assert live.page.inner_text("#upload-result") == "figures.bin, 1000 KiB, waits to be sent."
        live.page.press("#upload-send", "Enter")
        live.wait_state("ended", "upload-state")
        result = live.page.inner_text("#upload-result")
        assert hashlib.sha256(data).hexdigest()[:16] in result
        assert "the same as here" in result
        assert live.page.evaluate("document.querySelector('#upload-progress').value") == 1


def test_backpressure_is_seen_and_an_upload_can_be_cancelled(chromium: Browser, demo: DemoServer) -> None:
    """A server that reads slowly holds the sender: its window fills, the progress goes on step by step; Escape ends it."""
    with LivePage.open(chromium, demo.page) as live:
        live.page.check("#upload-slow")
        live.page.press("#upload-sample", "Enter")
        live.wait_state("live", "upload-state")
        live.wait("() => document.querySelector('#upload-progress').value > 0.05")
        live.wait("() => document.querySelector('#upload-held').value > 0.5")
        assert live.page.evaluate("document.querySelector('#upload-progress').value") < 1
        full = """() => [...document.querySelectorAll("#streams-table tr")].some((row) =>
            row.innerText.includes("files.upload") && [...row.querySelectorAll(".gauge[data-kind=in]")].some((it) =>
                it.ariaValueNow / it.ariaValueMax > 0.5))"""
        live.wait(full)
        live.page.focus("#upload-cancel")
        live.page.keyboard.press("Escape")
        live.wait_state("paused", "upload-state")
        assert "Cancelled" in live.page.inner_text("#upload-result")
        assert live.focused() == "upload-sample"
        live.wait(
            "() => [...document.querySelectorAll('#logs li')].some((it) => /files.upload.*was cancelled/.test(it.innerText))"
        )


def test_an_upload_under_way_fails_when_the_server_goes(chromium: Browser) -> None:
    """The panel says so, and the next upload, to the next server, works."""
    with DemoServer.start("lean") as server, LivePage.open(chromium, server.page) as live:
        live.page.check("#upload-slow")
        live.page.click("#upload-sample")
        live.wait("() => document.querySelector('#upload-progress').value > 0.01")
        server.kill()
        live.wait_state("error", "upload-state")
        server.restart()
        live.wait_state("live", "chat-state")
        live.page.uncheck("#upload-slow")
        live.page.click("#upload-sample")
        live.wait_state("ended", "upload-state")
        assert "the same as here" in live.page.inner_text("#upload-result")
        live.faults.clear()  # the console tells of the connections that could not be made

"""The live page in a real browser: figures move, tables sort and filter, and a server that goes is missed and found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.page import LivePage
from tests.browser.serving import DemoServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def _names(live: LivePage) -> list[str]:
    return live.page.locator("#streams-table tbody tr:not(.over) th").all_inner_texts()


def test_every_stream_is_a_row_whose_figures_move(chromium: Browser, demo: DemoServer) -> None:
    """Over TCP, WebSocket and SSE; items are counted, gauges show credit, sparklines and the throughput are drawn."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_rows("streams-table", "system.memory")
        live.wait_rows("streams-table", "held")
        assert {"chat", "system.cpu", "system.network", "system.disk", "logs.tail"} <= set(_names(live))
        transports = live.page.locator("#streams-table td[data-label='Over']").all_inner_texts()
        assert {"tcp", "ws", "sse"} <= set(transports)
        live.wait("() => document.querySelectorAll('#streams-table .gauge').length >= 4")
        moved = """() => {
            const cell = [...document.querySelectorAll("#streams-table tr")].find((row) => row.innerText.includes("held"));
            const items = Number(cell?.querySelector("td[data-label='Items']")?.innerText.replaceAll(",", ""));
            window.firstItems ??= items;
            return items > window.firstItems;
        }"""
        live.wait(moved)
        live.wait(
            "() => [...document.querySelectorAll('#tiles .figure')].every((figure) => /\\d/.test(figure.innerText))"
        )
        live.wait("() => !/now 0 B\\/s out/.test(document.querySelector('#throughput').ariaLabel)")
        assert live.count_colors("throughput") > 3
        spark = "() => Object.assign(document.querySelector('#streams-table .spark'), {id: 'spark'}).width > 0"
        live.wait(spark)
        assert live.count_colors("spark") > 3


def test_a_stream_that_ends_is_seen_to(chromium: Browser, demo: DemoServer) -> None:
    """The demo's uploads come and go: their rows say `ended` for a moment, and leave."""
    with LivePage.open(chromium, demo.page) as live:
        ended = """() => {
            const over = [...document.querySelectorAll("#streams-table tr.over")];
            window.over ??= over.find((row) => row.innerText.includes("files.upload") && row.innerText.includes("ended"))?.dataset.id;
            return window.over;
        }"""
        live.wait(ended)
        live.wait("() => !document.querySelector(`#streams-table tr[data-id='${window.over}']`)")


def test_streams_are_filtered_by_keyboard(chromium: Browser, demo: DemoServer) -> None:
    """`/` goes to the filter, typing narrows, Escape shows all again; a connection's button filters by its peer."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_rows("streams-table", "system.memory")
        live.page.keyboard.press("/")
        assert live.focused() == "filter"
        live.page.keyboard.type("chat")
        live.wait(
            "() => [...document.querySelectorAll('#streams-table tbody th')].every((cell) => cell.innerText === 'chat')"
        )
        assert len(_names(live)) >= 2
        live.page.keyboard.type("nothing at all")
        live.page.wait_for_selector("#streams-empty:not([hidden])")
        assert "No stream matches" in live.page.inner_text("#streams-empty")
        live.page.keyboard.press("Escape")
        live.wait_rows("streams-table", "system.memory")
        peer = live.page.locator("#connections-table tbody button").first
        address = peer.inner_text()
        peer.press("Enter")
        assert live.page.input_value("#filter") == address
        only = "(peer) => [...document.querySelectorAll('#streams-table td[data-label=Peer]')].every((it) => it.innerText === peer)"
        live.wait(only, address)


def test_tables_are_sorted_by_keyboard(chromium: Browser, demo: DemoServer) -> None:
    """Once by the natural direction, twice by the other, three times by age again; assistive technology is told."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_rows("streams-table", "system.memory")
        head = live.page.locator("#streams-table thead th").first
        states = []
        for _ in range(3):
            head.locator("button").press("Enter")
            states.append(head.get_attribute("aria-sort"))
            if states[-1] != "none":
                names = live.page.locator("#streams-table tbody th").all_inner_texts()
                assert names == sorted(names, key=str.lower, reverse=states[-1] == "descending")
        assert states == ["ascending", "descending", "none"]
        items = live.page.locator("#streams-table thead th", has_text="Items").first
        items.locator("button").press("Space")
        assert items.get_attribute("aria-sort") == "descending"


def test_pausing_stops_the_figures_and_the_server_s_work(chromium: Browser, demo: DemoServer) -> None:
    """The event stream is closed, not hidden; it goes on when it is wanted again."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_rows("streams-table", "system.memory")
        live.page.press("#pause", "Enter")
        live.wait_state("paused")
        assert live.page.get_attribute("#pause", "aria-pressed") == "true"
        before = live.page.inner_text("#streams-table")
        # A second page sees the first one gone: there is no viewer but itself.
        with LivePage.open(chromium, demo.page) as other:
            other.wait("() => document.querySelector('#uptime').innerText.endsWith('1 viewer')")
        assert live.page.inner_text("#streams-table") == before
        live.page.press("#pause", "Enter")
        live.wait_state("live")
        live.wait("(before) => document.querySelector('#streams-table').innerText !== before", before)


def test_the_plot_shows_bytes_or_items(chromium: Browser, demo: DemoServer) -> None:
    """A group of two radio buttons, which arrow keys change; the legend follows."""
    with LivePage.open(chromium, demo.page) as live:
        assert live.page.locator("#throughput-legend .key").all_inner_texts() == ["out", "in"]
        live.page.focus("#throughput-unit input:checked")
        live.page.keyboard.press("ArrowRight")
        assert live.page.locator("#throughput-legend .key").all_inner_texts() == ["items"]


def test_the_last_requests_are_listed(chromium: Browser, demo: DemoServer) -> None:
    """With their status: one that there is nothing for is marked."""
    with LivePage.open(chromium, demo.page) as live:
        live.page.evaluate("fetch('../missing-thing').then((answer) => answer.status)")
        live.wait_rows("requests-table", "GET /missing-thing")
        row = live.page.locator("#requests-table tr", has_text="/missing-thing").first
        assert row.locator(".badge").get_attribute("data-state") == "errored"
        live.faults.clear()  # the console mentions the 404 that was asked for


@pytest.mark.parametrize("host", ["lean", "hypercorn"])
def test_a_server_that_goes_is_missed_and_found_again(chromium: Browser, host: str) -> None:
    """Killed, it is `reconnecting`; started again on its port, everything goes on, the chat and the log included."""
    with DemoServer.start(host) as server, LivePage.open(chromium, server.page) as live:
        for pill in ("logs-state", "chat-state"):
            live.wait_state("live", pill)
        server.kill()
        for pill in ("state", "logs-state", "chat-state"):
            live.wait_state("lost", pill)
        assert live.page.inner_text("#state") == "reconnecting"
        server.restart()
        for pill in ("state", "logs-state", "chat-state"):
            live.wait_state("live", pill)
        live.wait_rows("streams-table", "system.memory")
        # The console tells of the connections that could not be made, and of nothing else.
        assert [fault for fault in live.faults if "net::ERR_" not in fault and "WebSocket" not in fault] == []
        live.faults.clear()


def test_a_server_that_is_no_demo_has_no_demo_panels(chromium: Browser) -> None:
    """Any application has the page; panels appear where their procedures exist, and procedures are listed."""
    with DemoServer.start("lean", kind="plain") as server, LivePage.open(chromium, server.page) as live:
        live.wait("() => document.querySelector('#procedures').innerText.includes('ticks')")
        assert "A number ten times a second." in live.page.inner_text("#procedures")
        for panel in ("cpu-panel", "logs-panel", "chat-panel", "upload-panel"):
            assert not live.page.is_visible(f"#{panel}")
        assert live.page.inner_text("#streams-empty") == "No stream is open."
        live.page.evaluate("window.ticks = new EventSource('../streams/ticks')")
        live.wait_rows("streams-table", "ticks")
        rate = "() => Number(document.querySelector('#streams-table td[data-label=\"Items/s\"] span')?.innerText) > 3"
        live.wait(rate)
        live.page.evaluate("window.ticks.close()")
        live.page.wait_for_selector("#streams-empty:not([hidden])")


def test_the_page_without_its_slash_and_a_script_that_is_injected(chromium: Browser, demo: DemoServer) -> None:
    """The short address leads to the page; the policy lets no markup be made of text, nor an inline script run."""
    with LivePage.open(chromium, demo.page) as live:
        live.page.goto(demo.page.rstrip("/"))
        live.wait_state("live")
        assert live.page.url == demo.page
        tried = """() => {
            try { document.body.innerHTML = "<b>x</b>"; return "made"; } catch (error) { return error.name; }
        }"""
        assert live.page.evaluate(tried) == "TypeError"
        live.page.evaluate("document.body.append(Object.assign(document.createElement('p'), {id: 'probe'}))")
        for attribute, text in (("onclick", "window.wasRun = true"), ("onfocus", "window.wasRun = true")):
            forged = f"() => document.getElementById('probe').setAttribute('{attribute}', '{text}')"
            with pytest.raises(Exception, match="TrustedScript"):
                live.page.evaluate(forged)
        assert live.page.evaluate("window.wasRun === undefined")
        assert live.faults
        assert [fault for fault in live.faults if "TrustedHTML" not in fault and "TrustedScript" not in fault] == []
        live.faults.clear()


def test_the_network_is_cut_and_sessions_go_on(chromium: Browser, demo: DemoServer) -> None:
    """The button says how many connections it cut; their rows are away, then open again, once more resumed, with their streams."""
    with LivePage.open(chromium, demo.page) as live:
        live.wait_rows("streams-table", "system.memory")
        resumed = """() => [...document.querySelectorAll("#connections-table td[data-label='Resumed']")]
            .map((cell) => Number(cell.innerText)).filter((count) => count > 0)"""
        before = sum(live.page.evaluate(resumed))
        live.page.press("#outage", "Enter")
        live.wait("() => /^2 connections cut/.test(document.querySelector('#outage-result').innerText)")
        live.wait("() => document.querySelectorAll('#connections-table .badge[data-state=held]').length === 2")
        live.wait("() => document.querySelectorAll('#connections-table .badge[data-state=held]').length === 0")
        live.wait(f"(before) => ({resumed})().reduce((sum, count) => sum + count, 0) === before + 2", before)
        moved = """() => {
            const row = [...document.querySelectorAll("#streams-table tr")].find((it) => it.innerText.includes("system.memory"));
            const items = Number(row?.querySelector("td[data-label='Items']")?.innerText.replaceAll(",", ""));
            window.itemsBefore ??= items;
            return items > window.itemsBefore;
        }"""
        live.wait(moved)
        live.wait("() => !document.querySelector('#outage').disabled")

"""Streams and events on the page of procedures: the server says what happened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser.serving import DemoServer
from tests.browser.trying import ask, forgive_statuses, items, open_procedure, settled, use_http, wait_done

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize("transport", ["ws", "http"])
def test_an_event_is_accepted(chromium: Browser, tried: DemoServer, transport: str) -> None:
    """The page says so, and the handler has run."""
    with open_procedure(chromium, tried, "notes.seen") as live:
        if transport == "http":
            use_http(live)
        note = f"by {transport}"
        live.page.fill("[data-field=input]", note)
        live.page.click("#send")
        live.wait_state("ended", "run-state")
        live.wait("() => document.querySelector('#items').innerText.includes('accepted')")
        wait_done(live, f"seen {note}", 1)


@pytest.mark.parametrize("transport", ["ws", "http"])
def test_a_server_stream_is_read_to_its_end_or_its_error(chromium: Browser, tried: DemoServer, transport: str) -> None:
    """Every item is listed and counted; an error comes behind the items before it."""
    with open_procedure(chromium, tried, "ticks.some") as live:
        if transport == "http":
            use_http(live)
        live.page.fill("[data-field=limit]", "3")
        live.page.select_option("[data-field=level]", label="error")
        live.page.click("#send")
        live.wait_state("ended", "run-state")
        assert items(live) == ['"error 0"', '"error 1"', '"error 2"']
        assert live.page.inner_text("#received") == "3"
        live.page.click("a[data-name='ticks.broken']")
        live.page.click("#send")
        live.wait_state("error", "run-state")
        assert items(live) == ["1", "2"]
        assert live.page.inner_text("#error-code") == "DATA_LOSS"
        assert json.loads(live.page.inner_text("#error-details")) == [3]


def test_a_pause_fills_the_window_and_stops_the_server(chromium: Browser, tried: DemoServer) -> None:
    """By the server's own count it has made a window more than was taken here; it goes on when reading does."""
    with open_procedure(chromium, tried, "ticks.endless") as live:
        live.page.click("#more summary")
        live.page.fill("#window", "32")
        live.page.click("#send")
        live.wait("() => document.querySelectorAll('#items li').length > 50")
        live.page.click("#hold")
        live.wait_state("paused", "run-state")
        # Consumption is told at a quarter of a window: what is less may be missing here.
        live.wait("() => document.querySelector('#window-gauge .gauge')?.ariaValueNow >= 24")
        made = settled(tried)
        taken = int(live.page.inner_text("#received").replace(",", ""))
        assert taken < made <= taken + 32 + 1
        assert len(items(live)) <= 200
        live.page.click("#hold")
        live.wait_state("live", "run-state")
        wait_done(live, "made", made + 1000)
        live.page.click("#cancel")
        live.wait_state("paused", "run-state")
        assert live.page.inner_text("#run-state") == "cancelled"


@pytest.mark.parametrize("transport", ["ws", "http"])
def test_cancel_reaches_the_handler(chromium: Browser, tried: DemoServer, transport: str) -> None:
    """Its `finally` has run; so it has when another procedure is chosen meanwhile."""
    before = ask(tried, "done", "endless closed")
    with open_procedure(chromium, tried, "ticks.endless") as live:
        for number, leave in enumerate(("Escape", "click"), before + 1):
            if transport == "http":
                use_http(live)
            live.page.click("#send")
            live.wait("() => document.querySelectorAll('#items li').length > 5")
            if leave == "Escape":
                live.page.keyboard.press("Escape")
                assert live.page.inner_text("#run-state") == "cancelled"
            else:
                live.page.click("a[data-name='math.add']")
            wait_done(live, "endless closed", number)


def test_items_are_sent_one_by_one_and_as_lines(chromium: Browser, tried: DemoServer) -> None:
    """The result comes when our half is ended; credit is shown meanwhile, and an item that does not fit is kept back."""
    with open_procedure(chromium, tried, "numbers.sum") as live:
        assert live.page.is_disabled("#transport-http")
        live.page.click("#send")
        live.wait_state("live", "run-state")
        live.page.fill("[data-field=item]", "5")
        live.page.press("[data-field=item]", "Enter")
        live.wait("() => document.querySelector('#sent').innerText === '1'")
        live.wait("() => /0 waiting, [1-9]\\d* left/.test(document.querySelector('#credit-gauge').innerText)")
        live.page.check("#raw-switch")
        live.page.fill("#raw", '1\n2\n\n"x"')
        live.page.click("#send")
        assert live.page.inner_text("#problem").startswith("line 3: $ is of type integer")
        live.page.fill("#raw", "1\n2\n\n3")
        live.page.press("#raw", "Control+Enter")
        live.wait("() => document.querySelector('#sent').innerText === '4'")
        live.page.click("#end")
        live.wait_state("ended", "run-state")
        assert items(live) == ["11"]


def test_a_conversation_in_both_directions(chromium: Browser, tried: DemoServer) -> None:
    """Each item is answered while our half is open; its end ends the stream, and so does a cancel."""
    before = ask(tried, "done", "double closed")
    with open_procedure(chromium, tried, "chat.double") as live:
        for way in ("end", "cancel"):
            live.page.click("#send")
            live.wait_state("live", "run-state")
            for number in (21, 4):
                live.page.fill("[data-field=item]", str(number))
                live.page.click("#send")
                live.wait(
                    "(number) => [...document.querySelectorAll('#items [data-way=received]')].some((it) => it.innerText.endsWith(number))",
                    2 * number,
                )
            live.page.click(f"#{way}")
            live.page.wait_for_selector("#send:not([disabled])")
            assert live.page.inner_text("#run-state") == ("ended" if way == "end" else "cancelled")
        wait_done(live, "double closed", before + 2)


def test_a_deadline_travels(chromium: Browser, tried: DemoServer) -> None:
    """The stream ends with it, on both transports."""
    with open_procedure(chromium, tried, "ticks.endless") as live:
        live.page.click("#more summary")
        live.page.fill("#timeout", "200")
        for over_http in (False, True):
            if over_http:
                use_http(live)
            live.page.click("#send")
            live.wait_state("error", "run-state")
            assert live.page.inner_text("#error-code") == "DEADLINE_EXCEEDED"
        forgive_statuses(live)  # where it passed before the first item


def test_a_server_that_goes_fails_what_runs(chromium: Browser) -> None:
    """The stream says that the connection is lost; the next use finds the server that came after."""
    with DemoServer.start("lean", kind="try") as server, open_procedure(chromium, server, "ticks.endless") as live:
        live.page.click("#send")
        live.wait("() => document.querySelectorAll('#items li').length > 5")
        server.kill()
        live.wait_state("error", "run-state")
        assert live.page.inner_text("#error-code") == "ConnectionLost"
        server.restart()
        live.page.click("#send")
        live.wait("() => document.querySelectorAll('#items li').length > 5")
        live.page.keyboard.press("Escape")
        live.faults[:] = [fault for fault in live.faults if "net::ERR_" not in fault and "WebSocket" not in fault]

"""What the tests of the page of procedures share: how it is opened, read, and checked against the server's own word."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from tests.browser.page import LivePage
from tests.browser.serving import DemoServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["ask", "forgive_statuses", "items", "open_procedure", "settled", "tab_to", "use_http", "wait_done"]


@contextlib.contextmanager
def open_procedure(chromium: Browser, server: DemoServer, name: str, **options: Any) -> Generator[LivePage, None, None]:
    """The page with a procedure chosen."""
    with LivePage.open(chromium, f"{server.page}procedures#{name}", **options) as live:
        live.page.wait_for_selector("#try:not([hidden])")
        yield live


def ask(server: DemoServer, name: str, value: object = None) -> Any:  # noqa: ANN401 - any JSON
    """A call that does not go through the page."""
    body = json.dumps(value).encode()
    request = urllib.request.Request(f"{server.url}/{name}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_done(live: LivePage, what: str, count: int) -> None:
    """Wait until the server says that something has happened so often."""
    asks = """async ([what, count]) => {
        const answer = await fetch("../done", {method: "POST", body: JSON.stringify(what)});
        return (await answer.json()) >= count;
    }"""
    live.wait(asks, [what, count])


def settled(server: DemoServer) -> int:
    """How many items the endless stream has made, once that has not changed for twenty answers in a row."""
    counts = [int(ask(server, "done", "made"))]
    while len(counts) < 20 or len(set(counts[-20:])) > 1:
        assert len(counts) < 2000, f"it goes on: {counts[-5:]}"
        counts.append(int(ask(server, "done", "made")))
    return counts[-1]


def tab_to(live: LivePage, name: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(50):
        if live.focused() == name:
            return
        live.page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {name}")


def forgive_statuses(live: LivePage) -> None:
    """The console tells of HTTP errors that were asked for."""
    live.faults[:] = [fault for fault in live.faults if "the server responded with a status" not in fault]


def items(live: LivePage, way: str = "received") -> list[str]:
    """The lines of the answer that went one way."""
    return live.page.locator(f"#items [data-way={way}] > span:last-child").all_inner_texts()


def use_http(live: LivePage) -> None:
    """Choose the transport."""
    live.page.check("#transport-http", force=True)

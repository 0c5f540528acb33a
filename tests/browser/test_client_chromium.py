"""`client.js` in a real Chromium: the scenarios that Node runs, in a page."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser.test_client_js import EVERYWHERE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT: Final = Path(__file__).resolve().parent.parent.parent
RUN: Final = """async ([name, ...args]) => {
    const scenario = (await import("/tests/browser/js/scenarios.mjs"))[name];
    return await scenario(...args) ?? null;
}"""


@pytest.fixture(scope="module", params=["lean", "hypercorn"])
def page(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    """A page of a server in a process of its own."""
    command = [sys.executable, "-m", "tests.browser.client_child", request.param]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with contextlib.closing(chromium.new_context()) as context:
                context.set_default_timeout(60_000)
                page = context.new_page()
                page.goto(process.stdout.readline().strip())
                yield page
        finally:
            process.kill()


@pytest.mark.parametrize("scenario", [name for name, _ in EVERYWHERE])
def test_a_scenario_holds_in_a_page(page: Page, scenario: str) -> None:
    """What `EVERYWHERE` says of each scenario, where WebSocket, streams and timers are a browser's."""
    page.evaluate(RUN, [scenario, page.url.replace("http", "ws", 1)])


def test_items_come_in_order_and_at_some_speed(page: Page) -> None:
    """Fifty thousand items, one by one and in runs; the figures are for people."""
    url = page.url.replace("http", "ws", 1)
    page.evaluate(RUN, ["order", url, 50_000])
    print(page.evaluate(RUN, ["speed", url, 50_000]))  # noqa: T201

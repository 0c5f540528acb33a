"""A real Chromium, and a real server in a process of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser.serving import DemoServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SCREENSHOTS: Final = ROOT / "docs" / "screenshots"

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="write what the page looks like into docs/screenshots")


def _missing(reason: str) -> None:
    """What a machine without a browser means: a gap on somebody's desk, an error where everything has to be run."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module's tests; each opens a profile of its own in it.

    Not for all: Playwright keeps an event loop running, which other tests of the same run must not find.
    """
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - a machine may have none
    except ModuleNotFoundError:
        _missing("needs playwright: install the dependency group 'browser'")
        raise
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        _missing("needs Chromium: Debian's package, or its path in the environment variable CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["lean", "hypercorn"])
def demo(request: pytest.FixtureRequest) -> Iterator[DemoServer]:
    """The demo, served by either host."""
    with DemoServer.start(request.param) as server:
        yield server


@pytest.fixture(scope="module", params=["lean", "hypercorn"])
def tried(request: pytest.FixtureRequest) -> Iterator[DemoServer]:
    """The application with a procedure of each kind, served by either host."""
    with DemoServer.start(request.param, kind="try") as server:
        yield server


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures go, if any are wanted."""
    # Where pytest was started above this folder, the option is unknown.
    if not (request.config.getoption("screenshots", default=False) or os.environ.get("SCREENSHOTS")):
        return None
    SCREENSHOTS.mkdir(exist_ok=True)
    return SCREENSHOTS

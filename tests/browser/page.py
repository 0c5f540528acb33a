"""What the tests of the live page share: a page that notes every fault, and conditions to wait for."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

__all__ = ["LivePage"]

PATIENCE_MS: Final = 30_000

_SAID: Final = "() => [...document.querySelectorAll('.pill, [role=status]')].map((it) => `${it.id}: ${it.innerText}`)"


@attrs.define
class LivePage:
    """A page in a fresh profile.

    Attributes:
      page: Playwright's.
      faults: errors of the console and of scripts, and requests to other hosts.
    """

    page: Page
    faults: list[str] = attrs.field(factory=list[str])

    @classmethod
    @contextlib.contextmanager
    def open(cls, chromium: Browser, url: str, **options: Any) -> Generator[LivePage, None, None]:
        """Open the live page; the block must leave it without a fault.

        Args:
          chromium: the browser.
          url: of the page.
          options: of the profile: viewport, colours, motion.
        """
        with contextlib.closing(
            chromium.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
        ) as own:
            own.set_default_timeout(PATIENCE_MS)
            live = cls(own.new_page())
            live.page.on("pageerror", lambda error: live.faults.append(f"error: {error}"))
            # Not the bound method: Playwright marks what it is given, and slots take no marks.
            live.page.on("console", lambda message: live._note(message))  # noqa: PLW0108
            live.page.on("request", lambda request: live._check_origin(request.url, url))
            live.page.goto(url)
            live.wait_state("live")
            yield live
            assert live.faults == []

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text}")

    def _check_origin(self, asked: str, url: str) -> None:
        authority = url.split("/")[2]
        if asked.split("/")[2:3] != [authority]:
            self.faults.append(f"asked another host: {asked}")

    def wait(self, condition: str, argument: object = None) -> None:
        """Wait until an expression in the page is true; it may be a function of the argument."""
        try:
            self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE_MS)
        except Exception as exc:
            said = self.page.evaluate(_SAID)
            raise AssertionError(
                f"waited in vain for {condition}; the page says {said}, faults: {self.faults}"
            ) from exc

    def wait_state(self, state: str, pill: str = "state") -> None:
        """Wait until a pill tells a state, such as `live` or `lost`."""
        self.page.wait_for_selector(f"#{pill}[data-state='{state}']", timeout=PATIENCE_MS)

    def wait_rows(self, table: str, text: str, count: int = 1) -> None:
        """Wait until a table has at least so many rows with a text."""
        condition = """([table, text, count]) =>
            [...document.querySelectorAll(`#${table} tbody tr`)].filter((row) => row.innerText.includes(text)).length >= count"""
        self.wait(condition, [table, text, count])

    def focused(self) -> str:
        """What has the focus: its id, or else its text."""
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.innerText.trim()"))

    def count_colors(self, canvas: str) -> int:
        """How many different colours a canvas shows: one if nothing was drawn."""
        script = """(id) => {
            const canvas = document.getElementById(id);
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
        return int(self.page.evaluate(script, canvas))

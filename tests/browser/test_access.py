"""The page for everybody: by keyboard, on a phone, in the dark, without motion, and read aloud.

Names and roles are taken from the browser's own accessibility tree, which is what a screen reader gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.browser.page import LivePage
from tests.browser.serving import DemoServer

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, FloatRect

NAMED: Final = frozenset(
    {
        *("button", "checkbox", "combobox", "link", "radio", "searchbox", "spinbutton", "textbox"),
        *("image", "img", "log", "meter", "progressbar", "table"),
    }
)
"""Roles that mean nothing without a name."""

PHONE: Final[dict[str, Any]] = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}

CONTRAST: Final = """() => {
    const parse = (text) => {
        const numbers = text.match(/[\\d.]+/g).map(Number);
        const [r, g, b] = text.startsWith("color(") ? numbers.map((it) => it * 255) : numbers;
        return {r, g, b, a: numbers[3] ?? 1};
    };
    const over = (top, below) => Object.fromEntries(
        ["r", "g", "b"].map((it) => [it, top[it] * top.a + below[it] * (1 - top.a)]).concat([["a", 1]]));
    const light = ({r, g, b}) => [r, g, b].map((it) => it / 255)
        .map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4))
        .reduce((sum, it, index) => sum + it * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (element) => {
        const color = parse(getComputedStyle(element).backgroundColor);
        if (color.a === 1) return color;
        return over(color, element.parentElement ? behind(element.parentElement) : parse("rgb(255, 255, 255)"));
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
        const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!hasText || !element.checkVisibility() || element.closest(".hidden, .skip, .over, noscript, :disabled")) continue;
        const below = behind(element);
        const lights = [light(over(parse(getComputedStyle(element).color), below)), light(below)].sort();
        const ratio = (lights[1] + 0.05) / (lights[0] + 0.05);
        if (ratio < 4.5) faint.push(`${element.tagName} ${element.className} ${element.innerText.slice(0, 20)}: ${ratio.toFixed(2)}`);
    }
    return [...new Set(faint)];
}"""
"""Texts whose contrast with what is behind them is less than 4.5 (WCAG 2.2, 1.4.3)."""

STRUCTURE: Final = """() => {
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    const levels = [...document.querySelectorAll("h1, h2, h3")].map((element) => Number(element.tagName[1]));
    return {
        "the language": document.documentElement.lang === "en",
        "one main part": document.querySelectorAll("main").length === 1,
        "no id twice": new Set(ids).size === ids.length,
        "one first heading": levels.filter((level) => level === 1).length === 1,
        "no level skipped": levels.every((level, index) => index === 0 || level - levels[index - 1] <= 1),
        "captions": [...document.querySelectorAll("table")].every((table) => table.caption?.innerText.trim()),
        "heads with scopes": [...document.querySelectorAll("th")].every((head) => head.scope),
        "no order of its own": document.querySelectorAll("[tabindex]:not([tabindex='0'], [tabindex='-1'])").length === 0,
        "live regions": ["logs", "chat"].every((id) => document.getElementById(id).ariaLive === "polite"),
    };
}"""


VISIT: Final = """() => {
    const element = document.activeElement;
    if (element === document.body || window.visited.includes(element)) return null;
    const last = window.visited.at(-1);
    window.visited.push(element);
    const styles = [element, element.nextElementSibling].filter(Boolean).map((it) => getComputedStyle(it));
    return {
        id: element.id || element.className || element.innerText,
        isAfter: !last || Boolean(last.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING),
        isOutlined: styles.some((style) => style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2),
    };
}"""
"""What has the focus; null once everything has had it."""


def _settled(live: LivePage) -> None:
    live.wait_rows("streams-table", "system.memory")
    live.wait_state("live", "chat-state")
    live.wait("() => document.querySelectorAll('#logs li').length > 3 && document.querySelector('#procedures dt')")


def test_everything_has_a_name(chromium: Browser, demo: DemoServer) -> None:
    """Buttons, fields, gauges, plots, logs and tables are named in the browser's accessibility tree."""
    with LivePage.open(chromium, demo.page) as live:
        _settled(live)
        live.wait("() => document.querySelector('#streams-table .gauge')")
        tree = live.page.context.new_cdp_session(live.page).send("Accessibility.getFullAXTree")
        seen: set[str] = set()
        nameless: list[str] = []
        for node in tree["nodes"]:
            role = str(node.get("role", {}).get("value", "")).lower()
            if not node["ignored"] and role in NAMED:
                seen.add(role)
                if not str(node.get("name", {}).get("value", "")).strip():
                    nameless.append(role)
        assert nameless == []
        assert {"button", "checkbox", "combobox", "log", "meter", "radio", "searchbox", "table", "textbox"} <= seen


def test_the_structure_is_sound(chromium: Browser, demo: DemoServer) -> None:
    """Language, landmarks, headings, captions and scopes."""
    with LivePage.open(chromium, demo.page) as live:
        _settled(live)
        findings = live.page.evaluate(STRUCTURE)
        assert [what for what, is_right in findings.items() if not is_right] == []


def test_the_keyboard_reaches_everything_in_order(chromium: Browser, demo: DemoServer) -> None:
    """Tab goes through the page from top to bottom, the skip link first, and what has the focus is seen to have it."""
    with LivePage.open(chromium, demo.page) as live:
        _settled(live)
        # Rows come and go; what is paused stays where it is while it is walked through.
        live.page.click("#pause")
        live.wait_state("paused")
        live.page.evaluate("document.activeElement.blur()")
        live.page.evaluate("window.visited = []")
        # From the top, wherever the click left the browser's starting point.
        live.page.evaluate("() => { const skip = document.querySelector('.skip'); skip.focus(); }")
        stops = [live.page.evaluate(VISIT)]
        for _ in range(200):
            live.page.keyboard.press("Tab")
            stop = live.page.evaluate(VISIT)
            if stop is None:
                break
            stops.append(stop)
        ids = [stop["id"] for stop in stops]
        assert [stop["id"] for stop in stops if not stop["isAfter"]] == []
        assert [stop["id"] for stop in stops[1:] if not stop["isOutlined"]] == []
        wanted = [
            "skip",
            "pause",
            "filter",
            "logs-level",
            "logs-text",
            "logs",
            "chat",
            "chat-text",
            "upload-file",
            "upload-sample",
        ]
        assert [name for name in ids if name in wanted] == wanted


def test_the_skip_link_skips(chromium: Browser, demo: DemoServer) -> None:
    """It appears with the focus, and leads to the streams."""
    with LivePage.open(chromium, demo.page) as live:
        _settled(live)
        live.page.keyboard.press("Tab")
        assert live.page.evaluate("document.activeElement.className") == "skip"
        assert live.page.evaluate("document.activeElement.getBoundingClientRect().top >= 0")
        live.page.keyboard.press("Enter")
        live.wait("() => document.activeElement.id === 'streams'")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_texts_can_be_read(chromium: Browser, demo: DemoServer, scheme: str, screenshots: Path | None) -> None:
    """In both colour schemes every text has a contrast of 4.5 at least."""
    with LivePage.open(chromium, demo.page, color_scheme=scheme) as live:
        _settled(live)
        live.page.check("#upload-slow")
        live.page.click("#upload-sample")
        live.page.fill("#chat-name", "grace")
        live.page.fill("#chat-text", "hello from a browser")
        live.page.press("#chat-text", "Enter")
        live.wait("() => document.querySelector('#upload-progress').value > 0.15")
        assert live.page.evaluate(CONTRAST) == []
        if screenshots is not None and demo.host == "lean":
            live.page.locator("#upload-panel").scroll_into_view_if_needed()
            live.page.screenshot(
                path=screenshots / f"panels-{scheme}.png", clip=_row(live, "logs-panel", "upload-panel")
            )
        live.page.keyboard.press("Escape")


def _row(live: LivePage, first: str, last: str) -> FloatRect:
    """The part of the screen that panels side by side take."""
    boxes = [box for panel in (first, last) if (box := live.page.locator(f"#{panel}").bounding_box()) is not None]
    top, left = boxes[0]["y"] - 8, boxes[0]["x"] - 8
    height = max(box["height"] for box in boxes) + 16
    return {"x": left, "y": top, "width": boxes[-1]["x"] + boxes[-1]["width"] + 8 - left, "height": height}


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_first_screen_fits(chromium: Browser, demo: DemoServer, scheme: str, screenshots: Path | None) -> None:
    """On a laptop totals, plots and the first streams are seen without scrolling, and nothing is wider than the screen."""
    with LivePage.open(chromium, demo.page, color_scheme=scheme, viewport={"width": 1280, "height": 980}) as live:
        _settled(live)
        assert live.page.evaluate("document.documentElement.scrollWidth") == 1280
        tops = "() => [...document.querySelectorAll('#streams-table tbody tr')].slice(0, 3).map((it) => it.getBoundingClientRect().bottom)"
        assert max(live.page.evaluate(tops)) < 980
        if screenshots is not None and demo.host == "lean":
            live.page.check("#upload-slow")
            live.page.click("#upload-sample")
            # A plot of a minute should show some of it.
            live.wait("() => performance.now() > 27000")
            live.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
            live.page.screenshot(path=screenshots / f"dashboard-{scheme}.png")


def test_a_phone_shows_it_all(chromium: Browser, demo: DemoServer, screenshots: Path | None) -> None:
    """360 pixels: nothing is wider than the screen, rows are cards with their labels, targets are large enough, a list sorts."""
    with LivePage.open(chromium, demo.page, **PHONE) as live:
        _settled(live)
        live.wait("() => document.documentElement.scrollWidth === 360 && innerWidth === 360")
        wide = """() => [...document.querySelectorAll("main *")].filter((it) => it.checkVisibility() && !it.closest(".hidden, thead"))
            .filter((it) => it.getBoundingClientRect().right > 361).map((it) => `${it.tagName} ${it.className}`)"""
        assert live.page.evaluate(wide) == []
        small = """() => [...document.querySelectorAll("button, select, input:not([type=radio])")]
            .filter((it) => it.checkVisibility({visibilityProperty: true}) && !it.closest("thead"))
            .filter((it) => (it.closest(".check") ?? it).getBoundingClientRect().height < 24).map((it) => it.id || it.innerText)"""
        assert live.page.evaluate(small) == []
        live.page.select_option("#streams-sort", "items")
        figures = """() => [...document.querySelectorAll("#streams-table tr:not(.over) td[data-label=Items]")]
            .map((it) => Number(it.innerText.replaceAll(",", "")))"""
        live.wait(f"() => ((all) => all.length > 3 && all[0] === Math.max(...all))(({figures})())")
        live.page.tap("#pause")
        live.wait_state("paused")
        live.page.tap("#pause")
        live.wait_state("live")
        if screenshots is not None and demo.host == "lean":
            live.page.evaluate("scrollTo(0, 0)")
            live.page.screenshot(path=screenshots / "dashboard-phone.png")
            live.page.evaluate("document.querySelector('#streams').scrollIntoView()")
            live.page.screenshot(path=screenshots / "dashboard-phone-streams.png")


def test_who_wants_no_motion_gets_none(chromium: Browser, demo: DemoServer) -> None:
    """Nothing is animated; where motion is welcome, the live pill breathes."""
    count = "() => document.getAnimations().length"
    with LivePage.open(chromium, demo.page, reduced_motion="reduce") as live:
        _settled(live)
        assert live.page.evaluate(count) == 0
    with LivePage.open(chromium, demo.page, reduced_motion="no-preference") as live:
        live.wait(f"() => ({count})() > 0")

"""The page of procedures in a real browser: what is read there, calls, keyboard, and lines for other places."""

from __future__ import annotations

import json
import shlex
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.page import LivePage
from tests.browser.serving import DemoServer
from tests.browser.test_access import CONTRAST, NAMED
from tests.browser.trying import forgive_statuses, items, open_procedure, tab_to, use_http

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser


@pytest.mark.parametrize("transport", ["ws", "http"])
def test_a_call_of_every_type_of_field(chromium: Browser, tried: DemoServer, transport: str) -> None:
    """What is typed into the fields arrives as the types that the schema has; what is left empty has its default."""
    with open_procedure(chromium, tried, "notes.search", timezone_id="UTC") as live:
        if transport == "http":
            use_http(live)
        live.page.fill("[data-field=text]", "trio")
        live.page.select_option("[data-field=level]", label="error")
        live.page.fill("[data-field=weight]", "0.5")
        live.page.select_option("[data-field=is_exact]", label="true")
        live.page.fill("[data-field=since]", "2026-01-02T03:04:05")
        live.page.fill("[data-field=tags]", '["a", "b"]')
        live.page.fill("[data-field=span]", '{"start": 1, "end": 2}')
        live.page.click("#send")
        live.wait_state("ended", "run-state")
        answer = json.loads(items(live)[0])
        assert answer.pop("since").startswith("2026-01-02T03:04:05")
        assert answer == {
            "text": "trio",
            "level": "error",
            "limit": 10,
            "weight": 0.5,
            "is_exact": True,
            "tags": ["a", "b"],
            "span": {"start": 1, "end": 2},
        }
        assert live.page.inner_text("#duration") != ""


def test_what_does_not_fit_is_said_before_it_is_sent(chromium: Browser, tried: DemoServer) -> None:
    """With the place and the reason; unchecked it is sent, and the server says the same."""
    with open_procedure(chromium, tried, "notes.search") as live:
        live.page.fill("[data-field=tags]", '["a", 2]')
        live.page.click("#send")
        assert live.page.inner_text("#problem") == "$.tags[1] is of type string, not 2"
        live.page.fill("[data-field=tags]", "[")
        live.page.click("#send")
        assert live.page.inner_text("#problem").startswith("tags is not JSON")
        live.page.fill("[data-field=tags]", "[2]")
        live.page.uncheck("#check-switch")
        live.page.click("#send")
        live.wait_state("error", "run-state")
        assert live.page.inner_text("#error-code") == "INVALID_ARGUMENT"
        assert "$.tags[0]" in live.page.inner_text("#error-message")


def test_fields_and_json_are_two_views_of_one_input(chromium: Browser, tried: DemoServer) -> None:
    """The switch takes along what was typed, in both directions; an example fills both in."""
    with open_procedure(chromium, tried, "notes.search") as live:
        live.page.fill("[data-field=text]", "one")
        live.page.check("#raw-switch")
        assert json.loads(live.page.input_value("#raw")) == {"text": "one"}
        live.page.fill("#raw", '{"text": "two", "limit": 7}')
        live.page.uncheck("#raw-switch")
        assert live.page.input_value("[data-field=limit]") == "7"
        live.page.click(".example button")
        assert live.page.input_value("[data-field=text]") == "trio"
        live.page.check("#raw-switch")
        live.page.fill("#raw", "{")
        live.page.click("#send")
        assert live.page.inner_text("#problem").startswith("the input is not JSON")


@pytest.mark.parametrize("transport", ["ws", "http"])
def test_an_error_is_shown_whole_and_as_text(chromium: Browser, tried: DemoServer, transport: str) -> None:
    """Code, message and details; markup in it stays text."""
    with open_procedure(chromium, tried, "notes.refuse") as live:
        if transport == "http":
            use_http(live)
        live.page.click("#send")
        live.wait_state("error", "run-state")
        assert live.page.inner_text("#error-code") == "OUT_OF_STOCK"
        assert live.page.inner_text("#error-message") == "none <b>left</b>"
        assert json.loads(live.page.inner_text("#error-details")) == {"left": 0}
        forgive_statuses(live)


def test_metadata_and_parameters_of_a_name_are_sent(chromium: Browser, tried: DemoServer) -> None:
    """Over both transports; a parameter that can't be part of a name is refused."""
    with open_procedure(chromium, tried, "notes.who") as live:
        live.page.click("#more summary")
        live.page.click("#add-pair")
        live.page.keyboard.type("authorization")
        live.page.keyboard.press("Tab")
        live.page.keyboard.type("Bearer me")
        for over_http in (False, True):
            if over_http:
                use_http(live)
            live.page.click("#send")
            live.wait("() => document.querySelector('#items').innerText.includes('Bearer me')")
            live.wait_state("ended", "run-state")
        live.page.click("a[data-name='users.[id].greet']")
        live.page.fill("[data-parameter=id]", "a.b")
        live.page.click("#send")
        assert "without a dot" in live.page.inner_text("#problem")
        live.page.fill("[data-parameter=id]", "ada lovelace/1")
        for over_http in (False, True):
            if over_http:
                use_http(live)
            live.page.click("#send")
            live.wait_state("ended", "run-state")
            assert items(live) == ['"hello ada lovelace/1"']


def test_the_keyboard_alone_will_do(chromium: Browser, tried: DemoServer) -> None:
    """`/`, a few letters, arrows and Enter choose; Tab leads to the form, Enter calls, Escape cancels."""
    with LivePage.open(chromium, f"{tried.page}procedures") as live:
        keyboard = live.page.keyboard
        keyboard.press("/")
        assert live.focused() == "filter"
        keyboard.type("ticks")
        live.wait("() => document.querySelectorAll('#names a').length === 3")
        keyboard.press("ArrowDown")
        keyboard.press("ArrowDown")
        keyboard.press("Enter")
        live.page.wait_for_selector("#try:not([hidden])")
        assert live.page.inner_text("#name") == "ticks.endless"
        assert live.focused() == "detail"
        tab_to(live, "send")
        keyboard.press("Enter")
        live.wait_state("live", "run-state")
        tab_to(live, "hold")
        keyboard.press("Space")
        live.wait_state("paused", "run-state")
        keyboard.press("Escape")
        assert live.page.inner_text("#run-state") == "cancelled"
        assert live.focused() == "send"
        keyboard.press("/")
        keyboard.press("Escape")
        live.wait("() => document.querySelectorAll('#names a').length > 3")


def _run_curl(line: str) -> str:
    """What the words of a `curl` command ask for, asked."""
    words = shlex.split(line)
    assert words[0] == "curl"
    url = next(word for word in words if word.startswith("http"))
    given = {flag: [words[at + 1] for at, word in enumerate(words) if word == flag] for flag in ("-H", "--data-binary")}
    headers = dict(header.split(": ", 1) for header in given["-H"])
    body = given["--data-binary"][0].encode() if given["--data-binary"] else None
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("math.add", "[1, 2]", "3"),
        ("notes.seen", '"it\'s"', ""),
        ("ticks.some", '{"limit": 1, "level": "error"}', 'data: "error 0"\n\nevent: end\ndata: {}\n\n'),
        ("numbers.sum", "1\n2\n3", "6"),
    ],
)
def test_the_line_for_curl_works(chromium: Browser, tried: DemoServer, name: str, raw: str, expected: str) -> None:
    """It asks for what the form asks for; what cannot be said in it says so."""
    with open_procedure(chromium, tried, name) as live:
        live.page.check("#raw-switch")
        live.page.fill("#raw", raw)
        assert _run_curl(live.page.inner_text("#snippet")) == expected


def test_lines_for_other_places_follow_the_form(chromium: Browser, tried: DemoServer) -> None:
    """The command line, Python and JavaScript; copying says that it has."""
    with open_procedure(chromium, tried, "math.add", permissions=["clipboard-read", "clipboard-write"]) as live:
        live.page.fill("[data-field=input]", "[1, 2]")
        address = tried.url.replace("http", "ws") + "/"
        said = {
            "cli": f"trio-streams call {address} math.add '[1,2]'",
            "python": f'async with connect("{address}") as client:\n    print(await client.call("math.add", [1, 2]))',
            "javascript": 'console.log(await client.call("math.add", [1,2]));',
        }
        for language, line in said.items():
            live.page.check(f"input[value={language}]", force=True)
            assert line in live.page.inner_text("#snippet")
        live.page.click("#copy")
        live.wait("() => document.querySelector('#copy').innerText === 'Copied'")
        assert said["javascript"] in live.page.evaluate("navigator.clipboard.readText()")


def test_what_is_read_of_a_procedure(chromium: Browser, tried: DemoServer) -> None:
    """Types, defaults, what is required, nested records, examples and metadata; documents are linked."""
    with open_procedure(chromium, tried, "notes.search") as live:
        rows = live.page.locator("#input-schema li li").all_inner_texts()
        assert "text string required" in [" ".join(row.split()) for row in rows]
        assert any(row.startswith('level "info" | "error"') for row in rows)
        assert any("limit integer = 10" in row for row in rows)
        assert any("start integer" in row for row in rows)
        live.page.click("a[data-name='math.add']")
        assert "owner\nnumbers" in live.page.inner_text("#facts")
        assert "two numbers" in live.page.inner_text("#examples")
        assert live.page.locator("#documents a").all_inner_texts() == [
            "usd.json",
            "usd.yaml",
            "openapi.json",
            "asyncapi.json",
        ]
        for link in live.page.locator("#documents a").all():
            assert (
                live.page.evaluate("(path) => fetch(path).then((it) => it.status)", link.get_attribute("href")) == 200
            )


def test_the_pages_lead_to_each_other(chromium: Browser, tried: DemoServer) -> None:
    """From the live page to the procedures, to one of them, and back."""
    with LivePage.open(chromium, tried.page) as live:
        live.page.click(".places a[href='procedures']")
        live.wait("() => document.querySelectorAll('#names a').length > 3")
        live.page.click(".places a[href='./']")
        live.page.click("#procedures a >> text=chat.double")
        live.wait("() => document.querySelector('#name').innerText === 'chat.double'")


@pytest.mark.parametrize("name", ["notes.search", "ticks.endless", "chat.double", "users.[id].greet"])
def test_a_phone_is_wide_enough(chromium: Browser, tried: DemoServer, name: str) -> None:
    """Nothing is wider than 360 pixels, not in use either."""
    with open_procedure(chromium, tried, name, viewport={"width": 360, "height": 740}, has_touch=True) as live:
        live.page.click("#more summary")
        live.page.click("#add-pair")
        if name != "users.[id].greet":
            if live.page.is_visible("#check-switch"):
                live.page.uncheck("#check-switch")
            live.page.click("#send")
            live.page.wait_for_selector("#run-state:not([data-state=idle], [data-state=connecting])")
        for language in ("curl", "cli", "python", "javascript"):
            live.page.check(f"input[value={language}]", force=True)
            assert live.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_can_be_read_and_everything_has_a_name(chromium: Browser, tried: DemoServer, scheme: str) -> None:
    """Text stands out from what is behind it by 4.5 to 1, in the light and in the dark; controls have names."""
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    with open_procedure(chromium, tried, "ticks.endless", **options) as live:
        live.page.click("#more summary")
        live.page.click("#add-pair")
        _pause(live)
        assert live.page.evaluate(CONTRAST) == []
        tree = live.page.context.new_cdp_session(live.page).send("Accessibility.getFullAXTree")
        named = [node for node in tree["nodes"] if not node["ignored"] and node["role"]["value"].lower() in NAMED]
        assert len(named) > 20
        assert [node["role"]["value"] for node in named if not node.get("name", {}).get("value", "").strip()] == []


def _pause(live: LivePage) -> None:
    live.page.fill("#window", "64")
    live.page.click("#send")
    live.wait("() => document.querySelectorAll('#items li').length > 50")
    live.page.click("#hold")
    live.wait("() => document.querySelector('#window-gauge .gauge')?.ariaValueNow >= 48")


def _fill_search(live: LivePage) -> None:
    live.page.fill("[data-field=text]", "trio")
    live.page.select_option("[data-field=level]", label="error")
    live.page.fill("[data-field=span]", '{"start": 1, "end": 2}')
    live.page.click("#send")
    live.wait_state("ended", "run-state")


def _pause_ticks(live: LivePage) -> None:
    live.page.click("#more summary")
    _pause(live)


def _chat(live: LivePage) -> None:
    live.page.click("#send")
    live.wait_state("live", "run-state")
    for count, number in enumerate((21, 4, 8), 1):
        live.page.fill("[data-field=item]", str(number))
        live.page.click("#send")
        live.wait("(count) => document.querySelectorAll('#items [data-way=received]').length === count", count)


@pytest.mark.parametrize(
    ("picture", "name", "use", "scheme", "size"),
    [
        ("try-dark", "ticks.endless", _pause_ticks, "dark", (1440, 900)),
        ("try-light", "notes.search", _fill_search, "light", (1440, 1340)),
        ("try-phone", "chat.double", _chat, "light", (390, 844)),
    ],
)
def test_screenshots(
    chromium: Browser,
    screenshots: Path | None,
    picture: str,
    name: str,
    use: Callable[[LivePage], None],
    scheme: str,
    size: tuple[int, int],
) -> None:
    """What the documentation shows, where it is asked for; else that it can be drawn in dark and light, wide and narrow."""
    width, height = size
    options: dict[str, Any] = {
        "color_scheme": scheme,
        "viewport": {"width": width, "height": height},
        "reduced_motion": "reduce",
    }
    with (
        DemoServer.start("lean", kind="try") as server,
        open_procedure(chromium, server, name, **options) as live,
    ):
        use(live)
        assert live.page.evaluate("document.documentElement.scrollWidth") == width
        if screenshots is not None:
            live.page.evaluate("scrollTo(0, 0)")
            live.page.screenshot(path=screenshots / f"{picture}.png", full_page=width < 700)

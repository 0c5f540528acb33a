"""The page's files, read as text: nothing remote, nothing inline, nothing that is missing, nothing that turns text into markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

import trio_streams.dashboard

STATIC: Final = Path(trio_streams.dashboard.__file__).parent / "static"
FILES: Final = sorted(STATIC.iterdir())
SCRIPTS: Final = [path for path in FILES if path.suffix == ".js"]
PAGES: Final = [path for path in FILES if path.suffix == ".html"]


class Page(HTMLParser):
    """A page's elements, with the text that is inside scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(path.read_text(encoding="utf-8"))

    @property
    def scripts(self) -> set[Path]:
        """The page's scripts, and those that they import."""
        found: set[Path] = set()
        waiting = [attributes["src"] or "" for tag, attributes in self.elements if tag == "script"]
        while waiting:
            path = STATIC / waiting.pop()
            if path not in found:
                found.add(path)
                waiting += re.findall(r"import [^\"]* from \"\./([^\"]+)\"", path.read_text(encoding="utf-8"))
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in {"script", "style"}:
            self.inline += data.strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    """No file names another host; the one URL is the name of a markup language."""
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_page_has_no_inline_script_or_style(path: Path) -> None:
    """What the policy forbids is not tried."""
    page = Page(path)
    assert page.inline == ""
    assert [name for _, attributes in page.elements for name in attributes if name == "style" or name[:2] == "on"] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_turns_text_into_markup(path: Path) -> None:
    """What peers say is shown as text."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_import_is_of_a_file_that_there_is(path: Path) -> None:
    """Modules import their neighbours, and names that those export; our client for browsers is served beside them."""
    text = path.read_text(encoding="utf-8")
    for names, origin in re.findall(r"import (\{[^}]*\}|\* as \w+) from \"\./([^\"]+)\"", text):
        exported = (STATIC / origin).read_text(encoding="utf-8")
        for name in re.findall(r"\w+", names if names.startswith("{") else ""):
            assert re.search(rf"export (?:async )?(?:const|function\*?|class) {name}\b", exported), (origin, name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_id_that_a_script_asks_for_is_on_its_page(path: Path) -> None:
    """And no id is there twice."""
    page = Page(path)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    texts = [script.read_text(encoding="utf-8") for script in page.scripts]
    asked = {name for text in texts for name in re.findall(r"\$\(\"([\w-]+)\"\)", text)}
    assert len(asked) > 10
    assert asked <= set(ids)


def test_every_script_belongs_to_a_page() -> None:
    """None is left over from what a page no longer does."""
    assert set().union(*(Page(path).scripts for path in PAGES)) == set(SCRIPTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_short(path: Path) -> None:
    """The house's rule for Python files counts for these, too."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450

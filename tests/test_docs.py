"""The README's and the documentation's code blocks are run, and print what the pages say that they print.

A fenced `python` block is run in the order of its page; blocks of one page share their names. A comment before the fence
says what else there is to do:

- `<!-- server -->`: a module with an `app`; `<!-- client: tcp ws -->`: a module with `async def main(url)`, called against
  the server before it, once for each scheme, over real sockets on ports that the system chooses.
- `<!-- curl -->`: a shell block with a `curl` command, whose request is made to the server before it.
- `<!-- output -->`: what the block before prints.
- `<!-- not run: reason -->`: a block that cannot be.
"""

from __future__ import annotations

import re
import sys
import types
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from trio_streams import serve

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"

SKETCHES: Final = {"design.md", "seed-map.md"}
"""Pages whose blocks show shapes, not programs."""

PAGES: Final = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.name not in SKETCHES)]

MAX_README_LINES: Final = 20
MAX_SECONDS: Final = 20

FENCE: Final = re.compile(
    r"(?:^<!-- *(?P<mark>[^\n]*?) *-->\n)?^```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@attrs.frozen
class Block:
    """A fenced block: its language, the words of the comment before it, its text and its first line's number."""

    language: str
    mark: str
    text: str
    line: int

    @property
    def kind(self) -> str:
        """The mark's first word; `script` for a Python block without a mark, `shown` for any other."""
        return self.mark.partition(":")[0] or ("script" if self.language == "python" else "shown")

    @property
    def words(self) -> list[str]:
        return self.mark.partition(":")[2].split()


def _blocks(text: str) -> list[Block]:
    return [
        Block(match["language"], match["mark"] or "", match["text"], text[: match.start("text")].count("\n") + 1)
        for match in FENCE.finditer(text)
    ]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@attrs.define
class Page:
    """Runs one page's blocks, from top to bottom."""

    path: Path
    modules: pytest.MonkeyPatch
    names: types.ModuleType
    server: types.ModuleType | None = None

    @classmethod
    def open(cls, path: Path, modules: pytest.MonkeyPatch) -> Page:
        return cls(path, modules, cls._new_module(modules, f"page_{path.stem}"))

    @staticmethod
    def _new_module(modules: pytest.MonkeyPatch, name: str) -> types.ModuleType:
        module = types.ModuleType(re.sub(r"\W", "_", name))
        modules.setitem(sys.modules, module.__name__, module)  # where annotations are looked up
        return module

    def run(self, block: Block) -> Iterator[str]:
        """Run a block, once for each way to; yields the name of each."""
        if block.kind == "script":
            self._execute(block, self.names)
            yield "script"
        elif block.kind == "server":
            self.server = self._load(block)
            yield "server"
        elif block.kind == "client":
            client = self._load(block)
            for scheme in block.words:
                trio.run(self._call, scheme, client.main)
                yield scheme
        elif block.kind == "curl":
            (address,) = re.findall(r"http://[^/\s']+(/[^\s']*)", block.text)
            trio.run(self._call, "http", self._curl, address)
            yield "curl"

    def _load(self, block: Block) -> types.ModuleType:
        module = self._new_module(self.modules, f"{self.names.__name__}_{block.kind}_{block.line}")
        self._execute(block, module)
        return module

    def _execute(self, block: Block, module: types.ModuleType) -> None:
        padded = "\n" * (block.line - 1) + block.text  # a traceback names the page's own lines
        exec(compile(padded, self.path, "exec", dont_inherit=True), vars(module))

    async def _call(self, scheme: str, client: Callable[..., Awaitable[None]], *more: str) -> None:
        assert self.server is not None, "a client needs a server block before it"
        with trio.fail_after(MAX_SECONDS):
            async with trio.open_nursery() as nursery:
                (url,) = await nursery.start(serve, self.server.app, f"{scheme}://127.0.0.1:0")
                await client(url, *more)
                nursery.cancel_scope.cancel()

    @staticmethod
    async def _curl(url: str, address: str) -> None:
        def get() -> str:
            with urllib.request.urlopen(url.rstrip("/") + address, timeout=MAX_SECONDS) as answer:
                return str(answer.read().decode())

        sys.stdout.write(await trio.to_thread.run_sync(get))


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_a_pages_blocks_run(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every Python block of a page runs, and prints what the page says."""
    blocks = _blocks(path.read_text(encoding="utf-8"))
    page = Page.open(path, monkeypatch)
    for block, after in zip_longest(blocks, blocks[1:]):
        for way in page.run(block):
            printed = capsys.readouterr().out
            if after is not None and after.kind == "output":
                assert printed.rstrip() == after.text.rstrip(), f"line {block.line}, {way}"
            else:
                assert printed == "", f"line {block.line}, {way}: prints what the page does not show"


def test_no_block_is_left_out() -> None:
    """A Python block that is not run says why, and every mark is one that this file knows."""
    known = {"script", "server", "client", "curl", "output", "shown", "not run"}
    for path in PAGES:
        for block in _blocks(path.read_text(encoding="utf-8")):
            assert block.kind in known, f"{_name(path)}, line {block.line}: {block.mark}"
            assert block.kind != "not run" or block.words


def test_the_readme_has_a_short_server_and_client() -> None:
    """The README's server and client have at most 20 lines each."""
    blocks = _blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    pair = [block for block in blocks if block.kind in {"server", "client"}]
    assert [block.kind for block in pair[:2]] == ["server", "client"]
    assert all(len(block.text.splitlines()) <= MAX_README_LINES for block in pair)


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_local_links_lead_somewhere(path: Path) -> None:
    """A relative link names a file that exists."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", FENCE.sub("", path.read_text(encoding="utf-8")))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_specification_map_names_what_exists() -> None:
    """Each module and test file in a row of docs/spec-map.md is there."""
    text = (DOCS / "spec-map.md").read_text(encoding="utf-8")
    rows = "".join(line for line in text.splitlines() if line.startswith("|"))
    named = re.findall(r"`([\w/]+\.py|[\w/]+/)`", rows)
    places = [ROOT / name if name.startswith("tests/") else ROOT / "trio_streams" / name for name in named]
    assert len(places) >= 10
    assert [place for place in places if not place.exists()] == []


def test_blocks_are_found() -> None:
    """A block's mark, language, text and line are read as they are written."""
    text = "# T\n\n<!-- client: tcp ws -->\n```python\nx = 1\n```\n\n```\nplain\n```\n"
    first, second = _blocks(text)
    assert (first.kind, first.words, first.text, first.line) == ("client", ["tcp", "ws"], "x = 1\n", 5)
    assert (second.kind, second.text) == ("shown", "plain\n")

"""How Sphinx builds these pages: `nox -s docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parent.parent

project = "trio_streams"
author = "trio_streams contributors"
copyright = author  # noqa: A001 - Sphinx's name for it

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "trio_streams"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Cancellation", "Spec"]

SECTION = re.compile(r"(Cancellation|Spec): (?=\S)")
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def _kind(line: str) -> str:
    """Which Markdown block a docstring's line belongs to."""
    text = line.lstrip()
    return "table" if text.startswith("|") else "text"


def _restructure(lines: list[str]) -> Iterator[str]:
    """Docstrings are Markdown where they are read, in the source; here they become what Sphinx reads."""
    before = ""
    for kind, block in groupby(lines, _kind):
        if kind == "table":
            rows = list(block)
            indent = rows[0][: len(rows[0]) - len(rows[0].lstrip())]
            yield from ("", f"{indent}.. code-block:: text", "", *(f"   {row}" for row in rows), "")
            continue
        for line in block:
            is_item = line.lstrip().startswith("- ")
            if is_item and before.strip() and not _continues_list(before, line):
                yield ""
            yield CODE.sub(r"``\1``", SECTION.sub(r"**\1:** ", line))
            before = line


def _continues_list(before: str, line: str) -> bool:
    indent = len(line) - len(line.lstrip())
    return before.lstrip().startswith("- ") or len(before) - len(before.lstrip()) > indent


def _process(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = list(_restructure(lines))


class Modules(SphinxDirective):
    """`.. modules:: trio_streams.streams.*`: every module of that name, as `automodule` shows it.

    A package's `__init__` only passes on what its modules define, so it is left out where a pattern ends in a star.
    """

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """What the directive becomes."""
        node = nodes.section(document=self.state.document)
        for pattern in self.arguments[0].split():
            found = sorted(ROOT.glob(pattern.replace(".", "/") + ".py"))
            public = [path for path in found if not path.stem.startswith("_")]
            if not public:
                self.state.document.reporter.warning(f"no module is called {pattern}", line=self.lineno)
            for path in public:
                self.env.note_dependency(str(path))
                self._show(".".join(path.relative_to(ROOT).with_suffix("").parts), node)
        return node.children

    def _show(self, name: str, node: nodes.Element) -> None:
        lines = [f".. rubric:: {name}", "", f".. automodule:: {name}", ""]
        self.state.nested_parse(StringList(lines, source=name), self.content_offset, node)


def setup(app: Sphinx) -> None:
    """Called by Sphinx; before napoleon, whose priority is 500."""
    app.add_directive("modules", Modules)
    app.connect("autodoc-process-docstring", _process, priority=400)

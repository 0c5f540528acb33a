"""`client.d.ts`: made of the module's comments by TypeScript's compiler, and of use to those who write in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.browser.node import FOLDER
from tests.browser.typescript import SOURCE, compile_types, generate, install


@pytest.fixture(scope="module")
def tsc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("typescript"))


def test_the_types_are_those_of_the_module(tsc: Path, tmp_path: Path) -> None:
    """The compiler's strict mode has nothing to say about `client.js`, and what it makes of it is what we ship."""
    shipped = (SOURCE / "client.d.ts").read_text(encoding="utf-8")
    assert generate(tsc, tmp_path) == shipped, "write it anew: python -m tests.browser.typescript"


def test_a_program_is_checked_by_them(tsc: Path, tmp_path: Path) -> None:
    """`js/example.ts` uses all of the interface; its mistakes, and no other line, are found."""
    shutil.copy(SOURCE / "client.d.ts", tmp_path)
    shutil.copy(FOLDER / "example.ts", tmp_path)
    assert compile_types(tsc, tmp_path, "--noEmit", "example.ts") == ""
    example = (FOLDER / "example.ts").read_text(encoding="utf-8").replace("// @ts-expect-error", "//")
    (tmp_path / "example.ts").write_text(example, encoding="utf-8")
    complaints = compile_types(tsc, tmp_path, "--noEmit", "example.ts")
    assert complaints.count("error TS") == 5, complaints

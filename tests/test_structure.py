"""The house's rules for files, functions and words."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent

MAX_FILE_LINES: Final = 450
MAX_FUNCTION_LINES: Final = 40

PYTHON: Final = sorted(
    [*(path for folder in ("trio_streams", "tests") for path in (ROOT / folder).rglob("*.py")), ROOT / "noxfile.py"]
)
TEXT: Final = sorted(
    {
        *(path for path in PYTHON if path != Path(__file__).resolve()),  # it has the examples
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "notebooks").rglob("*.ipynb"),
        *ROOT.glob("*.md"),
        ROOT / "pyproject.toml",
        ROOT / ".ci" / "run",
    }
)

FORBIDDEN: Final = {
    "a path of one machine": r"(?<![\w.:/])/(?:home|root|work|opt|Users)/\w+",
    "a package index of one machine": r"(?:extra-|find-)(?:index-url|links)\b|--index-url",
    "an unfinished text": r"(?i)\blorem ipsum\b|\bFIXME\b|\bXXX\b",
    "a to-do without an owner": r"\bTODO\b(?!\(\w+\))",
}
"""What no file may say, and why; spelled out here only."""


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function from its name on, without its docstring."""
    end = function.end_lineno or function.lineno
    docstring = ast.get_docstring(function, clean=False)
    return end - function.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_a_file_is_short(path: Path) -> None:
    """No file has more than 450 lines."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES


@pytest.mark.parametrize("path", PYTHON, ids=_name)
def test_functions_are_short(path: Path) -> None:
    """No function has more than 40 lines beside its docstring, but for a hot one that cites its benchmark."""
    source = path.read_text(encoding="utf-8")
    long = [
        function.name
        for function in _functions(ast.parse(source))
        if _body_lines(function) > MAX_FUNCTION_LINES
        and "benchmark" not in (ast.get_source_segment(source, function) or "")
    ]
    assert long == []


@pytest.mark.parametrize("path", [path for path in PYTHON if path.name.startswith("test_")], ids=_name)
def test_every_test_states_its_claim(path: Path) -> None:
    """Every test has a docstring."""
    tests = [test for test in _functions(ast.parse(path.read_text(encoding="utf-8"))) if test.name.startswith("test_")]
    assert [test.name for test in tests if not ast.get_docstring(test)] == []


@pytest.mark.parametrize("path", TEXT, ids=_name)
def test_nothing_forbidden_is_said(path: Path) -> None:
    """No file names one machine's paths or package indexes, or leaves something unfinished behind."""
    text = path.read_text(encoding="utf-8")
    found = [f"{why}: {match.group()}" for why, rule in FORBIDDEN.items() for match in re.finditer(rule, text)]
    assert found == []


@pytest.mark.parametrize(
    "text", ["cd /root/x", "see /home/me/x", "TODO: later", "Lorem ipsum", "pip --index-url x", "FIXME"]
)
def test_what_is_forbidden_is_found(text: str) -> None:
    """The rules above match what they are for."""
    assert any(re.search(rule, text) for rule in FORBIDDEN.values())


@pytest.mark.parametrize("text", ["GET /work?x=1", "https://example.org/root/a", "TODO(ada): later", "docs/work/a"])
def test_what_is_allowed_is_not_found(text: str) -> None:
    """The rules above match nothing else."""
    assert not any(re.search(rule, text) for rule in FORBIDDEN.values())


@pytest.mark.parametrize("folder", ["core", "wire", "durable/protocol", "webtransport/protocol"])
def test_pure_modules_have_test_files(folder: str) -> None:
    """Each module of a pure package that has a function has a test file of its own, which its coverage is taken from."""
    files = (ROOT / "trio_streams" / folder).glob("*.py")
    modules = {path.name for path in files if _functions(ast.parse(path.read_text(encoding="utf-8")))}
    tests = {path.name.removeprefix("test_") for path in (ROOT / "tests" / folder).glob("test_*.py")}
    assert modules - tests == set()


def test_ci_runs_the_readmes_test_command() -> None:
    """The last line of `.ci/run` is a line of the README, letter by letter, and the script can be executed."""
    script = ROOT / ".ci" / "run"
    command = script.read_text(encoding="utf-8").rstrip().splitlines()[-1]
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.stat().st_mode & 0o111

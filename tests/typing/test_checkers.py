"""mypy and pyright see what the library promises: right uses pass, and each wrong one is found."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))
COMMANDS: Final = {"mypy": ["mypy", "--strict"], "pyright": ["pyright"]}


@pytest.mark.parametrize("checker", COMMANDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_checker_agrees(checker: str, path: Path) -> None:
    """Right uses pass, and an `ignore` on each wrong one is needed: one too many is an error of its own."""
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    command = [sys.executable, "-m", *COMMANDS[checker], str(path)]
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr

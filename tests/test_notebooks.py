"""Every notebook runs from top to bottom, in a kernel of its own, and stores no output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
NOTEBOOKS: Final = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_SECONDS_PER_CELL: Final = 60


def test_there_is_a_notebook() -> None:
    """The tests below have something to do."""
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_stores_no_output(path: Path) -> None:
    """What a cell prints is made by running it, and is not in the file."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path) -> None:
    """Every cell runs, in order, without an error."""
    before = path.read_bytes()
    command = [sys.executable, "-m", "jupyter", "execute", f"--timeout={MAX_SECONDS_PER_CELL}", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert path.read_bytes() == before

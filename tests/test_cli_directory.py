"""`serve` on a directory of procedures, and `--reload`, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli_site import PATIENCE, command, finish, lines_of, needs_signals, start
from trio_streams.cli import main
from trio_streams.cli.loading import load_app, watched_folder
from trio_streams.cli.process import UsageError
from trio_streams.cli.reload import ONCE, with_flag

DOUBLE = """
'''Twice as much.'''
async def handler(number: int) -> int:
    return 2 * number
"""

LIVE = """
from collections.abc import AsyncIterator
async def handler() -> AsyncIterator[str]:
    yield "live"
"""


@pytest.fixture(autouse=True)
def own_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    streams = tmp_path / "streams"
    (streams / "metrics").mkdir(parents=True)
    (streams / "double.call.py").write_text(DOUBLE, encoding="utf-8")
    (streams / "metrics" / "live.stream.py").write_text(LIVE, encoding="utf-8")
    return streams


@pytest.mark.parametrize("form", ["streams", "streams/", "./streams"])
def test_a_directory_is_served(form: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Paths are names; clients see the procedures as any others."""
    process = start("serve", form, "tcp://127.0.0.1:0", folder=folder.parent)
    try:
        (url,) = lines_of(process, 1)
        assert command(capfd, "call", url, "double", "21") == (0, "42\n", "")
        assert command(capfd, "stream", url, "metrics.live") == (0, '"live"\n', "")
        _, output, _ = command(capfd, "describe", url)
        assert "double        call    integer  integer  Twice as much." in output.splitlines()
    finally:
        process.terminate()
        finish(process)


@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        ("bad.call.py", "def f(:\n", "can't load {path}: SyntaxError: invalid syntax"),
        ("bad.call.py", "raise ValueError('no\\nway')\n", "can't load {path}: ValueError: no way\n"),
        ("bad.call.py", "x = 1\n", "{path} has no function handler\n"),
        ("bad.stream.py", "async def handler(): return 1\n", "{path}: "),
        ("_auth.py", "authenticate = 1\n", "{path} has no async function authenticate(context)\n"),
    ],
)
def test_a_file_that_cannot_be_served(
    name: str, source: str, text: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line that names it, and exit code 2."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    code, output, errors = command(capfd, "serve", str(folder), "tcp://127.0.0.1:0")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {text.format(path=path)}")


def test_a_directory_of_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is an error: a server without procedures is a mistake."""
    code, _, errors = command(capfd, "serve", str(tmp_path), "tcp://127.0.0.1:0")
    assert code == 2
    assert errors.startswith(f"error: can't serve {tmp_path}: there are no procedures in it")


def test_a_package_is_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with `__init__.py` is imported by its name, and taken as a directory only with a separator."""
    package = tmp_path / "served_package"
    package.mkdir()
    (package / "__init__.py").write_text("from trio_streams import Router\napp = Router()\n", encoding="utf-8")
    (package / "double.call.py").write_text(DOUBLE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert list(load_app("served_package")) == []
    assert [one.name for one in load_app("served_package/")] == ["double"]


def test_what_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The directory, the file's, or the working directory for a module; one that is not there is wrong use."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    assert watched_folder("inner") == Path("inner")
    assert watched_folder(str(tmp_path / "inner" / "app.py") + ":app") == tmp_path / "inner"
    assert watched_folder("package.module:app") == Path()
    with pytest.raises(UsageError, match=r"can't watch nowhere: there is no such directory"):
        watched_folder("nowhere/app.py")
    assert main(["serve", "nowhere/app.py", "--reload"]) == 2
    assert capfd.readouterr().err == "error: can't watch nowhere: there is no such directory\n"


def test_reload_needs_an_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without watchfiles it says what to install, and no server is started."""
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert main(["serve", str(folder), "--reload"]) == 2
    errors = capfd.readouterr().err
    assert errors == "error: --reload needs watchfiles: pip install 'trio_streams[reload]'\n"


class Reloading:
    """A server with `--reload`, and what it says."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "trio_streams", "serve", *arguments, "--reload"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            start_new_session=True,
        )
        self._guard = threading.Timer(4 * PATIENCE, os.killpg, [self.process.pid, signal.SIGKILL])
        self._guard.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def finish(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=2 * PATIENCE)
        self._guard.cancel()
        self._guard.join()
        return self.process.returncode, output

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.finish()


@pytest.fixture
def started(folder: Path) -> Iterator[Reloading]:
    pytest.importorskip("watchfiles")
    reloading = Reloading(folder.parent, "streams", "tcp://127.0.0.1:0")
    yield reloading
    reloading.kill()


def change(path: Path, text: str) -> None:
    """Write a file at once, as editors do: no reader sees half of it."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@needs_signals
def test_a_changed_file_is_served(started: Reloading, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A new server takes over; a file that can't be loaded is named, and mended by the next change; SIGTERM ends it all."""
    url = started.line()
    assert command(capfd, "call", url, "double", "21") == (0, "42\n", "")
    change(folder / "double.call.py", DOUBLE.replace("2 *", "3 *"))
    assert started.line() == "reload: double.call.py changed"
    url = started.line()
    assert command(capfd, "call", url, "double", "21") == (0, "63\n", "")
    change(folder / "double.call.py", "def f(:\n")
    assert started.line() == "reload: double.call.py changed"
    assert started.line().startswith(f"error: can't load {Path('streams') / 'double.call.py'}: SyntaxError")
    assert started.line() == "reload: the server has ended with exit code 2; waiting for a change"
    change(folder / "double.call.py", DOUBLE)
    assert started.line() == "reload: double.call.py changed"
    url = started.line()
    assert command(capfd, "call", url, "double", "21") == (0, "42\n", "")
    started.process.send_signal(signal.SIGTERM)
    assert started.finish() == (0, "")
    assert command(capfd, "call", url, "double", "21")[0] == 1


@needs_signals
@pytest.mark.parametrize("to_all", [True, False], ids=["to the group", "to the supervisor"])
def test_ctrl_c_ends_both(to_all: bool, started: Reloading, capfd: pytest.CaptureFixture[str]) -> None:
    """As on a terminal, where both get the signal, or from a program that knows of one process only."""
    url = started.line()
    if to_all:
        os.killpg(started.process.pid, signal.SIGINT)
    else:
        started.process.send_signal(signal.SIGINT)
    assert started.finish() == (0, "")
    assert command(capfd, "call", url, "double", "21")[0] == 1


@needs_signals
def test_a_first_failure_waits_for_a_change(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An application that can't be loaded yet is loaded when it can; other files than Python's are left alone."""
    pytest.importorskip("watchfiles")
    app = tmp_path / "app.py"
    app.write_text("raise ValueError('not yet')\n", encoding="utf-8")
    reloading = Reloading(tmp_path, "app.py", "tcp://127.0.0.1:0")
    try:
        assert reloading.line() == "error: can't load app.py: ValueError: not yet (app.py, line 1)"
        assert reloading.line().startswith("reload: the server has ended with exit code 2")
        (tmp_path / "app.log").write_text("nothing", encoding="utf-8")
        change(app, "from trio_streams import Router\napp = Router()\n")
        assert reloading.line() == "reload: app.py changed"
        assert command(capfd, "describe", reloading.line()) == (0, "there are no procedures\n", "")
        reloading.process.send_signal(signal.SIGTERM)
        assert reloading.finish() == (0, "")
    finally:
        reloading.kill()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve", "x", "--reload"], ["serve", "x", "--reload", "--no-reload"]),
        (["serve", "--reload", "--", "x"], ["serve", "--reload", "--no-reload", "--", "x"]),
    ],
)
def test_the_child_does_not_watch(arguments: Sequence[str], expected: Sequence[str]) -> None:
    """Its own flag comes behind the others, and is a flag."""
    assert with_flag(arguments, ONCE) == expected

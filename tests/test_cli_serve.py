"""`trio-streams serve` as a program: its settings, its signals and its exit codes, in real processes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from trio_streams.cli import main
from trio_streams.cli.process import UsageError
from trio_streams.cli.serve import SETTINGS
from trio_streams.cli.settings import Setting, add_settings, choice, count, names, path, read_settings, seconds

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE: Final = 30

APP: Final = """
from collections.abc import AsyncIterator
import attrs
import trio
from trio_streams import Router

router = Router()
print("loaded", flush=True)

@router.call("double")
async def double(number: int) -> int:
    return 2 * number

@attrs.frozen
class Ticks:
    limit: int = 1_000_000

@router.stream("ticks")
async def ticks(input: Ticks) -> AsyncIterator[str]:
    try:
        for _ in range(input.limit):
            yield "tick"
            await trio.sleep(0.01)
    finally:
        print("the handler is done", flush=True)
"""

needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM to one process")


class Program:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        app = folder / "app.py"
        app.write_text(APP, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "trio_streams", "serve", str(app), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        assert self.line() == "loaded"

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, output, errors."""
        assert self.process.stderr is not None
        output, errors = read_all(self.process), self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait(PATIENCE), output, errors


def read_all(process: subprocess.Popen[str]) -> str:
    """The rest of its output; `communicate` would lose what a line's reader has read ahead."""
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    guard.cancel()
    guard.join()
    return output


def request(url: str, head: str) -> bytes:
    """One request on a connection of its own, read to the end."""
    with connection(url) as peer:
        peer.sendall(head.replace("\n", "\r\n").encode() + b"\r\nconnection: close\r\n\r\n")
        data = b""
        while chunk := peer.recv(65_536):
            data += chunk
        return data


def connection(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE)


def start_ticks(url: str) -> socket.socket:
    """A client in the middle of a stream."""
    peer = connection(url)
    peer.sendall(b"GET /streams/ticks HTTP/1.1\r\nhost: localhost\r\n\r\n")
    data = b""
    while b"tick" not in data:
        data += peer.recv(65_536)
    return peer


HOSTS: Final = ("hypercorn", "lean")


@needs_signals
@pytest.mark.parametrize("host", HOSTS)
def test_sigterm_ends_an_idle_server_at_once(host: str, tmp_path: Path) -> None:
    """Exit code 0, nothing on standard error, although a client is connected and a drain may take long."""
    server = Program(tmp_path, "http://127.0.0.1:0", "tcp://127.0.0.1:0", "--host", host, "--drain-timeout", "1000")
    with connection(server.line()), connection(server.line()):
        server.process.send_signal(signal.SIGTERM)
        assert server.finish() == (0, "", "")


@needs_signals
@pytest.mark.parametrize("host", HOSTS)
def test_sigterm_lets_a_stream_finish(host: str, tmp_path: Path) -> None:
    """What is under way reaches its own end; nobody new is let in meanwhile; the exit code is 0."""
    server = Program(tmp_path, "http://127.0.0.1:0", "--host", host, "--drain-timeout", "1000")
    url = server.line()
    call = [sys.executable, "-m", "trio_streams", "call", url, "ticks", '{"limit": 50}']
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:
        assert client.stdout is not None
        first = client.stdout.readline()
        server.process.send_signal(signal.SIGTERM)
        rest = read_all(client)
    assert [first, *rest.splitlines(keepends=True)] == ['"tick"\n'] * 50
    assert client.returncode == 0
    assert server.finish() == (0, "the handler is done\n", "")


@needs_signals
@pytest.mark.parametrize("host", HOSTS)
def test_a_drain_that_is_cut_has_an_exit_code(host: str, tmp_path: Path) -> None:
    """Past the deadline streams are cancelled, their `finally` runs, and the exit code is 3."""
    server = Program(tmp_path, "http://127.0.0.1:0", "--host", host, "--drain-timeout", "0.1")
    with start_ticks(server.line()):
        server.process.send_signal(signal.SIGTERM)
        code, output, errors = server.finish()
    assert (code, output, errors) == (3, "the handler is done\n", "")


@needs_signals
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_drain(second: signal.Signals, tmp_path: Path) -> None:
    """Who insists does not wait for the deadline; the exit code says that something was cut."""
    server = Program(tmp_path, "http://127.0.0.1:0", "--drain-timeout", "1000", "--drain-delay", "1000")
    url = server.line()
    with start_ticks(url):
        server.process.send_signal(signal.SIGTERM)
        while b"503" not in request(url, "GET /readyz HTTP/1.1\nhost: localhost").partition(b"\r\n")[0]:
            pass  # a request takes its time
        server.process.send_signal(second)
        code, output, errors = server.finish()
    assert (code, output, errors) == (3, "the handler is done\n", "")


@needs_signals
def test_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """SIGINT cancels at once, and is a proper end: 0."""
    server = Program(tmp_path, "http://127.0.0.1:0", "--drain-timeout", "1000")
    with start_ticks(server.line()):
        server.process.send_signal(signal.SIGINT)
        assert server.finish() == (0, "the handler is done\n", "")


@needs_signals
@pytest.mark.parametrize("host", HOSTS)
def test_the_access_log_in_json(host: str, tmp_path: Path) -> None:
    """A document a line on standard error, without the values of a query; set by the environment."""
    environment = {
        "TRIO_STREAMS_ACCESS_LOG": "json",
        "TRIO_STREAMS_HOST": host,
        "TRIO_STREAMS_URLS": "http://127.0.0.1:0",
    }
    server = Program(tmp_path, **environment)
    url = server.line()
    answer = request(url, "POST /double?token=secret HTTP/1.1\nhost: localhost\ncontent-length: 0")
    assert answer.startswith(b"HTTP/1.1 400 ")
    server.process.send_signal(signal.SIGTERM)
    code, _, errors = server.finish()
    assert code == 0
    (line,) = errors.splitlines()
    record = json.loads(line)
    assert {key: record[key] for key in ("kind", "method", "path", "status")} == {
        "kind": "exchange",
        "method": "POST",
        "path": "/double?token=…",
        "status": 400,
    }


@needs_signals
def test_the_access_log_in_text(tmp_path: Path) -> None:
    """A line for people, with the time before it; a flag comes before its variable."""
    server = Program(tmp_path, "tcp://127.0.0.1:0", "--access-log", "text", TRIO_STREAMS_ACCESS_LOG="json")
    assert main(["call", server.line(), "double", "2"]) == 0
    server.process.send_signal(signal.SIGTERM)
    _, _, errors = server.finish()
    (line,) = errors.splitlines()
    assert ' tcp "double" OK 1/1 1/1 0.0' in line


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["--max-connections", "0"], {}, "--max-connections is a whole number from 1 on, or none, not '0'"),
        (
            [],
            {"MAX_CONNECTIONS": "many"},
            "TRIO_STREAMS_MAX_CONNECTIONS is a whole number from 1 on, or none, not 'many'",
        ),
        ([], {"DRAIN_TIMEOUT": "-1"}, "TRIO_STREAMS_DRAIN_TIMEOUT is a number of seconds, not '-1'"),
        (["--drain-timeout", "inf"], {}, "--drain-timeout is a number of seconds, not 'inf'"),
        ([], {"HOST": "apache"}, "TRIO_STREAMS_HOST is one of hypercorn, lean, not 'apache'"),
        ([], {"READY_PATH": "readyz"}, "TRIO_STREAMS_READY_PATH is a path that starts with '/', or none, not 'readyz'"),
        (["--log-level", "loud"], {}, "--log-level is one of debug, info, warning, error, not 'loud'"),
        (["--access-log", "yes"], {}, "--access-log is one of off, text, json, not 'yes'"),
        (
            ["--gc-threshold", "700"],
            {},
            "--gc-threshold is three whole numbers from 1 on with commas between them, or none, not '700'",
        ),
    ],
)
def test_a_setting_that_cannot_be_used(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line that names the flag or the variable; exit code 2, before anything is loaded."""
    for name, value in environment.items():
        monkeypatch.setenv(f"TRIO_STREAMS_{name}", value)
    assert main(["serve", "nothing.py", *arguments]) == 2
    assert capfd.readouterr().err == f"error: {text}\n"


TABLE: Final = (
    Setting("number", count(2, has_none=True), "", "N"),
    Setting("time", seconds(has_none=True), "", "S"),
    Setting("a-word", choice("one", "two"), "", "W"),
    Setting("name", names, "", "NAME", is_list=True),
    Setting("place", path, "", "PATH"),
)


def values(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, object]:
    parser = argparse.ArgumentParser()
    add_settings(parser, TABLE)
    return read_settings(TABLE, parser.parse_args(arguments), environment)


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, {}),
        ([], {"TRIO_STREAMS_NUMBER": ""}, {}),
        ([], {"TRIO_STREAMS_NUMBER": "1_000", "NUMBER": "3"}, {"number": 1000}),
        (["--number", "7"], {"TRIO_STREAMS_NUMBER": "x"}, {"number": 7}),
        (["--number", "none", "--time", "none", "--place", "none"], {}, {"number": None, "time": None, "place": None}),
        (["--time", "0.5", "--place", "/x", "--a-word", "two"], {}, {"time": 0.5, "place": "/x", "a_word": "two"}),
        (["--name", "a", "--name", "b,c"], {"TRIO_STREAMS_NAME": "d"}, {"name": ("a", "b", "c")}),
        ([], {"TRIO_STREAMS_NAME": "a, b,"}, {"name": ("a", "b")}),
    ],
)
def test_flags_before_variables(
    arguments: Sequence[str], environment: Mapping[str, str], expected: Mapping[str, object]
) -> None:
    """A flag's value, or else the variable's; what was not given is left to the default."""
    assert values(arguments, environment) == expected


@pytest.mark.parametrize(
    "arguments",
    [["--number", "1"], ["--number", "٣"], ["--number", ""], ["--time", "nan"], ["--time", ""], ["--a-word", "three"]],
)
def test_values_that_are_none(arguments: Sequence[str]) -> None:
    """A text of the wrong form is refused under its flag's name."""
    with pytest.raises(UsageError, match=f"^{arguments[0]} is .*, not "):
        values(arguments, {})


def test_every_setting_is_in_the_guide(capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's table and the help name each flag and its variable."""
    guide = (ROOT / "docs" / "guides" / "operations.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out.split()
    for setting in SETTINGS:
        assert f"`{setting.flag}`" in guide
        assert setting.flag in shown
        assert f"[{setting.variable}]" in shown

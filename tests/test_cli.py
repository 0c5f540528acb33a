"""The command line: real processes, real sockets, on loopback and free ports only."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from tests.cli_site import PATIENCE, ROOT, finish, lines_of, needs_signals, start
from trio_streams.cli import main
from trio_streams.cli import output as output_module
from trio_streams.cli.output import LineTooLongError, Output, OutputClosedError, read_chunks, read_lines
from trio_streams.urls.connecting import SCHEMES

APP: Final = """
from collections.abc import AsyncIterable, AsyncIterator
import attrs
import trio
from trio_streams import Router, RpcError

router = Router()

@router.call("double")
async def double(number: int) -> int:
    return 2 * number

@router.call("picky")
async def picky() -> int:
    raise RpcError("FAILED_PRECONDITION", "not today")

@attrs.frozen
class Count:
    limit: int = 3

@router.stream("count")
async def count(input: Count) -> AsyncIterator[int]:
    for number in range(input.limit):
        yield number
    if input.limit > 3:
        raise RpcError("OUT_OF_RANGE", "counting ends at 3")

@router.stream("ticks")
async def ticks() -> AsyncIterator[str]:
    try:
        while True:
            yield "tick"
            await trio.sleep(0.01)
    finally:
        print("the handler is done", flush=True)

@router.stream("total", direction="client")
async def total(numbers: AsyncIterable[int]) -> int:
    return sum([number async for number in numbers])

@router.stream("echo", direction="bidi")
async def echo(words: AsyncIterable[str]) -> AsyncIterator[str]:
    async for word in words:
        yield word.upper()
"""


class Server:
    """A served application: its process, and its URLs by scheme."""

    def __init__(self, folder: Path) -> None:
        path = folder / "app.py"
        path.write_text(APP, encoding="utf-8")
        urls = (f"{scheme}://127.0.0.1:0" for scheme in ("tcp", "ws", "http"))
        self.process = start("serve", str(path), *urls)
        self.urls = {url.partition(":")[0]: url for url in lines_of(self.process, 3)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    served = Server(tmp_path_factory.mktemp("app"))
    yield served
    served.process.terminate()
    code, _, _ = finish(served.process)
    if os.name == "posix":
        assert code == 0


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Call in this process: the exit code, the lines of output, the errors."""
    code = main(["call", *arguments])
    captured = capfd.readouterr()
    return code, captured.out.splitlines(), captured.err


TRANSPORTS: Final = ("tcp", "ws", "http")


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_a_call_prints_its_result_and_a_stream_its_items(
    scheme: str, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line of JSON each; the caller need not know which of them it is."""
    url = server.urls[scheme]
    assert call(capfd, url, "double", "21") == (0, ["42"], "")
    assert call(capfd, url, "count") == (0, ["0", "1", "2"], "")
    assert call(capfd, f"{url}/", "double", "-1") == (0, ["-2"], "")


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_an_error_is_one_line_and_exit_code_1(scheme: str, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """Items before it are printed; a procedure that nobody has, an input of the wrong type, a handler's own error."""
    url = server.urls[scheme]
    assert call(capfd, url, "nothing") == (1, [], "error: NOT_FOUND: there is no procedure 'nothing'\n")
    assert call(capfd, url, "picky") == (1, [], "error: FAILED_PRECONDITION: not today\n")
    code, _, errors = call(capfd, url, "double", '"two"')
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("error: INVALID_ARGUMENT: ")
    failed = (1, ["0", "1", "2", "3"], "error: OUT_OF_RANGE: counting ends at 3\n")
    assert call(capfd, url, "count", '{"limit": 4}') == failed


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_a_timeout_ends_the_handler(scheme: str, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """The items until then, one line that says why it ended, and a handler whose `finally` has run."""
    code, lines, errors = call(capfd, server.urls[scheme], "ticks", "--timeout", "0.3")
    assert (code, set(lines)) == (1, {'"tick"'})
    assert errors.startswith("error: DEADLINE_EXCEEDED: ")
    assert lines_of(server.process, 1) == ["the handler is done"]


@needs_signals
@pytest.mark.parametrize("scheme", TRANSPORTS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
def test_ctrl_c_ends_the_stream_on_the_server_too(
    scheme: str, number: signal.Signals, code: int, server: Server
) -> None:
    """Lines arrive through a pipe as they are made; after the signal the handler's `finally` runs."""
    process = start("call", server.urls[scheme], "ticks")
    assert lines_of(process, 2) == ['"tick"', '"tick"']
    process.send_signal(number)
    ended, _, errors = finish(process)
    assert (ended, errors) == (code, "")
    assert lines_of(server.process, 1) == ["the handler is done"]


def test_a_reader_that_has_seen_enough_ends_the_call(server: Server) -> None:
    """`… | head -1` leaves no traceback, and no handler behind."""
    process = start("call", server.urls["tcp"], "ticks")
    lines_of(process, 1)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 0
    process.stderr.close()
    assert lines_of(server.process, 1) == ["the handler is done"]


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_items_come_from_standard_input(scheme: str, server: Server) -> None:
    """A line each, empty ones left out, the last one with or without its end."""
    process = start("call", server.urls[scheme], "total", "--items", "-", stdin=subprocess.PIPE)
    assert finish(process, send="1\n\n2\n39") == (0, "42\n", "")


def test_answers_come_while_standard_input_is_open(server: Server) -> None:
    """A bidirectional stream is a conversation; its end is the input's end."""
    process = start("call", server.urls["tcp"], "echo", "--items", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    for word in ("one", "two"):
        process.stdin.write(f'"{word}"\n')
        process.stdin.flush()
        assert lines_of(process, 1) == [f'"{word.upper()}"']
    assert finish(process) == (0, "", "")


@needs_signals
def test_ctrl_c_does_not_wait_for_standard_input(server: Server) -> None:
    """A terminal on which nobody types is left behind."""
    process = start("call", server.urls["tcp"], "echo", "--items", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write('"x"\n')
    process.stdin.flush()
    assert lines_of(process, 1) == ['"X"']
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert finish(process)[2] == ""


def test_items_come_from_a_file(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As from standard input; a file that is missing or no JSON is wrong use, and HTTP says what it can't carry."""
    path = tmp_path / "items"
    path.write_text("1\n2\n\n39\n", encoding="utf-8")
    assert call(capfd, server.urls["ws"], "total", "--items", str(path)) == (0, ["42"], "")
    code, _, errors = call(capfd, server.urls["http"], "total", "--items", str(path))
    assert (code, errors.partition(":")[2].split(":")[0].strip()) == (1, "UNIMPLEMENTED")
    path.write_text("1\n{\n", encoding="utf-8")
    code, _, errors = call(capfd, server.urls["tcp"], "total", "--items", str(path))
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: item 2 is not JSON: ")
    missing: tuple[int, list[str], str] = (2, [], "error: can't read nothing: No such file or directory\n")
    assert call(capfd, server.urls["tcp"], "total", "--items", str(tmp_path / "nothing")) == missing


async def test_a_full_pipe_stops_nothing_but_the_writer(autojump_clock: MockClock) -> None:
    """Whoever waits for a pipe's reader can be cancelled; a reader that is gone is an error of its own."""
    reader, writer = os.pipe()
    output = Output(writer)
    with trio.move_on_after(1) as scope:
        await output.write("x" * 10_000_000)
    assert scope.cancelled_caught
    os.close(reader)
    with pytest.raises(OutputClosedError):
        await output.write("x")
    os.close(writer)


async def test_a_line_has_a_limit(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input without line ends does not fill the memory; lines up to the limit pass, however they are cut."""
    monkeypatch.setattr(output_module, "MAX_LINE_BYTES", 10)
    reader, writer = os.pipe()
    async with contextlib.aclosing(read_lines(read_chunks(reader))) as lines:
        os.write(writer, b"0123456789\n01234")
        assert await anext(lines) == b"0123456789"
        os.write(writer, b"56789\n \n")
        assert await anext(lines) == b"0123456789"
        os.write(writer, b"0123456789x")
        with pytest.raises(LineTooLongError, match="longer than 10 bytes"):
            await anext(lines)
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["tcp://127.0.0.1:1", "x"], 1, "error: UNAVAILABLE: cannot connect to tcp://127.0.0.1:1"),
        (["http://127.0.0.1:1", "x"], 1, "error: UNAVAILABLE: "),
        (["gopher://127.0.0.1:1", "x"], 2, "error: can't use 'gopher://127.0.0.1:1': its scheme is not one of tcp"),
        (["tcp://127.0.0.1", "x"], 2, "error: can't use 'tcp://127.0.0.1': it names no host and port"),
        (["tcp://127.0.0.1:1", "x", "{"], 2, "error: the input is not JSON: "),
        (["tcp://127.0.0.1:1", "x", "1", "--items", "-"], 2, "error: a procedure takes an input or items, not both"),
        (
            ["tcp://127.0.0.1:1", "x", "--timeout", "nan"],
            2,
            "error: --timeout is a number of seconds, or none, not 'nan'",
        ),
    ],
)
def test_a_call_that_cannot_be_made(
    arguments: Sequence[str], code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error: 1 where the world is to blame, 2 where the command is."""
    ended, lines, errors = call(capfd, *arguments)
    assert (ended, lines, errors.count("\n")) == (code, [], 1)
    assert errors.startswith(text)


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        (None, "app.py", "can't load app.py: there is no such file"),
        (
            None,
            "no_such_module:app",
            "can't load no_such_module: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (None, "what is this", "can't load 'what is this': an application is module:attribute or "),
        ("x = 1\ndef f(:\n", "app.py", "can't load app.py: SyntaxError: invalid syntax (line 2)"),
        ("\nraise ValueError('no')\n", "app.py", "can't load app.py: ValueError: no (app.py, line 2)"),
        ("raise SystemExit(3)\n", "app.py", "can't load app.py: SystemExit: 3 (app.py, line 1)"),
        ("x = 1\n", "app.py", "can't serve app.py: there is neither 'app' nor 'router' in it"),
        ("x = 1\n", "app.py:y.z", "can't serve app.py: there is no 'y.z' in it"),
        ("app = 1\n", "app.py", "can't serve app.py:app: it is a int, not a trio_streams.Router"),
    ],
)
def test_an_application_that_cannot_be_served(
    source: str | None,
    name: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line that says what is wrong, and where; exit code 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    if source is not None:
        (tmp_path / "app.py").write_text(source, encoding="utf-8")
    assert main(["serve", name, "tcp://127.0.0.1:0"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {text}")
    assert captured.err.count("\n") == 1


def test_a_taken_port_and_a_bad_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line that names the address; 1 for the port, 2 for the URL."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    path = tmp_path / "served.py"
    path.write_text(APP, encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for scheme in TRANSPORTS:
            assert main(["serve", str(path), f"{scheme}://127.0.0.1:{port}"]) == 1
            errors = capfd.readouterr().err
            assert errors.count("\n") == 1
            assert f"127.0.0.1:{port}" in errors
    assert main(["serve", f"{path}:router", "smoke://127.0.0.1:0"]) == 2
    assert capfd.readouterr().err.startswith("error: can't use 'smoke://127.0.0.1:0'")


@needs_signals
@pytest.mark.parametrize(("number", "ended"), [(signal.SIGINT, 0), (signal.SIGTERM, 3)], ids=["int", "term"])
def test_a_signal_ends_a_server_properly(number: signal.Signals, ended: int, tmp_path: Path) -> None:
    """A module of the working directory is served; handlers' `finally` blocks run, and nothing is said.

    Ctrl-C ends it with 0; SIGTERM with 3, since a stream that has no end outlasts the drain.
    """
    (tmp_path / "ours.py").write_text(APP, encoding="utf-8")
    process = start("serve", "ours:router", "tcp://127.0.0.1:0", "--drain-timeout", "0.1", folder=tmp_path)
    (url,) = lines_of(process, 1)
    caller = start("call", url, "ticks")
    lines_of(caller, 1)
    process.send_signal(number)
    assert finish(process) == (ended, "the handler is done\n", "")
    code, _, errors = finish(caller)
    assert (code, errors.count("\n")) == (1, 1)


def test_the_demo_streams_real_items_over_three_transports() -> None:
    """`demo --duration 2 --plain` prints what is promised, ends by itself, and leaves nothing on standard error."""
    arguments = [f"--{scheme}={0}" for scheme in TRANSPORTS]
    code, output, errors = finish(start("demo", "--duration", "2", "--plain", *arguments))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == list(TRANSPORTS)
    items = [line.split(maxsplit=2) for line in lines if line.split()[0] in {"tcp", "ws", "sse"}]
    for transport in ("tcp", "ws", "sse"):
        figures = [json.loads(item) for found, name, item in items if found == transport and name.startswith("system.")]
        moments = [figure["timestamp"] for figure in figures if "timestamp" in figure]
        assert len(moments) == len(set(moments)) >= 2


@needs_signals
def test_the_demo_ends_with_ctrl_c() -> None:
    """Without a terminal it prints lines by itself; its exit code is 0, for there is no other way to end it."""
    process = start("demo", *(f"--{scheme}={0}" for scheme in TRANSPORTS))
    lines_of(process, 10)
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert (code, errors) == (0, "")


@needs_signals
def test_a_terminal_is_left_as_it_was() -> None:
    """On a terminal there is a picture, without a cursor; Ctrl-C brings both the cursor and the old screen back."""
    import pty  # noqa: PLC0415 - Windows has none

    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error", "-m", "trio_streams", "demo", *(f"--{name}=0" for name in TRANSPORTS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    os.close(theirs)
    drawn = b""
    while drawn.count(b"\x1b[H") < 3:
        drawn += os.read(ours, 65_536)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # how Linux says that the other side of a terminal is gone
        while data := os.read(ours, 65_536):
            drawn += data
    os.close(ours)
    assert finish(process)[::2] == (0, "")
    assert drawn.startswith(b"\x1b[?1049h\x1b[?25l")
    assert drawn.endswith(b"\x1b[?25h\x1b[?1049l")
    assert b"system.cpu" in drawn


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--duration", "nan"], "error: --duration is a number of seconds, not nan\n"),
        (["--tcp", "70000"], "error: a port is a number from 0 to 65535\n"),
        (["--log", "no/such/file"], f"error: can't follow {Path('no/such/file')}: there is no such file\n"),
    ],
)
def test_a_demo_that_cannot_be_shown(arguments: Sequence[str], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong use is one line, and exit code 2."""
    assert main(["demo", *arguments]) == 2
    assert capfd.readouterr().err == text


def test_no_command_is_wrong_use(capfd: pytest.CaptureFixture[str]) -> None:
    """What there is, in a few lines; `--version` is a line."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "COMMAND" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capfd.readouterr().out.strip()


def test_the_help_names_every_scheme(capfd: pytest.CaptureFixture[str]) -> None:
    """A command that takes a URL says which ones there are."""
    with pytest.raises(SystemExit):
        main(["call", "--help"])
    told = " ".join(capfd.readouterr().out.split())
    assert [scheme for scheme in SCHEMES if f"{scheme}:" not in told] == []

"""`upload`: files and standard input as items, in bytes or lines, and the progress that a terminal shows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_site import command, finish, needs_pty, on_a_terminal, read_rest, router, served, start
from trio_streams import Router
from trio_streams.cli.upload import Progress

MIB = 1_048_576


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    with served(router, "tcp", "ws") as bound:
        yield bound


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_bytes_go_in_chunks(
    scheme: str, urls: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A procedure that takes bytes gets a file's bytes, none too many, in chunks of 64 KiB; an empty file is no chunk."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096 + b"end")
    code, output, errors = command(capfd, "upload", urls[scheme], "size", str(path))
    assert (code, json.loads(output), errors) == (0, [MIB + 3, 17], "")
    path.write_bytes(b"")
    assert command(capfd, "upload", urls[scheme], "size", str(path)) == (0, "[0,0]\n", "")


def test_lines_go_as_items(urls: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Any other procedure gets JSON lines; one that is none is named, and ends the upload."""
    path = tmp_path / "file"
    path.write_text("1\n\n2\n39", encoding="utf-8")
    assert command(capfd, "upload", urls["tcp"], "sum", str(path)) == (0, "42\n", "")
    path.write_text("1\n{\n", encoding="utf-8")
    code, output, errors = command(capfd, "upload", urls["tcp"], "sum", str(path))
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: item 2 is not JSON: ")


def test_standard_input_is_uploaded(urls: dict[str, str]) -> None:
    """`-` is what is piped in, to its end."""
    process = start("upload", urls["tcp"], "sum", "-", stdin=subprocess.PIPE)
    assert finish(process, send="40\n2\n") == (0, "42\n", "")
    process = start("upload", urls["ws"], "size", "-", stdin=subprocess.PIPE)
    code, output, errors = finish(process, send="x" * 200_000)
    assert (code, json.loads(output)[0], errors) == (0, 200_000, "")


def test_an_early_answer_ends_an_upload(urls: dict[str, str]) -> None:
    """Standard input that stays open keeps nobody waiting once the handler has answered."""
    process = start("upload", urls["tcp"], "first", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("7\n")
    process.stdin.flush()
    assert process.stdout is not None
    assert process.stdout.readline() == "7\n"
    assert process.wait(30) == 0
    finish(process)


def test_bytes_are_sent_where_the_server_does_not_tell(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--bytes` does without the server's description."""
    silent = Router()

    @silent.call("describe")
    async def describe() -> None:
        """Nothing."""

    silent.add(next(one for one in router if one.name == "size"))
    path = tmp_path / "file"
    path.write_bytes(b"\x00\xff")
    with served(silent, "tcp") as urls:
        assert command(capfd, "upload", urls["tcp"], "size", str(path), "--bytes") == (0, "[2,1]\n", "")


def test_progress_in_words() -> None:
    """How much, of how much, and how fast; a file that grows is no more than all of it."""
    progress = Progress(3 * MIB)
    assert progress.line(0.0) == "0 B of 3.0 MiB   0%   0 B/s"
    progress.sent_bytes = MIB
    assert progress.line(2.0) == "1.0 MiB of 3.0 MiB   33%   512.0 KiB/s"
    progress.sent_bytes = 4 * MIB
    assert progress.line(4.0) == "4.0 MiB of 3.0 MiB   100%   1.0 MiB/s"
    assert Progress(None).line(0.0) == "0 B   0 B/s"


@needs_pty
def test_progress_on_a_terminal(urls: dict[str, str], tmp_path: Path) -> None:
    """It is drawn on standard error, over itself, and nothing of it stays; the answer is on standard output."""
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * MIB))
    process, terminal = on_a_terminal("upload", urls["tcp"], "size", str(path), stream="stderr")
    drawn = read_rest(terminal)
    assert process.stdout is not None
    assert json.loads(process.stdout.read()) == [2 * MIB, 32]
    process.stdout.close()
    assert process.wait(30) == 0
    first, *others = drawn.removeprefix(b"\r\x1b[K").split(b"\r\x1b[K")
    assert b" of 2.0 MiB   " in first  # how far it is by then is nobody's promise
    assert first.endswith(b"/s")
    assert others[-1] == b""

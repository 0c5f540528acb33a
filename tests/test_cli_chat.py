"""`chat`: lines typed, items printed, on pipes and on a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.cli_site import PATIENCE, finish, lines_of, needs_pty, needs_signals, on_a_terminal, router, served, start
from trio_streams.cli.chat import read_word, shown


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    with served(router, "tcp", "ws", "http") as bound:
        yield bound


def say(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_a_conversation(scheme: str, urls: dict[str, str]) -> None:
    """Each line is answered while more may come; the end of input ends our half, and the rest is printed."""
    process = start("chat", urls[scheme], "echo", stdin=subprocess.PIPE)
    for word in ("one", "2", '{"a": 1}'):
        say(process, f"{word}\n")
        assert lines_of(process, 1) == [word.upper()]
    assert finish(process) == (0, "the end\n", "")


def test_what_takes_no_strings_gets_json(urls: dict[str, str]) -> None:
    """Lines that are JSON are sent as such, others as strings; items that are no strings are printed as JSON."""
    process = start("chat", urls["tcp"], "mirror", stdin=subprocess.PIPE)
    assert finish(process, send='{"a": [1]}\n"a"\nplain\n5') == (0, '{"a":[1]}\na\nplain\n5\n', "")


def test_bytes_are_sent_as_they_are(urls: dict[str, str]) -> None:
    """Where a procedure takes bytes a line is its bytes, and what comes is shown as text."""
    process = start("chat", urls["ws"], "pipe", stdin=subprocess.PIPE)
    assert finish(process, send='abc\n"1"\n') == (0, 'cba\n"1"\n', "")


def test_the_other_side_may_end_it(urls: dict[str, str]) -> None:
    """Then nobody waits for standard input."""
    process = start("chat", urls["tcp"], "echo", stdin=subprocess.PIPE)
    say(process, "bye\n")
    assert process.wait(PATIENCE) == 0
    assert finish(process)[1:] == ("", "")


@needs_signals
def test_ctrl_c_leaves(urls: dict[str, str]) -> None:
    """Exit code 130, although standard input stays open."""
    process = start("chat", urls["tcp"], "echo", stdin=subprocess.PIPE)
    say(process, "one\n")
    assert lines_of(process, 1) == ["ONE"]
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert finish(process)[1:] == ("", "")


def test_http_says_what_it_cannot_carry(urls: dict[str, str]) -> None:
    """One line, and exit code 1."""
    code, output, errors = finish(start("chat", urls["http"], "echo"))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("error: UNIMPLEMENTED: 'echo': ")


@needs_pty
def test_ctrl_d_on_a_terminal(urls: dict[str, str]) -> None:
    """A typed line is sent when it is complete; Ctrl-D on an empty line ends our half."""
    process, terminal = on_a_terminal("chat", urls["tcp"], "echo", stream="stdin")
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    os.write(terminal, b"hello\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "HELLO\n"
    os.write(terminal, b"\x04")
    assert process.stdout.read() == "the end\n"
    guard.cancel()
    assert finish(process) == (0, "", "")
    os.close(terminal)


@pytest.mark.parametrize(
    ("typed", "is_text", "expected"),
    [
        (b"5", True, "5"),
        (b"5", False, 5),
        (b"5 apples\r", False, "5 apples"),
        (b" padded ", True, " padded "),
        (b"\xff", False, "\ufffd"),
        (b"null", False, None),
    ],
)
def test_what_a_line_says(typed: bytes, is_text: bool, expected: object) -> None:
    """Strings where they are wanted, JSON where it is some; no line is refused."""
    assert read_word(typed, is_text=is_text) == expected


def test_strangers_cannot_write_to_a_terminal() -> None:
    """What a terminal would obey is taken out; a program that reads gets what was sent."""
    evil = "\x1b[2Jhi\x9b1m\u202ethere\r"
    assert list(shown(evil, is_terminal=True)) == ["?[2Jhi?1m?there?\n"]
    assert list(shown(evil, is_terminal=False)) == [f"{evil}\n"]
    assert list(shown("one\ntwo", is_terminal=True)) == ["one\n", "two\n"]
    assert list(shown({"a": "\x1b\x9b"}, is_terminal=True)) == ['{"a":"\\u001b\\u009b"}\n']

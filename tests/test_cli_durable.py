"""`durable`: streams from the command line, and a server of them in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_site import PATIENCE, ROOT, command, finish, lines_of, needs_signals, start
from tests.durable.client.sites import Site, serve_in_thread
from trio_streams.durable import DurableConfig, require_bearer


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server for all commands."""
    with serve_in_thread() as found:
        yield found


def test_a_stream_is_created_and_described(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Both commands print what is known, as one line of JSON; another configuration is an error."""
    url = site.root + "created"
    code, output, errors = command(capfd, "durable", "create", url, "--content-type", "text/plain", "--ttl", "60")
    assert (code, errors) == (0, "")
    found = json.loads(output)
    assert (found["url"], found["contentType"], found["ttlSeconds"], found["closed"]) == (url, "text/plain", 60, False)
    assert command(capfd, "durable", "head", url) == (0, output, "")
    code, output, errors = command(capfd, "durable", "create", url, "--content-type", "application/json")
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("error: CONFLICT_EXISTS: ")


def test_messages_of_json(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Arguments and lines are messages; the offset that is printed is where `tail` can go on."""
    url = site.put("json")
    code, offset, errors = command(capfd, "durable", "append", url, '{"a": 1}', "[2]")
    assert (code, errors) == (0, "")
    path = tmp_path / "file"
    path.write_text('3\n\n"four"\n', encoding="utf-8")
    code, end, errors = command(capfd, "durable", "append", url, "--file", str(path))
    assert (code, errors) == (0, "")
    code, output, errors = command(capfd, "durable", "tail", url, "--no-live")
    assert (code, output, errors) == (0, '{"a":1}\n[2]\n3\n"four"\n', f"offset: {end}")
    code, output, errors = command(capfd, "durable", "tail", url, "--no-live", "--json", "--offset", offset.strip())
    assert [json.loads(text) for text in output.splitlines()] == [{"data": [3, "four"], "offset": end.strip()}]


def test_what_is_not_json_is_named(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong use; the messages before it are not lost without a word: the producer says how far it was."""
    url = site.put("bad")
    code, output, errors = command(capfd, "durable", "append", url, "1", "{")
    assert (code, output) == (2, "")
    assert errors.startswith("error: item 2 is not JSON: ")
    code, output, errors = command(capfd, "durable", "append", url, "1", "--file", "x")
    assert (code, errors) == (2, "error: give either DATA or --file\n")
    code, output, errors = command(capfd, "durable", "append", url, "--file", "no such file")
    assert (code, errors) == (2, "error: can't read no such file: No such file or directory\n")


def test_bytes_and_text(site: Site, tmp_path: Path) -> None:
    """A file's bytes come out as they went in; text keeps its lines."""
    url = site.put("bytes", "application/octet-stream")
    data = bytes(range(256)) * 2_000
    path = tmp_path / "file"
    path.write_bytes(data)
    assert finish(start("durable", "append", url, "--file", str(path), "--close"))[0] == 0
    line = [sys.executable, "-m", "trio_streams", "durable", "tail", url]
    found = subprocess.run(line, cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE)
    assert found.stdout == data
    process = start("durable", "tail", url, "--no-live", "--json")
    assert json.loads(finish(process)[1].splitlines()[0])["data"].startswith("AAEC")
    text = site.put("text", "text/plain")
    process = start("durable", "append", text, "--close", stdin=subprocess.PIPE)
    assert finish(process, send="one\ntwo\n")[0] == 0
    assert finish(start("durable", "tail", text))[1] == "one\ntwo\n"


def test_a_closed_stream_takes_nothing(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """`--close` alone closes; what comes after it is an error, in one line."""
    url = site.put("closed")
    process = start("durable", "append", url, "--close")
    assert finish(process)[0] == 0
    code, output, errors = command(capfd, "durable", "append", url, "1")
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("error: STREAM_CLOSED: ")


def test_streams_are_listed_and_removed(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    """More than one page, by prefix, as paths or with what is known."""
    names = [f"list-{number:03}" for number in range(120)]
    for name in names:
        site.put(name)
    assert command(capfd, "durable", "ls", site.root, "--prefix", "list-") == (0, "\n".join([*names, ""]), "")
    code, output, errors = command(capfd, "durable", "ls", site.root.rstrip("/"), "--prefix", "list-00", "--json")
    assert (code, errors) == (0, "")
    assert [json.loads(text)["path"] for text in output.splitlines()] == names[:10]
    assert command(capfd, "durable", "rm", site.root + names[0]) == (0, "", "")
    code, output, errors = command(capfd, "durable", "rm", site.root + names[0])
    assert (code, errors.startswith("error: NOT_FOUND: ")) == (1, True)
    code, output, errors = command(capfd, "durable", "ls", site.root + names[1])
    assert (code, output) != (0, "")


@needs_signals
def test_a_tail_follows_until_it_is_interrupted(site: Site) -> None:
    """What comes is printed as it comes; Ctrl-C ends it, and the offset to go on from is said."""
    url = site.put("followed")
    process = start("durable", "tail", url)
    site.post("followed", b"[1]")
    assert lines_of(process, 1) == ["1"]
    site.post("followed", b"[2]")
    assert lines_of(process, 1) == ["2"]
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert code == 130
    assert errors.startswith("offset: ")


@needs_signals
@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_server_until_a_signal(place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It prints where its streams are; what it keeps on the disk is there after a restart."""
    arguments = ["--memory"] if place == "memory" else ["--data", str(tmp_path / "data")]
    found = []
    for number in range(2):
        process = start("durable", "serve", "--bind", "127.0.0.1:0", "--long-poll-timeout", "1", *arguments)
        (root,) = lines_of(process, 1)
        assert root.endswith("/v1/stream/")
        assert command(capfd, "durable", "create", root + "s", "--content-type", "application/json")[0] == 0
        assert command(capfd, "durable", "append", root + "s", str(number))[0] == 0
        found.append(command(capfd, "durable", "tail", root + "s", "--no-live")[1])
        process.send_signal(signal.SIGTERM if number else signal.SIGINT)
        assert finish(process)[::2] == (0, "")
    assert found == ["0\n", "1\n" if place == "memory" else "0\n1\n"]


@pytest.mark.parametrize("bind", ["4437", "localhost:x", ":70000"])
def test_wrong_use_of_serve(bind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One line that names what is wrong."""
    assert command(capfd, "durable", "serve", "--bind", bind) == (2, "", f"error: --bind is HOST:PORT, not {bind!r}\n")


def test_a_token_is_sent(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, or by its flag, which comes first; without one a guarded server refuses, in one line."""
    with serve_in_thread(DurableConfig(authenticate=require_bearer({"secret"}))) as guarded:
        url = guarded.root + "s"
        code, output, errors = command(capfd, "durable", "create", url)
        assert (code, output, errors.count("\n")) == (1, "", 1)
        assert errors.startswith("error: UNAUTHORIZED: ")
        assert command(capfd, "durable", "create", url, "--token", "secret")[0] == 0
        monkeypatch.setenv("TRIO_STREAMS_TOKEN", "secret")
        assert command(capfd, "durable", "ls", guarded.root) == (0, "s\n", "")
        assert command(capfd, "durable", "head", url, "--token", "other")[0] == 1


def test_a_url_that_can_not_be_asked(capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong use, in one line."""
    code, output, errors = command(capfd, "durable", "head", "ftp://127.0.0.1/x")
    assert (code, output, errors.count("\n")) == (2, "", 1)

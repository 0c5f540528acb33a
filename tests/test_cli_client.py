"""`describe`, `call` and `stream` against a server of all kinds of procedures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.cli_site import PATIENCE, ROOT, command, needs_signals, router, served, start, told
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams import Router, RpcError
from trio_streams.cli import main
from trio_streams.cli.describe import show_all, show_one
from trio_streams.cli.output import Output
from trio_streams.cli.reflection import Server
from trio_streams.cli.remote import SETTINGS
from trio_streams.procedures.describe import Description, ProcedureDescription

TRANSPORTS = ("tcp", "ws", "http")


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    with served(router, *TRANSPORTS) as bound:
        yield bound


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_describe_is_a_table(
    scheme: str, urls: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each procedure: its name, its kind, what goes in and comes out, what it is."""
    monkeypatch.setenv("COLUMNS", "120")
    code, output, errors = command(capfd, "describe", urls[scheme])
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert len(lines) == 1 + len(router)
    assert lines[0].split() == ["name", "kind", "input", "output", "description"]
    assert "size             client         bytes    [integer]  How many bytes, in how many chunks." in lines
    assert "tail             server         Tail?    Tail       Follow a log." in lines


def test_describe_one(urls: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """The fields of its types, with what is assumed where they are left out; one that nobody has is an error."""
    code, output, _ = command(capfd, "describe", urls["tcp"], "tail")
    assert code == 0
    assert output.startswith("tail: server\nFollow a log.\n  input   Tail, may be left out\n  output  Tail\n\nLevel\n")
    assert 'Level\n  "info" | "error"\n' in output
    assert "\n  limit  integer?\n" in output
    assert "  ratio  number             = 1.0\n" in output
    missing = (1, "", "error: NOT_FOUND: there is no procedure 'nothing'\n")
    assert command(capfd, "describe", urls["tcp"], "nothing") == missing


def test_describe_for_programs(urls: dict[str, str], capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--json` is the whole description; `--stubs` a module that Python can import."""
    code, output, _ = command(capfd, "describe", urls["ws"], "--json")
    described = json.loads(output)
    assert code == 0
    assert {one["name"] for one in described["procedures"]} == {one.name for one in router}
    assert set(described["schemas"]) == {"Figure", "Level", "Tail"}
    _, output, _ = command(capfd, "describe", urls["ws"], "figures", "--json")
    assert list(json.loads(output)["schemas"]) == ["Figure"]
    code, output, _ = command(capfd, "describe", urls["ws"], "--stubs")
    path = tmp_path / "api.py"
    path.write_text(output, encoding="utf-8")
    assert code == 0
    assert (
        subprocess.run([sys.executable, "-c", "import api; api.Tail(); api.Api"], cwd=tmp_path, check=False).returncode
        == 0
    )


def test_a_strangers_description_is_harmless() -> None:
    """What a terminal would obey is taken out of it, and long texts are cut."""
    one = ProcedureDescription(
        name="x\x1b[2J",
        kind="call\r",
        description="d\x1b]0;t\x07" * 500,
        input={"type": "\x9b1m"},
        output={"$ref": "#/\x00"},
    )
    server = Server(
        Description(procedures=[one], schemas={"\x1bS": {"properties": {"\x1bf": {"description": "\x1b"}}}})
    )
    lines = [*show_all(server, 80), *show_one(server, one)]
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= 80 for line in lines[:2])
    assert show_all(Server(), 80) == ["there are no procedures"]


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_pairs_are_typed_by_the_server(scheme: str, urls: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """`call` and `stream` take `key=value`; what does not fit is wrong use, and names the key."""
    for verb in ("call", "stream"):
        code, output, errors = command(
            capfd, verb, urls[scheme], "tail", "level=error", "limit=5", "tags=1", "exact=true"
        )
        assert (code, errors) == (0, "")
        item = json.loads(output)
        assert (item["level"], item["limit"], item["tags"], item["exact"]) == ("error", 5, ["1"], True)
        refused = (2, "", "error: limit is an integer or null, not 'x'\n")
        assert command(capfd, verb, urls[scheme], "tail", "limit=x") == refused


def test_a_server_that_does_not_tell(capfd: pytest.CaptureFixture[str]) -> None:
    """Without its description everything else goes on: values are strings, calls and streams as they were."""
    closed = Router()

    @closed.call("describe")
    async def describe() -> None:
        raise RpcError("PERMISSION_DENIED", "not you")

    @closed.call("same")
    async def same(value: object) -> object:
        return value

    with served(closed, "tcp", "http") as urls:
        for url in urls.values():
            assert command(capfd, "call", url, "same", "a=1", "b:=2") == (0, '{"a":"1","b":2}\n', "")
            assert command(capfd, "describe", url) == (1, "", "error: PERMISSION_DENIED: not you\n")


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_an_event_is_told(scheme: str, urls: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed, for nothing is answered."""
    told.clear()
    assert command(capfd, "call", urls[scheme], "tell", "7") == (0, "", "")
    assert command(capfd, "call", urls[scheme], "double", "7") == (0, "14\n", "")  # behind it
    assert told == [7]


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_metadata_and_a_token_are_sent(
    scheme: str, urls: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler sees both; the flag comes before the variable, and metadata's own `authorization` before both."""
    ask = ("call", urls[scheme], "users.42.feed", "--metadata", "colour=red=blue,green")
    assert command(capfd, *ask, "--token", "abc")[1] == '"Bearer abc"\n"red=blue,green"\n'
    monkeypatch.setenv("TRIO_STREAMS_TOKEN", "def")
    assert command(capfd, *ask)[1].startswith('"Bearer def"\n')
    assert command(capfd, *ask, "--token", "abc")[1].startswith('"Bearer abc"\n')
    assert command(capfd, *ask, "--metadata", "Authorization=Basic x")[1].startswith('"Basic x"\n')


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_a_stream_is_read_up_to_a_limit(scheme: str, urls: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """Exactly so many items, in each form; through a pipe they are lines."""
    code, output, errors = command(capfd, "stream", urls[scheme], "figures", "--limit", "3")
    expected = [{"number": number, "name": f"figure {number}"} for number in range(3)]
    assert (code, errors) == (0, "")
    assert [json.loads(line) for line in output.splitlines()] == expected
    _, output, _ = command(capfd, "stream", urls[scheme], "figures", "--limit", "3", "--output", "json")
    assert json.loads(output) == expected
    _, output, _ = command(capfd, "stream", urls[scheme], "figures", "--limit", "3", "--output", "table")
    *rows, foot = output.splitlines()
    assert rows == ["number  name", "     0  figure 0", "     1  figure 1", "     2  figure 2"]
    assert foot.startswith("figures   3 items in ")
    assert foot.endswith(" items/s")


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_an_array_has_an_end(scheme: str, urls: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """What came before a stream's error can be read as JSON; a stream of nothing is an empty array."""
    code, output, errors = command(capfd, "stream", urls[scheme], "fails", "--output", "json")
    assert (code, json.loads(output), errors) == (1, [1], "error: OUT_OF_RANGE: only one\n")
    code, output, _ = command(capfd, "stream", urls[scheme], "nothing", "--output", "json")
    assert (code, json.loads(output or "[]")) == (1, [])


@needs_signals
@pytest.mark.parametrize("form", ["lines", "json", "table"])
def test_ctrl_c_ends_a_stream(form: str, urls: dict[str, str]) -> None:
    """Exit code 130 and no complaint; arrays and tables are whole."""
    process = start("stream", urls["tcp"], "figures", "--output", form)
    assert process.stdout is not None
    assert process.stderr is not None
    output = ""
    if form != "table":
        output = process.stdout.readline()
    else:
        # Nothing shows that it runs: a table that is no terminal's is only its last picture.
        wait_for_a_signal_handler(process.pid)
    process.send_signal(signal.SIGINT)
    with process.stdout, process.stderr:  # `communicate` would lose what the first line's reader has read ahead
        output += process.stdout.read()
        errors = process.stderr.read()
    assert (process.wait(PATIENCE), errors) == (130, "")
    if form == "json":
        assert [item["number"] for item in json.loads(output)] == list(range(output.count("number")))
    elif form == "lines":
        assert all(json.loads(line)["number"] == number for number, line in enumerate(output.splitlines()))


async def test_a_goodbye_comes_behind_what_was_cut_off(autojump_clock: MockClock) -> None:
    """A text whose writing was cancelled is still written, and before any later one."""
    reader, writer = os.pipe()
    output = Output(writer)
    assert not output.is_used
    with trio.move_on_after(1) as scope:
        await output.write("x" * 1_000_000)
    assert scope.cancelled_caught
    assert output.is_used
    read = bytearray()

    async def read_all() -> None:
        while chunk := await trio.to_thread.run_sync(os.read, reader, 65_536):
            read.extend(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all)
        await output.write("]")
        os.close(writer)
    os.close(reader)
    assert bytes(read) == b"x" * 1_000_000 + b"]"


def wait_for_a_signal_handler(pid: int) -> None:
    """Wait until a process has a handler of its own for SIGTERM, which Python's start does not set."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("nobody tells what a process handles")
    bit = 1 << (signal.SIGTERM - 1)
    while not int(status.read_text(encoding="ascii").partition("SigCgt:")[2].split()[0], 16) & bit:
        pass


def test_certificates_are_trusted_by_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--cafile` is what a server's certificate is checked against, over each secure scheme; without it there is no trust."""
    certfile, keyfile = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certfile.write_text(CERTIFICATE, encoding="utf-8")
    keyfile.write_text(KEY, encoding="utf-8")
    with served(router, "tls", "wss", "https", certfile=str(certfile), keyfile=str(keyfile)) as urls:
        for url in urls.values():
            ask = ("call", url, "double", "21")
            assert command(capfd, *ask, "--cafile", str(certfile)) == (0, "42\n", "")
            code, _, errors = command(capfd, *ask)
            assert (code, errors.count("\n")) == (1, 1)
            assert "certificate" in errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["stream", "tcp://127.0.0.1:1", "x", "--limit", "0"], "--limit is a whole number from 1 on, not '0'"),
        (["stream", "tcp://127.0.0.1:1", "x", "a=1", "{}"], "the input is JSON, or key=value pairs: '{}' is no pair"),
        (["call", "tcp://127.0.0.1:1", "x", "--metadata", "=x"], "--metadata is KEY=VALUE, not '=x'"),
        (["describe", "tcp://127.0.0.1:1", "--metadata", "x"], "--metadata is KEY=VALUE, not 'x'"),
        (["chat", "tcp://127.0.0.1:1", "x", "--timeout", "x"], "--timeout is a number of seconds, or none, not 'x'"),
        (["upload", "tcp://127.0.0.1:1", "x", "no-file"], "can't read no-file: No such file or directory"),
        (
            ["describe", "wss://127.0.0.1:1", "--cafile", "no-file"],
            "can't use the certificates in no-file: No such file",
        ),
        (["describe", "tls://127.0.0.1:1", "--cafile", "no-file"], "can't use the certificates in no-file: "),
    ],
)
def test_wrong_use(arguments: Sequence[str], text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One line, and exit code 2, before anybody is asked."""
    code, output, errors = command(capfd, *arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {text}")


@pytest.mark.parametrize("verb", ["describe", "call", "stream", "chat"])
def test_nobody_there(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One line, and exit code 1."""
    code, output, errors = command(capfd, verb, "tcp://127.0.0.1:1", *([] if verb == "describe" else ["x"]))
    assert (code, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("error: UNAVAILABLE: ")


def test_the_timeout_holds_for_all_of_a_command(urls: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    """A stream without an end ends with the time, and with exit code 1."""
    code, _, errors = command(capfd, "stream", urls["tcp"], "figures", "--timeout", "0.2")
    assert code == 1
    assert errors.startswith("error: DEADLINE_EXCEEDED: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("verb", ["describe", "call", "stream", "upload", "chat"])
def test_every_flag_is_in_the_guide(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands that use a server have the same flags, and the guide names each with its variable."""
    guide = (ROOT / "docs" / "guides" / "command-line.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    shown = capsys.readouterr().out.split()
    assert f"`trio-streams {verb} URL" in guide
    assert "--metadata" in shown
    for setting in SETTINGS:
        assert f"`{setting.flag} {setting.metavar}` | `{setting.variable}`" in guide
        assert setting.flag in shown
        assert f"[{setting.variable}]" in shown

"""`trio-streams webtransport`: a certificate, an echo server in a process of its own, and a benchmark of it."""

from __future__ import annotations

import base64
import json
import re
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.cli_site import PATIENCE, command, finish, lines_of, needs_signals, start
from trio_streams.cli import webtransport as commands
from trio_streams.errors import StreamReset
from trio_streams.webtransport import connect
from trio_streams.webtransport.certificates import certificate_hash, make_certificate


@attrs.frozen
class Echo:
    """A server: its process, where it is, and the hash of its certificate, if it made one."""

    process: subprocess.Popen[str]
    url: str
    sha256: str | None


@contextmanager
def served(*arguments: str) -> Iterator[Echo]:
    """An echo server for as long as the block."""
    process = start("webtransport", "echo", "--bind", "127.0.0.1:0", *arguments)
    try:
        lines = lines_of(process, 1 if arguments else 2)
        yield Echo(process, lines[0], None if arguments else lines[1].removeprefix("sha-256: "))
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """A server for all clients."""
    with served() as found:
        yield found


# -- cert


def test_a_certificate_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two files that are a pair, the hash in hex and in base64, and what JavaScript needs."""
    code, output, errors = command(capfd, "webtransport", "cert", str(tmp_path / "new"), "--host", "a.example")
    assert (code, errors) == (0, "")
    cert, key, about, hexadecimal, encoded, option = output.splitlines()
    sha256 = certificate_hash(Path(cert).read_bytes())
    assert (cert, key) == (str(tmp_path / "new" / "cert.pem"), str(tmp_path / "new" / "key.pem"))
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    assert stat.S_IMODE(Path(key).stat().st_mode) == 0o600
    assert about.startswith("for a.example, until 20")
    assert bytes.fromhex(hexadecimal.removeprefix("sha-256: ")) == sha256
    assert base64.b64decode(encoded.removeprefix("sha-256: ")) == sha256
    assert json.dumps(encoded.removeprefix("sha-256: ")) in option
    assert option.startswith("{serverCertificateHashes: [")


def test_files_are_replaced_only_by_force(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is there stays, unless `--force` says otherwise."""
    assert command(capfd, "webtransport", "cert", str(tmp_path))[0] == 0
    before = (tmp_path / "key.pem").read_bytes()
    code, output, errors = command(capfd, "webtransport", "cert", str(tmp_path))
    assert (code, output, errors) == (2, "", f"error: {tmp_path / 'key.pem'} is there: --force replaces it\n")
    assert (tmp_path / "key.pem").read_bytes() == before
    assert command(capfd, "webtransport", "cert", str(tmp_path), "--force", "--days", "1")[0] == 0
    assert (tmp_path / "key.pem").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--days", "14"], "days is 14, outside 1 to 13"),
        (["--host", "a b"], "'a b' is neither a name nor an IP address"),
    ],
)
def test_a_certificate_that_browsers_refuse_is_not_made(
    arguments: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says why, and nothing is written."""
    code, output, errors = command(capfd, "webtransport", "cert", str(tmp_path / "x"), *arguments)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert not (tmp_path / "x").exists()


def test_a_place_that_is_no_directory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file stands where the directory should."""
    (tmp_path / "file").write_text("")
    code, output, errors = command(capfd, "webtransport", "cert", str(tmp_path / "file" / "inner"))
    assert (code, output) == (2, "")
    assert errors == f"error: can't write to {tmp_path / 'file' / 'inner'}: Not a directory\n"


# -- echo


async def test_all_that_comes_goes_back(echo: Echo) -> None:
    """Both kinds of streams, datagrams and resets, on any path, for any page."""
    assert echo.sha256 is not None
    sha256 = base64.b64decode(echo.sha256)
    with trio.fail_after(PATIENCE):
        async with connect(
            f"{echo.url}any/path?x=1", certificate_hashes=[sha256], origin="https://page.example"
        ) as session:
            both = await session.create_bidirectional_stream()
            data = bytes(range(256)) * 400
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: both.write(data, end_stream=True))
                assert await both.read_all() == data
            one = await session.create_unidirectional_stream()
            await one.write(data[:1_000], end_stream=True)
            assert await (await session.accept_unidirectional_stream()).read_all() == data[:1_000]
            session.send_datagram(b"datagram")
            assert await session.receive_datagram() == b"datagram"
            both = await session.create_bidirectional_stream()
            await both.write(b"x")
            both.reset(3)
            with pytest.raises(StreamReset):
                await both.read_all()


async def test_a_certificate_of_the_users(tmp_path: Path) -> None:
    """With `--cert` and `--key` only the URL is printed, and the certificate is that one."""
    made = make_certificate(["127.0.0.1"])
    certificate, key = made.write(tmp_path)
    with trio.fail_after(PATIENCE), served("--cert", str(certificate), "--key", str(key)) as echo:
        async with connect(echo.url, authorities_pem=made.certificate_pem) as session:
            session.send_datagram(b"x")
            assert await session.receive_datagram() == b"x"


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    """Exit code 0, and nothing on standard error."""
    with served() as echo:
        echo.process.send_signal(number)
        assert finish(echo.process) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--bind", "nowhere"], 2, "--bind is HOST:PORT, not 'nowhere'"),
        (["--cert", "x"], 2, "--cert and --key come together"),
        (["--cert", "no such file", "--key", "x"], 2, "can't read no such file: No such file or directory"),
        (["--bind", "192.0.2.1:0"], 1, "can't listen on 192.0.2.1:0: "),
    ],
)
def test_a_server_that_can_not_start(
    arguments: list[str], code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line says why."""
    found = command(capfd, "webtransport", "echo", *arguments)
    assert found[:2] == (code, "")
    assert found[2].startswith(f"error: {message}")
    assert found[2].count("\n") == 1


def test_a_file_that_holds_no_certificate(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong use, in one line."""
    (tmp_path / "x").write_text("nothing")
    name = str(tmp_path / "x")
    code, output, errors = command(
        capfd, "webtransport", "echo", "--bind", "127.0.0.1:0", "--cert", name, "--key", name
    )
    assert (code, output, errors.count("\n")) == (2, "", 1)


# -- bench


@pytest.mark.parametrize("trust", ["hash", "insecure"])
def test_an_echo_server_is_measured(echo: Echo, trust: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A row for each figure, all of them more than nothing."""
    assert echo.sha256 is not None
    hexadecimal = base64.b64decode(echo.sha256).hex(":")
    flags = ["--insecure"] if trust == "insecure" else ["--hash", "0" * 64, "--hash", hexadecimal]
    code, output, errors = command(capfd, "webtransport", "bench", echo.url, "--seconds", "0.1", *flags)
    assert (code, errors) == (0, "")
    rows = [re.split(r"  +", line) for line in output.splitlines()]
    assert [row[0] for row in rows] == ["bulk", "streams", "datagrams", "round trip p50", "round trip p99"]
    assert all(float(re.sub(r"[^\d.].*", "", row[1].replace(",", ""))) > 0 for row in rows)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--hash", "abc"], 2, "--hash is the SHA-256 of a certificate in hex or base64, not 'abc'"),
        (["--ca", "no such file"], 2, "can't read no such file: No such file or directory"),
        (["--hash", "0" * 64], 1, ""),
        ([], 1, ""),
    ],
)
def test_a_server_that_is_not_to_be_trusted(
    echo: Echo, flags: list[str], code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of another certificate, or one without an authority: one line."""
    found = command(capfd, "webtransport", "bench", echo.url, *flags)
    assert found[:2] == (code, "")
    assert found[2].startswith(f"error: {message}")
    assert found[2].count("\n") == 1


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:1/", "https:///"])
def test_a_url_that_is_none(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong use, in one line."""
    code, output, errors = command(capfd, "webtransport", "bench", url)
    assert (code, output, errors.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_a_time_that_is_none(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The parser names the flag."""
    with pytest.raises(SystemExit) as caught:
        command(capfd, "webtransport", "bench", "https://127.0.0.1:1/", "--seconds", text)
    assert caught.value.code == 2
    assert "--seconds" in capfd.readouterr().err


# -- without the extra


@pytest.mark.parametrize("name", ["cert", "echo", "bench"])
def test_without_the_extra(name: str, tmp_path: Path) -> None:
    """Each command says in one line what to install, and the others are not affected."""
    program = (
        "import sys\n"
        "sys.modules['aioquic'] = sys.modules['cryptography'] = None\n"
        "from trio_streams.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = {"cert": [str(tmp_path)], "echo": [], "bench": ["https://127.0.0.1:1/"]}[name]
    line = [sys.executable, "-c", program, "webtransport", name, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: WebTransport needs more: pip install 'trio_streams[quic]'\n"


def test_a_fault_of_ours_is_not_a_missing_extra() -> None:
    """A name that one of our modules lacks is raised as it is."""
    fault = ImportError("cannot import name 'x'", name="trio_streams.webtransport")
    with pytest.raises(ImportError, match="cannot import name 'x'"):
        commands._say_what_is_missing(fault)

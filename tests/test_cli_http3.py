"""`--http3`, of both commands that serve, in processes of their own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from tests.cli_site import command, finish, lines_of, needs_signals, start
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from tests.webtransport.aioquic_client import AioquicClient, Answer, run_client

APP = """
from trio_streams import Router

router = Router()

@router.call("ping")
async def ping() -> str:
    return "pong"
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "cert.pem").write_text(CERTIFICATE)
    (tmp_path / "key.pem").write_text(KEY)
    (tmp_path / "app.py").write_text(APP)
    return ("--http3", "--certfile", str(tmp_path / "cert.pem"), "--keyfile", str(tmp_path / "key.pem"))


@needs_signals
@pytest.mark.parametrize(
    ("words", "method", "path", "status"),
    [
        (("serve", "app.py", "https://127.0.0.1:0"), "POST", "/ping", 200),
        (("durable", "serve", "--memory", "--bind", "127.0.0.1:0"), "PUT", "/v1/stream/log", 201),
    ],
)
async def test_serves_over_http3_until_a_signal(
    words: tuple[str, ...], method: str, path: str, status: int, tmp_path: Path, files: tuple[str, ...]
) -> None:
    """The bound URL is that of both; SIGTERM ends both, and the command with 0."""

    async def script(client: AioquicClient) -> Answer:
        return await client.fetch(path, method=method, headers=(("content-type", "application/json"),))

    with trio.fail_after(120):
        process = start(*words, *files, folder=tmp_path)
        try:
            (url,) = await trio.to_thread.run_sync(lines_of, process, 1)
            answer = await run_client(urlsplit(url).port or 0, script)
            assert answer.status == status
            process.send_signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(process.wait) == 0
        finally:
            process.kill()
            finish(process)


def test_what_it_takes(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate and the extra; each is one line and exit code 2."""
    (tmp_path / "app.py").write_text(APP)
    words = ("serve", str(tmp_path / "app.py"), "https://127.0.0.1:0", "--http3")
    assert command(capfd, *words) == (2, "", "error: --http3 takes --certfile and --keyfile\n")
    code, out, err = command(capfd, "durable", "serve", "--memory", "--http3")
    assert (code, out) == (2, "")
    assert err.endswith("--http3 takes --certfile and --keyfile\n")
    monkeypatch.setitem(sys.modules, "trio_streams.webtransport.over_http3", None)
    code, out, err = command(capfd, *words, "--certfile", "a", "--keyfile", "b")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1

"""`trio-streams relay` in a process of its own."""

from __future__ import annotations

import signal
import sys

import pytest
import trio

from tests.cli_site import finish, lines_of, start
from trio_streams.cli import main
from trio_streams.cli.relay import SETTINGS
from trio_streams.urls import open_peer

PATIENCE = 30


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM is not delivered to a handler on Windows")
async def test_peers_meet_at_a_command() -> None:
    """The bound URL is printed, two peers call each other there, and SIGTERM ends it well."""
    process = start("relay", "ws://127.0.0.1:0", "--drain-timeout", "5")
    try:
        with trio.fail_after(PATIENCE):
            (url,) = await trio.to_thread.run_sync(lines_of, process, 1)
            async with (
                open_peer(f"{url}/room", dialect="signal", relayed=True) as one,
                open_peer(f"{url}/room", dialect="signal", relayed=True) as two,
            ):
                two.match(lambda data: data)
                assert (await one.request("hello", to=two.client_id)).data == "hello"
            process.send_signal(signal.SIGTERM)
            code, output, errors = await trio.to_thread.run_sync(finish, process)
    finally:
        process.kill()
    assert (code, output, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tcp://127.0.0.1:0"], "tcp"),
        (["ws://127.0.0.1:0", "--max-connections", "many"], "--max-connections"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], message: str) -> None:
    """A URL or a value that can't be used fails before anything listens."""
    code, output, errors = finish(start("relay", *arguments))
    assert (code, output) == (2, "")
    (line,) = errors.splitlines()
    assert message in line


def test_the_help_names_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of `serve` that a relay has."""
    with pytest.raises(SystemExit):
        main(["relay", "--help"])
    shown = capsys.readouterr().out.split()
    assert len(SETTINGS) == 11
    assert all(setting.flag in shown for setting in SETTINGS)

"""What can only be seen from outside: how much a process grows, and how it ends when it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.faces import FACES
from tests.conformance.transports import TRANSPORTS

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = (sys.executable, "-W", "error", "-X", "dev")
MEBIBYTE: Final = 1_048_576


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of resident memory is read from /proc")
@pytest.mark.parametrize("name", [*(transport.name for transport in TRANSPORTS), "http"])
def test_attempts_cost_a_window(name: str) -> None:
    """100,000 attempted items of 1 KiB, at a reader that never reads, grow the process by at most 8 MiB."""
    command = [sys.executable, "-W", "error", "-m", "tests.conformance.growth", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["growth"] <= 8 * MEBIBYTE
    if name == "http":
        assert result["waiting"] < 100_000
    else:
        # 1,024 bytes and 64 of overhead each: 256 items are within the window of 1 MiB.
        assert (result["waiting"], result["refused"]) == (256, 100_000 - 256)


@pytest.mark.parametrize("where", ["handler", "caller", "waiting"])
@pytest.mark.parametrize("face", FACES)
def test_an_interrupt_unwinds(face: str, where: str) -> None:
    """KeyboardInterrupt, wherever it strikes, runs every `finally`, ends everything and leaves as itself alone."""
    command = [*PYTHON, "-m", "tests.conformance.interrupt", face, where]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            if where == "waiting":
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    lines = [line for line in output.splitlines() if line != "ready"]
    assert (process.returncode, errors) == (0, "")
    assert sorted(lines[:2]) == ["caller's finally", "handler's finally"]
    assert lines[2:] == ["interrupted"]

"""Child processes: stray output, exit statuses, and that no child outlives its block."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import trio
import trio.testing

from tests.transports.more_links import process_pair
from tests.transports.stream_view import ReceiveView, SendView
from trio_streams import ConnectionLost, RemoteProtocolError, Router, connect, serve
from trio_streams.config import ConnectionConfig
from trio_streams.core.errors import LocalProtocolError
from trio_streams.driver import run_client
from trio_streams.transports.process import ProcessCarrier, open_process

HASTY = ConnectionConfig(close_timeout=0.2, handshake_timeout=10)

WORKER = """
import os, subprocess, sys
print("printed while imported, and flushed", flush=True)
print("printed while imported, and not flushed")
import trio
from trio_streams import Router, serve

app = Router()

@app.call("double")
async def double(n: int) -> int:
    print("stray", n)
    os.write(1, b"stray to the descriptor\\n")
    subprocess.run([sys.executable, "-S", "-c", "print('stray of a grandchild'); print(input())"], check=False)
    return 2 * n

@app.call("die")
async def die(status: int) -> int:
    print("the last words", file=sys.stderr, flush=True)
    os._exit(status)

@app.call("pid")
async def pid() -> int:
    return os.getpid()

trio.run(serve, app, "stdio:")
"""


def url_of(script: str, *arguments: str) -> str:
    return "process:" + shlex.join([sys.executable, "-c", script, *arguments])


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_stray_output_cannot_corrupt_frames() -> None:
    """Whatever a child prints, before, while or below it serves, calls go through, and it arrives as standard error."""
    heard: list[bytes] = []
    async with connect(url_of(WORKER), config=HASTY, on_stderr=heard.append) as client:
        for n in range(3):
            assert await client.call("double", n, returns=int) == 2 * n
    text = b"".join(heard).decode()
    for line in (
        "printed while imported, and flushed",
        "printed while imported, and not flushed",
        "stray 2",
        "stray to the descriptor",
        "stray of a grandchild",
        "EOFError",  # the standard input of what the child runs is empty
    ):
        assert line in text


async def test_an_exit_status_and_the_last_words_are_named() -> None:
    """A child that dies in a call ends it with its status and its last line, and its standard error as a note."""
    async with connect(url_of(WORKER), config=HASTY) as client:
        with pytest.raises(ConnectionLost, match=r"it ended with exit status 7: the last words$") as caught:
            await client.call("die", 7, returns=int)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("print('hello')", "it ended with exit status 0 before its first frame: hello$"),
        ("raise SystemExit('no database')", "it ended with exit status 1 before its first frame: no database$"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed by SIGKILL before its first frame$"),
        ("import os, time; os.close(0); os.close(1); time.sleep(60)", "it closed its pipes, but runs on before"),
    ],
)
async def test_a_child_that_is_no_server(script: str, text: str) -> None:
    """A program that ends without a frame is a lost connection, and its end is told."""
    with trio.fail_after(10), pytest.raises(ConnectionLost, match=text):
        async with connect(url_of(script), config=HASTY):
            pytest.fail("connected")


async def test_a_child_that_writes_something_else() -> None:
    """A program that prints on and on is left after 64 KiB, and ended."""
    script = "while True: print('Usage: worker [OPTIONS]')"
    with trio.fail_after(10):
        async with open_process([sys.executable, "-c", script], config=HASTY) as carrier:
            with pytest.raises(RemoteProtocolError, match="writes something else than frames: b'Usage") as caught:
                await carrier.receive()
            assert (caught.value.field, caught.value.limit) == ("preface", 65_536)
        with pytest.raises(ConnectionLost, match="something else than frames"):
            async with connect(url_of(script), config=HASTY):
                pytest.fail("connected")


async def test_a_program_that_does_not_exist() -> None:
    """It is named, in one line."""
    with pytest.raises(ConnectionLost, match="^cannot start no-such-program -x: no such file or directory$"):
        async with connect("process:no-such-program -x"):
            pytest.fail("connected")


async def test_no_shell_sees_the_command(tmp_path: Path) -> None:
    """What a shell would expand or run is an argument like any other."""
    script = "import sys; sys.stderr.write(repr(sys.argv[1:])); sys.exit(4)"
    url = f"process:{sys.executable} -c {shlex.quote(script)} '$HOME' ; touch {tmp_path}/x #?&"
    with pytest.raises(ConnectionLost, match=r"exit status 4 before its first frame: \['\$HOME', ';', 'touch', "):
        async with connect(url, config=HASTY):
            pytest.fail("connected")
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["process:", "process:   ", "process:echo 'open"])
async def test_a_command_that_makes_no_sense(url: str) -> None:
    """An empty command, or one whose quotes are open, is the caller's fault."""
    with pytest.raises(LocalProtocolError, match="can't use") as caught:
        async with connect(url):
            pytest.fail("connected")
    assert caught.value.field == "command"


async def test_a_child_ends_with_its_block() -> None:
    """The end of its input ends a server; when the block is left, it has ended with status 0 and was waited for."""
    command = shlex.split(url_of(WORKER).removeprefix("process:"))
    patient = ConnectionConfig(
        close_timeout=30, handshake_timeout=30
    )  # an interpreter under load takes its time to end
    async with open_process(command, config=patient) as carrier, run_client(carrier, config=patient):
        assert is_running(carrier.pid)
        assert carrier.returncode is None
    assert carrier.returncode == 0
    assert "printed while imported" in carrier.stderr_tail


STUBBORN = """
import signal, subprocess, sys, time
if "term" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
below = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
sys.stderr.write(f"{below.pid}\\n")
sys.stdout.write("ready"); sys.stdout.flush()
time.sleep(60)
"""


@pytest.mark.parametrize(("word", "status"), [("", -15), ("term", -9)])
@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_stubborn_child_is_ended(word: str, status: int, is_cancelled: bool) -> None:
    """One that ignores the end of its input is terminated, one that ignores that is killed, with what it has started."""
    command = [sys.executable, "-c", STUBBORN, word]
    start = trio.current_time()
    carriers: list[ProcessCarrier] = []
    with trio.CancelScope() as scope:
        async with open_process(command, config=ConnectionConfig(close_timeout=0.1), preface=b"") as carrier:
            carriers.append(carrier)
            assert await carrier.receive() == b"ready"
            if is_cancelled:
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert trio.current_time() - start < 30
    assert carriers[0].returncode == status
    if status == -15:  # it had no chance to pass the other one on
        with trio.fail_after(30):
            while is_running_and_no_zombie(int(carriers[0].stderr_tail)):
                await trio.lowlevel.checkpoint()


def is_running_and_no_zombie(pid: int) -> bool:
    """An orphan that was killed waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_flood_of_standard_error_stops_nobody() -> None:
    """A child that writes megabytes to its standard error never waits for a reader; the end of it is kept."""
    script = "import sys; sys.stderr.write('x' * 5_000_000 + '\\nthe end\\n'); sys.stdout.write('done')"
    async with open_process([sys.executable, "-c", script], config=HASTY, preface=b"") as carrier:
        assert await carrier.receive() == b"done"
        assert await carrier.receive() == b""
    assert carrier.stderr_tail.endswith("x\nthe end\n")
    assert len(carrier.stderr_tail) == 16_384


async def test_a_receive_that_is_cancelled_in_the_end_loses_no_status(tmp_path: Path) -> None:
    """Whoever asks again after a cancelled receive still learns how the child ended."""
    script = "import os, sys, time; os.close(0); os.close(1)\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\nos._exit(5)"
    command = [sys.executable, "-S", "-c", script, str(tmp_path / "end")]
    async with open_process(command, config=ConnectionConfig(close_timeout=60), preface=b"") as carrier:
        await trio.testing.wait_all_tasks_blocked(0.15)
        with trio.move_on_after(0.02) as scope:
            await carrier.receive()
        assert scope.cancelled_caught
        (tmp_path / "end").touch()
        with pytest.raises(ConnectionLost, match="exit status 5"):
            await carrier.receive()


async def test_stdio_has_to_be_pipes() -> None:
    """A terminal or a file can't carry frames; the one who tries is told, and nothing was moved."""
    script = (
        "import trio\nfrom trio_streams import Router, serve\n"
        "try:\n    trio.run(serve, Router(), 'stdio:')\nexcept OSError as exc:\n    print(exc)\n"
    )
    with TemporaryFile() as file:
        await trio.run_process([sys.executable, "-c", script], stdout=file, stdin=b"")
        file.seek(0)
        told = file.read().decode()
    assert told == "cannot serve on stdio: standard output is a file or a device, and has to be a pipe\n"
    result = await trio.run_process([sys.executable, "-c", script], capture_stdout=True, stdin=subprocess.DEVNULL)
    assert b"standard input is a file or a device" in result.stdout


async def test_trios_own_checks() -> None:
    """Through a thin view, a child's pipes keep Trio's own contract for one-way streams."""
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> tuple[SendView, ReceiveView]:
            near, far, _ = await stack.enter_async_context(process_pair())
            return SendView(near), ReceiveView(far)

        await trio.testing.check_one_way_stream(make, None)


async def test_stdio_takes_no_path() -> None:
    """`stdio:` is a URL by itself."""
    with pytest.raises(LocalProtocolError, match="nothing can follow stdio:"):
        await serve(Router(), "stdio:x")

"""The Jupyter extension, in a real kernel. Its parts without one: test_notebook_parts.py."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE: Final = 30.0
"""Seconds that anything may take before a test fails; nothing here waits for time to pass."""

HAS_KERNEL: Final = importlib.util.find_spec("ipykernel") is not None
pytestmark = pytest.mark.skipif(
    not HAS_KERNEL and not os.environ.get("CI"), reason="needs ipykernel: install the extra [notebook]"
)

LOAD: Final = "%load_ext trio_streams.notebook\n%colors nocolor\nimport trio"
TICK: Final = """
async def tick():
    try:
        while True:
            print("tick", flush=True)
            await trio.sleep(0.01)
    finally:
        print("unwound", flush=True)
"""


@attrs.frozen
class Ran:
    """What a cell did."""

    id: str
    error: str = ""
    """The error's class, of a cell that failed."""
    traceback: str = ""
    text: str = ""
    """What was printed."""
    shown: list[dict[str, str]] = attrs.field(factory=list)
    """What was displayed, by MIME type."""


class Kernel:
    """A kernel process and its only client; ipykernel and its client are untyped, so this is where `Any` ends."""

    def __init__(self, folder: Path) -> None:
        client = importlib.import_module("jupyter_client")
        # Sockets in a folder instead of ports.
        self._manager: Any = client.KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with Path(os.devnull).open("wb") as nowhere:
            env = os.environ | {"PYTHONPATH": path, "IPYTHONDIR": str(folder)}
            self._manager.start_kernel(env=env, cwd=str(folder), stdout=nowhere, stderr=nowhere)
        self._client: Any = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def run(self, code: str, *, interrupt_after: str = "") -> Ran:
        """Run a cell to its end; interrupt the kernel once, when the cell prints what `interrupt_after` says."""
        left = [interrupt_after] if interrupt_after else []
        texts: list[str] = []
        shown: list[dict[str, str]] = []

        def see(message: dict[str, Any]) -> None:
            content = message["content"]
            texts.append(content.get("text", ""))
            if "data" in content:
                shown.append(content["data"])
            if left and left[0] in content.get("text", ""):
                left.clear()
                self._manager.interrupt_kernel()

        reply = self._client.execute_interactive(code, output_hook=see, timeout=PATIENCE)
        content = reply["content"]
        traceback = "\n".join(content.get("traceback", []))
        return Ran(reply["parent_header"]["msg_id"], content.get("ename", ""), traceback, "".join(texts), shown)

    def wait_for(self, is_it: Callable[[str, dict[str, Any], str], bool]) -> None:
        """Wait for a message that no running cell sends: `is_it(type, content, id of the cell it belongs to)`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self._client.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
            if is_it(message["msg_type"], message["content"], message["parent_header"].get("msg_id", "")):
                return

    def wait_for_text(self, text: str, ran: Ran) -> None:
        """Wait until a background task prints `text` below the cell that started it, with no cell running."""
        self.wait_for(lambda kind, content, cell: kind == "stream" and text in content["text"] and cell == ran.id)

    def ask_to_shut_down(self) -> None:
        self._client.shutdown()

    def wait_for_exit(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._manager.is_alive():
            assert time.monotonic() < deadline, "the kernel does not end"
            time.sleep(0.01)


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Iterator[Kernel]:
    """A kernel where the extension is loaded, and unloaded afterwards."""
    assert not shared_kernel.run(LOAD).error
    yield shared_kernel
    assert not shared_kernel.run("%unload_ext trio_streams.notebook").error


@pytest.fixture
def mortal_kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel of this test's own, with the extension, that the test may end."""
    kernel = Kernel(tmp_path)
    assert not kernel.run(LOAD).error
    yield kernel
    kernel.close()


def test_a_cell_awaits_trio(kernel: Kernel) -> None:
    """A cell's top level awaits Trio's functions, several in a row, and shows the value of its last line."""
    ran = kernel.run("await trio.sleep(0)\nawait trio.sleep(0.001)\n6 * 7")
    assert [data["text/plain"] for data in ran.shown] == ["42"]
    assert kernel.run("await trio.lowlevel.checkpoint() or 5").shown[0]["text/plain"] == "5"


def test_every_line_of_a_cell_that_awaits_is_in_a_task(kernel: Kernel) -> None:
    """One `await` puts the lines around it into Trio tasks, too; a cell without any stays outside."""
    ask = "print(trio.lowlevel.in_trio_task())"
    assert kernel.run(f"{ask}\nawait trio.sleep(0)\n{ask}").text == "True\nTrue\n"
    assert kernel.run(ask).text == "False\n"


def test_the_cell_that_loads_may_await(shared_kernel: Kernel) -> None:
    """The run is up when the magic returns."""
    assert not shared_kernel.run(f"{LOAD}\nawait trio.sleep(0)\nnursery.start_soon(trio.sleep_forever)").error
    assert not shared_kernel.run("%unload_ext trio_streams.notebook").error


def test_background_tasks_go_on_between_cells(kernel: Kernel) -> None:
    """A task of `nursery` ticks while no cell runs, and what it prints appears below the cell that started it."""
    ran = kernel.run(f"{TICK}\nnursery.start_soon(tick)")
    for _ in range(3):
        kernel.wait_for_text("tick", ran)
    assert "1 running: tick" in kernel.run("nursery").shown[0]["text/plain"]


def test_start_waits_for_started(kernel: Kernel) -> None:
    """`await nursery.start` gives the value, and the task goes on."""
    code = "async def serve(task_status):\n    task_status.started(8)\n    await trio.sleep_forever()"
    assert kernel.run(f"{code}\nprint(await nursery.start(serve))").text == "8\n"
    assert "1 running: serve" in kernel.run("nursery").shown[0]["text/plain"]


def test_cells_have_nurseries_and_scopes_of_their_own(kernel: Kernel) -> None:
    """`async with` and `async for` work at the top level; a timeout cancels the block and nothing else."""
    code = """
with trio.move_on_after(0.01) as scope:
    async with trio.open_nursery() as inner:
        inner.start_soon(trio.sleep_forever)
scope.cancelled_caught
"""
    kernel.run("nursery.start_soon(trio.sleep_forever)")
    assert [data["text/plain"] for data in kernel.run(code).shown] == ["True"]
    assert "1 running" in kernel.run("nursery").shown[0]["text/plain"]


def test_a_cells_nursery_gives_the_name_back(kernel: Kernel) -> None:
    """`async with trio.open_nursery() as nursery` takes the kernel's name for its block only."""
    kernel.run("async with trio.open_nursery() as nursery:\n    nursery.start_soon(trio.sleep, 0)")
    assert "the kernel's nursery" in kernel.run("nursery").shown[0]["text/plain"]


# Without a flush: the kernel sends the text from another thread soon, and the interrupt seldom comes in the print.
@pytest.mark.parametrize(
    "code",
    [
        "print('now')\nawait trio.sleep_forever()",
        "async with trio.open_nursery() as n:\n    n.start_soon(trio.sleep_forever)\n    print('now')",
        "await trio.sleep(0)\nasync def f():\n    print('now')\n    while True: pass\nawait f()",
        "print('now')\nwhile True: pass",
    ],
    ids=["waiting", "nursery", "computing in a task", "computing"],
)
def test_an_interrupt_cancels_only_the_cell(kernel: Kernel, code: str) -> None:
    """The cell ends with KeyboardInterrupt and no machinery in its traceback; a background task keeps ticking."""
    started = kernel.run(f"{TICK}\nnursery.start_soon(tick)")
    ran = kernel.run(code, interrupt_after="now")
    assert ran.error == "KeyboardInterrupt"
    assert "Cell In" in ran.traceback
    assert "trio/" not in ran.traceback
    assert "trio_streams" not in ran.traceback
    for _ in range(3):
        kernel.wait_for_text("tick", started)
    assert not kernel.run("await trio.sleep(0)").error


def test_an_interrupted_cell_runs_its_finally_blocks(kernel: Kernel) -> None:
    """The interrupt is a cancellation: a shielded `finally` may await."""
    code = """
try:
    print("now")
    await trio.sleep_forever()
finally:
    with trio.CancelScope(shield=True):
        await trio.sleep(0.01)
    print("cleaned up")
"""
    ran = kernel.run(code, interrupt_after="now")
    assert (ran.error, ran.text) == ("KeyboardInterrupt", "now\ncleaned up\n")


def test_an_exception_shows_the_users_lines_only(kernel: Kernel) -> None:
    """A cell's error has the traceback that it would have without the extension."""
    ran = kernel.run("async def divide():\n    await trio.sleep(0)\n    return 1 / 0\nawait divide()")
    assert ran.error == "ZeroDivisionError"
    assert "----> 4 await divide()" in ran.traceback
    assert "----> 3     return 1 / 0" in ran.traceback
    assert "File " not in ran.traceback
    assert not kernel.run("await trio.sleep(0)").error


def test_a_crash_is_reported_and_kills_nothing(kernel: Kernel) -> None:
    """A background task's error is printed below its cell; the other tasks and the nursery live."""
    ticking = kernel.run(f"{TICK}\nnursery.start_soon(tick)")
    crashing = kernel.run("async def crash():\n    await trio.sleep(0)\n    1 / 0\nnursery.start_soon(crash)")
    if "ZeroDivisionError" not in crashing.text:  # it may come after the cell is done
        kernel.wait_for_text("ZeroDivisionError", crashing)
    kernel.wait_for_text("tick", ticking)
    assert "1 running: tick" in kernel.run("nursery").shown[0]["text/plain"]


def test_autoawait_trio_changes_nothing(kernel: Kernel) -> None:
    """`%autoawait trio` keeps this run instead of starting a second one."""
    assert not kernel.run("%autoawait trio").error
    assert not kernel.run("await trio.sleep(0)\nassert nursery.cancel_scope").error


def test_unloading_cancels_and_waits(shared_kernel: Kernel) -> None:
    """`%unload_ext` returns when the tasks have unwound, and cells are asyncio's again."""
    started = shared_kernel.run(f"{LOAD}\n{TICK}\nnursery.start_soon(tick)\nheld = nursery")
    shared_kernel.wait_for_text("tick", started)
    # The magic runs the `finally` block before the next line does.
    code = "%unload_ext trio_streams.notebook\nprint('unloaded', flush=True)"
    order: list[str] = []

    def is_unloaded(kind: str, content: dict[str, Any], _cell: str) -> bool:
        order.extend(word for word in ("unwound", "unloaded") if kind == "stream" and word in content["text"])
        return kind == "status" and content["execution_state"] == "idle" and "unloaded" in order

    shared_kernel._client.execute(code)
    shared_kernel.wait_for(is_unloaded)
    assert order == ["unwound", "unloaded"]
    assert shared_kernel._client.get_shell_msg(timeout=PATIENCE)["content"]["status"] == "ok"
    assert shared_kernel.run("nursery").error == "NameError"
    assert shared_kernel.run("held.start_soon(tick)").error == "RuntimeError"
    assert not shared_kernel.run("import asyncio\nawait asyncio.sleep(0)").error
    assert not shared_kernel.run(LOAD).error
    assert "from a task" in shared_kernel.run("await trio.sleep(0)\n%unload_ext trio_streams.notebook").text
    assert not shared_kernel.run("await trio.sleep(0)\nassert nursery.cancel_scope").error
    assert not shared_kernel.run("%unload_ext trio_streams.notebook").error


def test_shutdown_runs_finally_blocks(mortal_kernel: Kernel, tmp_path: Path) -> None:
    """A kernel that is told to shut down lets its tasks unwind, even such as need a thread, and shows their output."""
    code = """
async def work():
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(open("unwound.txt", "w").write, "yes")
        print("unwound", flush=True)
nursery.start_soon(work)
await trio.sleep(0)
"""
    ran = mortal_kernel.run(code)
    mortal_kernel.ask_to_shut_down()
    mortal_kernel.wait_for_text("unwound", ran)
    mortal_kernel.wait_for_exit()
    assert (tmp_path / "unwound.txt").read_text(encoding="utf-8") == "yes"


def test_exit_runs_finally_blocks(mortal_kernel: Kernel, tmp_path: Path) -> None:
    """So does a kernel whose loop just ends, as `exit()` makes it."""
    code = """
async def work():
    try:
        await trio.sleep_forever()
    finally:
        open("unwound.txt", "w").write("yes")
nursery.start_soon(work)
await trio.sleep(0)
exit()
"""
    mortal_kernel.run(code)
    mortal_kernel.wait_for_exit()
    assert (tmp_path / "unwound.txt").read_text(encoding="utf-8") == "yes"


OPEN: Final = """
from trio_streams.notebook import live
from trio_streams.streams.local import open_stream

async def hold(task_status):
    async with open_stream(high_water_mark=4) as stream:
        task_status.started(stream)
        await trio.sleep_forever()

stream = await nursery.start(hold)
await stream.send("<one>")
"""


def test_a_stream_shows_its_statistics(kernel: Kernel) -> None:
    """The value of a cell that is a stream is a table; after unloading it is plain text again."""
    (shown,) = kernel.run(f"{OPEN}\nstream").shown
    assert "buffered items" in shown["text/html"]
    assert "1 / 4" in shown["text/html"]
    kernel.run("kept = stream\n%unload_ext trio_streams.notebook")
    assert "text/html" not in kernel.run("kept").shown[0]
    assert not kernel.run(LOAD).error


def test_live_statistics_follow_the_stream_to_its_end(kernel: Kernel) -> None:
    """`live` updates its display when the stream changes, without a cell running, until the stream ends."""
    (shown,) = kernel.run(f"{OPEN}\nlive(stream, interval=0.01)").shown
    assert "1 / 4" in shown["text/html"]

    def has_updated(text: str) -> Callable[[str, dict[str, Any], str], bool]:
        return lambda kind, content, _: kind == "update_display_data" and text in content["data"]["text/html"]

    kernel._client.execute("stream.send_nowait(2)")
    kernel.wait_for(has_updated("2 / 4"))
    kernel._client.execute("stream.receive_nowait(), stream.receive_nowait(), stream.end();")
    kernel.wait_for(has_updated(">closed<"))
    for _ in range(2):
        assert kernel._client.get_shell_msg(timeout=PATIENCE)["content"]["status"] == "ok"
    code = "while any(task.name == 'live' for task in nursery.child_tasks): await trio.sleep(0)"
    assert not kernel.run(code).error

"""Hooks the guest run into IPython: the cells, the `nursery` variable, the HTML of streams, the kernel's shutdown.

IPython is met through the few of its attributes that are named here; it is not imported unless it runs us.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import importlib
import inspect
import itertools
import threading
import types
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

import trio

from trio_streams.notebook import html
from trio_streams.notebook.guest import CellFuture, GuestRun

__all__ = ["KernelShell", "live", "load_ipython_extension", "unload_ipython_extension"]

UNLOAD_TIMEOUT: Final = 5.0
# Jupyter's client sends SIGTERM 2.5 s after it asked for a shutdown.
SHUTDOWN_TIMEOUT: Final = 2.0
SHOWN: Final = (
    ("trio_streams.streams.abc", "SendStream"),
    ("trio_streams.streams.abc", "ReceiveStream"),
    ("trio_streams.connection", "Connection"),
)


class _Formatter(Protocol):
    """IPython's formatter of one MIME type."""

    def for_type_by_name(
        self, module: str, name: str, function: Callable[[html.HasStatistics], str | None]
    ) -> object: ...

    def pop(self, name: str, default: object = None) -> object: ...


class _DisplayFormatter(Protocol):
    """IPython's formatters by MIME type."""

    formatters: dict[str, _Formatter]


class _Events(Protocol):
    """IPython's events."""

    def register(self, event: str, function: Callable[..., object]) -> None: ...
    def unregister(self, event: str, function: Callable[..., object]) -> None: ...


class _Kernel(Protocol):
    """ipykernel's kernel."""

    do_shutdown: Callable[[bool], object]


class KernelShell(Protocol):
    """What the extension uses of the interactive shell of a Jupyter kernel."""

    autoawait: bool
    display_formatter: _DisplayFormatter
    events: _Events
    kernel: _Kernel
    loop_runner: object
    loop_runner_map: dict[str, tuple[object, bool]]
    run_code: Callable[..., Awaitable[bool]]
    should_run_async: Callable[..., bool]
    user_global_ns: dict[str, object]
    user_ns: dict[str, object]

    def push(self, variables: dict[str, object]) -> None:
        """Define variables for the user."""
        ...

    def drop_by_id(self, variables: dict[str, object]) -> None:
        """Delete those that the user has not assigned anew."""
        ...


class _DisplayHandle(Protocol):
    """IPython's handle of an output that can be replaced."""

    def display(self, obj: object) -> None: ...
    def update(self, obj: object) -> None: ...


class _Extension:
    """Everything that loading does to a shell, and how it is undone."""

    def __init__(self, shell: KernelShell, loop: asyncio.AbstractEventLoop) -> None:
        self.run = GuestRun(loop)
        self._shell = shell
        self._kernel: _Kernel | None = getattr(shell, "kernel", None)
        self._run_code = shell.run_code
        self._ask_async = shell.should_run_async
        # A variable of the context, since the kernel runs a cell in a task of its own, and subshells in threads.
        self._is_in_task = contextvars.ContextVar("is_in_task", default=False)
        self._do_shutdown: Callable[[bool], object] | None = None
        self._awaiting = (shell.loop_runner, shell.autoawait)
        self._numbers = itertools.count()
        self._is_hooked = False

    def load(self) -> None:
        self.run.start()
        self._is_hooked = True
        shell = self._shell
        shell.run_code = self._run_code_in_trio
        shell.should_run_async = self._should_run_async
        asyncio_runner = shell.loop_runner_map["asyncio"][0]
        # ipykernel gives a cell to its own loop only when the runner is this very object, and from there it comes to
        # us. `%autoawait trio` would start a second run; here it means what it says.
        shell.loop_runner_map = {**shell.loop_runner_map, "trio": (asyncio_runner, True)}
        shell.loop_runner, shell.autoawait = asyncio_runner, True
        shell.push({"nursery": self.run.nursery})
        shell.events.register("post_run_cell", self._restore_nursery)
        for module, name in SHOWN:
            shell.display_formatter.formatters["text/html"].for_type_by_name(module, name, html.render)
        if self._kernel is not None:
            self._do_shutdown = self._kernel.do_shutdown
            self._kernel.do_shutdown = self._shut_down
        atexit.register(self.run.close, SHUTDOWN_TIMEOUT)

    def unload(self) -> bool:
        if self._is_hooked:
            self._is_hooked = False
            self._unhook()
        # Where that takes too long, the end of the process waits for what is left.
        if is_over := self.run.close(UNLOAD_TIMEOUT):
            atexit.unregister(self.run.close)
        return is_over

    def _unhook(self) -> None:
        shell = self._shell
        for name in ("run_code", "should_run_async"):
            vars(shell).pop(name, None)
        shell.loop_runner, shell.autoawait = self._awaiting
        vars(shell).pop("loop_runner_map", None)
        shell.drop_by_id({"nursery": self.run.nursery})
        shell.events.unregister("post_run_cell", self._restore_nursery)
        for module, name in SHOWN:
            shell.display_formatter.formatters["text/html"].pop(f"{module}.{name}", None)
        if self._kernel is not None:
            vars(self._kernel).pop("do_shutdown", None)

    def _should_run_async(self, *args: object, **options: object) -> bool:
        self._is_in_task.set(self._ask_async(*args, **options))
        return self._is_in_task.get()

    async def _run_code_in_trio(self, code: types.CodeType, result: object = None, *, async_: bool = False) -> bool:
        # IPython runs a cell line by line. One `await` in a cell puts all its lines into Trio tasks.
        if not async_ and not self._is_in_task.get():
            return await self._run_code(code, result, async_=False)
        shell = self._shell
        # IPython evaluates a code object and awaits the value. This one's value is the future of a cell that Trio
        # drives; its name lives from here until it is evaluated, which is at once.
        name = f"_trio_streams_cell_{next(self._numbers)}"

        def start() -> CellFuture:
            del shell.user_ns[name]
            return self.run.run_cell(code, shell.user_global_ns, shell.user_ns)

        shell.user_ns[name] = start
        return await self._run_code(compile(f"{name}()", code.co_filename, "eval"), result, async_=True)

    def _restore_nursery(self, _result: object = None) -> None:
        # `async with trio.open_nursery() as nursery:` in a cell leaves its closed nursery under our name.
        if isinstance(self._shell.user_ns.get("nursery"), trio.Nursery):
            self._shell.user_ns["nursery"] = self.run.nursery

    async def _shut_down(self, restart: bool) -> object:
        """Let tasks unwind while the kernel can still show what they print. Runs on the control thread."""
        self.run.close_soon()
        await asyncio.wait({asyncio.wrap_future(self.run.done)}, timeout=SHUTDOWN_TIMEOUT)
        assert self._do_shutdown is not None
        answer = self._do_shutdown(restart)
        # Kernels before ipykernel 7 answer at once, later ones may do either.
        return await cast("Awaitable[object]", answer) if inspect.isawaitable(answer) else answer


_loaded: _Extension | None = None


def load_ipython_extension(shell: KernelShell) -> None:
    """Start Trio in this kernel: what `%load_ext trio_streams.notebook` calls.

    Args:
      shell: the kernel's shell.

    Raises:
      UsageError: this is no Jupyter kernel's main thread, or the last run has not ended.
    """
    global _loaded  # noqa: PLW0603 - one run a process is Trio's own rule
    if _loaded is not None and _loaded.run.done.done():
        _loaded = None
    if _loaded is not None:
        raise _usage_error("the kernel's Trio run is still unwinding its tasks; try again when they have ended")
    if threading.current_thread() is not threading.main_thread():
        raise _usage_error("trio_streams.notebook can only be loaded from the kernel's main thread")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise _usage_error("trio_streams.notebook needs a Jupyter kernel; here, use %autoawait trio") from None
    extension = _Extension(shell, loop)
    extension.load()
    _loaded = extension


def unload_ipython_extension(shell: KernelShell) -> None:  # noqa: ARG001 - IPython's signature
    """Cancel all tasks and wait until they have unwound: what `%unload_ext trio_streams.notebook` calls.

    Args:
      shell: the kernel's shell.

    Raises:
      UsageError: called from within Trio, or some task takes longer than 5 s; it goes on unwinding.
    """
    global _loaded  # noqa: PLW0603 - see above
    if _loaded is None:
        return
    if trio.lowlevel.in_trio_task():
        raise _usage_error(
            "trio_streams.notebook cannot be unloaded from a task: give %unload_ext a cell without await"
        )
    if not _loaded.unload():
        raise _usage_error(f"some task has not ended within {UNLOAD_TIMEOUT:g} s of its cancellation; it goes on")
    _loaded = None


def live(source: html.HasStatistics, interval: float = 0.25) -> None:
    """Show the statistics of a stream or connection below this cell, kept up to date until it ends.

    Args:
      source: the stream or connection.
      interval: seconds between two updates.

    Raises:
      RuntimeError: the extension is not loaded.
    """
    if _loaded is None:
        raise RuntimeError("cannot show a live view: %load_ext trio_streams.notebook first")
    display = importlib.import_module("IPython.display")
    handle: _DisplayHandle = display.DisplayHandle()
    make_html: Callable[[str], object] = display.HTML
    shown = html.render(source) or ""
    handle.display(make_html(shown))

    def show(text: str) -> None:
        handle.update(make_html(text))

    _loaded.run.nursery.start_soon(_follow, source, interval, shown, show, name="live")


async def _follow(source: html.HasStatistics, interval: float, shown: str, show: Callable[[str], None]) -> None:
    while True:
        is_last = html.is_finished(source)
        text = html.render(source) or ""
        if text != shown:
            show(text)
            shown = text
        if is_last:
            return
        await trio.sleep(interval)


def _usage_error(message: str) -> Exception:
    error: Exception = importlib.import_module("IPython.core.error").UsageError(message)
    return error

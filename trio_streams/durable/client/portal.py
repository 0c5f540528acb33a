"""One thread with a Trio run, in which everything that blocks here really happens.

It is started by the first call, shared by all blocking handles of the process, and ended when the interpreter is. A caller
waits for its call alone: if the wait is interrupted, by Ctrl-C for instance, the call is cancelled in the other thread, and
the interruption goes on once it has ended. A process that was forked starts a thread of its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import attrs
import trio

__all__ = ["Call", "Portal", "portal"]

T = TypeVar("T")

_GOODBYE_SECONDS: Final = 5.0
"""How long the interpreter's end, or an interrupted caller, waits for the thread."""


class Call(Generic[T]):
    """Something that runs in the portal.

    Args:
      fn: what to await there.
      args: its arguments.
    """

    def __init__(self, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args
        self._scope = trio.CancelScope()
        self._is_done = threading.Event()
        self._value: list[T] = []
        self._error: Exception | None = None

    @property
    def has_value(self) -> bool:
        """Whether it ended, and well."""
        return bool(self._value)

    def wait(self, cancel: Callable[[], None]) -> T:
        """Wait for its end.

        Args:
          cancel: has `stop` called in the portal.

        Returns:
          What it returned.

        Raises:
          Exception: what it raised.
          KeyboardInterrupt: while waiting; it has ended then, and may even have a value.
        """
        try:
            self._is_done.wait()
        except BaseException:
            cancel()
            self._is_done.wait(_GOODBYE_SECONDS)
            raise
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        if not self._value:
            raise RuntimeError("the thread of blocking calls has ended before this call did")
        return self._value[0]

    def stop(self) -> None:
        """Cancel it; in the portal only."""
        self._scope.cancel()

    def give_up(self) -> None:
        """It will not run."""
        self._is_done.set()

    async def run(self) -> None:
        """Run it; whatever it raises is the caller's."""
        try:
            with self._scope:
                self._value.append(await self._fn(*self._args))
        except Exception as exc:  # noqa: BLE001 - it is raised where it was called from
            self._error = exc
        finally:
            self._is_done.set()


@attrs.define
class _Thread:
    """One run of Trio in a thread of its own."""

    thread: threading.Thread
    is_ready: threading.Event = attrs.field(factory=threading.Event)
    token: trio.lowlevel.TrioToken | None = None
    nursery: trio.Nursery | None = None


class Portal:
    """Runs async functions for threads that have no Trio."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: _Thread | None = None

    def start(self, fn: Callable[..., Awaitable[T]], *args: Any) -> Call[T]:
        """Have something run.

        Args:
          fn: async.
          args: its arguments.

        Raises:
          RuntimeError: this is the portal's own thread, which would wait for itself.
        """
        call = Call(fn, args)

        def begin() -> None:
            assert current.nursery is not None, "ready"
            if current.nursery.cancel_scope.cancel_called:
                call.give_up()
            else:
                current.nursery.start_soon(call.run)

        current = self._ready()
        assert current.token is not None, "ready"
        try:
            current.token.run_sync_soon(begin)
        except trio.RunFinishedError:
            call.give_up()
        return call

    def wait(self, call: Call[T]) -> T:
        """Wait for the end of a call; see `Call.wait`."""
        return call.wait(lambda: self.run_soon(call.stop))

    def call(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run something there, and wait for it.

        Args:
          fn: async.
          args: its arguments.

        Raises:
          Exception: what it raises.
          KeyboardInterrupt: while waiting; it was cancelled then.
        """
        return self.wait(self.start(fn, *args))

    def run_soon(self, fn: Callable[[], object]) -> None:
        """Call a plain function there, soon; nothing if there is no portal."""
        current = self._current
        if current is not None and current.token is not None:
            try:
                current.token.run_sync_soon(fn)
            except trio.RunFinishedError:
                return

    def stop(self) -> None:
        """End the thread, and what still runs in it; the next call starts another one."""
        with self._lock:
            current, self._current = self._current, None
        if current is not None and current.nursery is not None and current.token is not None:
            try:
                current.token.run_sync_soon(current.nursery.cancel_scope.cancel)
            except trio.RunFinishedError:
                return
            current.thread.join(_GOODBYE_SECONDS)

    def forget(self) -> None:
        """The thread is another process's: this one was forked."""
        self._lock = threading.Lock()
        self._current = None

    def _ready(self) -> _Thread:
        with self._lock:
            current = self._current
            if current is None or not current.thread.is_alive():
                thread = threading.Thread(target=self._run, name="trio-streams-blocking", daemon=True)
                current = self._current = _Thread(thread)
                thread.start()
                current.is_ready.wait()
        if current.thread is threading.current_thread():
            raise RuntimeError("a blocking call in the thread that it would wait for: await the async one there")
        return current

    def _run(self) -> None:
        current = self._current
        assert current is not None, "made before the thread is started"
        trio.run(self._serve, current)

    async def _serve(self, current: _Thread) -> None:
        async with trio.open_nursery() as current.nursery:
            current.token = trio.lowlevel.current_trio_token()
            current.is_ready.set()
            await trio.sleep_forever()


portal: Final = Portal()
"""The process's one."""

atexit.register(portal.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=portal.forget)

"""One directory has one owner, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from trio_streams.durable.store.base import StoreError
from trio_streams.durable.store.sqlite import SqliteConfig, open_sqlite_store
from trio_streams.durable.store.sqlite.lock import DirectoryInUseError, DirectoryLock

ROOT = Path(__file__).resolve().parents[4]

OWNER = """
import sys
from pathlib import Path
from trio_streams.durable.store.sqlite.lock import DirectoryLock
lock = DirectoryLock.acquire(Path(sys.argv[1]))
print("mine", flush=True)
sys.stdin.read()
"""

SECONDS = 30.0
"""A fail-safe."""


@contextmanager
def _owner(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has a directory."""
    command = [sys.executable, "-c", OWNER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"mine\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_whose_it_is(tmp_path: Path) -> None:
    """The error names the directory and the owner's pid."""
    with _owner(tmp_path) as process, pytest.raises(DirectoryInUseError, match=rf"{tmp_path}.*\b{process.pid}\b"):
        DirectoryLock.acquire(tmp_path)


def test_the_kernel_takes_it_from_the_dead(tmp_path: Path) -> None:
    """A process that was killed owns nothing, though its file is still there."""
    with _owner(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        DirectoryLock.acquire(tmp_path).release()
        assert (tmp_path / "lock").exists()


def test_a_second_store_of_the_same_process_is_refused(tmp_path: Path) -> None:
    """The lock is the store's, not the process's; released it is free, and releasing twice is releasing once."""
    lock = DirectoryLock.acquire(tmp_path)
    with pytest.raises(DirectoryInUseError, match=rf"\b{os.getpid()}\b"):
        DirectoryLock.acquire(tmp_path)
    lock.release()
    lock.release()
    DirectoryLock.acquire(tmp_path).release()


def test_programs_that_the_owner_starts_do_not_inherit_it(tmp_path: Path) -> None:
    """A program that was started meanwhile and lives on does not hold the directory of an owner that has let go."""
    lock = DirectoryLock.acquire(tmp_path)
    command = [sys.executable, "-c", "print('running', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"running\n"  # only then has it closed what it does not inherit
        lock.release()
        DirectoryLock.acquire(tmp_path).release()
        other.communicate(b"\n")


def test_what_can_not_be_locked_is_named(tmp_path: Path) -> None:
    """No such directory is an error of the store's kind."""
    with pytest.raises(StoreError, match="none/lock"):
        DirectoryLock.acquire(tmp_path / "none")


async def test_a_store_waits_for_the_one_before_it(tmp_path: Path) -> None:
    """Within `lock_timeout` the owner may let go; without it, the error comes at once."""
    with _owner(tmp_path) as process:
        with pytest.raises(StoreError, match=str(process.pid)):
            async with open_sqlite_store(tmp_path, SqliteConfig(lock_timeout=0)):
                pytest.fail("it was opened")
        opened = trio.Event()

        async def follow() -> None:
            async with open_sqlite_store(tmp_path, SqliteConfig(lock_timeout=SECONDS)):
                opened.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.to_thread.run_sync(process.communicate)
            await opened.wait()


async def test_a_cancelled_wait_for_the_lock_leaves_nothing(tmp_path: Path) -> None:
    """Whoever gave up does not own the directory when it is free."""
    with _owner(tmp_path) as process:
        with trio.move_on_after(0.2) as scope:
            async with open_sqlite_store(tmp_path, SqliteConfig(lock_timeout=SECONDS)):
                pytest.fail("it was opened")
        assert scope.cancelled_caught
        await trio.to_thread.run_sync(process.communicate)
        DirectoryLock.acquire(tmp_path).release()

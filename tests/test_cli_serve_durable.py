"""`trio-streams serve --data`: runs that outlive the process, which is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import trio

from tests.cli_site import finish, lines_of, needs_signals, start
from trio_streams import RpcError, connect

APP: Final = """
from collections.abc import AsyncIterator
import trio
from trio_streams import Router
from trio_streams.procedures.procedure import ResumePoint

router = Router()

@router.stream("lost", durable="lost/{job}")
async def lost(job: dict[str, str]) -> AsyncIterator[int]:
    for number in range(3):
        yield number
    await trio.sleep_forever()

@router.stream("found", durable="found/{job}")
async def found(job: dict[str, str], *, resume_from: ResumePoint) -> AsyncIterator[int]:
    for number in range(resume_from.items, 6):
        yield number
        if number == 2:
            await trio.sleep(0 if resume_from.items else 1_000)
"""


async def _read(url: str, name: str, count: int, after: str | None) -> tuple[list[int], str]:
    async with connect(url) as client, client.durable_stream(name, {"job": "a"}, returns=int, after=after) as items:
        return [await items.receive() for _ in range(count)], items.last_id


@needs_signals
async def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """What was given is there again, behind any id; a run that can go on does, and one that can't is lost for good."""
    (tmp_path / "app.py").write_text(APP)
    arguments = ("serve", "app.py", "tcp://127.0.0.1:0", "http://127.0.0.1:0", "--data", str(tmp_path / "data"))
    with trio.fail_after(120):
        process = start(*arguments, folder=tmp_path)
        try:
            tcp, http = await trio.to_thread.run_sync(lines_of, process, 2)
            got, _ = await _read(tcp, "lost", 3, None)
            assert got == [0, 1, 2]
            got, last_id = await _read(http, "found", 3, None)
            assert got == [0, 1, 2]
        finally:
            process.kill()
            finish(process)
        process = start(*arguments, folder=tmp_path)
        try:
            tcp, http = await trio.to_thread.run_sync(lines_of, process, 2)
            got, _ = await _read(tcp, "found", 3, last_id)
            assert got == [3, 4, 5]
            for url in (http, tcp):
                got, lost_id = await _read(url, "lost", 3, None)
                assert got == [0, 1, 2]
                with pytest.raises(RpcError, match="UNAVAILABLE: the run was lost"):
                    await _read(url, "lost", 1, lost_id)
        finally:
            process.kill()
            finish(process)


@needs_signals
async def test_without_data_runs_live_as_long_as_the_server(tmp_path: Path) -> None:
    """A durable application needs no option to be tried."""
    (tmp_path / "app.py").write_text(APP)
    with trio.fail_after(120):
        process = start("serve", "app.py", "tcp://127.0.0.1:0", folder=tmp_path)
        try:
            (url,) = await trio.to_thread.run_sync(lines_of, process, 1)
            _, last_id = await _read(url, "found", 2, None)
            assert await _read(url, "found", 1, last_id) == ([2], last_id.replace(".2", ".3"))
        finally:
            process.kill()
            finish(process)

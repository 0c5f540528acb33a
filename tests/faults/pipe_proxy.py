"""A program between a client and a server on pipes: `python -m tests.faults.pipe_proxy WEATHER`, which is JSON.

It runs the server as a child of its own. A cut ends this program, or kills it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial

import trio

from tests.faults.children import PYTHON, ROOT
from tests.faults.proxy import Cut, Ending, Weather, pass_on
from tests.faults.site import Site
from trio_streams import serve

__all__ = ["describe"]


def describe(weather: Weather) -> str:
    """A weather as the argument of this program."""
    cut = weather.cut
    parts = None if cut is None else (cut.ending.value, cut.is_upwards, cut.after_bytes)
    return json.dumps([weather.seed, weather.max_chunk, weather.latency, parts])


def _weather(text: str) -> Weather:
    seed, max_chunk, latency, parts = json.loads(text)
    cut = None if parts is None else Cut(Ending(parts[0]), *parts[1:])
    return Weather(seed, max_chunk, tuple(latency), cut)


async def _pass_on(weather: Weather) -> None:
    async def cut() -> None:
        await trio.lowlevel.checkpoint()
        assert weather.cut is not None
        process.kill()
        os.kill(os.getpid(), signal.SIGKILL) if weather.cut.ending is Ending.RESET else os._exit(0)

    command = [*PYTHON, "-m", "tests.faults.pipe_proxy", "serve"]
    process = await trio.lowlevel.open_process(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    here_in, here_out = trio.lowlevel.FdStream(os.dup(0)), trio.lowlevel.FdStream(os.dup(1))
    os.close(0)
    os.close(1)
    tells = weather.cut is not None and weather.cut.ending is not Ending.SILENCE
    await pass_on(
        weather.make_link(1),
        (here_in, here_out, here_out.aclose),
        (process.stdout, process.stdin, process.stdin.aclose),
        cut=cut if tells else None,
    )
    await process.wait()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        trio.run(partial(serve, Site().router(), "stdio:"))
    else:
        trio.run(_pass_on, _weather(sys.argv[1]))

"""Our client of durable streams beside the PyPI client and the npm client, against the same server.

Each job in a new process of the client's, whose start does not count; interleaved rounds; medians, and the median of the
rounds' ratios. CPU is the client's own, for each message, and the peak is of its memory, the interpreter's own included.
The server is ours, in memory, or the reference server in memory with `--server reference`. The PyPI client (`pip install durable-streams`, or unpacked in a directory) and the npm
client are measured where they are installed.

    python -m tests.benchmarks.bench_durable_client [--quick] [--rounds N] [--only NAME] [--rows JOB]
        [--reference DIR] [--pypi DIR] [--server reference]
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import attrs

from tests.benchmarks.bench_durable import REFERENCE_SERVER, reference_modules
from tests.benchmarks.child import running, running_command
from tests.benchmarks.durable_clients import MESSAGE
from tests.benchmarks.durable_driver import Server
from tests.benchmarks.table import median, options, print_head, print_table
from tests.browser.node import command

_CLIENTS: Final = "tests.benchmarks.durable_clients"
_NODE_CLIENT: Final = str(Path(__file__).with_name("durable_client.mjs"))
_JSON: Final = "application/json"
_BATCH: Final = 100
_NUMBERS: Final = count(1)
_TIMEOUT: Final = 120


@attrs.frozen
class Contestant:
    """A client.

    Attributes:
      name: in the table.
      line: the command that runs it, but for the job, the URL and the count.
      jobs: what it can do.
      environment: added to ours.
    """

    name: str
    line: Sequence[str]
    jobs: Sequence[str]
    environment: Mapping[str, str] = {}


@attrs.frozen
class Job:
    """What a client does, and how many messages it is for.

    Attributes:
      title: in the table.
      name: of the contestants' argument.
      messages: how many.
      base: whose figures the others are divided by.
    """

    title: str
    name: str
    messages: int
    base: str


def _contestants(modules: Path | None, pypi: str, wanted: str) -> list[Contestant]:
    python = (sys.executable, "-m", _CLIENTS)
    found = [
        Contestant("ours, Trio", (*python, "ours"), ("read", "tail", "append", "produce")),
        Contestant("ours, blocking", (*python, "ours-blocking"), ("read", "tail")),
    ]
    if pypi or importlib.util.find_spec("durable_streams") is not None:
        path = os.pathsep.join(part for part in (pypi, os.environ.get("PYTHONPATH", "")) if part)
        more = {"PYTHONPATH": path}
        found.append(Contestant("PyPI, asyncio", (*python, "pypi"), ("read", "tail", "append"), more))
        found.append(Contestant("PyPI, blocking", (*python, "pypi-blocking"), ("read", "tail"), more))
    if modules is not None:
        line = command(_NODE_CLIENT, str(modules))
        found.append(Contestant("npm", line, ("read", "tail", "append", "produce")))
    return [one for one in found if any(part in one.name.lower() for part in wanted.lower().split("|"))]


def _run(server: Server, contestant: Contestant, job: Job) -> Mapping[str, float]:
    with _stream(server, job) as stream:
        line = [*contestant.line, job.name, f"{server.url}/{stream}", str(job.messages)]
        done = subprocess.run(
            line,
            env={**os.environ, **contestant.environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=_TIMEOUT,
        )
    figures: Mapping[str, float] = json.loads(done.stdout)
    return {
        "rate": job.messages / figures["seconds"],
        "cost": figures["busy"] / job.messages,
        "peak": figures["peak"],
    }


@contextmanager
def _stream(server: Server, job: Job) -> Iterator[str]:
    with server.stream(f"c{next(_NUMBERS)}", _JSON) as stream:
        if job.name in ("read", "tail"):
            server.fill(stream, json.dumps([MESSAGE] * _BATCH).encode(), job.messages // _BATCH, _JSON)
        yield stream


def _show(server: Server, contestants: Sequence[Contestant], job: Job, rounds: int) -> None:
    able = [one for one in contestants if job.name in one.jobs]
    found: dict[str, dict[str, list[float]]] = {one.name: {} for one in able}
    for _ in range(rounds):
        for one in able:
            for figure, value in _run(server, one, job).items():
                found[one.name].setdefault(figure, []).append(value)
    rows: list[list[str]] = []
    base = found.get(job.base)
    for name, figures in found.items():
        ratio = ""
        if base is not None and name != job.base:
            pairs = zip(figures["rate"], base["rate"], strict=True)
            ratio = f"{median([ours / theirs for ours, theirs in pairs]):.2f} x"
        cells = [f"{median(figures['rate']):,.0f}", ratio, f"{median(figures['cost']) * 1e6:.1f} µs"]
        rows.append([name, *cells, f"{median(figures['peak']):,.0f} MiB"])
    print()
    print_table([f"{job.messages:,} messages, {job.title}", "messages/s", "ratio", "client CPU", "peak"], rows)


def _server(modules: Path | None, chosen: str) -> AbstractContextManager[Mapping[str, str]]:
    if chosen != "reference":
        return running("tests.benchmarks.durable_servers", "memory")
    if modules is None:
        raise SystemExit("the reference is not installed")
    return running_command(*command(REFERENCE_SERVER, str(modules)))


def main() -> None:
    chosen = options(
        __doc__,
        reference="where npm has installed the reference",
        pypi="where the PyPI client is unpacked",
        rows="only tables whose title has this",
        server="reference for the reference server",
    )
    rounds, messages = (1, 2_000) if chosen.quick else (chosen.rounds, 100_000)
    modules = reference_modules(chosen.reference)
    contestants = _contestants(modules, chosen.pypi, chosen.only)
    names = {one.name.partition(",")[0] for one in contestants}
    missing = ", ".join(sorted({"PyPI", "npm"} - names))
    notes = [
        f"medians of {rounds} interleaved rounds; ratios are to the PyPI client, or to the npm client where it has none"
    ]
    print_head("Clients of durable streams", *notes, *([f"not installed: {missing}"] if missing else []))
    jobs = [
        Job("caught up with", "read", messages, "PyPI, asyncio"),
        Job("as server-sent events", "tail", messages // 10, "PyPI, asyncio"),
        Job("appended by 100 tasks", "append", messages // 10, "PyPI, asyncio"),
        Job("appended by an idempotent producer", "produce", messages, "npm"),
    ]
    with Server.started(chosen.server or "ours", partial(_server, modules, chosen.server)) as server:
        for job in jobs:
            if chosen.rows.lower() in job.title:
                _show(server, contestants, job, rounds)


if __name__ == "__main__":
    main()

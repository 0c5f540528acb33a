"""How fast is WebTransport, beside aioquic's asyncio driver and both kinds of pywebtransport?

Server and client of each library are processes of their own, and run the same two programs, written in words that every
library is put into (`tests/interop/webtransport`). pywebtransport is in the run where its environment below `.nox` has
been made: `pytest tests/interop/webtransport` makes one on Python 3.11 and another on 3.12. Ours and aioquic send UDP payloads
of the same size, which `--payload` sets.

    python -m tests.benchmarks.bench_webtransport [--quick] [--rows up] [--only aioquic] [--payload 1452]
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from tests.benchmarks.child import apart, resident_bytes, running_command
from tests.benchmarks.table import median, options, percentile, print_head, print_table
from tests.interop.durable.packages import ROOT
from tests.interop.webtransport.environments import existing_python
from trio_streams.webtransport.certificates import make_certificate

BASE: Final = "aioquic"
LIBRARIES: Final = (BASE, "pywebtransport-0.8.1", "pywebtransport-0.21.1", "ours")
TIMEOUT: Final = 60
MEBIBYTE: Final = 1_048_576

Figures: TypeAlias = dict[str, float]


@attrs.frozen
class Contestant:
    """A library, and the interpreter that has it.

    Attributes:
      library: its name.
      python: the interpreter.
      folder: of the certificate.
    """

    library: str
    python: str
    folder: str

    @contextlib.contextmanager
    def serving(self) -> Iterator[Mapping[str, str]]:
        """A server, on all cores but one."""
        files = [f"{self.folder}/{name}.pem" for name in ("cert", "key")]
        line = (self.python, "-m", "tests.interop.webtransport.peer_server", self.library, *files)
        with contextlib.ExitStack() as stack:
            with apart():
                try:
                    said = stack.enter_context(running_command(*line, PYTHONPATH=str(ROOT)))
                except json.JSONDecodeError:
                    raise LookupError("its server did not start") from None
            yield said

    def measure(self, server: Mapping[str, str], visit: str, size: float) -> dict[str, Any]:
        """What a client says of one visit; for memory, the server is looked at before and during it."""
        line = (
            self.python,
            "-m",
            "tests.benchmarks.webtransport_client",
            self.library,
            server["url"],
            visit,
            str(size),
        )
        before = resident_bytes(int(server["pid"]))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as client:
            assert client.stdout is not None
            first = client.stdout.readline()
            grown = resident_bytes(int(server["pid"])) - before
            try:
                rest, complaints = client.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                client.kill()
                raise LookupError(f"nothing in {TIMEOUT} s") from None
        if client.returncode != 0:
            raise LookupError(complaints.strip().rpartition("\n")[2])
        found: dict[str, Any] = json.loads(rest.splitlines()[-1] if rest else first)
        return found | {"grown": grown}


def _rate(found: dict[str, Any]) -> Figures:
    return {"figure": found["rate"]}


def _half(found: dict[str, Any]) -> Figures:
    seconds = found["seconds"]
    return {"figure": percentile(seconds, 0.5) * 1e6, "late": percentile(seconds, 0.99) * 1e6}


def _cost(found: dict[str, Any]) -> Figures:
    return {"figure": found["cost"] * 100, "late": found["rate"]}


def _memory(found: dict[str, Any]) -> Figures:
    return {"figure": found["grown"] / MEBIBYTE, "late": found["written"] / MEBIBYTE}


@attrs.frozen
class Row:
    """One measurement.

    Attributes:
      name: to choose it by, and the visit's.
      title: what is shown, with the unit.
      size: of the visit, and in a quick run.
      read: figures of what a client said; `late` is shown in a second column.
      second: what the second column shows.
      targets: of ours, over each contestant; text.
      has_ratio: whether figures are compared with the base's.
      absent: libraries that can't, and why.
      before: a visit that the server has first, and its size: what any first connection costs is not what the row is about.
    """

    name: str
    title: str
    size: float
    quick_size: float
    read: Callable[[dict[str, Any]], Figures]
    targets: str
    second: str = ""
    has_ratio: bool = True
    absent: Mapping[str, str] = {}
    before: tuple[str, float] | None = None


_OLD_STREAMS: Final = {"pywebtransport-0.8.1": "it loses wake-ups of its streams"}

ROWS: Final = (
    Row("up", "bulk to the server, MB/s", 100e6, 4e6, _rate, ">= 1.5 x aioquic, >= 4 x 0.8.1"),
    Row("down", "bulk from the server, MB/s", 100e6, 4e6, _rate, ">= 1.5 x aioquic, >= 4 x 0.8.1"),
    Row("streams", "streams/s, 50 at once", 10_000, 200, _rate, ">= 1 x aioquic, >= 10 x 0.8.1, >= 2.5 x 0.21.1"),
    Row("datagrams", "datagram echoes/s", 50_000, 500, _rate, ">= 10 x both pywebtransports"),
    Row("round_trips", "round trip, p50 µs", 2_000, 100, _half, "<= 1.1 x aioquic", "p99 µs"),
    Row(
        "idle",
        "1,000 idle streams cost, %",
        30e6,
        1e6,
        _cost,
        "< 10 %",
        "MB/s beside them",
        has_ratio=False,
        absent=_OLD_STREAMS,
    ),
    Row(
        "unread",
        "an unread peer's memory, MiB",
        64e6,
        4e6,
        _memory,
        "<= its window + 1 MB",
        "MiB taken",
        has_ratio=False,
        before=(
            "up",
            65_536,
        ),  # the code that a handshake touches is 1.4 MiB of resident memory, of a process that reads all, too
    ),
    Row("resets", "reset to cancelled handler, p50 µs", 300, 5, _half, "", "p99 µs", absent=_OLD_STREAMS),
    Row("closes", "closed session to cancelled handler, p50 µs", 100, 3, _half, "", "p99 µs"),
)


def _is_wanted(library: str, wanted: str) -> bool:
    return any(part in library for part in wanted.lower().split("|"))


def _contestants(wanted: str, folder: str) -> list[Contestant]:
    make_certificate().write(folder)
    known = [(library, existing_python(library)) for library in LIBRARIES if _is_wanted(library, wanted)]
    return [Contestant(library, python, folder) for library, python in known if python is not None]


def _rounds(row: Row, contestants: Sequence[Contestant], rounds: int, size: float) -> dict[str, list[Figures] | str]:
    """Each contestant once a round, each time with a new server; why not, for one that can't."""
    found: dict[str, list[Figures] | str] = {
        contestant.library: row.absent.get(contestant.library, []) for contestant in contestants
    }
    for _ in range(rounds):
        for contestant in contestants:
            figures = found[contestant.library]
            if isinstance(figures, str):
                continue
            try:
                with contestant.serving() as server:
                    if row.before is not None:
                        contestant.measure(server, *row.before)
                    figures.append(row.read(contestant.measure(server, row.name, size)))
            except LookupError as exc:
                found[contestant.library] = str(exc)
    return found


def _show(row: Row, found: Mapping[str, list[Figures] | str]) -> None:
    base = found.get(BASE)
    lines = []
    for library, figures in found.items():
        if isinstance(figures, str):
            lines.append([library, "-", "", "", figures[:60]])
            continue
        cells = [library, f"{median([figure['figure'] for figure in figures]):,.1f}"]
        late = [figure["late"] for figure in figures if "late" in figure]
        cells.append(f"{median(late):,.1f}" if late else "")
        cells.append(_ratio(figures, base) if isinstance(base, list) and row.has_ratio else "")
        lines.append([*cells, row.targets if library == "ours" else ""])
    print()
    print_table([row.title, "", row.second, f"over {BASE}", "target of ours"], lines)


def _ratio(figures: Sequence[Figures], base: Sequence[Figures]) -> str:
    pairs = zip(figures, base, strict=True)
    return f"{median([mine['figure'] / theirs['figure'] if theirs['figure'] else float('nan') for mine, theirs in pairs]):.2f} x"


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, rows="only this row", payload="bytes of UDP payloads, of ours and aioquic's (1200)")
    os.environ["PAYLOAD_BYTES"] = chosen.payload or "1200"
    rounds = 1 if chosen.quick else chosen.rounds
    print_head(
        "WebTransport",
        f"medians of {rounds} interleaved rounds, each with new processes; UDP payloads of {os.environ['PAYLOAD_BYTES']} B",
    )
    with tempfile.TemporaryDirectory() as folder:
        contestants = _contestants(chosen.only, folder)
        missing = [name for name in LIBRARIES if name not in {contestant.library for contestant in contestants}]
        print(
            f"not here: {', '.join(missing)}" if missing else f"Python {sys.version.split()[0]} runs ours and aioquic"
        )
        for row in ROWS:
            if chosen.rows.lower() in row.name:
                size = row.quick_size if chosen.quick else row.size
                _show(row, _rounds(row, contestants, rounds, size))


if __name__ == "__main__":
    main()

"""Our server of durable streams beside the reference server on Node: appends, catch-up, live readers, and their costs.

One driver on bare sockets for both (`durable_driver`), in a process and on a core of its own; interleaved rounds; medians,
and the median of the rounds' ratios. CPU is the server process's, user and system mode, for each request, delivery or MB.
The reference is the npm package `@durable-streams/server`, in memory and in its file mode; without an installation ours
are measured alone.

    python -m tests.benchmarks.bench_durable [--quick] [--rounds N] [--only NAME] [--rows TITLE] [--reference DIR]
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, repeat
from pathlib import Path
from typing import Final

import attrs

from tests.benchmarks.child import apart, running, running_command
from tests.benchmarks.durable_driver import MESSAGE, TEXT, Server, Start, hammer, json_batch
from tests.benchmarks.durable_readers import (
    catch_up,
    fan_out,
    half_and_late,
    idle_kib,
    live_delays,
    poll_delays,
    stalled_mib,
)
from tests.benchmarks.rlimit import raise_file_limit
from tests.benchmarks.table import median, options, print_head, print_table
from tests.browser.node import command

Figures = Mapping[str, float]
Run = Callable[[], Figures]

_ROOT: Final = Path(__file__).parents[2]
REFERENCE_SERVER: Final = str(Path(__file__).with_name("durable_reference.mjs"))
_JSON: Final = "application/json"
_BATCH: Final = 100
_PIECE: Final = 262_144
_NUMBERS: Final = count(1)

_PAIRS: Final = {"ours, memory": "reference, memory", "ours, SQLite": "reference, files"}
"""What is compared with what."""


@attrs.frozen
class Sizes:
    """How much of everything.

    Attributes:
      rounds: how often all is done.
      seconds: of one measurement.
      readers: of a fan-out.
      history: messages that stand before it.
      catch_up_bytes: of the stream that is read from its beginning.
      delays: of one measurement.
      has_fresh_servers: whether what a server holds is measured with a process of its own.
    """

    rounds: int
    seconds: float = 1.0
    readers: int = 1_000
    history: int = 20_000
    catch_up_bytes: int = 400 * _PIECE
    delays: int = 1_000
    has_fresh_servers: bool = True


_QUICK: Final = Sizes(1, 0.05, 20, 100, 8 * _PIECE, 20, has_fresh_servers=False)


# -- the servers ----------------------------------------------------------------------------------------------


def reference_modules(chosen: str) -> Path | None:
    """Where the npm packages are: what was chosen, or what the project's own sessions have installed."""
    roots = [Path(chosen).resolve()] if chosen else sorted((_ROOT / ".nox").glob("durable-*"))
    for root in roots:
        modules = root / "node_modules"
        if (modules / "@durable-streams" / "server").exists():
            return modules
    if chosen:
        raise SystemExit(f"{roots[0]} has no node_modules/@durable-streams/server: run `npm install` there")
    return None


@contextlib.contextmanager
def _servers(modules: Path | None, wanted: str) -> Iterator[list[Server]]:
    """All that there are and whose names are wanted."""
    ours = "tests.benchmarks.durable_servers"
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        known: dict[str, Start] = {
            "floor, lean host": partial(running, ours, "lean"),
            "floor, hypercorn": partial(running, ours, "hypercorn"),
        }
        if modules is not None:
            for name, where in (("floor, Node", "bare"), ("reference, memory", "")):
                known[name] = partial(running_command, *command(REFERENCE_SERVER, str(modules), where))
            known["reference, files"] = lambda: running_command(
                *command(REFERENCE_SERVER, str(modules), tempfile.mkdtemp(dir=directory))
            )
        known["ours, memory"] = partial(running, ours, "memory")
        known["ours, SQLite"] = lambda: running(ours, "sqlite", tempfile.mkdtemp(dir=directory))
        found = []
        with apart():
            for name, start in known.items():
                if any(part in name.lower() for part in wanted.lower().split("|")):
                    found.append(stack.enter_context(Server.started(name, start, _PAIRS.get(name, ""))))
        yield found


@contextlib.contextmanager
def _new_stream(server: Server, content_type: str = TEXT, *, body: bytes = b"", times: int = 0) -> Iterator[str]:
    with server.stream(f"s{next(_NUMBERS)}", content_type) as stream:
        server.fill(stream, body, times, content_type)
        yield stream


@contextlib.contextmanager
def _new_server(server: Server, sizes: Sizes) -> Iterator[Server]:
    """Another process of it: one takes again what it has freed, and does not grow."""
    if not sizes.has_fresh_servers:
        yield server
        return
    with contextlib.ExitStack() as stack:
        with apart():
            other = stack.enter_context(Server.started(server.name, server.start))
        yield other


# -- what is measured -----------------------------------------------------------------------------------------


def _appends(server: Server, connections: int, seconds: float) -> Figures:
    with _new_stream(server) as stream:
        return hammer(server, [repeat(server.append(stream, MESSAGE))] * connections, seconds)


def _idempotent_appends(server: Server, producers: int, seconds: float) -> Figures:
    def requests(stream: str, producer: int) -> Iterable[bytes]:
        head = {"Producer-Id": f"producer-{producer}", "Producer-Epoch": "0", "Producer-Seq": "SEQ"}
        before, _, after = server.append(stream, MESSAGE, **head).partition(b"SEQ")
        return (b"%b%d%b" % (before, seq, after) for seq in count())

    with _new_stream(server) as stream:
        return hammer(server, [requests(stream, producer) for producer in range(producers)], seconds)


def _batches(server: Server, connections: int, seconds: float) -> Figures:
    with _new_stream(server, _JSON) as stream:
        request = server.append(stream, json_batch(_BATCH), _JSON)
        figures = hammer(server, [repeat(request)] * connections, seconds)
        return {"rate": figures["rate"] * _BATCH, "cost": figures["cost"] / _BATCH}


def _fan_out(server: Server, readers: int, history: int, seconds: float) -> Figures:
    with _new_stream(server, body=MESSAGE, times=history) as stream:
        return fan_out(server, stream, readers, seconds)


def _catch_up(server: Server, size: int, readers: int) -> Figures:
    with _new_stream(server, body=b"x" * _PIECE, times=size // _PIECE) as stream:
        catch_up(server, stream, size)  # what is kept for the next reader is not what a reader costs
        return catch_up(server, stream, size, readers)


def _stalled(server: Server, sizes: Sizes, query: str, readers: int) -> Figures:
    times = sizes.catch_up_bytes // _PIECE
    with _new_server(server, sizes) as other, _new_stream(other, body=b"x" * _PIECE, times=times) as stream:
        return {"grown": stalled_mib(other, stream, query, readers)}


def _delays(server: Server, measure: Callable[[Server, str, int], list[float]], times: int) -> Figures:
    with _new_stream(server) as stream:
        return half_and_late(measure(server, stream, times))


def _idle(server: Server, sizes: Sizes, mode: str) -> Figures:
    with _new_server(server, sizes) as other, _new_stream(other) as stream:
        return {"held": idle_kib(other, stream, mode, sizes.readers)}


# -- tables ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Column:
    """A figure of a table."""

    title: str
    figure: str
    unit: str = "{:,.0f}"
    factor: float = 1.0
    has_ratio: bool = False


@attrs.frozen
class Row:
    """One measurement of every server that it is for."""

    title: str
    measure: Callable[[Server], Figures]
    targets: Mapping[str, str] = {}
    names: Sequence[str] = ("reference", "ours")


@attrs.frozen
class Table:
    """Rows with the same columns."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]


_RATE: Final = partial(Column, figure="rate", has_ratio=True)
_CPU: Final = Column("server CPU", "cost", "{:,.1f} µs", 1e6, has_ratio=True)
_GROWN: Final = Column("growth for each", "grown", "{:,.1f} MiB")
_DELAYS: Final = (Column("p50", "half", "{:,.0f} µs", 1e6, has_ratio=True), Column("p99", "late", "{:,.0f} µs", 1e6))
_ALL: Final = ("floor", "reference", "ours")
_FAST_FILLED: Final = ("reference, memory", "ours")
_LASTING: Final = ("floor, lean host", "floor, Node", "reference", "ours")
"""Hypercorn closes a connection after 1,000 requests."""

_MEMORY, _DISK = "ours, memory", "ours, SQLite"


def _tables(sizes: Sizes) -> list[Table]:
    return [*_append_tables(sizes), _fan_out_table(sizes), *_catch_up_tables(sizes), *_live_tables(sizes)]


def _append_tables(sizes: Sizes) -> list[Table]:
    def appends(measure: Callable[[Server, int, float], Figures], connections: int) -> Callable[[Server], Figures]:
        return lambda server: measure(server, connections, sizes.seconds)

    both = {_MEMORY: "1 x", _DISK: "7 x"}
    return [
        Table(
            "append 100 B",
            (_RATE("appends/s"), _CPU),
            (
                Row("1 connection", appends(_appends, 1), names=_LASTING),
                Row("10 connections", appends(_appends, 10), both, _ALL),
                Row("10 idempotent producers", appends(_idempotent_appends, 10), {_DISK: "7 x"}),
            ),
        ),
        Table(
            f"append {_BATCH} JSON messages of 100 B",
            (_RATE("messages/s"), _CPU),
            (
                Row("1 connection", appends(_batches, 1), {_MEMORY: "1 x"}),
                Row("10 connections", appends(_batches, 10), {_MEMORY: "1 x"}),
            ),
        ),
    ]


def _fan_out_table(sizes: Sizes) -> Table:
    def fan_outs(history: int) -> Callable[[Server], Figures]:
        return lambda server: _fan_out(server, sizes.readers, history, sizes.seconds)

    return Table(
        f"one message to {sizes.readers:,} SSE readers",
        (_RATE("deliveries/s"), _CPU),
        (
            Row("empty history", fan_outs(0), {_MEMORY: "1 x"}),
            Row(f"{sizes.history:,} messages before", fan_outs(sizes.history), {_MEMORY: "20 x"}, _FAST_FILLED),
        ),
    )


def _catch_up_tables(sizes: Sizes) -> list[Table]:
    size = sizes.catch_up_bytes
    return [
        Table(
            f"catch-up of {size / 1e6:,.0f} MB",
            (_RATE("MB/s"), Column("first byte", "first", "{:,.1f} ms", 1e3), _GROWN, _CPU),
            (
                Row("1 reader", lambda server: _catch_up(server, size, 1), dict.fromkeys(_PAIRS, "5 ms, 2 MiB")),
                Row("4 readers", lambda server: _catch_up(server, size, 4), dict.fromkeys(_PAIRS, "2 MiB")),
            ),
        ),
        Table(
            f"readers that read nothing of {size / 1e6:,.0f} MB",
            (_GROWN,),
            (
                Row("catch-up", lambda server: _stalled(server, sizes, "?offset=-1", 4)),
                Row("SSE", lambda server: _stalled(server, sizes, "?offset=-1&live=sse", 4)),
            ),
        ),
    ]


def _live_tables(sizes: Sizes) -> list[Table]:
    def delays(measure: Callable[[Server, str, int], list[float]]) -> Callable[[Server], Figures]:
        return lambda server: _delays(server, measure, sizes.delays)

    return [
        Table(
            "from an append to a live reader",
            _DELAYS,
            (
                Row("SSE", delays(live_delays), {_MEMORY: "1 x, 310 µs", _DISK: "1 x, 1970 µs"}),
                Row("long-poll", delays(poll_delays)),
            ),
        ),
        Table(
            f"{sizes.readers:,} live readers that wait",
            (Column("held for each", "held", "{:,.1f} KiB"),),
            (
                Row("SSE", lambda server: _idle(server, sizes, "sse")),
                Row("long-poll", lambda server: _idle(server, sizes, "long-poll")),
            ),
        ),
    ]


def _ratio(figures: Mapping[str, list[float]], base: Mapping[str, list[float]] | None, figure: str) -> str:
    if base is None:
        return ""
    pairs = zip(figures[figure], base[figure], strict=True)
    return f"{median([ours / theirs if theirs else float('nan') for ours, theirs in pairs]):.2f} x"


def _show(table: Table, servers: Sequence[Server], rounds: int) -> None:
    head = [table.title]
    for column in table.columns:
        head += [column.title, "ratio"] if column.has_ratio else [column.title]
    lines: list[list[str]] = []
    for row in table.rows:
        chosen = [server for server in servers if server.name.startswith(tuple(row.names))]
        found = _rounds(row, chosen, rounds)
        for server in chosen:
            figures, cells = found[server.name], [f"{row.title}, {server.name}"]
            for column in table.columns:
                cells.append(column.unit.format(median(figures[column.figure]) * column.factor))
                if column.has_ratio:
                    cells.append(_ratio(figures, found.get(server.base), column.figure))
            lines.append([*cells, row.targets.get(server.name, "")])
    print()
    print_table([*head, "target"], lines)


def _rounds(row: Row, servers: Sequence[Server], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Every server once a round; for each its figures by name."""
    found: dict[str, dict[str, list[float]]] = {server.name: {} for server in servers}
    for _ in range(rounds):
        for server in servers:
            for figure, value in row.measure(server).items():
                found[server.name].setdefault(figure, []).append(value)
    return found


def main() -> None:
    raise_file_limit()
    chosen = options(
        __doc__, reference="where npm has installed the reference", rows="only tables whose title has this"
    )
    sizes = _QUICK if chosen.quick else Sizes(chosen.rounds)
    modules = reference_modules(chosen.reference)
    notes = [f"medians of {sizes.rounds} interleaved rounds; the last column is the target of ours over the reference"]
    if modules is None:
        notes.append("the reference is not installed: ours alone")
    print_head("Durable streams", *notes)
    with _servers(modules, chosen.only) as servers:
        for table in _tables(sizes):
            if chosen.rows.lower() in table.title.lower():
                _show(table, servers, sizes.rounds)


if __name__ == "__main__":
    main()

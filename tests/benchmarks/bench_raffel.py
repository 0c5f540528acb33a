"""Raffel's own server beside ours, on its own wire: JSON envelopes on TCP and WebSockets, and its event streams.

One client for both (`envelope_client`), which decodes nothing while a clock runs; interleaved rounds; medians, and the
median of the rounds' ratios. CPU is the server process's, user and system mode, divided by the messages of a run; on
cores that others use, too, its ratio says more than that of the rates.
Raffel is in no registry: give a built checkout of https://github.com/forattini-dev/raffel (`npm install`, `npx tsc`).
Without one, ours is measured alone.

    python -m tests.benchmarks.bench_raffel [--quick] [--rounds N] [--only raffel|ours] [--raffel DIR]
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, cast

import attrs

from tests.benchmarks.child import cpu_seconds, running, running_command
from tests.benchmarks.envelope_client import EnvelopeClient, connected
from tests.benchmarks.envelope_server import FIELDS
from tests.benchmarks.table import median, options, percentile, print_head, print_table
from tests.browser.node import command

Urls = Mapping[str, str]
Run = Callable[[], Mapping[str, float]]

_SERVER: Final = str(Path(__file__).with_name("raffel_server.mjs"))
_ITEM: Final = re.compile(rb'"type":"stream:data"|event: data')
_STAMP: Final = re.compile(rb'"at":(\d+)')
_MOST_EVENTS: Final = 100_000
"""For Raffel's alone: 0.2.3 closed the connection without an answer when asked for 150,000 or 200,000 events at once."""

_FACES: Final = (("tcp", "tcp"), ("ws", "ws"), ("sse", "http"), ("sse", "lean"))
"""What is compared, and which of our URLs serves it."""


@attrs.frozen
class Contestant:
    """A server's URL; its rows are compared with those of Raffel's that have the same face."""

    name: str
    face: str
    url: str
    pid: int

    def capped(self, count: int) -> int:
        """As many items as can be asked for."""
        return min(count, _MOST_EVENTS) if self.name == "Raffel sse" else count


def _contestants(raffel: Urls | None, ours: Urls, wanted: str) -> list[Contestant]:
    found: dict[str, Contestant] = {}
    for face, scheme in _FACES:
        if raffel is not None:
            theirs = raffel["http" if face == "sse" else face]
            found[f"Raffel {face}"] = Contestant(f"Raffel {face}", face, theirs, int(raffel["pid"]))
        name = f"ours {face}" + (f", {'hypercorn' if scheme == 'http' else scheme}" if face == "sse" else "")
        found[name] = Contestant(name, face, ours[scheme], int(ours["pid"]))
    return [one for name, one in found.items() if wanted.lower() in name.lower()]


# -- what is measured -----------------------------------------------------------------------------------------


def _download(contestant: Contestant, procedure: str, count: int) -> Mapping[str, float]:
    count = contestant.capped(count)
    with connected(contestant.url) as client:
        before, began = cpu_seconds(contestant.pid), time.perf_counter()
        client.start(procedure, count=count)
        client.hear_until_end()
        seconds = time.perf_counter() - began
        cost = cpu_seconds(contestant.pid) - before
        assert client.count() == count, f"{client.count()} items instead of {count} from {contestant.name}"
    return {"rate": count / seconds, "cost": cost / count}


def _upload(contestant: Contestant, procedure: str, end: bytes, count: int) -> Mapping[str, float]:
    with EnvelopeClient(contestant.url) as client:
        before, began = cpu_seconds(contestant.pid), time.perf_counter()
        client.upload(procedure, FIELDS, count, end)
        seconds = time.perf_counter() - began
        return {"rate": count / seconds, "cost": (cpu_seconds(contestant.pid) - before) / count}


def _delays(contestant: Contestant, count: int) -> Mapping[str, float]:
    """Items that say when they were made, one at a time."""
    delays: list[float] = []
    with connected(contestant.url) as client:
        client.start("ticks", count=count)
        start = 0
        while len(delays) < count and client.hear():
            now = time.monotonic_ns()
            # The newest of what came together; an item is never cut here.
            stamps = _STAMP.findall(client.heard, start, client.end)
            delays += [(now - int(stamp)) / 1e9 for stamp in stamps]
            start = client.end
    return {"half": percentile(delays, 0.5), "late": percentile(delays, 0.99)}


def _calls(contestant: Contestant, count: int) -> Mapping[str, float]:
    with EnvelopeClient(contestant.url) as client:
        delays = [_time_call(client) for _ in range(count)][count // 10 :]
    return {"half": percentile(delays, 0.5), "late": percentile(delays, 0.99)}


def _time_call(client: EnvelopeClient) -> float:
    began = time.perf_counter()
    client.call("ping", number=1)
    return time.perf_counter() - began


def _flooded_calls(contestant: Contestant, calls_url: str, count: int) -> Mapping[str, float]:
    """Calls on another connection for as long as a stream is being read."""
    delays, count = [], contestant.capped(count)
    with (
        connected(contestant.url, bytearray(1 << 26)) as reader,
        EnvelopeClient(calls_url, bytearray(1 << 20)) as caller,
    ):
        _time_call(caller)
        reader.start("raw", count=count)
        thread = threading.Thread(target=reader.hear_until_end)
        thread.start()
        while thread.is_alive():
            delays.append(_time_call(caller))
            time.sleep(0.001)
        thread.join()
        assert reader.count() == count
    return {"calls": len(delays), "late": percentile(delays, 0.99), "worst": max(delays)}


def _unread(contestant: Contestant, calls_url: str, procedure: str, count: int) -> Mapping[str, float]:
    """What is made for a reader that reads nothing, until nothing more is."""
    item_bytes = _item_bytes(contestant.url, procedure)
    with connected(contestant.url) as reader, EnvelopeClient(calls_url, bytearray(1 << 20)) as caller:
        reader.start(procedure, count=count)
        made = -1
        while made != (made := _made(caller)):
            time.sleep(0.5)
        held_bytes = reader.unread_bytes()
    return {"made": made, "ahead": made - held_bytes / item_bytes}


def _made(caller: EnvelopeClient) -> int:
    found = re.search(rb'"payload":(\d+)', caller.call("made"))
    assert found is not None
    return int(found[1])


def _item_bytes(url: str, procedure: str) -> float:
    """How far apart items begin, with all that is around them."""
    with connected(url) as client:
        client.start(procedure, count=100)
        client.hear_until_end()
        places = [found.start() for found in _ITEM.finditer(client.heard, 0, client.end)]
    return (places[-1] - places[0]) / (len(places) - 1)


# -- tables ---------------------------------------------------------------------------------------------------


def _rounds(runs: Mapping[str, Run], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Every run once a round; for each its figures by name."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            for figure, value in run().items():
                found[name].setdefault(figure, []).append(value)
    return found


def _ratio(figures: Mapping[str, list[float]], base: Mapping[str, list[float]] | None, what: str) -> str:
    if base is None:
        return ""
    return f"{median([ours / theirs for ours, theirs in zip(figures[what], base[what], strict=True)]):.2f} x"


def _show_rates(contestants: list[Contestant], rounds: int, count: int) -> None:
    runs: dict[str, Run] = {}
    for one in contestants:
        runs[f"{one.name}, raw"] = partial(_download, one, "raw", count)
        if one.name.startswith("ours"):
            runs[f"{one.name}, typed"] = partial(_download, one, "typed", count)
    faces = {f"{one.name}, raw": f"Raffel {one.face}, raw" for one in contestants}
    faces |= {f"{one.name}, typed": f"Raffel {one.face}, raw" for one in contestants}
    found = _rounds(runs, rounds)
    rows = []
    for name, figures in found.items():
        base = found.get(faces[name])
        target = "" if "Raffel" in name else "2 x, 4 µs" if "raw" in name else "6 µs"
        cells = [f"{median(figures['rate']):,.0f}", _ratio(figures, base, "rate")]
        cells += [f"{median(figures['cost']) * 1e6:.1f} µs", _ratio(figures, base, "cost")]
        rows.append([name, *cells, target])
    print()
    print_table(["server stream", "messages/s", "ratio", "server CPU", "ratio", "target"], rows)


def _show_uploads(contestants: list[Contestant], rounds: int, count: int) -> None:
    alone = [one for one in contestants if one.name.startswith("ours") and one.face != "sse"]
    runs: dict[str, Run] = {}
    for one in alone:
        runs[f"{one.name}, client stream"] = partial(_upload, one, "upload", b'"s:response"', count)
        runs[f"{one.name}, bidirectional"] = partial(_upload, one, "echo", b'"s:stream:end"', count)
    rows = []
    for name, figures in _rounds(runs, rounds).items():
        target = "80,000" if "client" in name else "30,000"
        rows.append([name, f"{median(figures['rate']):,.0f}", f"{median(figures['cost']) * 1e6:.1f} µs", target])
    print()
    print_table(["typed; Raffel has none", "messages/s", "server CPU", "target"], rows)


def _show_delays(title: str, runs: Mapping[str, Run], faces: Mapping[str, str], rounds: int, target: str) -> None:
    found = _rounds(runs, rounds)
    rows = []
    for name, figures in found.items():
        half, late = (f"{median(figures[what]) * 1e6:,.0f} µs" for what in ("half", "late"))
        ratio = _ratio(figures, found.get(faces[name]), "half")
        rows.append([name, half, ratio, late, "" if "Raffel" in name else target])
    print()
    print_table([title, "p50", "ratio", "p99", "target"], rows)


def _show_floods(contestants: list[Contestant], callers: Mapping[int, str], rounds: int, count: int) -> None:
    runs: dict[str, Run] = {one.name: partial(_flooded_calls, one, callers[one.pid], count) for one in contestants}
    rows = []
    for name, figures in _rounds(runs, rounds).items():
        calls, late, worst = (median(figures[what]) for what in ("calls", "late", "worst"))
        target = "" if "Raffel" in name else "15 ms"
        rows.append([name, f"{calls:,.0f}", f"{late * 1e3:,.1f} ms", f"{worst * 1e3:,.1f} ms", target])
    print()
    print_table([f"calls beside {count:,} items", "calls", "p99", "worst", "target"], rows)


def _show_unread(contestants: list[Contestant], callers: Mapping[int, str], rounds: int, count: int) -> None:
    runs: dict[str, Run] = {}
    for one in contestants:
        for procedure, size in (("raw", "small"), ("long", "1 KiB")):
            runs[f"{one.name}, {size}"] = partial(_unread, one, callers[one.pid], procedure, count)
    rows = []
    for name, figures in _rounds(runs, rounds).items():
        made, ahead = (f"{median(figures[what]):,.0f}" for what in ("made", "ahead"))
        rows.append([name, made, ahead, "" if "Raffel" in name else "300"])
    print()
    print_table([f"{count:,} items, none read", "made", "not in its kernel", "target"], rows)


# -- the two servers ------------------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return cast("int", listener.getsockname()[1])


@contextlib.contextmanager
def _raffel(directory: str) -> Iterator[Urls | None]:
    """Raffel's server, if there is a checkout."""
    if not directory:
        print("without --raffel DIR: ours alone")
        yield None
        return
    root = Path(directory).resolve()
    if not (root / "dist" / "index.js").exists():
        raise SystemExit(f"{root} has no dist/index.js: run `npm install` and `npx tsc` there")
    version = json.loads((root / "package.json").read_text(encoding="utf-8"))["version"]
    line = command(_SERVER, str(root), str(_free_port()), str(_free_port()))
    with running_command(*line, NODE_ENV="production", LOG_LEVEL="warn") as urls:
        print(f"Raffel {version}, in production mode and without logs of requests")
        yield urls


def main() -> None:
    chosen = options(__doc__, raffel="a built checkout of Raffel")
    rounds, count, few = (1, 2_000, 100) if chosen.quick else (chosen.rounds, 200_000, 1_000)
    print_head("Raffel's wire", f"medians of {rounds} interleaved rounds of {count:,} small items (40 bytes of JSON)")
    with _raffel(chosen.raffel) as theirs, running("tests.benchmarks.envelope_server") as ours:
        contestants = _contestants(theirs, ours, chosen.only)
        envelopes = [one for one in contestants if one.face != "sse"]
        faces = {one.name: f"Raffel {one.face}" for one in contestants}
        callers = {int(urls["pid"]): urls["tcp"] for urls in (theirs, ours) if urls is not None}
        _show_rates(contestants, rounds, count)
        _show_uploads(contestants, rounds, count // 2)
        delays: dict[str, Run] = {one.name: partial(_delays, one, few) for one in contestants}
        _show_delays("one way", delays, faces, rounds, "1.3 x")
        calls: dict[str, Run] = {one.name: partial(_calls, one, 2 * few) for one in envelopes}
        _show_delays("call, round trip", calls, faces, rounds, "1.2 x")
        _show_floods(contestants, callers, rounds, count)
        _show_unread(contestants, callers, 1, max(count, 100_000))


if __name__ == "__main__":
    main()

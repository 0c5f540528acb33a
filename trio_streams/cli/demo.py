"""`trio-streams demo`: real streams of this machine, and a view of them."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from trio_streams.cli.garbage import DEFAULT_THRESHOLDS, relieved_collector
from trio_streams.cli.output import Output, is_capable
from trio_streams.cli.process import UsageError, run
from trio_streams.demo.run import DemoOptions, run_demo
from trio_streams.demo.sampling import NoSourceError, find_source

__all__ = ["add_demo"]

_SCHEMES: Final = ("tcp", "ws", "http")


def add_demo(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the command's arguments; `add_parser` is that of the subcommands."""
    parser = add_parser(
        "demo",
        help="show streams of this machine",
        description="Serve streams of this very machine over TCP, WebSocket and SSE, on loopback only, and show them.",
    )
    parser.add_argument("--duration", metavar="SECONDS", type=float, default=math.inf, help="end after this time")
    parser.add_argument("--plain", action="store_true", help="print lines; the default where there is no terminal")
    for scheme in _SCHEMES:
        parser.add_argument(f"--{scheme}", metavar="PORT", type=int, help=f"port of {scheme}://; 0 for a free one")
    parser.add_argument("--wt", metavar="PORT", type=int, help="UDP port of WebTransport; 0 for a free one")
    parser.add_argument("--log", metavar="FILE", type=Path, help="what logs.tail shows, instead of the demo's own log")
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="where jobs are kept, to go on when the demo is started again"
    )
    parser.set_defaults(run=run_the_demo)


def run_the_demo(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    with relieved_collector(DEFAULT_THRESHOLDS):
        return run(partial(_demo, arguments), is_ended_by_signal=True)


async def _demo(arguments: argparse.Namespace) -> None:
    ports = {scheme: port for scheme in (*_SCHEMES, "wt") if (port := getattr(arguments, scheme)) is not None}
    if not arguments.duration >= 0:
        raise UsageError(f"--duration is a number of seconds, not {arguments.duration}")
    if any(not 0 <= port <= 65_535 for port in ports.values()):
        raise UsageError("a port is a number from 0 to 65535")
    if arguments.log is not None and not arguments.log.is_file():
        raise UsageError(f"can't follow {arguments.log}: there is no such file")
    try:
        source = find_source()
    except NoSourceError as exc:
        raise UsageError(str(exc)) from exc
    output = Output()
    options = DemoOptions(
        duration=arguments.duration,
        plain=arguments.plain or not is_capable(sys.stdout),
        ports=ports,
        log_path=arguments.log,
        is_unicode=output.is_unicode,
        data=arguments.data,
    )
    await run_demo(options, source, output.write)

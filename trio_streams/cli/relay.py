"""`trio-streams relay`: a relay for peers, until a signal."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import trio

from trio_streams.cli import serve
from trio_streams.cli.garbage import DEFAULT_THRESHOLDS, relieved_collector
from trio_streams.cli.output import Output, write_error
from trio_streams.cli.process import EXIT_CUT, EXIT_USAGE, UsageError, run
from trio_streams.cli.settings import add_settings, read_settings
from trio_streams.service.drain import Drain
from trio_streams.urls import serve_relay

__all__ = ["SETTINGS", "add_relay"]

_NAMES: Final = frozenset(
    {"certfile", "keyfile", "max-connections", "max-connections-per-host", "handshake-timeout", "drain-delay"}
    | {"drain-timeout", "allowed-host", "allowed-origin", "gc-threshold", "log-level"}
)

SETTINGS: Final = tuple(setting for setting in serve.SETTINGS if setting.name in _NAMES)


def add_relay(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the command's arguments; `add_parser` is that of the subcommands."""
    parser = add_parser(
        "relay",
        help="let peers meet",
        description="Relay the messages of peers until Ctrl-C, or until SIGTERM lets it finish what is under way: who "
        "connects to a path hears the others there. The bound URLs are printed, one a line; port 0 chooses a free port.",
    )
    parser.add_argument("urls", metavar="URL", nargs="+", help="where: ws:// or wss://, without a path")
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=run_relay)


def run_relay(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        values = read_settings(SETTINGS, arguments, os.environ)
    except UsageError as exc:
        write_error(str(exc))
        return EXIT_USAGE
    serve.open_logs(values.pop("log_level", "warning"), "off")
    drain = Drain()
    thresholds = values.pop("gc_threshold", DEFAULT_THRESHOLDS)
    command = partial(_relay, tuple(arguments.urls), drain, serve.server_options(values))
    with relieved_collector(thresholds):
        code = run(command, is_ended_by_signal=True, drain=drain)
    return EXIT_CUT if code == 0 and drain.was_cut else code


async def _relay(urls: tuple[str, ...], drain: Drain, options: Mapping[str, Any]) -> None:
    output = Output()
    async with trio.open_nursery() as nursery:
        bound: list[str] = await nursery.start(partial(serve_relay, *urls, drain=drain, **options))
        await output.write("".join(f"{url}\n" for url in bound))

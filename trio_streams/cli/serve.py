"""`trio-streams serve`: an application of the user's, until a signal."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trio_streams.cli.garbage import DEFAULT_THRESHOLDS, read_thresholds, relieved_collector
from trio_streams.cli.http3 import add_http3, read_http3
from trio_streams.cli.loading import load_app, watched_folder
from trio_streams.cli.output import Output, write_error, write_note
from trio_streams.cli.process import EXIT_CUT, EXIT_USAGE, UsageError, run
from trio_streams.cli.reload import supervise
from trio_streams.cli.settings import Setting, add_settings, choice, count, names, path, read_settings, seconds, text
from trio_streams.config import ConnectionConfig
from trio_streams.durable.server.opening import open_replay_log
from trio_streams.procedures.router import Router
from trio_streams.service.access import OnAccess, log_json, log_text
from trio_streams.service.cors import CorsPolicy
from trio_streams.service.drain import Drain
from trio_streams.service.replay_log import ReplayLog
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.exchange import ExchangeConfig
from trio_streams.urls import serve

__all__ = ["SETTINGS", "add_serve", "open_logs", "server_options"]

DEFAULT_URLS: Final = ("tcp://127.0.0.1:7000", "ws://127.0.0.1:7001", "http://127.0.0.1:7002")

SETTINGS: Final = (
    Setting("host", choice("hypercorn", "lean"), "what serves http:// and https://: hypercorn or lean", "NAME"),
    Setting("carrier", choice("websockets", "trio-websocket"), "what carries WebSockets", "NAME"),
    Setting("certfile", text, "a certificate chain in PEM, for tls://, wss://, https:// and wt://", "FILE"),
    Setting("keyfile", text, "its key", "FILE"),
    Setting("max-connections", count(has_none=True), "open at once on all URLs, or none", "NUMBER"),
    Setting("max-connections-per-host", count(has_none=True), "open at once from one address, or none", "NUMBER"),
    Setting("max-streams", count(), "open at once on one connection", "NUMBER"),
    Setting("max-item-bytes", count(), "the largest item of a stream", "BYTES"),
    Setting("max-header-bytes", count(1_024), "the largest head of an HTTP request", "BYTES"),
    Setting("max-body-bytes", count(), "the largest body of a call over HTTP", "BYTES"),
    Setting("body-timeout", count(), "between two pieces of such a body", "SECONDS"),
    Setting("min-body-bytes-per-second", count(has_none=True), "of such a body after that, or none", "BYTES"),
    Setting("idle-timeout", seconds(has_none=True), "of a connection that says nothing, or none", "SECONDS"),
    Setting("handshake-timeout", seconds(), "for a peer's greeting", "SECONDS"),
    Setting("drain-delay", seconds(), "between SIGTERM and the closing of the listeners", "SECONDS"),
    Setting("drain-timeout", seconds(), "for what is under way after that", "SECONDS"),
    Setting("allowed-host", names, "a name to answer to besides the URL's; * for any", "NAME", is_list=True),
    Setting("allowed-origin", names, "whose pages may ask besides the server's own; * for any", "ORIGIN", is_list=True),
    Setting("cors-origin", names, "whose pages may read answers over HTTP; * for any", "ORIGIN", is_list=True),
    Setting("health-path", path, "where it says that it lives, or none", "PATH"),
    Setting("ready-path", path, "where it says that it takes new work, or none", "PATH"),
    Setting("gc-threshold", read_thresholds, "how seldom Python looks for cycles; none: as Python does", "N,N,N"),
    Setting("access-log", choice("off", "text", "json"), "of exchanges and streams, on standard error", "FORM"),
    Setting("log-level", choice("debug", "info", "warning", "error"), "of all other logs", "LEVEL"),
)

_RENAMED: Final = {"allowed_host": "allowed_hosts", "allowed_origin": "allowed_origins"}
_URLS_VARIABLE: Final = "TRIO_STREAMS_URLS"

_ACCESS_LOGS: Final[Mapping[str, OnAccess]] = {"text": log_text, "json": log_json}
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def add_serve(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the command's arguments; `add_parser` is that of the subcommands."""
    parser = add_parser(
        "serve",
        help="serve an application",
        description="Serve a Router until Ctrl-C, or until SIGTERM lets it finish what is under way. "
        "The bound URLs are printed, one a line; port 0 chooses a free port. "
        "Each option can be set by the environment variable in brackets, too.",
        epilog=f"Exit codes: 0 ended by a signal, all well; 1 failed; 2 wrong use; {EXIT_CUT} something was still under "
        "way when --drain-timeout passed, or a second SIGTERM came.",
    )
    parser.add_argument(
        "app",
        metavar="APP",
        help="module:attribute, path/to/app.py[:attribute], or a directory of procedures, each in its file",
    )
    parser.add_argument(
        "urls", metavar="URL", nargs="*", help=f"where; by default {' '.join(DEFAULT_URLS)} [{_URLS_VARIABLE}]"
    )
    parser.add_argument(
        "--dashboard", action="store_true", help="a live page at /dashboard/ of http:// and https:// URLs"
    )
    add_http3(parser)
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="where the runs of durable procedures are kept; by default in memory, as long as the server runs",
    )
    parser.add_argument("--verbose", action="store_true", help="the same as --log-level debug")
    parser.add_argument(
        "--reload",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="for development: start anew whenever a Python file of the application's directory changes",
    )
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        values = read_settings(SETTINGS, arguments, os.environ)
        level = "debug" if arguments.verbose else values.pop("log_level", "warning")
        open_logs(level, values.get("access_log", "off"))
        if arguments.reload:
            watching = partial(supervise, arguments.argv, watched_folder(arguments.app), say=write_note)
            return run(watching, is_ended_by_signal=True)
        http3 = read_http3(arguments, values)
        # Before anything of ours runs: an import may take its time, and Ctrl-C must end it.
        app = load_app(arguments.app)
    except UsageError as exc:
        write_error(str(exc))
        return EXIT_USAGE
    urls = arguments.urls or os.environ.get(_URLS_VARIABLE, "").split() or DEFAULT_URLS
    drain = Drain()
    thresholds = values.pop("gc_threshold", DEFAULT_THRESHOLDS)
    options = {**server_options(values), "dashboard": arguments.dashboard, "http3": http3 or False}
    command = partial(_serve, app, tuple(urls), drain, arguments.data, options)
    with relieved_collector(thresholds):
        code = run(command, is_ended_by_signal=True, drain=drain)
    return EXIT_CUT if code == 0 and drain.was_cut else code


def server_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """What `serve` takes, from settings by name."""
    given = {_RENAMED.get(name, name): value for name, value in values.items()}
    given["on_access"] = _ACCESS_LOGS.get(given.pop("access_log", "off"))
    origins = given.pop("cors_origin", ())
    given["cors"] = CorsPolicy(origins=origins) if origins else None
    given["exchange"] = ExchangeConfig(**_taken(given, ExchangeConfig))
    server = ServerConfig(**_taken(given, ServerConfig))
    return {"server": server, "config": ConnectionConfig(**_taken(given, ConnectionConfig)), **given}


def _taken(given: dict[str, Any], config: type[attrs.AttrsInstance]) -> dict[str, Any]:
    """Take out what is a configuration's."""
    fields = attrs.fields_dict(config).keys() & given.keys()
    return {name: given.pop(name) for name in fields}


def open_logs(level: str, access_log: str) -> None:
    """Have logs written to standard error: all from a level on, and those of access in a form of their own, or not."""
    logging.basicConfig(level=level.upper(), format=_FORMAT)
    if access_log != "off":
        # Lines for programs have nothing before them.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s" if access_log == "json" else "%(asctime)s %(message)s"))
        logger = logging.getLogger("trio_streams.access")
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


async def _serve(
    app: Router, urls: tuple[str, ...], drain: Drain, data: Path | None, options: Mapping[str, Any]
) -> None:
    output = Output()
    async with AsyncExitStack() as stack:
        replay_log: ReplayLog | None = None
        if data is not None or any(procedure.durable is not None for procedure in app):
            replay_log = await stack.enter_async_context(open_replay_log(data))
        nursery = await stack.enter_async_context(trio.open_nursery())
        start = partial(serve, app, *urls, drain=drain, replay_log=replay_log, **options)
        bound: list[str] = await nursery.start(start)
        await output.write("".join(f"{url}\n" for url in bound))

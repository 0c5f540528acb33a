"""`trio-streams serve`: an application of the user's, until a signal."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from trio_streams.cli.loading import load_app
from trio_streams.cli.output import Output, write_error
from trio_streams.cli.process import EXIT_USAGE, UsageError, run
from trio_streams.procedures.router import Router
from trio_streams.urls import serve

__all__ = ["add_serve"]

DEFAULT_URLS: Final = ("tcp://127.0.0.1:7000", "ws://127.0.0.1:7001", "http://127.0.0.1:7002")


def add_serve(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the command's arguments; `add_parser` is that of the subcommands."""
    parser = add_parser(
        "serve",
        help="serve an application",
        description="Serve a Router until Ctrl-C. The bound URLs are printed, one a line; port 0 chooses a free port.",
    )
    parser.add_argument("app", metavar="APP", help="module:attribute, or path/to/app.py[:attribute]")
    parser.add_argument("urls", metavar="URL", nargs="*", help=f"where; by default {' '.join(DEFAULT_URLS)}")
    parser.add_argument("--verbose", action="store_true", help="log every connection and stream that fails")
    parser.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        # Before anything of ours runs: an import may take its time, and Ctrl-C must end it.
        app = load_app(arguments.app)
    except UsageError as exc:
        write_error(str(exc))
        return EXIT_USAGE
    return run(partial(_serve, app, arguments.urls or list(DEFAULT_URLS)), is_ended_by_signal=True)


async def _serve(app: Router, urls: list[str]) -> None:
    output = Output()
    async with trio.open_nursery() as nursery:
        bound: list[str] = await nursery.start(serve, app, *urls)
        await output.write("".join(f"{url}\n" for url in bound))

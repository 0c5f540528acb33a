"""The parser of the command line."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from trio_streams.cli.call import add_call
from trio_streams.cli.chat import add_chat
from trio_streams.cli.demo import add_demo
from trio_streams.cli.describe import add_describe
from trio_streams.cli.durable import add_durable
from trio_streams.cli.relay import add_relay
from trio_streams.cli.serve import add_serve
from trio_streams.cli.stream import add_stream
from trio_streams.cli.upload import add_upload
from trio_streams.cli.webtransport import add_webtransport

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: its arguments, without the program's name; the process's own by default.

    Returns:
      The exit code: 0, 1 for a failure, 2 for wrong use, 3 for a server whose drain was cut short, 130 for a command
      that Ctrl-C ended.
    """
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv, argparse.Namespace(argv=argv))
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trio-streams", description="Streams with credit, cancellation and deadlines."
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_serve(commands.add_parser)
    add_describe(commands.add_parser)
    add_call(commands.add_parser)
    add_stream(commands.add_parser)
    add_upload(commands.add_parser)
    add_chat(commands.add_parser)
    add_relay(commands.add_parser)
    add_durable(commands.add_parser)
    add_webtransport(commands.add_parser)
    add_demo(commands.add_parser)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("trio_streams")
    except importlib.metadata.PackageNotFoundError:
        return "unknown: it is not installed"

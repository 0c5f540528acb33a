"""What the commands for durable streams have in common: the stream's URL, and who asks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Final

from trio_streams.cli.remote import AddParser
from trio_streams.cli.settings import Setting, add_settings, read_settings, text
from trio_streams.durable import AsyncDurableStream

__all__ = ["add_stream_command", "open_stream", "read_token"]

_SETTINGS: Final = (Setting("token", text, "sent as `authorization: Bearer TOKEN`", "TOKEN"),)


def add_stream_command(
    add_parser: AddParser,
    name: str,
    run: Callable[[argparse.Namespace], int],
    about: str,
    *,
    what: str = "of the stream, such as http://127.0.0.1:4437/v1/stream/orders",
) -> argparse.ArgumentParser:
    """Declare a command that takes a URL.

    Args:
      add_parser: that of the subcommands.
      name: the command's.
      run: runs it; returns its exit code.
      about: its help.
      what: the URL's help.
    """
    parser = add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.add_argument("url", metavar="URL", help=what)
    add_settings(parser, _SETTINGS)
    parser.set_defaults(run=run)
    return parser


def read_token(arguments: argparse.Namespace) -> Mapping[str, str]:
    """The headers that say who asks."""
    token = read_settings(_SETTINGS, arguments, os.environ).get("token")
    return {} if token is None else {"authorization": f"Bearer {token}"}


def open_stream(arguments: argparse.Namespace, *, content_type: str | None = None) -> AsyncDurableStream:
    """A handle to the stream that a command line names.

    Raises:
      UsageError: the token can't be used.
      LocalProtocolError: the URL is none.
    """
    return AsyncDurableStream(arguments.url, headers=read_token(arguments), content_type=content_type)

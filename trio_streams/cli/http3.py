"""`--http3`: an option of every command that serves HTTP."""

from __future__ import annotations

import argparse
from typing import Any

from trio_streams.cli.process import UsageError
from trio_streams.transports.beside import Beside

__all__ = ["add_http3", "read_http3"]


def add_http3(parser: argparse.ArgumentParser) -> None:
    """Declare the flag."""
    parser.add_argument(
        "--http3", action="store_true", help="serve https over HTTP/3, too, on the same port number over UDP"
    )


def read_http3(arguments: argparse.Namespace, files: dict[str, Any]) -> Beside | None:
    """What serves HTTP/3; None where it is not asked for.

    Args:
      arguments: the command's.
      files: its settings, `certfile` and `keyfile` among them.

    Raises:
      UsageError: there is no certificate, or the extra is not installed.
    """
    if not arguments.http3:
        return None
    if not (files.get("certfile") and files.get("keyfile")):
        raise UsageError("--http3 takes --certfile and --keyfile")
    try:
        # It takes an extra, so it is not for everybody.
        from trio_streams.webtransport.over_http3 import OverHttp3  # noqa: PLC0415
    except ImportError as exc:
        raise UsageError(str(exc)) from exc
    return OverHttp3()

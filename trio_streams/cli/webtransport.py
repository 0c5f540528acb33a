"""`trio-streams webtransport`: a certificate to try it with, a server that echoes, and how fast that is.

What these commands do is imported when one of them runs: WebTransport needs an extra, and the other commands do not.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Final

from trio_streams.cli.output import write_error
from trio_streams.cli.process import EXIT_USAGE
from trio_streams.cli.remote import AddParser

__all__ = ["add_webtransport"]

_DEFAULT_BIND: Final = "127.0.0.1:4433"
_NEEDED: Final = "WebTransport needs more: pip install 'trio_streams[quic]'"


def add_webtransport(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the commands; `add_parser` is that of the subcommands."""
    about = "WebTransport over HTTP/3: a certificate, an echo server, a benchmark"
    parser = add_parser("webtransport", help=about, description="Streams and datagrams over HTTP/3, for browsers too.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_cert(commands.add_parser)
    _add_echo(commands.add_parser)
    _add_bench(commands.add_parser)


def _add_cert(add_parser: AddParser) -> None:
    parser = add_parser(
        "cert",
        help="make a certificate that browsers accept by its hash",
        description="Write cert.pem and key.pem, a certificate that signs itself, and print the hash by which a page may "
        "accept it. Browsers take none that is good for two weeks or more.",
    )
    parser.add_argument("folder", metavar="DIR", help="where to; made if it is not there")
    parser.add_argument(
        "--host",
        metavar="HOST",
        action="append",
        help="a name or an IP address that it is for; may come several times; by default localhost, 127.0.0.1 and ::1",
    )
    parser.add_argument(
        "--days", metavar="N", type=int, default=13, help="how long it is good for; by default 13, the most"
    )
    parser.add_argument("--force", action="store_true", help="replace the files if they are there")
    parser.set_defaults(run=_run_cert)


def _add_echo(add_parser: AddParser) -> None:
    parser = add_parser(
        "echo",
        help="serve an echo",
        description="Send back whatever comes, to any page, on any path: bidirectional streams on themselves, unidirectional "
        "ones on a new one, and datagrams. Until Ctrl-C. The URL is printed when it is ready; port 0 chooses a free port.",
    )
    parser.add_argument("--bind", metavar="HOST:PORT", default=_DEFAULT_BIND, help="where; by default %(default)s")
    parser.add_argument(
        "--cert",
        metavar="FILE",
        help="a certificate chain in PEM; without one, a certificate is made for as long as it runs, and its hash printed",
    )
    parser.add_argument("--key", metavar="FILE", help="its key")
    parser.set_defaults(run=_run_echo)


def _add_bench(add_parser: AddParser) -> None:
    parser = add_parser(
        "bench",
        help="measure an echo server",
        description="Measure a server that echoes, such as the command `echo` is: bytes, streams and datagrams a second, and "
        "round trips.",
    )
    parser.add_argument("url", metavar="URL", help="of the server, such as https://127.0.0.1:4433/")
    parser.add_argument(
        "--seconds", metavar="SECONDS", type=_read_seconds, default=3.0, help="for each figure; by default 3"
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--insecure", action="store_true", help="accept any certificate")
    trust.add_argument("--ca", metavar="FILE", help="certificates to trust instead of the usual ones, in PEM")
    trust.add_argument(
        "--hash",
        metavar="HASH",
        action="append",
        default=[],
        help="of a certificate to accept, SHA-256 in hex or base64; may come several times",
    )
    parser.set_defaults(run=_run_bench)


def _read_seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError("not a time")
    return value


def _run_cert(arguments: argparse.Namespace) -> int:
    try:
        from trio_streams.cli.webtransport_cert import run_cert  # noqa: PLC0415 - the extra may be missing
    except ImportError as exc:
        return _say_what_is_missing(exc)
    return run_cert(arguments)


def _run_echo(arguments: argparse.Namespace) -> int:
    try:
        from trio_streams.cli.webtransport_echo import run_echo  # noqa: PLC0415 - as above
    except ImportError as exc:
        return _say_what_is_missing(exc)
    return run_echo(arguments)


def _run_bench(arguments: argparse.Namespace) -> int:
    try:
        from trio_streams.cli.webtransport_bench import run_bench  # noqa: PLC0415 - as above
    except ImportError as exc:
        return _say_what_is_missing(exc)
    return run_bench(arguments)


def _say_what_is_missing(exc: ImportError) -> int:
    """Raises: ImportError: it is a fault of ours."""
    if (exc.name or "").startswith("trio_streams") and exc.__cause__ is None:
        raise exc
    write_error(_NEEDED)
    return EXIT_USAGE

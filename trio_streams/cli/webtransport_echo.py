"""`trio-streams webtransport echo`: a server that sends back whatever comes, until a signal."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

import trio

from trio_streams.cli.garbage import DEFAULT_THRESHOLDS, relieved_collector
from trio_streams.cli.output import Output, write_error
from trio_streams.cli.process import EXIT_CUT, EXIT_USAGE, UsageError, run
from trio_streams.cli.settings import read_bind
from trio_streams.service.drain import Drain
from trio_streams.transports.bytes import ListenError
from trio_streams.webtransport import echo_session, serve
from trio_streams.webtransport.certificates import DEFAULT_HOSTS, make_certificate

__all__ = ["run_echo"]

_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what no client would connect to


def run_echo(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    try:
        host, port = read_bind(arguments.bind)
        if (arguments.cert is None) != (arguments.key is None):
            raise UsageError("--cert and --key come together")  # noqa: TRY301 - one way to say what is wrong
    except UsageError as exc:
        write_error(str(exc))
        return EXIT_USAGE
    drain = Drain()
    command = partial(_echo, host, port, arguments.cert, arguments.key, drain)
    with relieved_collector(DEFAULT_THRESHOLDS):
        code = run(command, is_ended_by_signal=True, drain=drain)
    return EXIT_CUT if code == 0 and drain.was_cut else code


async def _echo(host: str, port: int, certfile: str | None, keyfile: str | None, drain: Drain) -> None:
    output = Output()
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with _files(host, certfile, keyfile) as (certificate, key, sha256), trio.open_nursery() as nursery:
        start = partial(
            serve, echo_session, bind=bind, certfile=certificate, keyfile=key, allowed_origins=("*",), drain=drain
        )
        try:
            server = await nursery.start(start)
        except OSError as exc:
            raise ListenError(f"can't listen on {bind}: {exc.strerror or exc}") from exc
        except ValueError as exc:
            raise UsageError(str(exc)) from exc
        lines = [f"{server.url.rstrip('/')}/"] + ([] if sha256 is None else [f"sha-256: {sha256}"])
        await output.write("".join(f"{line}\n" for line in lines))


@contextlib.asynccontextmanager
async def _files(
    host: str, certfile: str | None, keyfile: str | None
) -> AsyncGenerator[tuple[Path, Path, str | None], None]:
    """A certificate and its key, and the hash of one that is made here, for as long as the block."""
    if certfile is not None and keyfile is not None:
        for path in map(Path, (certfile, keyfile)):
            _check_readable(path)
        yield Path(certfile), Path(keyfile), None
        return
    hosts = DEFAULT_HOSTS if host in _EVERYWHERE else (host, *DEFAULT_HOSTS)
    made = make_certificate(hosts)
    with tempfile.TemporaryDirectory(prefix="trio-streams-") as folder:
        certificate, key = made.write(folder)
        yield certificate, key, made.sha256_base64


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as exc:
        raise UsageError(f"can't read {path}: {exc.strerror}") from exc

"""`trio-streams durable serve`: a server of durable streams, until a signal."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Final

import trio

from trio_streams.cli.http3 import add_http3, read_http3
from trio_streams.cli.output import Output, write_error
from trio_streams.cli.process import EXIT_USAGE, UsageError, run
from trio_streams.cli.remote import AddParser
from trio_streams.cli.settings import Setting, add_settings, read_bind, read_settings, seconds, text
from trio_streams.durable import DurableConfig, serve_durable
from trio_streams.durable.server.serving import DEFAULT_PORT
from trio_streams.durable.store.base import Store
from trio_streams.durable.store.memory import MemoryStore
from trio_streams.durable.store.sqlite import open_sqlite_store
from trio_streams.service.drain import Drain

__all__ = ["add_durable_serve"]

_DEFAULT_FOLDER: Final = "durable-streams"
_SETTINGS: Final = (
    Setting("long-poll-timeout", seconds(), "that a long-poll waits", "SECONDS"),
    Setting("certfile", text, "a certificate chain in PEM, for https", "FILE"),
    Setting("keyfile", text, "its key", "FILE"),
)


def add_durable_serve(add_parser: AddParser) -> None:
    """Declare the command's arguments."""
    parser = add_parser(
        "serve",
        help="serve durable streams",
        description="Serve durable streams until Ctrl-C, or until SIGTERM lets it finish what is under way. The URL below "
        "which the streams are is printed; port 0 chooses a free port.",
    )
    parser.add_argument(
        "--bind", metavar="HOST:PORT", default=f"127.0.0.1:{DEFAULT_PORT}", help="where; by default %(default)s"
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--data", metavar="DIR", default=_DEFAULT_FOLDER, help="keep them in this directory; by default ./%(default)s"
    )
    place.add_argument("--memory", action="store_true", help="keep them in memory, and forget them at the end")
    add_http3(parser)
    add_settings(parser, _SETTINGS)
    parser.set_defaults(run=_run_serve)


def _run_serve(arguments: argparse.Namespace) -> int:
    try:
        values = read_settings(_SETTINGS, arguments, os.environ)
        host, port = read_bind(arguments.bind)
        http3 = read_http3(arguments, values)
        config = DurableConfig(**{name: value for name, value in values.items() if name == "long_poll_timeout"})
    except (UsageError, ValueError) as exc:
        write_error(str(exc))
        return EXIT_USAGE
    drain = Drain()
    options = {"certfile": values.get("certfile"), "keyfile": values.get("keyfile"), "http3": http3}
    command = partial(_serve, None if arguments.memory else arguments.data, host, port, config, drain, options)
    return run(command, is_ended_by_signal=True, drain=drain)


@contextlib.asynccontextmanager
async def _open_store(folder: str | None) -> AsyncGenerator[Store, None]:
    if folder is None:
        yield MemoryStore()
    else:
        async with open_sqlite_store(folder) as store:
            yield store


async def _serve(
    folder: str | None, host: str, port: int, config: DurableConfig, drain: Drain, options: dict[str, Any]
) -> None:
    output = Output()
    async with _open_store(folder) as store, trio.open_nursery() as nursery:
        url = await nursery.start(
            partial(serve_durable, store, host, port, config=config, shutdown_trigger=drain.wait_begun, **options)
        )
        await output.write(f"{url.rstrip('/')}{config.root}\n")

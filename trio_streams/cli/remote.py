"""What every command that uses a server has in common: whom to ask, with what, and for how long."""

from __future__ import annotations

import argparse
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, Protocol

import attrs
import trio

from trio_streams.cli.process import UsageError
from trio_streams.cli.settings import Setting, add_settings, read_settings, seconds, text
from trio_streams.procedures.client import Client
from trio_streams.transports.tls import client_context
from trio_streams.urls import connect

__all__ = ["SETTINGS", "AddParser", "Remote", "add_remote", "read_remote"]

SETTINGS: Final = (
    Setting("timeout", seconds(has_none=True), "for all of it; the server learns of it", "SECONDS"),
    Setting("token", text, "sent as `authorization: Bearer TOKEN`", "TOKEN"),
    Setting("cafile", text, "certificates to trust instead of the system's, in PEM", "FILE"),
)


class AddParser(Protocol):
    """Adds the parser of a command; its keywords are those of `argparse.ArgumentParser`."""

    def __call__(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:  # noqa: A002
        """Add it."""
        ...


@attrs.frozen(kw_only=True)
class Remote:
    """A server, as a command line names it.

    Attributes:
      url: where it is.
      metadata: for every procedure.
      timeout: seconds, or None.
      ssl_context: for TLS; None trusts what the system trusts.
    """

    url: str
    metadata: Mapping[str, str]
    timeout: float | None
    ssl_context: ssl.SSLContext | None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncGenerator[Client, None]:
        """Connect for as long as the block, which has to be done in time.

        Raises:
          trio.TooSlowError: the timeout has passed.
        """
        with contextlib.ExitStack() as stack:
            if self.timeout is not None:
                stack.enter_context(trio.fail_after(self.timeout))
            async with connect(self.url, ssl_context=self.ssl_context) as client:
                yield client


def add_remote(
    add_parser: AddParser, name: str, run: Callable[[argparse.Namespace], int], *, about: str, description: str
) -> argparse.ArgumentParser:
    """Declare a command that uses a server: its URL, and the flags that all such commands have.

    Args:
      add_parser: of the commands.
      name: of the command.
      run: what does it; returns the exit code.
      about: it, in a few words.
      description: it, in whole sentences.
    """
    parser = add_parser(name, help=about, description=description)
    parser.add_argument(
        "url", metavar="URL", help="tcp://, tls://, ws://, wss://, wt://, http://, https://, unix: or process:"
    )
    parser.add_argument(
        "--metadata", metavar="KEY=VALUE", action="append", default=[], help="sent along; may come several times"
    )
    add_settings(parser, SETTINGS)
    parser.set_defaults(run=run)
    return parser


def read_remote(arguments: argparse.Namespace) -> Remote:
    """The server that a command line names.

    Raises:
      UsageError: something in it can't be used.
      LocalProtocolError: likewise.
    """
    settings = read_settings(SETTINGS, arguments, os.environ)
    metadata = _metadata(arguments.metadata)
    if (token := settings.get("token")) is not None:
        metadata.setdefault("authorization", f"Bearer {token}")
    return Remote(
        url=arguments.url,
        metadata=metadata,
        timeout=settings.get("timeout"),
        ssl_context=_ssl_context(arguments.url, settings.get("cafile")),
    )


def _metadata(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"--metadata is KEY=VALUE, not {pair!r}")
        found[key.lower()] = value
    return found


def _ssl_context(url: str, cafile: str | None) -> ssl.SSLContext | None:
    if cafile is None:
        return None
    if url.startswith("tls:"):
        return client_context(cafile)
    try:
        return ssl.create_default_context(cafile=cafile)
    except OSError as exc:
        raise UsageError(f"can't use the certificates in {cafile}: {exc.strerror or exc}") from exc

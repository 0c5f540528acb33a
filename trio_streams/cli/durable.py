"""`trio-streams durable`: durable streams from the command line, and a server of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec

from trio_streams.cli.durable_append import add_append
from trio_streams.cli.durable_remote import add_stream_command, open_stream, read_token
from trio_streams.cli.durable_serve import add_durable_serve
from trio_streams.cli.durable_tail import add_tail
from trio_streams.cli.items import line
from trio_streams.cli.output import Output
from trio_streams.cli.process import UsageError, run
from trio_streams.cli.remote import AddParser
from trio_streams.durable import AsyncDurableStream, DurableConfig, Endpoint
from trio_streams.durable.types import HeadResult

__all__ = ["add_durable"]

_PAGE: Final = 100


def add_durable(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Declare the commands; `add_parser` is that of the subcommands."""
    about = "durable streams: create, append, tail, head, rm, ls, and serve them"
    parser = add_parser("durable", help=about, description="Streams behind URLs that outlive connections and programs.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_create(commands.add_parser)
    add_append(commands.add_parser)
    add_tail(commands.add_parser)
    add_stream_command(commands.add_parser, "head", partial(_run, _head), "what is known about a stream, as JSON")
    add_stream_command(commands.add_parser, "rm", partial(_run, _remove), "delete a stream")
    _add_list(commands.add_parser)
    add_durable_serve(commands.add_parser)


def _add_create(add_parser: AddParser) -> None:
    about = "create a stream, and say what is known about it, as JSON"
    parser = add_stream_command(add_parser, "create", partial(_run, _create), about)
    parser.add_argument("--content-type", metavar="TYPE", help="of its bytes; by default the server's choice")
    parser.add_argument("--ttl", metavar="SECONDS", type=int, help="how long it lives without being read or written")
    parser.add_argument("--expires-at", metavar="TIME", help="when it expires, such as 2030-01-01T00:00:00Z")
    parser.add_argument("--closed", action="store_true", help="closed at once")


def _add_list(add_parser: AddParser) -> None:
    about = "the streams of a server, one a line"
    parser = add_stream_command(add_parser, "ls", partial(_run, _list), about, what="below which the streams are")
    parser.add_argument("--prefix", metavar="TEXT", default="", help="only those whose path begins so")
    parser.add_argument("--json", action="store_true", help="each as a line of JSON with what is known about it")


def _run(command: Callable[[argparse.Namespace], object], arguments: argparse.Namespace) -> int:
    return run(partial(command, arguments))  # type: ignore[arg-type]


async def _create(arguments: argparse.Namespace) -> None:
    async with open_stream(arguments, content_type=arguments.content_type) as stream:
        await stream.create_stream(ttl_seconds=arguments.ttl, expires_at=arguments.expires_at, closed=arguments.closed)
        await _print_head(stream)


async def _head(arguments: argparse.Namespace) -> None:
    async with open_stream(arguments) as stream:
        await _print_head(stream)


async def _print_head(stream: AsyncDurableStream) -> None:
    await Output().write(line(_described(stream.url, await stream.head())))


def _described(url: str, head: HeadResult) -> dict[str, object]:
    """As the server's listing words it."""
    return {
        "url": url,
        "contentType": head.content_type,
        "nextOffset": head.offset,
        "closed": head.is_closed,
        "ttlSeconds": head.ttl_seconds,
        "expiresAt": head.expires_at,
    }


async def _remove(arguments: argparse.Namespace) -> None:
    async with open_stream(arguments) as stream:
        await stream.delete()


async def _list(arguments: argparse.Namespace) -> None:
    output, after = Output(), ""
    endpoint = Endpoint(_root_of(arguments.url), headers=read_token(arguments))
    try:
        while True:
            params = {"prefix": arguments.prefix, "after": after, "limit": str(_PAGE)}
            answer = await endpoint.request("GET", "read", params=params)
            try:
                page = msgspec.json.decode(answer.body, type=_Page)
            except msgspec.MsgspecError as exc:
                raise UsageError(f"{arguments.url} is not the root of a server that lists its streams") from exc
            texts = [line(found) if arguments.json else f"{found['path']}\n" for found in page.streams]
            if texts:
                await output.write("".join(texts))
            if page.next is None:
                return
            after = page.next
    finally:
        await endpoint.aclose()


def _root_of(url: str) -> str:
    """Below which a server's streams are: where servers of ours have them, unless the URL says more than where it is."""
    path = urlsplit(url).path
    return url.rstrip("/") + (DurableConfig().root if path in {"", "/"} else "/")


class _Page(msgspec.Struct):
    streams: list[dict[str, object]]
    next: str | None = None

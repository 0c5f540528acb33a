"""What a URL of ours says: a scheme, and then a host and a port, a path, or a command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

from trio_streams.core.errors import LocalProtocolError

__all__ = ["Address", "parse_address"]

_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "ws": 80, "https": 443, "wss": 443, "wt": 443}


@attrs.frozen(kw_only=True)
class Address:
    """A URL, taken apart.

    Attributes:
      url: as it was given.
      scheme: in lower case.
      host: the host of a network URL, without brackets.
      port: its port.
      path: the file of a Unix socket, or `@` and its abstract name.
      mode: the permissions asked for that file; None for the default.
      command: the program of a `process:` URL and its arguments.
    """

    url: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    mode: int | None = None
    command: tuple[str, ...] = ()


def parse_address(url: str, schemes: Collection[str], *, is_called: bool = False) -> Address:
    """Take a URL apart.

    Args:
      url: the URL.
      schemes: those that can be used here.
      is_called: whether somebody listens there, who has a port; a server may ask for any that is free with 0.

    Raises:
      LocalProtocolError: the scheme is another one, or what follows it makes no sense; one line, with the field.
    """
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme not in schemes:
        raise LocalProtocolError(
            f"can't use {url!r}: its scheme is not one of {', '.join(schemes)}", field="scheme", size=len(url)
        )
    match scheme:
        case "process":
            return Address(url=url, scheme=scheme, command=_parse_command(url, rest))
        case "stdio":
            if rest.strip("/"):
                raise LocalProtocolError(f"can't use {url!r}: nothing can follow stdio:", field="path", size=len(rest))
            return Address(url=url, scheme=scheme)
        case "unix":
            return _parse_unix(url)
        case _:
            return _parse_network(url, scheme, is_called=is_called)


def _parse_command(url: str, text: str) -> tuple[str, ...]:
    try:
        command = tuple(shlex.split(text))
    except ValueError as exc:
        raise LocalProtocolError(f"can't use {url!r}: {str(exc).lower()}", field="command", size=len(text)) from exc
    if not command:
        raise LocalProtocolError(f"can't use {url!r}: it names no program", field="command", size=0)
    return command


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as exc:
        raise LocalProtocolError(f"can't use {url!r}: {exc}", field="url", size=len(url)) from exc


def _parse_unix(url: str) -> Address:
    parts = _split(url)
    path = unquote(parts.path)
    if parts.netloc:
        # In unix://run/app.sock the first part would be a host, and lost.
        raise LocalProtocolError(f"can't use {url!r}: a path has one slash or three, as in unix:/path", field="host")
    if path in {"", "@"}:
        raise LocalProtocolError(f"can't use {url!r}: it names no socket", field="path", size=0)
    if path.startswith("@") and sys.platform != "linux":
        raise LocalProtocolError(f"can't use {url!r}: abstract names are Linux's", field="path", size=len(path))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    mode = options.pop("mode", None)
    if options:
        raise LocalProtocolError(f"can't use {url!r}: {min(options)!r} is no option of unix:", field="query")
    return Address(url=url, scheme="unix", path=path, mode=None if mode is None else _parse_mode(url, mode))


def _parse_mode(url: str, text: str) -> int:
    if not 3 <= len(text) <= 4 or set(text) - set("01234567") or int(text, 8) > 0o777:
        raise LocalProtocolError(f"can't use {url!r}: mode is octal, such as 660", field="mode", size=len(text))
    return int(text, 8)


def _parse_network(url: str, scheme: str, *, is_called: bool) -> Address:
    parts = _split(url)
    try:
        port = parts.port
    except ValueError as exc:
        raise LocalProtocolError(f"can't use {url!r}: {exc}", field="port") from exc
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
    if not parts.hostname or port is None:
        raise LocalProtocolError(f"can't use {url!r}: it names no host and port", field="port")
    if port == 0 and is_called:
        raise LocalProtocolError(f"can't connect to {url!r}: a port is 1 to 65535", field="port", size=0, limit=65_535)
    return Address(url=url, scheme=scheme, host=parts.hostname, port=port)

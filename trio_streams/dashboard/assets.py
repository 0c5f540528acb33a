"""The pages' own files, and the headers that they go out with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import attrs

from trio_streams.browser import client_file
from trio_streams.service.conditional import Validators, make_etag, respond_content
from trio_streams.service.exchange import Exchange, Headers

__all__ = ["SECURITY_HEADERS", "Assets"]

_PAGES: Final = {"": "page.html", "procedures": "procedures.html"}
"""What the addresses of the two pages stand for."""

# What peers say is shown, so no script may ever turn text into markup: hence the trusted types.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

SECURITY_HEADERS: Final[Headers] = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""With everything that the dashboard answers."""

_ORIGIN: Final = re.compile(r"[a-z]+://[A-Za-z0-9.\[\]:-]+")

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@attrs.frozen
class _Asset:
    body: bytes
    content_type: str
    validators: Validators


class Assets:
    """Every file of the pages, read once; a path of a request never becomes a path of a file.

    Args:
      connects_to: origins that scripts may connect to besides the page's own.

    Raises:
      ValueError: what is given is more than an origin.
    """

    def __init__(self, connects_to: Sequence[str] = ()) -> None:
        self._assets = dict(_read())
        self._headers = _allow(connects_to)

    def find(self, name: str) -> bool:
        """Whether there is a file of this name, or a page at this address; the live one is at the empty address."""
        return _PAGES.get(name, name) in self._assets

    async def respond(self, exchange: Exchange, name: str) -> None:
        """Answer GET or HEAD with a file that there is.

        Args:
          exchange: one without a head yet.
          name: of the file, or the address of a page.

        Cancellation: the answer stays unfinished.
        """
        asset = self._assets[_PAGES.get(name, name)]
        # Always asked for, so that a new version is seen at once; 304 where it is the same.
        headers = [("cache-control", "no-cache"), *self._headers]
        await respond_content(
            exchange, asset.body, content_type=asset.content_type, validators=asset.validators, headers=headers
        )


def _allow(connects_to: Sequence[str]) -> Headers:
    for origin in connects_to:
        # It goes into a list of words: one of them must not become two, or another directive.
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"connects_to are origins, such as https://127.0.0.1:7103, and not {origin[:100]!r}")
    policy = _POLICY.replace("connect-src 'self'", " ".join(["connect-src 'self'", *connects_to]))
    return tuple((name, policy if value is _POLICY else value) for name, value in SECURITY_HEADERS)


def _read() -> list[tuple[str, _Asset]]:
    found: list[tuple[str, _Asset]] = []
    # Our client for browsers has a package of its own; the pages have it beside their modules.
    bodies = {"client.js": client_file()}
    bodies |= {file.name: file.read_bytes() for file in files("trio_streams.dashboard").joinpath("static").iterdir()}
    for name, body in bodies.items():
        content_type = _TYPES.get(name.rpartition(".")[2])
        if content_type is not None:
            found.append((name, _Asset(body, content_type, Validators(etag=make_etag(body)))))
    return found

"""Who may ask a web server: what its `Host` and `Origin` headers have to say. No waiting here, and no state but a memory.

Two attacks come through the browsers of people who are allowed to reach a server. *DNS rebinding*: a page of evil.example
has its name resolve to 127.0.0.1, and asks a server there as if it were its own; the `Host` header gives it away. *Requests
across sites*: a page asks a server by its real name, and a WebSocket is not even held back by the same-origin policy; the
`Origin` header gives it away. Programs that are no browsers send no `Origin`, and are not meant by either.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import attrs

__all__ = ["OriginPolicy", "Refusal", "is_loopback"]

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_REMEMBERED_HOSTS: Final = 64
_SHOWN: Final = 100

ANY: Final = "*"


@attrs.frozen
class Refusal:
    """Why a request is not let in.

    Attributes:
      status: of the answer: 421 for its host, 403 for its origin.
      field: `host` or `origin`.
      text: one line, for whoever asked.
    """

    status: int
    field: str
    text: str


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's own by its mere form: `localhost`, a name below it, 127.0.0.0/8, `::1`."""
    name = host.lower().rstrip(".").strip("[]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class OriginPolicy:
    """Judges requests to one listener.

    Args:
      bound_host: the host of the URL that is served. On a loopback one only loopback names are answered to, it among
        them; on any other one every name is, unless `allowed_hosts` says which.
      allowed_hosts: names to answer to besides, without ports; `*.example.org` for all below it, `*` for all.
      allowed_origins: origins that may ask besides the server's own, such as `https://app.example.org`; `*` for all.
    """

    def __init__(
        self,
        bound_host: str = "",
        *,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
    ) -> None:
        hosts = [one.lower().rstrip(".") for one in allowed_hosts]
        self._is_local = is_loopback(bound_host)
        self._checks_host = (self._is_local or bool(hosts)) and ANY not in hosts
        self._names = frozenset([bound_host.lower(), *(one for one in hosts if not one.startswith("*."))])
        self._suffixes = tuple(one[1:] for one in hosts if one.startswith("*."))
        self._origins = frozenset(one.lower().rstrip("/") for one in allowed_origins)
        self._allows_any_origin = ANY in self._origins
        self._known: set[str] = set()

    def refusal(self, host: str | None, origin: str | None) -> Refusal | None:
        """Judge one request.

        Args:
          host: its `Host` header, or HTTP/2's `:authority`; None where it has none, as HTTP/1.0 allows.
          origin: its `Origin` header; None where it has none: no browser, or a page that asks its own server.

        Returns:
          Why not; None for a request that may pass.
        """
        if self._checks_host and host is not None and host not in self._known:
            if not self._is_known(host):
                return Refusal(421, "host", f"this server does not answer to the host {host[:_SHOWN]!r}")
            if len(self._known) < _REMEMBERED_HOSTS:
                self._known.add(host)
        if origin is None or self._allows_any_origin or origin.lower() in self._origins or _is_same(origin, host):
            return None
        return Refusal(403, "origin", f"pages of {origin[:_SHOWN]!r} may not use this server")

    def _is_known(self, host: str) -> bool:
        name = _split(host)[0]
        return name in self._names or name.endswith(self._suffixes) or (self._is_local and is_loopback(name))


def _split(authority: str) -> tuple[str, int | None]:
    """A host in lower case without its brackets, and its port; an empty host for what is none."""
    try:
        parts = urlsplit(f"//{authority}")
        port = parts.port
    except ValueError:
        return "", None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return "", None
    return (parts.hostname or "").rstrip("."), port


def _is_same(origin: str, host: str | None) -> bool:
    """Whether a page's origin is the server that it asks; a proxy may have ended TLS, so the scheme says its port only."""
    scheme, _, authority = origin.lower().partition("://")
    default = _PORTS.get(scheme)
    if default is None or host is None:
        return False
    asking, port = _split(authority)
    asked, asked_port = _split(host)
    return bool(asking) and asking == asked and (port or default) == (asked_port or default)

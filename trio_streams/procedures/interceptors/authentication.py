"""Who asks, and what they may: bearer tokens, cookies and one-time tickets, and the scopes of a procedure.

A browser's `EventSource` sends no headers of its own. It sends cookies, or a ticket in its URL: a word that an
authenticated call has given out, good once and for a moment, so that a log that keeps the URL keeps nothing of worth.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final, TypeAlias, cast

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, Proceed

__all__ = ["TICKET_KEY", "BearerAuthentication", "Principal", "Tickets", "Verifier", "require_scopes"]

TICKET_KEY: Final = "x-ticket"
"""Where a ticket stands among the metadata; over HTTP it comes from the query, `?ticket=…`."""

_MAX_TOKEN_CHARACTERS: Final = 8_192


def _frozen(scopes: Collection[str]) -> frozenset[str]:
    return frozenset(scopes)


@attrs.frozen
class Principal:
    """Somebody who has shown who they are.

    Attributes:
      name: unique among principals.
      scopes: what they may.
      claims: what else is known of them.
    """

    name: str
    scopes: frozenset[str] = attrs.field(factory=frozenset, converter=_frozen)
    claims: Mapping[str, object] = attrs.field(factory=dict)


Verifier: TypeAlias = Callable[[str], Awaitable[Principal | None]]
"""Looks at a token: whose it is, or None for a wrong or expired one."""


class Tickets:
    """Words that stand for a principal once, and for a moment.

    Args:
      lifetime: seconds that a ticket is good for.
      max_tickets: how many may be out; past it the oldest is forgotten.
    """

    def __init__(self, *, lifetime: float = 30.0, max_tickets: int = 10_000) -> None:
        if not lifetime > 0:
            raise ValueError(f"lifetime must be more than 0, not {lifetime!r}")
        if max_tickets < 1:
            raise ValueError(f"max_tickets must be at least 1, not {max_tickets!r}")
        self._lifetime = lifetime
        self._max_tickets = max_tickets
        self._out: OrderedDict[str, tuple[float, Principal]] = OrderedDict()  # the oldest first

    def issue(self, principal: Principal) -> str:
        """A ticket for a principal: 43 characters that nobody can guess."""
        now = trio.current_time()
        while self._out and (len(self._out) >= self._max_tickets or next(iter(self._out.values()))[0] <= now):
            self._out.popitem(last=False)
        ticket = secrets.token_urlsafe(32)
        self._out[ticket] = (now + self._lifetime, principal)
        return ticket

    def redeem(self, ticket: str) -> Principal | None:
        """Whose ticket it is; None for one that is unknown, used or too old. It is used from then on."""
        expires, principal = self._out.pop(ticket, (0.0, None))
        return principal if trio.current_time() < expires else None


class BearerAuthentication:
    """Finds out who asks, before the input is looked at.

    In this order: a ticket, `authorization: Bearer …`, a cookie. The principal is `Context.principal` from there on, and must
    have the scopes that the procedure declares: `router.call("x").metadata({"scopes": ["read"]})`.

    Args:
      verifier: looks at tokens.
      cookie: the name of a cookie whose value is a token; None for none.
      tickets: one-time tickets; None for none.
      is_optional: lets those pass who show nothing at all, as nobody, where no scopes are declared.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        cookie: str | None = None,
        tickets: Tickets | None = None,
        is_optional: bool = False,
    ) -> None:
        self._verifier = verifier
        self._cookie = cookie
        self._tickets = tickets
        self._is_optional = is_optional

    async def __call__(self, invocation: Invocation, proceed: Proceed) -> object:
        """See `Interceptor`.

        Raises:
          RpcError: UNAUTHENTICATED, without saying which part of what was shown is wrong; PERMISSION_DENIED.
        """
        principal = await self._find(invocation.context)
        scopes = _declared_scopes(invocation)
        if principal is None:
            if scopes or not self._is_optional:
                raise RpcError(Code.UNAUTHENTICATED, f"{invocation.name!r} wants a token")
            return await proceed()
        _check_scopes(invocation.name, principal, scopes)
        invocation.context = attrs.evolve(invocation.context, principal=principal)
        return await proceed()

    async def _find(self, context: Context) -> Principal | None:
        """Who it is; None if nothing was shown."""
        metadata = context.metadata
        principal: Principal | None
        if self._tickets is not None and (ticket := metadata.get(TICKET_KEY)) is not None:
            principal = self._tickets.redeem(ticket)
        elif (token := self._find_token(metadata)) is not None:
            principal = await self._verifier(token) if len(token) <= _MAX_TOKEN_CHARACTERS else None
        else:
            return None
        if principal is None:
            raise RpcError(Code.UNAUTHENTICATED, "the token was refused")
        return principal

    def _find_token(self, metadata: Mapping[str, str]) -> str | None:
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        if self._cookie is not None and (header := metadata.get("cookie")) is not None:
            return _read_cookie(header, self._cookie)
        return None


def require_scopes(*scopes: str) -> Interceptor:
    """An interceptor that lets only those pass who have been authenticated before, with these scopes."""
    wanted = frozenset(scopes)

    async def check(invocation: Invocation, proceed: Proceed) -> object:
        principal = invocation.context.principal
        if not isinstance(principal, Principal):
            raise RpcError(Code.UNAUTHENTICATED, f"{invocation.name!r} wants a token")
        _check_scopes(invocation.name, principal, wanted)
        return await proceed()

    return check


def _declared_scopes(invocation: Invocation) -> frozenset[str]:
    scopes = invocation.declared.get("scopes", ())
    return frozenset({scopes}) if isinstance(scopes, str) else frozenset(cast("Collection[str]", scopes))


def _check_scopes(name: str, principal: Principal, wanted: frozenset[str]) -> None:
    if missing := sorted(wanted - principal.scopes):
        raise RpcError(Code.PERMISSION_DENIED, f"{name!r} wants the scopes {', '.join(missing)}", {"scopes": missing})


def _read_cookie(header: str, name: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if morsel is None else morsel.value

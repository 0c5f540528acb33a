"""Who may do what, where a few secrets are all that is needed."""

from __future__ import annotations

from collections.abc import Collection
from hmac import compare_digest

from trio_streams.codes import Code
from trio_streams.durable.server.config import Action, Authenticate
from trio_streams.errors import RpcError
from trio_streams.service.exchange import RequestHead

__all__ = ["require_bearer"]


def require_bearer(tokens: Collection[str], *, read_tokens: Collection[str] = ()) -> Authenticate:
    """Let in whoever brings one of a few tokens, as `Authorization: Bearer …`.

    Args:
      tokens: for everything.
      read_tokens: for reading and listing alone.

    Raises:
      ValueError: there is no token, or an empty one.
    """
    if isinstance(tokens, str) or isinstance(read_tokens, str):
        raise TypeError("tokens is several texts, not one, which would be taken for its letters")
    everything = [token.encode() for token in tokens]
    reading = [token.encode() for token in read_tokens]
    if not all([everything or reading, *everything, *reading]):
        raise ValueError("tokens holds at least one token, and no empty one")

    async def authenticate(request: RequestHead, action: Action, path: str) -> None:
        scheme, _, given = (request.header("authorization") or "").partition(" ")
        token = given.strip().encode("latin-1", "replace")
        if scheme.lower() != "bearer" or not token:
            raise RpcError(Code.UNAUTHENTICATED, "a bearer token is missing")
        if _is_one(token, everything):
            return
        if not _is_one(token, reading):
            raise RpcError(Code.UNAUTHENTICATED, "the bearer token is not known")
        if action not in {"read", "head", "list"}:
            raise RpcError(Code.PERMISSION_DENIED, f"the bearer token is for reading, not to {action} {path!r}")

    return authenticate


def _is_one(token: bytes, tokens: Collection[bytes]) -> bool:
    # All of them each time, so that how long it takes tells nothing.
    return sum(compare_digest(token, known) for known in tokens) > 0

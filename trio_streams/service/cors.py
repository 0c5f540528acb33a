"""Cross-origin resource sharing: which pages of other origins may read the answers.

Spec: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs

from trio_streams.service.exchange import Exchange, ExchangeHandler, Headers, answer_error, as_rpc_error
from trio_streams.service.passing import PassingExchange

__all__ = ["CorsPolicy", "with_cors"]

_ANY: Final = "*"


def _tuple(values: Collection[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"expected several texts, not {values!r}")  # which would be taken for its letters
    return tuple(values)


@attrs.frozen(kw_only=True)
class CorsPolicy:
    """Who may do what from another origin.

    Attributes:
      origins: such as `https://app.example.org`; `*` for all, which goes without credentials only.
      methods: what a page may send.
      headers: what a page may add to a request; None for whatever it asks for.
      exposed: headers of an answer that a page may read beside the simple ones.
      has_credentials: whether cookies and authorization travel.
      max_age: seconds that a browser may remember the answer to a preflight.
    """

    origins: tuple[str, ...] = attrs.field(converter=_tuple)
    methods: tuple[str, ...] = attrs.field(default=("GET", "HEAD", "POST"), converter=_tuple)
    headers: tuple[str, ...] | None = None
    exposed: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    has_credentials: bool = False
    max_age: int = 600

    def __attrs_post_init__(self) -> None:
        if self.has_credentials and _ANY in self.origins:
            raise ValueError("has_credentials needs origins by name: browsers refuse '*' with credentials")

    def allows(self, origin: str) -> bool:
        """Whether pages of an origin may."""
        return _ANY in self.origins or origin in self.origins

    def answer_headers(self, origin: str) -> Headers:
        """What an answer to a page of an allowed origin has beside its own headers."""
        is_any = _ANY in self.origins
        headers = [("access-control-allow-origin", _ANY if is_any else origin)]
        headers += [] if is_any else [("vary", "origin")]
        headers += [("access-control-allow-credentials", "true")] if self.has_credentials else []
        return headers + ([("access-control-expose-headers", ", ".join(self.exposed))] if self.exposed else [])

    def preflight_headers(self, origin: str, asked: str | None) -> Headers:
        """The answer to a preflight, which asks for a method and headers beforehand."""
        allowed = asked if self.headers is None else ", ".join(self.headers)
        return [
            *self.answer_headers(origin),
            ("access-control-allow-methods", ", ".join(self.methods)),
            *([("access-control-allow-headers", allowed)] if allowed else []),
            ("access-control-max-age", str(self.max_age)),
        ]


def with_cors(handler: ExchangeHandler, policy: CorsPolicy) -> ExchangeHandler:
    """Let pages of other origins read a handler's answers, errors included, and answer their preflights.

    A request without `Origin`, or from an origin that is not allowed, passes unchanged: its browser keeps the answer from
    the page. Who must not act on such a request at all refuses it, as `serve` does by default. There `ServerConfig.cors` is
    the place for a policy.

    Args:
      handler: what it stands before.
      policy: who may do what.
    """

    async def handle(exchange: Exchange) -> None:
        request = exchange.request
        origin = request.header("origin")
        if origin is None or not policy.allows(origin):
            await handler(exchange)
        elif request.method == "OPTIONS" and request.header("access-control-request-method") is not None:
            asked = request.header("access-control-request-headers")
            await exchange.send_head(204, policy.preflight_headers(origin, asked))
            exchange.end()
        else:
            shared = _Shared(exchange, policy.answer_headers(origin))
            try:
                await handler(shared)
            except Exception as exc:
                if not exchange.has_head:
                    # The host's own answer would lack the headers, and the page would see no error at all.
                    await answer_error(shared, as_rpc_error(exc))
                raise

    return handle


class _Shared(PassingExchange):
    def __init__(self, inner: Exchange, added: Headers) -> None:
        super().__init__(inner)
        self._added = added

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        await super().send_head(status, [*headers, *self._added])

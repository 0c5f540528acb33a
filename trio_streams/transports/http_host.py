"""What the connections of the lean host share, and how a request of the wire becomes one of the handler's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote

import trio

from trio_streams.transports.exchange import ExchangeConfig, ExchangeHandler, RequestHead
from trio_streams.transports.http_access import AccessRecord
from trio_streams.wire.http1 import Http1Limits, Request
from trio_streams.wire.http1_fields import Fields

__all__ = ["Host", "NowaitAnswer", "NowaitHandler", "Served", "WholeAnswer", "request_head", "wants_websocket"]


class Served(Protocol):
    """A connection, as the host sees it."""

    is_marked: bool

    def check(self, now: float) -> None:
        """Look at the deadlines."""
        ...

    def drain(self) -> None:
        """Let the exchange under way be the last one."""
        ...

    def write_marked(self) -> None:
        """Write what there is."""
        ...


WholeAnswer: TypeAlias = tuple[int, Fields, bytes]
"""Status, headers with the length of the body, and body."""

NowaitAnswer: TypeAlias = Callable[[bytes], WholeAnswer | Coroutine[Any, Any, WholeAnswer] | None]
"""Given the body of a request that is here as a whole, its answer, if there is nothing to wait for.

Where there is, but not for the client, a coroutine that waits for it and returns the answer. None has the handler answer;
nothing must have been done then. Neither may raise.
"""

NowaitHandler: TypeAlias = Callable[[RequestHead], NowaitAnswer | None]
"""What answers requests with this head, as often as it comes on one connection without another one in between.

None leaves them to the handler. It must neither wait nor raise.
"""


class Host(Protocol):
    """What connections share."""

    handler: ExchangeHandler
    answer_nowait: NowaitHandler | None
    config: ExchangeConfig
    limits: Http1Limits
    scheme: str
    nursery: trio.Nursery
    is_closing: bool
    on_access: Callable[[AccessRecord], None] | None
    alternative: Fields | None

    @property
    def takes_websockets(self) -> bool:
        """Whether requests for a WebSocket are for another protocol."""
        ...

    def is_busy(self, connection: Served) -> bool:
        """Whether others have answered just now, so that what this connection writes is better written with theirs."""
        ...

    def mark(self, connection: Served) -> None:
        """Have the connection's output written soon."""
        ...

    def forget(self, connection: Served) -> None:
        """The connection is over."""
        ...

    def date(self) -> Fields:
        """The time of day, as a header."""
        ...


def request_head(request: Request, peer: str, scheme: str) -> RequestHead:
    """What a handler is told of a request."""
    path, _, query = request.target.partition("?")
    return RequestHead(
        method=request.method,
        path=unquote(path) if "%" in path else path,
        query_string=query,
        headers=request.headers,
        peer=peer,
        scheme=scheme,
        http_version=request.version,
    )


def wants_websocket(request: Request) -> bool:
    """Whether a request asks for the other protocol that is spoken here."""
    return request.upgrade == "websocket" and request.method == "GET"

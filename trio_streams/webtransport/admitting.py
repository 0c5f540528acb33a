"""Who may open which session of a server, and what serves it: routes, origins, `admit`, and the task of each session."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import attrs
import trio

from trio_streams.errors import as_rpc_error, split_cancelled
from trio_streams.streams.parking import Parking
from trio_streams.transports.origin import OriginPolicy
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock
from trio_streams.webtransport.session_offer import SessionOffer
from trio_streams.webtransport.session_request import SessionRequest

__all__ = ["Accept", "Admit", "Refuse", "Routes", "SessionHandler", "SessionTasks"]

_LOG: Final = logging.getLogger("trio_streams.webtransport")

SessionHandler: TypeAlias = Callable[[WebTransportSession], Awaitable[object]]
"""Serves a session: when it returns, the session is closed with code 0; when it raises, with the code of our error table."""


@attrs.frozen(kw_only=True)
class Accept:
    """Let a session be open.

    Attributes:
      protocol: the subprotocol, one of those on offer; None for none.
      headers: fields of the answer, names in lower case.
    """

    protocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen(kw_only=True)
class Refuse:
    """Do not.

    Attributes:
      status: of the answer, 4xx or 5xx.
      headers: fields of the answer, names in lower case.
    """

    status: int = 403
    headers: tuple[tuple[str, str], ...] = ()


Admit: TypeAlias = Callable[[SessionRequest], Accept | Refuse | Awaitable[Accept | Refuse]]
"""Decides about a request for a session, which has a route and an origin that may ask."""


class Routes:
    """What a server has to say about a request.

    Args:
      handler: serves every path; or a table of paths without queries.
      policy: judges origins.
      admit: decides in the end; None accepts.
      protocols: subprotocols that are spoken, the most wanted first.
    """

    def __init__(
        self,
        handler: SessionHandler | Mapping[str, SessionHandler],
        *,
        policy: OriginPolicy,
        admit: Admit | None,
        protocols: tuple[str, ...],
    ) -> None:
        self._handler = handler
        self._policy = policy
        self._admit = admit
        self._protocols = protocols

    def find(self, path: str) -> SessionHandler | None:
        """What serves a path."""
        if not isinstance(self._handler, Mapping):
            return self._handler
        return self._handler.get(path.partition("?")[0])

    async def decide(self, request: SessionRequest) -> Accept | Refuse:
        """Decide about a request that has a route. Cancellation: `admit` is cancelled."""
        refusal = self._policy.refusal(request.authority, request.origin)
        if refusal is not None:
            return Refuse(status=refusal.status)
        if self._admit is None:
            return Accept(protocol=self._choose(request))
        decision: object = self._admit(request)
        if inspect.isawaitable(decision):
            decision = await decision
        if not isinstance(decision, Accept | Refuse):
            raise TypeError(f"admit gives an Accept or a Refuse, not {decision!r}")
        return decision

    def _choose(self, request: SessionRequest) -> str | None:
        return next((protocol for protocol in self._protocols if protocol in request.protocols), None)

    def refuse_request(self, link: Link, stream_id: int, headers: RawHeaders, is_ended: bool) -> None:
        """Answer a plain request, where nothing else does."""
        path = dict(headers).get(b":path", b"/").decode("latin-1")
        is_known = self.find(path) is not None
        answer = [(b":status", b"405"), (b"allow", b"CONNECT")] if is_known else [(b":status", b"404")]
        link.refuse_request(stream_id, answer)


class SessionTasks(Parking):
    """The tasks of a server's sessions, and of requests that are thought about.

    Args:
      routes: what to say.
      config: limits and timeouts.

    Attributes:
      nursery: of the tasks.
      is_draining: whether requests are refused with 503.
    """

    def __init__(self, routes: Routes, config: WebTransportConfig) -> None:
        super().__init__()
        self._routes = routes
        self._config = config
        self._count = 0
        self.nursery: trio.Nursery | None = None
        self.is_draining: bool = False

    def take(self, offer: SessionOffer) -> None:
        """A client asks for a session."""
        handler = self._routes.find(offer.request.path)
        if handler is None:
            offer.refuse(404)
        elif self.nursery is None or self.is_draining:
            offer.refuse(503)
        elif self._count >= self._config.max_sessions:
            offer.refuse(429)
        else:
            self._count += 1
            self.nursery.start_soon(self._run, offer, handler, name=f"session {offer.request.path}")

    async def wait_idle(self) -> None:
        """Wait until there is no session. Cancellation: atomic."""
        while self._count:
            await self._park()

    async def _run(self, offer: SessionOffer, handler: SessionHandler) -> None:
        try:
            session = await self._admit(offer)
            if session is not None:
                await _serve_session(session, handler)
        finally:
            self._count -= 1
            self._wake()

    async def _admit(self, offer: SessionOffer) -> WebTransportSession | None:
        decision: Accept | Refuse = Refuse(status=503)
        with offer.cancel_scope, trio.move_on_after(self._config.admit_timeout):
            try:
                decision = await self._routes.decide(offer.request)
            except Exception:  # noqa: BLE001 - the application's: it must not end the server
                _LOG.exception("nobody could decide about %s from %s", offer.request.path, offer.request.peer)
                decision = Refuse(status=500)
        try:
            return _answer(offer, decision)
        except Exception:  # noqa: BLE001 - the application's, again: what it wants to say can't be said
            _LOG.exception("the answer to %s for %s can't be sent", offer.request.path, offer.request.peer)
            return _answer(offer, Refuse(status=500))


def _answer(offer: SessionOffer, decision: Accept | Refuse) -> WebTransportSession | None:
    if isinstance(decision, Accept):
        return offer.accept(protocol=decision.protocol, headers=decision.headers)
    offer.refuse(decision.status, decision.headers)
    return None


async def _serve_session(session: WebTransportSession, handler: SessionHandler) -> None:
    """Run a handler in its session's block. A handler that fails is logged, and no matter to anybody else."""
    cancelled: BaseException | None
    failure: BaseException | None
    try:
        with session.cancel_scope:
            async with SessionBlock(session):
                await handler(session)
    except BaseException as exc:
        cancelled, failure = split_cancelled(exc)
        if not isinstance(failure, Exception):
            raise
        is_expected = not as_rpc_error(failure).is_our_fault
        _LOG.log(
            logging.DEBUG if is_expected else logging.ERROR,
            "session %s of %s failed",
            session.path,
            session.peer,
            exc_info=failure,
        )
        if cancelled is not None:
            raise cancelled from None
    finally:
        # An exception holds this frame by its traceback: the frame must not hold the exception.
        cancelled = failure = None

"""A session that is not there yet: asked for by us, or by a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_streams.webtransport.errors import SessionRefused
from trio_streams.webtransport.protocol.requests import Answer, ConnectRequest
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_request import SessionRequest
from trio_streams.webtransport.stream_half import OverCause

if TYPE_CHECKING:
    from trio_streams.webtransport.link import Link

__all__ = ["Asking", "SessionOffer"]


class Asking:
    """Our request for a session, until it is answered."""

    __slots__ = ("_answered", "_failure", "_session", "request")

    def __init__(self, request: SessionRequest) -> None:
        self.request: SessionRequest = request
        self._answered = trio.Event()
        self._session: WebTransportSession | None = None
        self._failure: OverCause | None = None

    async def wait(self) -> WebTransportSession:
        """Wait for the answer. Cancellation: atomic."""
        await self._answered.wait()
        if self._session is None:
            assert self._failure is not None
            raise self._failure()
        return self._session

    def accept(self, session: WebTransportSession) -> None:
        """The answer is 2xx."""
        self._session = session
        self._answered.set()

    def refuse(self, answer: Answer) -> None:
        """The answer is another one."""
        self.fail(lambda: SessionRefused(answer.status, answer.headers))

    def fail(self, over: OverCause) -> None:
        """There will be no answer."""
        self._failure = over
        self._answered.set()


class SessionOffer:
    """A client's request for a session, which is to be answered once.

    Attributes:
      session_id: the stream of the request.
      request: what is asked for.
      cancel_scope: whoever thinks about the answer does it in here; it is cancelled when the request is withdrawn.
    """

    __slots__ = ("_is_withdrawn", "_link", "cancel_scope", "request", "session_id")

    def __init__(self, link: Link, session_id: int, request: ConnectRequest) -> None:
        self._link = link
        self._is_withdrawn = False
        self.session_id: int = session_id
        self.request: SessionRequest = SessionRequest.of(request, link.peer)
        self.cancel_scope: trio.CancelScope = trio.CancelScope()

    def accept(
        self, *, protocol: str | None = None, headers: tuple[tuple[str, str], ...] = (), status: int = 200
    ) -> WebTransportSession | None:
        """Let the session be open.

        Args:
          protocol: the subprotocol, one of those on offer.
          headers: fields of the answer, names in lower case.
          status: 2xx.

        Returns:
          The session, which `SessionBlock` owns from here on; None where the request was withdrawn meanwhile.

        Raises:
          LocalProtocolError: the subprotocol was not offered, or a header or the status is not valid.
        """
        if self._is_withdrawn:
            return None
        link = self._link
        answer = Answer(status=status, protocol=protocol, headers=headers)
        session = WebTransportSession(link, self.session_id, self.request, answer)
        link.machine.accept_session(self.session_id, answer, trio.current_time())
        link.forget_offer(self.session_id)
        link.add_session(session)
        link.kick()
        return session

    def refuse(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Say no. One that was withdrawn is no matter.

        Args:
          status: 4xx or 5xx.
          headers: fields of the answer, names in lower case.
        """
        if self._is_withdrawn:
            return
        link = self._link
        link.machine.refuse_session(self.session_id, Answer(status=status, headers=headers), trio.current_time())
        link.forget_offer(self.session_id)
        link.kick()

    def withdraw(self) -> None:
        """The client, or the connection, has left."""
        self._is_withdrawn = True
        self.cancel_scope.cancel()

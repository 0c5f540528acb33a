"""The block that owns a session: its nursery, and the order of its end.

body done → tasks cancelled, their blocks left → what was ended is delivered (≤ close_timeout, if left normally)
  → CLOSE, which resets the rest → the peer agrees (≤ close_timeout)
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType

import trio

from trio_streams.codes import Code
from trio_streams.errors import as_rpc_error, split_cancelled
from trio_streams.nursery import open_bare_nursery
from trio_streams.webtransport.session import WebTransportSession

__all__ = ["SessionBlock"]


class SessionBlock(AbstractAsyncContextManager[WebTransportSession]):
    """Owns a session for as long as the block. Left normally it is closed with code 0; cancelled, or by an exception, with
    the code of our error table.

    Args:
      session: an open one.
    """

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._nursery = open_bare_nursery()

    async def __aenter__(self) -> WebTransportSession:
        self._session.nursery = await self._nursery.__aenter__()
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        session = self._session
        assert session.nursery is not None
        session.nursery.cancel_scope.cancel()
        failure: BaseException | None = None
        is_caught: bool | None = False
        try:
            # It keeps to itself that its own scope was cancelled, by whoever has the session.
            is_caught = await self._nursery.__aexit__(kind, exc, traceback)
            if exc is None:
                await self._deliver()
        except BaseException as left_by:
            failure = left_by
            # The body's own goes on by itself: raised anew, it would hold the frames of whoever calls this.
            if left_by is not exc:
                raise
        finally:
            session.nursery = None
            self._close(exc if failure is None else failure)
            await self._wait_settled()
            # What leaves holds this frame by its traceback: the frame must not hold it.
            exc = failure = traceback = None
        return is_caught

    async def _deliver(self) -> None:
        """Wait until the peer has all of what was ended."""
        session = self._session
        machine = session.link.machine
        with trio.move_on_after(session.link.config.close_timeout):
            while session.is_open and machine.undelivered_streams(session.session_id):
                await session.link.wait_changed()

    def _close(self, failure: BaseException | None) -> None:
        if failure is None:
            self._session.close()
            return
        _, rest = split_cancelled(failure)
        if rest is None:
            self._session.close(Code.CANCELLED)
        else:
            error = as_rpc_error(rest)
            self._session.close(error.known_code, error.message)

    async def _wait_settled(self) -> None:
        """Wait until the peer has ended the session, too."""
        session = self._session
        link = session.link
        with trio.CancelScope(shield=True, deadline=trio.current_time() + link.config.close_timeout):
            while (
                link.lost is None
                and (machine := link.machine.session(session.session_id)) is not None
                and not machine.is_over
            ):
                await link.wait_changed()

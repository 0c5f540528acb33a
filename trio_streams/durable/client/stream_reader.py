"""Does what a follower says, one step at a time: asks, reads, waits. There is no task behind it: who reads does the I/O.

A step can be cancelled anywhere without a loss. Events are read from a connection of their own, whose reads are atomic;
an answer on a pooled connection that was cancelled is asked for again, and the follower leaves out what it has given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from trio_streams.durable.client.requests import Endpoint, Failure, find_failure, find_lost
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.protocol.failures import public_url
from trio_streams.durable.protocol.follower import Follower, Mode, Phase
from trio_streams.durable.protocol.reading import Piece
from trio_streams.errors import ConnectionLost, RemoteProtocolError, StreamsError
from trio_streams.transports.http_client import ClientExchange
from trio_streams.transports.http_get import HttpGet

__all__ = ["StreamReader"]


class StreamReader:
    """Reads one stream for one task at a time.

    Attributes:
      machine: decides.
      endpoint: where it is asked.

    Args:
      endpoint: where to ask.
      machine: a new one.
      owns_endpoint: whether the endpoint is closed with the reader.
    """

    def __init__(self, endpoint: Endpoint, machine: Follower, *, owns_endpoint: bool) -> None:
        self.machine: Follower = machine
        self.endpoint: Endpoint = endpoint
        self._owns_endpoint = owns_endpoint
        self._answer: ClientExchange | HttpGet | None = None
        self._scope: trio.CancelScope | None = None
        self._error: Exception | None = None
        self._is_busy = False
        self._is_closed = False

    async def start(self) -> None:
        """Wait for the head of the first answer.

        Raises:
          Exception: as `next_piece`.
        Cancellation: the request is sent again by the next call.
        """
        await self._run(lambda: self.machine.status != 0 and self.machine.failure is None)

    async def next_piece(self) -> Piece | None:
        """Take the next piece, waiting until there is one.

        Returns:
          None where there is no more.

        Raises:
          DurableStreamError: the server refuses, or breaks the protocol.
          FetchError: nobody answers, for as often as the endpoint's `retry` says.
          trio.BusyResourceError: another task is reading.
          trio.ClosedResourceError: this reader was closed.
        Cancellation: loses nothing; the next call goes on.
        """
        pieces = self.machine.pieces
        if pieces:
            await trio.lowlevel.checkpoint()
        else:
            await self._run(lambda: bool(pieces))
        return pieces.popleft() if pieces else None

    def stop(self) -> None:
        """Want no more: a read under way ends as if there were no more. The connection is closed by `aclose`."""
        self.machine.end()
        self.machine.pieces.clear()
        if self._scope is not None:
            self._scope.cancel()

    async def aclose(self) -> None:
        """Stop, and close what is open. Idempotent.

        Cancellation: closes all the same.
        """
        self._is_closed = True
        self.stop()
        await self._release()

    def abandon(self) -> bool:
        """Nobody will use it any more; whether it should have been closed."""
        was_open = not self._is_closed and (
            self._answer is not None or (self._owns_endpoint and self.endpoint.open_connections > 0)
        )
        self._is_closed = True
        if self._owns_endpoint:
            self.endpoint.abandon()
        return was_open

    async def _run(self, is_done: Callable[[], bool]) -> None:
        """Step until `is_done()`, or there is no more; an error is the same for all later calls."""
        if self._is_busy:
            raise trio.BusyResourceError("another task is reading this response")
        if self._is_closed:
            raise trio.ClosedResourceError("this response was closed here")
        if self._error is not None:
            raise self._error
        self._is_busy = True
        try:
            while not is_done() and self.machine.phase is not Phase.ENDED:
                await self._step()
            if not is_done() and (failure := self.machine.failure) is not None:
                what = f"can't read {public_url(self.endpoint.url)}: {failure.message}"
                raise DurableStreamError(what, status=failure.status, code=failure.code) from failure
        except StreamsError as exc:
            self._error = exc
            self.machine.end()
            raise
        finally:
            self._is_busy = False
            if self.machine.phase is Phase.ENDED:
                await self._release()

    async def _step(self) -> None:
        machine = self.machine
        failure: Failure | None = None
        is_done = False
        if machine.phase is Phase.WAITING:
            with trio.CancelScope() as self._scope:
                await trio.sleep_until(machine.next_deadline() or -math.inf)
            machine.handle_deadline(trio.current_time())
            return
        params = machine.request(trio.current_time()) if machine.phase is Phase.ASKING else None
        if params is None:
            machine.listen(trio.current_time())
        deadline = machine.next_deadline()
        try:
            with trio.CancelScope(deadline=math.inf if deadline is None else deadline) as self._scope:
                failure = await self._advance(params)
            if self._scope.cancelled_caught and machine.phase is not Phase.ENDED:
                silent = ConnectionLost(f"silent for {machine.config.idle_timeout} seconds")
                failure = find_lost("read", self.endpoint.url, silent)
            is_done = True
        finally:
            if not is_done and not (machine.phase is Phase.READING and isinstance(self._answer, HttpGet)):
                machine.drop()
            if machine.phase is not Phase.READING:
                await self._drop()
        if failure is not None and machine.phase in {Phase.ASKED, Phase.READING}:
            await self._settle(failure)

    async def _advance(self, params: dict[str, str] | None) -> Failure | None:
        try:
            if params is None:
                await self._read()
                return None
            return await self._ask(params)
        except (ConnectionLost, RemoteProtocolError) as exc:
            return find_lost("read", self.endpoint.url, exc)

    async def _ask(self, params: dict[str, str]) -> Failure | None:
        machine = self.machine
        is_live = machine.mode is Mode.SSE
        self._answer = await (self.endpoint.open_events(params) if is_live else self.endpoint.open_exchange(params))
        answer = self._answer
        if machine.receive_head(answer.status, answer.headers, trio.current_time()):
            return None
        return await find_failure("read", self.endpoint.url, answer)

    async def _read(self) -> None:
        answer = self._answer
        if isinstance(answer, HttpGet):
            chunk = await answer.receive()
        else:
            assert answer is not None, "what is read has an answer"
            chunk = await anext(answer, b"")
        now = trio.current_time()
        if self.machine.phase is not Phase.READING:
            return  # stopped meanwhile
        if chunk:
            self.machine.receive(chunk, now)
        else:
            self.machine.receive_end(now)

    async def _settle(self, failure: Failure) -> None:
        """Leave it to the machine, or have `on_error` change something; else raise."""
        error = failure.error
        goes_on = self.machine.lose(trio.current_time(), status=error.status, retry_after=failure.retry_after)
        await self._drop()
        if not goes_on and not await self.endpoint.ask_on_error(error, self.machine.attempts):
            raise error

    async def _drop(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            await answer.aclose()

    async def _release(self) -> None:
        await self._drop()
        if self._owns_endpoint:
            await self.endpoint.aclose()

"""Readers by server-sent events: from the store until they are at the tail, and then from the stream's feed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from trio_streams.durable.protocol import answers, events
from trio_streams.durable.protocol.machine import Following, Machine, is_over
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.server.driver import Driver
from trio_streams.durable.server.lifetimes import Lifetimes
from trio_streams.durable.server.live_feed import Cursor, LiveFeed, LiveReader
from trio_streams.service.exchange import Exchange

__all__ = ["EventStreams"]

_PIECE_BYTES: Final = 65_536
"""Of history in one event. What is being written of it and what waits behind that is all that a reader costs."""


class EventStreams:
    """Answers those who follow streams by server-sent events.

    Args:
      machine: whose operations read.
      driver: runs them.
      make_cursor: the cursor of a control event, for the cursor that its client named.
      lifetime: seconds of one answer.
      window_bytes: how far behind a stream's tail a reader may be before it goes on from the store.
    """

    def __init__(
        self,
        machine: Machine,
        driver: Driver,
        make_cursor: Callable[[str | None], str],
        *,
        lifetime: float,
        window_bytes: int,
    ) -> None:
        self._machine = machine
        self._driver = driver
        self._make_cursor = make_cursor
        self._current_cursor = partial(make_cursor, None)
        self._lifetimes = Lifetimes(driver.nursery, lifetime)
        self._window_bytes = window_bytes

    async def follow(self, exchange: Exchange, following: Following, asked_cursor: str | None) -> None:
        """Answer with everything from a position on, until the stream ends or the answer's time is over.

        Args:
          exchange: without a head.
          following: from where on.
          asked_cursor: the one that the client named.

        Raises:
          Refused: 429: too many read already; nothing has been sent.
          ConnectionLost: the client is gone.
        Cancellation: the answer stops between two writes.
        """
        state, position = following
        own = None if asked_cursor is None else partial(self._make_cursor, asked_cursor)
        cursor = Cursor(self._current_cursor, own)
        feed = LiveFeed.of(state, self._driver.nursery, self._current_cursor, self._window_bytes)
        # Thousands may wait in here, and each of them holds what this function has.
        del following, asked_cursor, own
        with self._driver.readers, feed:
            reader = LiveReader(feed, cursor, position)
            self._lifetimes.add(reader)
            try:
                await exchange.send_head(*answers.following(state.durable)[:2])
                await self._send_events(exchange, state, reader, cursor)
            finally:
                self._lifetimes.discard(reader)
                reader.leave()
                self._machine.leave(state)

    async def _send_events(self, exchange: Exchange, state: StreamState, reader: LiveReader, cursor: Cursor) -> None:
        is_first = True
        while not reader.is_done and not is_over(state):
            if reader.position < state.durable.tail:
                await self._send_piece(exchange, state, reader, cursor)
            elif is_first or state.durable.is_closed:
                reader.is_done = state.durable.is_closed
                await exchange.send(_control(reader.position, cursor, is_up_to_date=True, is_closed=reader.is_done))
            else:
                # It is at the tail, and nobody else has run since that was looked at.
                reader.join()
                await exchange.send_from(reader)
                reader.leave()
            is_first = False

    async def _send_piece(self, exchange: Exchange, state: StreamState, reader: LiveReader, cursor: Cursor) -> None:
        if reader.position < state.durable.start:
            reader.is_done = True  # it was not kept so long; who comes again is told so
            return
        try:
            chunk = await self._driver.run(self._machine.read_chunk(state, reader.position, _PIECE_BYTES))
        except Refused:  # it has been deleted meanwhile, or the store has failed
            reader.is_done = True
            return
        reader.position = chunk.end
        reader.is_done = reader.is_done or chunk.is_closed
        data = events.encode_data(chunk.pieces, state.record.content_type)
        control = _control(chunk.end, cursor, is_up_to_date=chunk.is_up_to_date, is_closed=chunk.is_closed)
        await exchange.send(data + control)


def _control(position: int, cursor: Cursor, *, is_up_to_date: bool, is_closed: bool) -> bytes:
    return events.encode_control(position, cursor.value(), is_up_to_date=is_up_to_date, is_closed=is_closed)

"""Readers by server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import trio

from trio_streams.durable.protocol import answers, events
from trio_streams.durable.protocol.machine import Following, Machine, is_over
from trio_streams.durable.protocol.needs import Wait
from trio_streams.durable.protocol.refusals import Refused
from trio_streams.durable.protocol.states import StreamState
from trio_streams.durable.server.driver import Driver
from trio_streams.service.exchange import Exchange

__all__ = ["follow"]


async def follow(
    exchange: Exchange,
    machine: Machine,
    driver: Driver,
    following: Following,
    *,
    make_cursor: Callable[[], str],
    lifetime: float,
) -> None:
    """Answer with everything from a position on, as events, until the stream ends or the connection's time is over.

    Args:
      exchange: without a head.
      machine: whose operations read.
      driver: runs them.
      following: from where on.
      make_cursor: the cursor of a control event.
      lifetime: seconds.

    Raises:
      Refused: 429: too many read already; nothing has been sent.
    Cancellation: the answer stops between two writes.
    """
    state, position = following
    # Registered for as long as there is a reader, so that the state stays the one that is appended to.
    with driver.reading(), _registered(machine, state):
        answer = answers.following(state.durable)
        await exchange.send_head(answer.status, answer.headers)
        deadline = trio.current_time() + lifetime
        is_first = True
        while not is_over(state):
            if position < state.durable.tail:
                try:
                    chunk = await driver.run(machine.read_chunk(state, position))
                except Refused:
                    return
                position, is_up_to_date, is_closed = chunk.end, chunk.is_up_to_date, chunk.is_closed
                data = events.encode_data(chunk.pieces, state.record.content_type)
            elif is_first or state.durable.is_closed:
                data, is_up_to_date, is_closed = b"", True, state.durable.is_closed
            else:
                timeout = deadline - trio.current_time()
                if timeout <= 0:
                    return
                need = Wait(state, machine.growth(state, position), timeout)
                if not await driver.wait(need):
                    return
                continue
            is_first = False
            cursor = make_cursor()
            control = events.encode_control(position, cursor, is_up_to_date=is_up_to_date, is_closed=is_closed)
            await exchange.send(data + control)
            if is_closed:
                return


@contextmanager
def _registered(machine: Machine, state: StreamState) -> Generator[None, None, None]:
    # A function of its own for each reader: the set counts readers.
    def listen() -> None: ...

    state.listeners.add(listen)
    try:
        yield
    finally:
        state.listeners.discard(listen)
        machine.leave(state)

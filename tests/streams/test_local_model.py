"""The in-process stream against a simple model, with tasks that wait."""

from __future__ import annotations

from collections import deque

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_streams.core.states import HalfState
from trio_streams.errors import StreamReset, StreamStopped
from trio_streams.streams import LocalStream, open_stream

READ = ("read_nowait", "read")
WRITE = ("write_nowait", "write")
ENDINGS = ("end", "cancel", "error", "stop", "reset")


class Model:
    """What the stream should do, with lists and no tasks. Outcomes are values or names of exceptions."""

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.state = "open"
        self.buffer: deque[int] = deque()
        self.writers: deque[tuple[int, int]] = deque()
        self.readers: deque[int] = deque()
        self.is_paused = False
        self.on_read = "EndOfChannel"
        self.on_write = "ClosedResourceError"
        self.outcomes: dict[int, object] = {}

    def write(self, number: int, may_wait: bool) -> None:
        if self.state != "open":
            self.outcomes[number] = self.on_write
        elif self.readers and not self.is_paused:
            self.outcomes[self.readers.popleft()] = number
            self.outcomes[number] = "sent"
        elif len(self.buffer) < self.mark:
            self.buffer.append(number)
            self.outcomes[number] = "sent"
        elif may_wait:
            self.writers.append((number, number))
        else:
            self.outcomes[number] = "WouldBlock"

    def take(self) -> int | None:
        if self.writers:
            number, value = self.writers.popleft()
            self.outcomes[number] = "sent"
            self.buffer.append(value)
        return self.buffer.popleft() if self.buffer else None

    def read(self, number: int, may_wait: bool) -> None:
        if self.state in {"closed", "errored"}:
            self.outcomes[number] = self.on_read
            return
        value = None if self.is_paused else self.take()
        if value is not None:
            self.outcomes[number] = value
        elif may_wait:
            self.readers.append(number)
        else:
            self.outcomes[number] = "WouldBlock"
        self.drain()

    def drain(self) -> None:
        if self.state == "closing" and not self.buffer and not self.writers:
            self.finish("closed", "EndOfChannel", "ClosedResourceError")

    def finish(self, state: str, on_read: str, on_write: str) -> None:
        if self.state in {"closed", "errored"}:
            return
        self.state, self.on_read, self.on_write = state, on_read, on_write
        self.outcomes.update(dict.fromkeys(self.readers, on_read))
        self.outcomes.update({number: on_write for number, _ in self.writers})
        for queue in (self.readers, self.writers, self.buffer):
            queue.clear()

    def give_up(self, number: int) -> None:
        if number in self.readers:
            self.readers.remove(number)
            self.outcomes[number] = "Cancelled"
        elif (number, number) in self.writers:
            self.writers.remove((number, number))
            self.outcomes[number] = "Cancelled"
        self.drain()

    def resume(self) -> None:
        self.is_paused = False
        while self.readers and self.state in {"open", "closing"}:
            value = self.take()
            if value is None:
                break
            self.outcomes[self.readers.popleft()] = value
        self.drain()

    def control(self, operation: str) -> None:
        if operation == "pause":
            self.is_paused = True
        elif operation == "resume":
            self.resume()
        elif operation == "end":
            if self.state == "open":
                self.state = "closing"
            self.drain()
        else:
            self.finish("errored", *_FAILURES[operation])


_FAILURES = {
    "cancel": ("StreamReset", "StreamStopped"),
    "error": ("OSError", "ClosedResourceError"),
    "stop": ("ClosedResourceError", "StreamStopped"),
    "reset": ("StreamReset", "ClosedResourceError"),
}


class Real:
    """The stream itself; every waiting operation is a task."""

    def __init__(self, stream: LocalStream[int], nursery: trio.Nursery) -> None:
        self.stream = stream
        self.nursery = nursery
        self.scopes: dict[int, trio.CancelScope] = {}
        self.outcomes: dict[int, object] = {}

    async def run(self, operation: str, number: int) -> None:
        if operation in {*READ, *WRITE}:
            self.nursery.start_soon(self.attempt, operation, number)
        elif operation == "give_up":
            # The oldest operation that still waits.
            for waiting in sorted(self.scopes):
                self.scopes[waiting].cancel()
                break
        elif operation == "error":
            self.stream.error(OSError("disk"))
        else:
            getattr(self.stream, operation)()
        await wait_all_tasks_blocked()

    async def attempt(self, operation: str, number: int) -> None:
        with trio.CancelScope() as scope:
            self.scopes[number] = scope
            try:
                self.outcomes[number] = await self.call(operation, number)
            except (
                trio.WouldBlock,
                trio.EndOfChannel,
                trio.ClosedResourceError,
                trio.BrokenResourceError,
                OSError,
            ) as exc:
                self.outcomes[number] = type(exc).__name__
        if scope.cancelled_caught:
            self.outcomes[number] = "Cancelled"
        del self.scopes[number]

    async def call(self, operation: str, number: int) -> object:
        if operation == "read_nowait":
            return self.stream.receive_nowait()
        if operation == "read":
            return await self.stream.receive()
        if operation == "write_nowait":
            self.stream.send_nowait(number)
        else:
            await self.stream.send(number)
        return "sent"


def advance_model(model: Model, operation: str, number: int) -> None:
    if operation in WRITE:
        model.write(number, operation == "write")
    elif operation in READ:
        model.read(number, operation == "read")
    elif operation == "give_up":
        waiting = [*model.readers, *(number for number, _ in model.writers)]
        if waiting:
            model.give_up(min(waiting))
    else:
        model.control(operation)


CONTROLS = ("pause", "resume", "resume", "give_up")
BEFORE = st.lists(st.sampled_from((*WRITE, *WRITE, *READ, *READ, *CONTROLS)), min_size=3, max_size=25)
AFTER = st.lists(st.sampled_from((*WRITE, *READ, *READ, *CONTROLS, *ENDINGS)), max_size=12)


@settings(max_examples=250, deadline=None)
@given(mark=st.integers(0, 3), before=BEFORE, ending=st.sampled_from(("end", *ENDINGS)), after=AFTER)
async def test_agrees_with_the_model(mark: int, before: list[str], ending: str, after: list[str]) -> None:
    """Every outcome, the order of items, the buffer, the waiting tasks and the state are the model's."""
    model = Model(mark)
    async with open_stream[int](high_water_mark=mark) as stream, trio.open_nursery() as nursery:
        real = Real(stream, nursery)
        for number, operation in enumerate([*before, ending, *after]):
            advance_model(model, operation, number)
            await real.run(operation, number)
            assert real.outcomes == model.outcomes
            statistics = stream.statistics()
            assert stream.state.value == statistics.send_state == statistics.receive_state == model.state
            assert stream.buffered_amount == statistics.buffered_items == len(model.buffer)
            assert stream.channel_statistics().current_buffer_used == len(model.buffer)
            assert statistics.tasks_waiting_send == len(model.writers)
            assert statistics.tasks_waiting_receive == len(model.readers)
            assert stream.readable == (model.state in {"open", "closing"})
            assert stream.writable == (model.state == "open")
            assert stream.closed == (model.state == "closed")
            assert (stream.errored is not None) == (model.state == "errored")
            sent = [n for n, outcome in model.outcomes.items() if outcome == "sent"]
            assert statistics.items_sent == len(sent)
            received = [n for n, outcome in model.outcomes.items() if isinstance(outcome, int)]
            assert statistics.items_received == len(received)
        nursery.cancel_scope.cancel()
    assert stream.state in {HalfState.CLOSED, HalfState.ERRORED}


def test_the_models_names_are_the_librarys() -> None:
    """The names that the model gives as outcomes are those of our exceptions."""
    assert {StreamReset.__name__, StreamStopped.__name__} < {name for pair in _FAILURES.values() for name in pair}

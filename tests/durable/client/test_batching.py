"""Appends of many tasks in few requests: who leads, and what a cancellation leaves behind."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.durable.client.batching import BatchingOptions, BatchingSender
from trio_streams.durable.errors import DurableStreamError, FetchError, StreamNotFoundError
from trio_streams.durable.protocol.batcher import Append
from trio_streams.durable.types import AppendResult


class Server:
    """Takes requests one at a time, slowly, and says what it is told to say."""

    def __init__(self, **options: float) -> None:
        self.requests: list[list[bytes]] = []
        self.log: list[bytes] = []
        self.cancelled = 0
        self.errors: dict[int, Exception] = {}
        self.seconds = 1.0
        self.sender = BatchingSender(self.post, BatchingOptions(**options))  # type: ignore[arg-type]

    async def post(self, batch: Sequence[Append]) -> AppendResult:
        """One request; it is stored in the middle of its time."""
        payloads = [append.payload or b"" for append in batch]
        number = len(self.requests)
        self.requests.append(payloads)
        half = self.seconds / 2
        try:
            await trio.sleep(half)
            if number not in self.errors:
                self.log += payloads
            await trio.sleep(half)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if number in self.errors:
            raise self.errors[number]
        return AppendResult(str(len(self.log)))

    async def append(self, payload: bytes, outcomes: dict[bytes, object]) -> None:
        """Append, and keep what came of it."""
        try:
            outcomes[payload] = await self.sender.append(Append(payload))
        except trio.Cancelled:
            outcomes[payload] = "cancelled"
            raise
        except Exception as exc:  # noqa: BLE001 - to be looked at
            outcomes[payload] = exc


async def start(server: Server, nursery: trio.Nursery, outcomes: dict[bytes, object], *payloads: bytes) -> None:
    """Start appends, in this order."""
    for payload in payloads:
        nursery.start_soon(server.append, payload, outcomes)
        await wait_all_tasks_blocked()


async def test_what_comes_while_a_request_is_under_way_leaves_together(autojump_clock: MockClock) -> None:
    """One request for the first, one for all that came meanwhile, in the order of the calls."""
    server, outcomes = Server(), dict[bytes, object]()
    async with trio.open_nursery() as nursery:
        await start(server, nursery, outcomes, b"a", b"b", b"c")
        assert server.sender.waiting_items == 2
    assert server.requests == [[b"a"], [b"b", b"c"]]
    assert outcomes == {b"a": AppendResult("1"), b"b": AppendResult("3"), b"c": AppendResult("3")}


async def test_a_flood_leaves_in_bounded_requests(autojump_clock: MockClock) -> None:
    """50,000 appends at once: no request has more than the limits, and all are stored."""
    server, outcomes = Server(max_batch_bytes=4_000, max_batch_items=900), dict[bytes, object]()
    async with trio.open_nursery() as nursery:
        for number in range(50_000):
            nursery.start_soon(server.append, b"%05d" % number, outcomes)
    assert max(map(len, server.requests)) <= 800
    assert len(server.requests) < 100
    assert sorted(server.log) == [b"%05d" % number for number in range(50_000)]
    assert len(outcomes) == 50_000


async def test_an_append_that_waits_is_taken_out(autojump_clock: MockClock) -> None:
    """It is never sent; the others keep their order, and nothing stands still."""
    server, outcomes = Server(), dict[bytes, object]()
    async with trio.open_nursery() as nursery:
        await start(server, nursery, outcomes, b"a", b"b")
        with trio.move_on_after(0.1) as scope:
            await server.append(b"cancelled", outcomes)
        await start(server, nursery, outcomes, b"c")
    assert scope.cancelled_caught
    assert server.requests == [[b"a"], [b"b", b"c"]]


async def test_one_that_is_cancelled_before_it_begins_is_not_sent(autojump_clock: MockClock) -> None:
    """A call in a cancelled scope takes no place in the line."""
    server, outcomes = Server(), dict[bytes, object]()
    with trio.CancelScope() as scope:
        scope.cancel()
        await server.append(b"a", outcomes)
    await server.append(b"b", outcomes)
    assert server.requests == [[b"b"]]


async def test_a_leader_alone_is_cancelled_at_once(autojump_clock: MockClock) -> None:
    """Nobody else waits for its request: it ends, and the next in the line leads."""
    server, outcomes = Server(), dict[bytes, object]()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.25):
            nursery.start_soon(_later, 0.1, server, outcomes)
            await server.append(b"a", outcomes)
        assert trio.current_time() == pytest.approx(0.25, abs=0.01)
    assert (server.cancelled, server.requests, server.log) == (1, [[b"a"], [b"b"]], [b"b"])
    assert outcomes == {b"a": "cancelled", b"b": AppendResult("1")}


async def _later(seconds: float, server: Server, outcomes: dict[bytes, object]) -> None:
    await trio.sleep(seconds)
    await server.append(b"b", outcomes)


async def _fill(server: Server, nursery: trio.Nursery, outcomes: dict[bytes, object]) -> trio.CancelScope:
    """A request under way, led by `a` in a scope of its own, with `b` in it, and `c` behind."""
    scope = trio.CancelScope()

    async def lead() -> None:
        with scope:
            await server.append(b"a", outcomes)

    await start(server, nursery, outcomes, b"first")
    nursery.start_soon(lead)
    await wait_all_tasks_blocked()
    await start(server, nursery, outcomes, b"b")
    await trio.sleep(1.1)
    assert server.requests == [[b"first"], [b"a", b"b"]]
    await start(server, nursery, outcomes, b"c")
    return scope


async def test_a_cancelled_leader_lets_the_others_learn_their_outcome(autojump_clock: MockClock) -> None:
    """The request goes on for them; the leader waits that long, and is cancelled then."""
    server, outcomes = Server(), dict[bytes, object]()
    async with trio.open_nursery() as nursery:
        scope = await _fill(server, nursery, outcomes)
        scope.cancel()
    assert server.log == [b"first", b"a", b"b", b"c"]
    assert outcomes == {
        b"first": AppendResult("1"),
        b"a": "cancelled",
        b"b": AppendResult("3"),
        b"c": AppendResult("4"),
    }


async def test_a_request_that_is_stuck_is_given_up(autojump_clock: MockClock) -> None:
    """Its members get an error that says that the outcome is unknown; none of them is sent again."""
    server, outcomes = Server(finish_timeout=3.0), dict[bytes, object]()
    server.seconds = 1.0
    async with trio.open_nursery() as nursery:
        await start(server, nursery, outcomes, b"first")
        server.seconds = 1_000.0
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_at, scope, 2.0)
            nursery.start_soon(_append_at, server, outcomes, b"b", 0.2)
            await server.append(b"a", outcomes)
        assert trio.current_time() == pytest.approx(5.0, abs=0.01)
        server.seconds = 1.0
        await start(server, nursery, outcomes, b"c")
    error = outcomes[b"b"]
    assert isinstance(error, FetchError)
    assert error.code == "OUTCOME_UNKNOWN"
    assert server.requests == [[b"first"], [b"a", b"b"], [b"c"]]


async def _cancel_at(scope: trio.CancelScope, seconds: float) -> None:
    await trio.sleep_until(trio.current_time() + seconds)
    scope.cancel()


async def _append_at(server: Server, outcomes: dict[bytes, object], payload: bytes, seconds: float) -> None:
    await trio.sleep(seconds)
    await server.append(payload, outcomes)


async def test_an_orphaned_request_ends_when_nobody_waits_for_it(autojump_clock: MockClock) -> None:
    """Leader and members are cancelled one after the other: the last one ends it."""
    server, outcomes = Server(), dict[bytes, object]()
    server.seconds = 100.0
    with trio.move_on_after(2.0):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as others:
                async with trio.open_nursery() as inner:
                    server.seconds = 1.0
                    await start(server, inner, outcomes, b"first")
                    server.seconds = 100.0
                    await start(server, inner, outcomes, b"a", b"b")
                    await trio.sleep(1.2)
                    nursery.start_soon(server.append, b"later", outcomes)
                    others.cancel()
    assert trio.current_time() == pytest.approx(2.0, abs=0.1)
    assert server.cancelled == 2
    assert server.requests == [[b"first"], [b"a", b"b"], [b"later"]]


async def test_a_failure_is_told_to_each_by_an_error_of_its_own(autojump_clock: MockClock) -> None:
    """Tracebacks would mix if tasks raised one object; what is behind is sent as ever."""
    server, outcomes = Server(), dict[bytes, object]()
    server.errors[1] = StreamNotFoundError("gone", status=404, code="NOT_FOUND")
    async with trio.open_nursery() as nursery:
        await start(server, nursery, outcomes, b"first", b"a", b"b")
        await trio.sleep(1.5)
        await start(server, nursery, outcomes, b"c")
    first, second = outcomes[b"a"], outcomes[b"b"]
    assert isinstance(first, StreamNotFoundError)
    assert isinstance(second, StreamNotFoundError)
    assert first is not second
    assert (second.status, second.code, str(second)) == (404, "NOT_FOUND", "gone")
    assert outcomes[b"c"] == AppendResult("2")


async def test_an_error_that_can_not_be_copied_is_shared(autojump_clock: MockClock) -> None:
    """Better than none."""

    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(one)
            self.two = two

    server, outcomes = Server(), dict[bytes, object]()
    server.errors[1] = Odd(1, 2)
    async with trio.open_nursery() as nursery:
        await start(server, nursery, outcomes, b"first", b"a", b"b")
    assert outcomes[b"a"] is outcomes[b"b"] is server.errors[1]


async def test_a_request_that_is_too_large_is_cut(autojump_clock: MockClock) -> None:
    """The server took nothing of it (413), so it is sent again in smaller ones; one alone learns that it is too large."""
    server, outcomes = Server(), dict[bytes, object]()
    server.errors[1] = DurableStreamError("too large", status=413)
    server.errors[3] = DurableStreamError("too large", status=413)
    async with trio.open_nursery() as nursery:
        await start(server, nursery, outcomes, b"first", b"aa", b"bb")
    assert server.requests == [[b"first"], [b"aa", b"bb"], [b"aa"], [b"bb"]]
    assert outcomes[b"aa"] == AppendResult("2")
    assert isinstance(outcomes[b"bb"], DurableStreamError)


async def test_a_fault_of_the_interpreter_leaves_nobody_waiting(autojump_clock: MockClock) -> None:
    """What is no `Exception` unwinds through the leader; the others are told that nobody knows."""
    server, outcomes = Server(), dict[bytes, object]()
    server.errors[1] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(BaseExceptionGroup):
        async with trio.open_nursery() as nursery:
            await start(server, nursery, outcomes, b"first")
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as inner:
                    nursery.start_soon(server.append, b"a", outcomes)
                    await wait_all_tasks_blocked()
                    inner.start_soon(server.append, b"b", outcomes)
    assert isinstance(outcomes[b"b"], FetchError)


@pytest.mark.parametrize("seed", range(60))
async def test_nothing_wedges_reorders_or_lies(seed: int, autojump_clock: MockClock) -> None:
    """Cancelled at any moment: who is told success is stored once, in order; the last append always comes through."""
    rng = random.Random(seed)
    server, outcomes = Server(max_batch_items=4, finish_timeout=rng.choice([0.3, 3.0])), dict[bytes, object]()

    async def one(payload: bytes, limit: float) -> None:
        with trio.move_on_after(limit):
            await server.append(payload, outcomes)

    payloads = [b"%02d" % number for number in range(20)]
    async with trio.open_nursery() as nursery:
        for payload in payloads:
            nursery.start_soon(one, payload, rng.choice([0.0, 0.2, 0.5, 0.75, 1.0, 1.2, 2.0, 2.5, 50.0]))
            await trio.sleep(rng.choice([0.0, 0.01, 0.3]))
    await server.append(b"last", outcomes)
    assert outcomes[b"last"] == AppendResult(str(len(server.log)))
    assert server.log == sorted(set(server.log))
    told = {payload for payload, outcome in outcomes.items() if isinstance(outcome, AppendResult)}
    assert told <= set(server.log)
    sent = [payload for request in server.requests for payload in request]
    assert len(sent) == len(set(sent))


@pytest.mark.parametrize("options", [{"max_batch_bytes": 0}, {"max_batch_items": 0}, {"finish_timeout": 0.0}])
def test_limits_are_checked(options: dict[str, float]) -> None:
    """Each of them must allow something."""
    with pytest.raises(ValueError, match=next(iter(options))):
        BatchingOptions(**options)  # type: ignore[arg-type]

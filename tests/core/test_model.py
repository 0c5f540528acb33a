"""Operations on both ends of a connection against a simple model.

The invariants, checked after every step:

- *order*: items arrive in the order in which they were accepted, each once, none invented;
- *once*: a half finishes exactly once at its receiver: by END, RESET, or its own STOP;
- *end last*: END comes after all of its data, with the status that was given;
- *window*: a stream's unread items never exceed its window, its unread bytes by at most one item; the connection's too;
- *no debt*: queued and unread bytes are never negative;

and when the network is at rest:

- *liveness*: no sender stays blocked whose reader has consumed everything, unless unread items of other streams hold
  the connection's whole window; who was refused has been told by `Writable`;
- *no leak*: when everything is consumed, ended and released, no stream remains on either side, both sides agree on the
  connection's bytes, and all credit is restored.
"""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.core.support import consume, make_mux, take
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core import events, records
from trio_streams.core.flow import cost
from trio_streams.core.mux import Mux
from trio_streams.core.states import HalfState
from trio_streams.testing import Link, Pair

SIZES = st.sampled_from([0, 1, 100, 5_000, 16_383, 16_384, 16_385, 100 * 1024])
CLIENT, SERVER = 0, 1


def tiny(**changes: int) -> ConnectionConfig:
    limits = {"window_items": 1, "window_bytes": 1}
    stream = StreamLimits(**{**limits, **{k: v for k, v in changes.items() if k in limits}})
    rest = {k: v for k, v in changes.items() if k not in limits}
    return ConnectionConfig(stream=stream, **rest)


CONFIGS = [
    ConnectionConfig(),
    tiny(),
    tiny(connection_window_bytes=1, max_streams=1, max_send_buffer_bytes=1),
    tiny(window_items=4, window_bytes=2_000, connection_window_bytes=1_500, max_send_buffer_bytes=1),
    tiny(window_items=100, window_bytes=300_000, connection_window_bytes=20_000, max_streams=2),
    tiny(window_items=3, window_bytes=1_000, max_streams=3, max_send_buffer_bytes=500, max_control_bytes=1_024),
]


@attrs.define(eq=False)
class Half:
    """What one side has sent on one stream, and what the other has seen of it."""

    sender: int
    stream_id: int
    sent: list[bytes] = attrs.Factory(list)
    status: records.Status | None = None
    is_over: bool = False  # the sender can't send any more
    is_refused: bool = False  # a send took fewer than offered, and no Writable has come
    seen: int = 0
    unread: list[bytes] = attrs.Factory(list)
    finishes: list[str] = attrs.Factory(list)


class Model(RuleBasedStateMachine):
    """Two muxes over a link, and what must be true of them."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: dict[tuple[int, int], Half] = {}
        self.known: tuple[set[int], set[int]] = (set(), set())
        self.counter = 0
        self.wishes = [False, False]
        self.has_gone_away = False

    @initialize(
        config=st.sampled_from(CONFIGS),
        other=st.sampled_from(CONFIGS),
        seed=st.integers(0, 1_000),
        max_chunk=st.sampled_from([None, 500, 20_000]),
        max_bytes=st.sampled_from([1, 4_000, 65_536]),
    )
    def start(
        self, config: ConnectionConfig, other: ConnectionConfig, seed: int, max_chunk: int | None, max_bytes: int
    ) -> None:
        self.configs = (config, other)
        self.muxes = (self.make(True, config), self.make(False, other))
        link = Link(seed, latency=(0.0, 0.01), max_chunk=max_chunk)
        self.pair: Pair[events.Event] = Pair(*self.muxes, link, max_bytes=max_bytes)
        self.settle()
        for side in (CLIENT, SERVER, CLIENT):
            self.open(side, 0, None)

    def make(self, is_client: bool, config: ConnectionConfig) -> Mux:
        return make_mux(is_client=is_client, config=config)

    # -- what happens -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        self.pair.run_until_idle()
        self.look()

    def look(self) -> None:
        for side, collected in ((CLIENT, self.pair.client_events), (SERVER, self.pair.server_events)):
            for event in take(collected):
                self.note(side, event)
        for side, mux in enumerate(self.muxes):
            assert mux.failure is None
            assert mux.queued_bytes >= 0
            incoming = [half for half in self.halves.values() if half.sender != side]
            charged = sum(cost(half.unread) for half in incoming)
            # A large item is charged when it begins, before it is here.
            assert mux.unread_bytes >= charged
            self.check_windows(mux, incoming)

    def check_windows(self, mux: Mux, incoming: list[Half]) -> None:
        for half in incoming:
            machine = mux.get(half.stream_id)
            if machine is None or machine.receive_state is HalfState.ERRORED:
                assert not half.unread
                continue
            credit = machine.receive_credit
            assert len(half.unread) <= credit.items - credit.consumed_items <= credit.window_items
            assert cost(half.unread[:-1]) < credit.window_bytes

    def note(self, side: int, event: events.Event) -> None:
        match event:
            case events.Opened(stream_id, record):
                assert record.name == f"stream {stream_id}"
                assert stream_id not in self.known[side]
                self.known[side].add(stream_id)
            case events.Received(stream_id, items):
                half = self.halves[1 - side, stream_id]
                assert not half.finishes
                assert items == half.sent[half.seen : half.seen + len(items)]
                half.seen += len(items)
                half.unread += items
            case events.Ended(stream_id, status, _):
                half = self.halves[1 - side, stream_id]
                assert half.seen == len(half.sent)
                assert status == half.status
                half.finishes.append("end")
            case events.Reset(stream_id, _, _):
                half = self.halves[1 - side, stream_id]
                half.finishes.append("reset")
                half.unread.clear()
            case events.Stopped(stream_id, _, _):
                half = self.halves[side, stream_id]
                assert not half.is_over or half.status is not None
                self.over(half)
            case events.Writable(stream_id):
                self.halves[side, stream_id].is_refused = False
            case events.StreamsAllowed():
                self.wishes[side] = False
            case _:
                pass
        assert all(len(half.finishes) <= 1 for half in self.halves.values())

    def over(self, half: Half) -> None:
        half.is_over = True
        half.is_refused = False

    def halves_of(self, side: int, *, sending: bool) -> list[Half]:
        """The halves that a side may still act on."""
        sender = side if sending else 1 - side
        return [
            half
            for half in self.halves.values()
            if half.sender == sender
            and half.stream_id in self.known[side]
            and not (half.is_over if sending else "stop" in half.finishes or "reset" in half.finishes)
        ]

    # -- operations -------------------------------------------------------------------------------------------

    @rule(side=st.integers(0, 1), priority=st.integers(-1, 1), window=st.sampled_from([None, 1, 5]))
    def open(self, side: int, priority: int, window: int | None) -> None:
        mux = self.muxes[side]
        if not mux.can_open:
            mux.note_wish_to_open()
            self.wishes[side] = True
            return
        stream_id = mux._next_id
        assert mux.open(f"stream {stream_id}", priority=priority, window_items=window) == stream_id
        self.known[side].add(stream_id)
        for sender in (CLIENT, SERVER):
            self.halves[sender, stream_id] = Half(sender, stream_id)

    @rule(side=st.integers(0, 1), index=st.integers(0, 99), sizes=st.lists(SIZES, max_size=6))
    def send(self, side: int, index: int, sizes: list[int]) -> None:
        halves = self.halves_of(side, sending=True)
        if halves:
            self.offer(halves[index % len(halves)], sizes)

    def offer(self, half: Half, sizes: list[int]) -> int:
        mux = self.muxes[half.sender]
        payloads = []
        for size in sizes:
            self.counter += 1
            payloads.append((self.counter.to_bytes(4, "big") * (size // 4 + 1))[:size])
        was_writable = mux.is_writable(half.stream_id)
        taken = mux.send(half.stream_id, payloads)
        assert not sizes or (taken > 0) is was_writable
        half.sent += payloads[:taken]
        half.is_refused = half.is_refused or taken < len(payloads)
        return taken

    @rule(side=st.integers(0, 1), index=st.integers(0, 99))
    def header(self, side: int, index: int) -> None:
        halves = [half for half in self.halves_of(side, sending=True) if not half.sent]
        if halves:
            stream_id = halves[index % len(halves)].stream_id
            machine = self.muxes[side].get(stream_id)
            assert machine is not None
            if not machine.head_queued:
                self.muxes[side].send_header(stream_id, {"a": "b"})

    @rule(side=st.integers(0, 1), index=st.integers(0, 99), code=st.sampled_from(["OK", "NOT_FOUND"]))
    def end(self, side: int, index: int, code: str) -> None:
        halves = self.halves_of(side, sending=True)
        if halves:
            half = halves[index % len(halves)]
            half.status = records.Status(code)
            self.over(half)
            self.muxes[side].end(half.stream_id, half.status)

    @rule(side=st.integers(0, 1), index=st.integers(0, 99))
    def reset(self, side: int, index: int) -> None:
        halves = self.halves_of(side, sending=True)
        if halves:
            half = halves[index % len(halves)]
            self.over(half)
            self.muxes[side].reset(half.stream_id, Code.INTERNAL, "why")

    @rule(side=st.integers(0, 1), index=st.integers(0, 99))
    def stop(self, side: int, index: int) -> None:
        halves = [half for half in self.halves_of(side, sending=False) if not half.finishes]
        if halves:
            half = halves[index % len(halves)]
            half.unread.clear()
            half.finishes.append("stop")
            self.muxes[side].stop(half.stream_id)

    @rule(side=st.integers(0, 1), index=st.integers(0, 99), count=st.integers(1, 20))
    def consume(self, side: int, index: int, count: int) -> None:
        halves = [half for half in self.halves_of(side, sending=False) if half.unread]
        if halves:
            self.read(halves[index % len(halves)], count)

    def read(self, half: Half, count: int) -> None:
        taken, half.unread = half.unread[:count], half.unread[count:]
        consume(self.muxes[1 - half.sender], half.stream_id, taken)

    @rule(side=st.integers(0, 1), index=st.integers(0, 99))
    def release(self, side: int, index: int) -> None:
        streams = sorted(self.known[side])
        if streams:
            self.let_go(side, streams[index % len(streams)])

    def let_go(self, side: int, stream_id: int) -> None:
        mine, theirs = self.halves[side, stream_id], self.halves[1 - side, stream_id]
        self.over(mine)
        theirs.unread.clear()
        if not theirs.finishes:
            theirs.finishes.append("stop")
        self.muxes[side].release(stream_id)

    @rule(side=st.integers(0, 1))
    def ping(self, side: int) -> None:
        self.muxes[side].ping(self.pair.now)

    @rule(side=st.integers(0, 1))
    def go_away(self, side: int) -> None:
        if len(self.halves) > 12:
            self.has_gone_away = True
            self.muxes[side].go_away()

    @rule(seconds=st.sampled_from([0.001, 1.0, 40.0]))
    def advance(self, seconds: float) -> None:
        self.pair.advance(seconds)
        self.look()

    @rule(chunks=st.integers(1, 30))
    def deliver(self, chunks: int) -> None:
        self.pair.deliver(chunks)
        self.look()

    @rule()
    def flush(self) -> None:
        self.pair.flush()
        self.look()

    # -- at rest ----------------------------------------------------------------------------------------------

    @rule(never_read=st.integers(0, 99))
    def everything_is_read_but_one_stream(self, never_read: int) -> None:
        """Liveness: whoever's reader has taken everything can send, unless the connection's window is held."""
        halves = list(self.halves.values())
        unread = halves[never_read % len(halves)] if halves else None
        self.settle()
        while any(half.unread for half in halves if half is not unread):
            for half in halves:
                if half is not unread and half.unread:
                    self.read(half, len(half.unread))
            self.settle()
        for half in halves:
            sender, receiver = self.muxes[half.sender], self.muxes[1 - half.sender]
            is_held = receiver.unread_bytes >= self.configs[1 - half.sender].connection_window_bytes
            is_refused = half.stream_id not in self.known[half.sender]  # its OPEN crossed a GOAWAY
            if not (half is unread or half.is_over or is_held or is_refused):
                machine = sender.get(half.stream_id)
                assert machine is not None
                assert machine.queued_bytes == 0
                assert not half.is_refused
                assert self.offer(half, [3]) == 1

    def teardown(self) -> None:
        """No leak: end and read everything, and look at what is left."""
        if not hasattr(self, "pair"):
            return
        self.everything_is_read_but_one_stream(0)
        for half in list(self.halves.values()):
            if not half.is_over and half.stream_id in self.known[half.sender]:
                self.over(half)
                half.status = records.Status()
                self.muxes[half.sender].end(half.stream_id, half.status)
        self.settle()
        while any(half.unread for half in self.halves.values()):
            for half in self.halves.values():
                self.read(half, 1_000)
            self.settle()
        for side, streams in enumerate(self.known):
            for stream_id in streams:
                finishes = self.halves[1 - side, stream_id].finishes
                assert len(finishes) == 1
                self.let_go(side, stream_id)
        self.settle()
        for side, mux in enumerate(self.muxes):
            self.check_restored(side, mux, self.muxes[1 - side])

    def check_restored(self, side: int, mux: Mux, peer: Mux) -> None:
        assert (mux.stream_count, mux.queued_bytes, mux.unread_bytes) == (0, 0, 0)
        assert (len(mux._out._scheduler), mux._out._starved, mux._out._waiting_for_room) == (0, {}, {})
        granted = peer._in.credit
        assert mux._out.credit.bytes == granted.bytes == granted.consumed_bytes
        assert mux._out.credit.byte_limit == granted.byte_limit
        assert granted.byte_limit - granted.bytes > granted.window_bytes * 3 / 4 - 1
        if not self.has_gone_away:
            most = self.configs[1 - side].max_streams
            assert most * 3 / 4 <= mux._in.open_limit - mux._opened <= most
            assert self.wishes[side] is False
            assert mux.can_open


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)

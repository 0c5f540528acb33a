"""A sequencer against a model of the server, on a network that loses, delays and repeats whatever it likes.

The model is the protocol's own table (Durable Streams §5.2.1). A request may be stored long after its sender was told
that it is lost; an answer may be lost; another producer may take over at any moment.
"""

from __future__ import annotations

import attrs
import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_streams.durable.errors import FetchError, SequenceGapError, StaleEpochError
from trio_streams.durable.protocol.sequencer import NumberedBatch, Sequencer
from trio_streams.durable.types import AppendResult

FOREIGN = b"foreign"


@attrs.define(eq=False)
class Request:
    """A request on its way, with what the server says once it gets there."""

    batch: NumberedBatch
    epoch: int
    seq: int
    payloads: list[bytes]
    answer: object = None
    is_awaited: bool = True


class Server:
    """One stream with one producer id."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.epoch = -1
        self.last_seq = -1

    def handle(self, epoch: int, seq: int, payloads: list[bytes]) -> object:
        """Store it or not: an `AppendResult` or the error."""
        if epoch < self.epoch:
            stale = StaleEpochError("stale")
            stale.current_epoch = self.epoch
            return stale
        if epoch > self.epoch:
            if seq != 0:
                return AssertionError(f"number {seq} begins epoch {epoch}")
            self.epoch, self.last_seq = epoch, -1
        if seq <= self.last_seq:
            return AppendResult("", duplicate=True)
        if seq > self.last_seq + 1:
            gap = SequenceGapError("gap")
            gap.expected_seq = self.last_seq + 1
            return gap
        self.last_seq = seq
        self.log += payloads
        return AppendResult(str(len(self.log)))


class Storm(RuleBasedStateMachine):
    """Everything that can go wrong, in any order."""

    auto_claim = False

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.sequencer = Sequencer(
            epoch=0,
            auto_claim=self.auto_claim,
            max_in_flight=4,
            max_batch_bytes=8,
            max_batch_items=3,
            max_pending_bytes=10**6,
            linger=1.0,
        )
        self.now = 0.0
        self.network: list[Request] = []
        self.put: list[bytes] = []

    # What the user and the clock do

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        for _ in range(count if not self.sequencer.has_failed else 0):
            self.put.append(b"%04d" % len(self.put))
            self.sequencer.put(self.put[-1], self.now)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0]))
    def send(self, seconds: float) -> None:
        self.now += seconds
        for batch in self.sequencer.take(self.now):
            self.network.append(Request(batch, batch.epoch, batch.seq, list(batch.payloads)))

    @precondition(lambda self: self.sequencer.is_stalled)
    @rule()
    def resume(self) -> None:
        self.sequencer.resume()

    # What the network does

    @precondition(lambda self: self._may_arrive())
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self._may_arrive()))
        answer = self.server.handle(request.epoch, request.seq, request.payloads)
        assert not isinstance(answer, AssertionError), answer
        if request.answer is None:
            request.answer = answer

    def _may_arrive(self) -> list[Request]:
        """What is given up may arrive again and again; what is answered, and awaited, has a connection that is in order."""
        return [request for request in self.network if request.answer is None or not request.is_awaited]

    @precondition(lambda self: any(request.is_awaited and request.answer is not None for request in self.network))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        told = [request for request in self.network if request.is_awaited and request.answer is not None]
        self._answer(data.draw(st.sampled_from(told)))

    @precondition(lambda self: any(request.is_awaited for request in self.network))
    @rule(data=st.data(), is_last_try=st.booleans())
    def lose(self, data: st.DataObject, is_last_try: bool) -> None:
        """The sender hears nothing; the request may arrive all the same, also much later, and more than once."""
        request = data.draw(st.sampled_from([request for request in self.network if request.is_awaited]))
        request.is_awaited = False
        if is_last_try:
            self.sequencer.stall(request.batch, FetchError("lost"), is_doubtful=True)
        else:
            self.sequencer.rest(request.batch, self.now + 2.0, is_doubtful=True)

    @precondition(lambda self: any(request.answer is None and request.is_awaited for request in self.network))
    @rule(data=st.data())
    def turn_away(self, data: st.DataObject) -> None:
        """Too many requests (429): it was certainly not stored."""
        unheard = [request for request in self.network if request.answer is None and request.is_awaited]
        request = data.draw(st.sampled_from(unheard))
        self.network.remove(request)
        self.sequencer.rest(request.batch, self.now + 1.0, is_doubtful=False)

    @precondition(lambda self: self.network)
    @rule(data=st.data())
    def vanish(self, data: st.DataObject) -> None:
        lost = [request for request in self.network if not request.is_awaited]
        if lost:
            self.network.remove(data.draw(st.sampled_from(lost)))

    def _answer(self, request: Request) -> None:
        self.network.remove(request)
        match request.answer:
            case AppendResult():
                self.sequencer.accept(request.batch, request.answer)
            case SequenceGapError():
                self.sequencer.hold(request.batch, request.answer)
            case StaleEpochError():
                self.sequencer.fence(request.batch, request.answer)
            case _:
                raise AssertionError(request.answer)

    # What must be true

    @property
    def own(self) -> list[bytes]:
        return [payload for payload in self.server.log if payload != FOREIGN]

    @invariant()
    def what_is_stored_is_a_beginning_of_what_was_put(self) -> None:
        assert self.own == self.put[: len(self.own)]

    @invariant()
    def what_counts_as_stored_is(self) -> None:
        assert self.sequencer.settled_items <= len(self.own)
        progress = self.sequencer.progress
        assert len(self.own) <= progress.acknowledged_items + progress.doubtful_items

    @invariant()
    def only_another_producer_stops_it(self) -> None:
        assert not self.sequencer.has_failed or isinstance(self.sequencer.error, StaleEpochError)

    def teardown(self) -> None:
        """Once the weather is fine, all of it is stored; or another producer has taken over."""
        for _ in range(200):
            self.sequencer.resume()
            self.send(5.0)
            for request in list(self.network):
                request.answer = request.answer or self.server.handle(request.epoch, request.seq, request.payloads)
            for request in [request for request in self.network if request.is_awaited]:
                self._answer(request)
        assert self.sequencer.has_failed or (self.sequencer.is_idle and self.own == self.put)


class ContestedStorm(Storm):
    """The same, among producers that take over from each other."""

    auto_claim = True

    @rule(step=st.integers(1, 3))
    def take_over(self, step: int) -> None:
        self.server.handle(self.server.epoch + step, 0, [FOREIGN])

    @precondition(lambda self: self.server.epoch == -1)
    @rule(count=st.integers(1, 3))
    def run_before(self, count: int) -> None:
        """Another run has used the first epoch, which only duplicates tell."""
        for seq in range(count):
            self.server.handle(0, seq, [FOREIGN])


class FencedStorm(ContestedStorm):
    """The same for a producer that does not take over itself. What others store in its own epoch would count there."""

    auto_claim = False

    @rule(step=st.integers(1, 3))
    def take_over(self, step: int) -> None:
        self.server.handle(max(self.server.epoch, 0) + step, 0, [FOREIGN])

    @precondition(lambda self: False)
    @rule()
    def run_before(self) -> None:
        raise AssertionError


for _storm in (Storm, ContestedStorm, FencedStorm):
    _storm.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

TestStorm = Storm.TestCase
TestStorm.__doc__ = "Nothing is lost, doubled or reordered, and fine weather ends every storm."
TestContestedStorm = ContestedStorm.TestCase
TestContestedStorm.__doc__ = "A claim neither loses nor doubles what was under way."
TestFencedStorm = FencedStorm.TestCase
TestFencedStorm.__doc__ = "A producer that was shut out stores nothing more, and says so."

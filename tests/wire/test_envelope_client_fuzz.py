"""Servers of envelopes that answer anything, in any order, in any pieces; and callers who do anything meanwhile."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.envelope_asking import Asking
from tests.wire.envelope_client import EnvelopeClient
from trio_streams.core import events
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.flow import cost
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits

SMALL = MessageLimits(overflow_bytes=1_000, stall_timeout=5)

_TYPES = ["response", "error", "stream:start", "stream:data", "stream:data", "stream:end", "stream:error", "pong"]
_answers = st.fixed_dictionaries(
    {"type": st.sampled_from(_TYPES), "id": st.sampled_from(["1:x", "3", 5, "7:stream:data:0"])},
    optional={
        "payload": st.sampled_from([None, 1, "x" * 600, {"code": "OWN"}]),
        "metadata": st.sampled_from([{"a": 1}, {}, 5]),
    },
)


def _asked() -> Asking:
    asking = Asking(limits=SMALL)
    for form in (Form.CALL, Form.STREAM, Form.UPLOAD, Form.BIDIRECTIONAL):
        asking.ask(form, "thing", b"1", is_ended=not form.takes_items)
    asking.hear()
    asking.take()
    return asking


def _received(happened: list[events.Event]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for event in happened:
        if isinstance(event, events.Received):
            found.setdefault(event.stream_id, []).extend(event.items)
    return found


@given(st.lists(_answers, max_size=15), st.randoms(use_true_random=False))
def test_the_events_do_not_depend_on_the_cuts(said: list[dict[str, Any]], rng: random.Random) -> None:
    """Whole or in pieces, the same events, items and questions come of it."""
    wire = b"".join(frame(json.dumps(envelope).encode()) for envelope in said)
    cuts = sorted(rng.randint(0, len(wire)) for _ in range(5))
    whole, cut = _asked(), _asked()
    whole.answer_raw(wire)
    for a, b in pairwise([0, *cuts, len(wire)]):
        cut.answer_raw(wire[a:b])
    at_once, in_pieces = whole.take(), cut.take()
    assert _received(in_pieces) == _received(at_once)
    others = [
        [str(event) for event in happened if not isinstance(event, events.Received)]
        for happened in (at_once, in_pieces)
    ]
    assert others[0] == others[1]
    assert cut.hear() == whole.hear()
    assert cut.machine.unread_bytes == whole.machine.unread_bytes


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(data: bytes) -> None:
    """They wait to be completed, or end the connection with an error of ours, as the last event."""
    asking = _asked()
    asking.answer_raw(data)
    asking.answer_raw(frame(data))
    failure = asking.machine.failure
    happened = asking.take()
    assert (failure is not None) == any(isinstance(event, events.Failed) for event in happened)
    if failure is not None:
        assert happened[-1] == events.Failed(failure)
        assert not asking.machine.can_open


_COMMANDS = ["answer", "answer", "ask", "send", "end", "reset", "stop", "consume", "release", "hear", "late"]
_steps = st.tuples(st.sampled_from(_COMMANDS), _answers, st.sampled_from(list(Form)))


class _Callers:
    """They do whatever a test says to all streams that are alive."""

    def __init__(self) -> None:
        self.asking = Asking(limits=SMALL)
        self.numbers: list[int] = []
        self.ends: list[int] = []
        machine = self.asking.machine
        self.commands: dict[str, Callable[[int], object]] = {
            "send": lambda number: machine.send(number, [b"1"]),
            "end": machine.end,
            "reset": machine.reset,
            "stop": machine.stop,
            "consume": self._consume,
            "release": machine.release,
        }

    def act(self, command: str) -> None:
        for number in self.numbers:
            if self.asking.machine.get(number) is not None:
                with contextlib.suppress(LocalProtocolError):  # a half that is over, or a second question
                    self.commands[command](number)

    def ask(self, form: Form) -> None:
        if self.asking.machine.can_open:
            self.numbers.append(self.asking.ask(form, is_ended=False))

    def look(self) -> None:
        happened = self.asking.take()
        self.ends += [event.stream_id for event in happened if isinstance(event, events.Ended | events.Reset)]

    def _consume(self, number: int) -> None:
        state = self.asking.machine.get(number)
        assert state is not None
        credit = state.receive_credit
        self.asking.machine.consume(number, credit.items - credit.consumed_items, credit.unconsumed_bytes)


@example(
    [("ask", {}, Form.BIDIRECTIONAL), ("answer", {"type": "response", "id": "3"}, Form.CALL), ("end", {}, Form.CALL)]
)
@given(st.lists(_steps, max_size=30))
def test_any_order_of_commands_and_answers_leaves_nothing_behind(
    steps: list[tuple[str, dict[str, Any], Form]],
) -> None:
    """Counts fit at every step, each stream ends here once at most, and all is gone when everything was released."""
    callers = _Callers()
    asking, machine = callers.asking, callers.asking.machine
    for step, answer, form in steps:
        if step == "answer":
            asking.answer(answer)
        elif step == "ask":
            callers.ask(form)
        elif step == "hear":
            asking.hear()
        elif step == "late":
            machine.handle_deadline(asking.now + 100)
        else:
            callers.act(step)
        callers.look()
        assert machine.unread_bytes >= 0
        assert machine.queued_bytes >= 0
    callers.act("release")
    asking.hear()
    assert machine.stream_count == machine.unread_bytes == 0
    assert machine.queued_bytes == 0 or machine.failure is not None
    assert len(callers.ends) == len(set(callers.ends))


_talk = st.lists(st.tuples(st.sampled_from(["ping", "log", "counter", "sum", "echo", "nope"]), st.integers(0, 3)))


@given(_talk, st.integers(20, 2_000))
def test_both_roles_understand_each_other(asked: list[tuple[str, int]], chunk: int) -> None:
    """Whatever a client's machine asks a server's machine understands, and the answers come back to their streams."""
    forms = {
        "ping": Form.CALL,
        "log": Form.EVENT,
        "counter": Form.STREAM,
        "sum": Form.UPLOAD,
        "echo": Form.BIDIRECTIONAL,
    }
    asking, server = Asking(), EnvelopeClient()
    expected: dict[int, list[bytes]] = {}
    for name, count in asked:
        form = forms.get(name, Form.CALL)
        sent = [str(n).encode() for n in range(count if form.takes_items else min(count, 1))]
        expected[asking.ask(form, name, *sent)] = [] if form is Form.EVENT or name == "nope" else sent or [b"null"]
    _pump(asking, server, chunk)
    opened: dict[int, list[bytes]] = {}
    for event in server.take():
        if isinstance(event, events.Opened):
            opened[event.stream_id] = []
        elif isinstance(event, events.Received):
            opened[event.stream_id] += event.items
            server.machine.consume(event.stream_id, len(event.items), cost(event.items))
    for number, items in opened.items():
        machine = server.machine.get(number)
        assert machine is not None
        server.machine.send(number, items or [b"null"])
        server.machine.end(number)
        server.machine.release(number)
    _pump(asking, server, chunk)
    happened = asking.take()
    assert asking.machine.failure is None
    received = _received(happened)
    for number, items in expected.items():
        if items and items != [b"null"]:
            assert received[number][: len(items)] == items or received[number] == items[:1]
    assert len([event for event in happened if isinstance(event, events.Ended)]) == len(asked)


def _pump(asking: Asking, server: EnvelopeClient, chunk: int) -> None:
    """Everything that either side has to say."""
    while asking.machine.has_output or server.machine.has_output:
        said = asking.machine.to_send(0.0, 65_536)
        for at in range(0, len(said), chunk):
            server.say_raw(said[at : at + chunk])
        answered = server.machine.to_send(0.0, 65_536)
        for at in range(0, len(answered), chunk):
            asking.answer_raw(answered[at : at + chunk])

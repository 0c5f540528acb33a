"""Clients of envelopes that say anything, in any order, in any pieces."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.wire.envelope_client import EnvelopeClient
from trio_streams.core import events
from trio_streams.wire.envelope import MessageLimits
from trio_streams.wire.message_framing import frame

SMALL = MessageLimits(overflow_bytes=1_000, stall_timeout=5)

_TYPES = ["request", "event", "stream:start", "stream:data", "stream:end", "stream:error", "cancel", "ping", "odd", ""]
_envelopes = st.fixed_dictionaries(
    {"type": st.sampled_from(_TYPES), "id": st.sampled_from(["a", "b", "c", 4])},
    optional={
        "procedure": st.sampled_from(["ping", "log", "counter", "sum", "echo", "nope"]),
        "payload": st.sampled_from([None, 1, "x" * 600, {"code": "OWN"}]),
        "metadata": st.sampled_from([{"a": 1}, 5]),
    },
)


@given(st.lists(_envelopes, max_size=20), st.randoms(use_true_random=False))
def test_the_events_do_not_depend_on_the_cuts(said: list[dict[str, Any]], rng: random.Random) -> None:
    """Whole or in pieces, the same events and the same answers come of it."""
    wire = b"".join(frame(json.dumps(envelope).encode()) for envelope in said)
    cuts = sorted(rng.randint(0, len(wire)) for _ in range(5))
    whole, cut = EnvelopeClient(limits=SMALL), EnvelopeClient(limits=SMALL)
    whole.say_raw(wire)
    for a, b in pairwise([0, *cuts, len(wire)]):
        cut.say_raw(wire[a:b])
    assert [one for one in cut.take() if not isinstance(one, events.Received)] == [
        one for one in whole.take() if not isinstance(one, events.Received)
    ]
    assert cut.hear() == whole.hear()
    assert cut.machine.unread_bytes == whole.machine.unread_bytes


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_no_messages_crash_it(messages: list[bytes]) -> None:
    """Each is answered at most once, the connection lives, and a good call is served afterwards."""
    client = EnvelopeClient()
    client.say_raw(b"".join(map(frame, messages)))
    assert client.machine.failure is None
    assert len(client.hear()) <= len(messages)
    assert client.start("request", "ping", "good") > 0


class _Server:
    """Handlers that do whatever a test says to all streams that are alive."""

    def __init__(self, client: EnvelopeClient) -> None:
        self.client = client
        self.seen: set[int] = set()
        self.ends: list[str] = []
        machine = client.machine
        self.commands: dict[str, Callable[[int], object]] = {
            "wait": machine.is_writable,
            "end": self._end,
            "reset": machine.reset,
            "stop": machine.stop,
            "consume": self._consume,
            "release": machine.release,
        }

    def act(self, command: str) -> None:
        for number in self.seen:
            if self.client.machine.get(number) is not None:
                self.commands[command](number)

    def hear(self) -> None:
        self.ends += [one["id"] for one in self.client.hear() if one["type"] in {"stream:end", "response"}]

    def look(self) -> None:
        self.seen |= {event.stream_id for event in self.client.take() if isinstance(event, events.Opened)}

    def _end(self, number: int) -> None:
        machine = self.client.machine.get(number)
        if machine is not None and machine.send_state.value == "open":
            self.client.machine.send(number, [b"1"])
            self.client.machine.end(number)

    def _consume(self, number: int) -> None:
        machine = self.client.machine.get(number)
        assert machine is not None
        credit = machine.receive_credit
        self.client.machine.consume(number, credit.items - credit.consumed_items, credit.unconsumed_bytes)


_COMMANDS = ["say", "say", "wait", "end", "reset", "stop", "consume", "release", "hear", "late"]


@given(st.lists(st.tuples(st.sampled_from(_COMMANDS), _envelopes), max_size=30))
def test_any_order_of_commands_and_envelopes_leaves_nothing_behind(steps: list[tuple[str, dict[str, Any]]]) -> None:
    """Each stream is answered with one end at most, counts fit, and all is gone when everything was released."""
    client = EnvelopeClient(limits=SMALL)
    server = _Server(client)
    for step, envelope in steps:
        if step == "say":
            client.say(envelope)
        elif step == "hear":
            server.hear()
        elif step == "late":
            client.machine.handle_deadline(client.now + 100)
        else:
            server.act(step)
        server.look()
        assert client.machine.unread_bytes >= 0
    server.act("release")
    server.hear()
    assert client.machine.stream_count == 0
    assert client.machine.unread_bytes == client.machine.queued_bytes == 0
    assert client.machine.wants_input
    assert len(server.ends) <= len(server.seen)

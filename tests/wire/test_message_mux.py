"""Deadlines of both roles: what is due first, and whose silence it is."""

from __future__ import annotations

import attrs
import pytest

from tests.wire.envelope_asking import Asking
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.wire.envelope import EnvelopeMachine
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits

CONFIG = ConnectionConfig(idle_timeout=10)


@attrs.define
class Signs:
    """A carrier that notes what it heard, and is asked to ping."""

    heard_at: float = 0.0
    pings: int = 0

    def ping_nowait(self) -> None:
        self.pings += 1


def make_server(signs: Signs | None, limits: MessageLimits | None = None) -> EnvelopeMachine:
    forms = {"sum": Form.UPLOAD}
    return EnvelopeMachine(find_form=forms.get, config=CONFIG, limits=limits or MessageLimits(), now=0.0, signs=signs)


def test_a_client_that_cannot_be_asked_may_be_silent() -> None:
    """The dialect has no ping of its own: without a carrier that has, nothing is due."""
    server = make_server(None)
    assert server.next_deadline() is None
    server.handle_deadline(1e9)
    assert server.failure is None


def test_a_client_that_answers_the_carriers_pings_stays() -> None:
    """Though it says nothing for ever; one ping for each half of `idle_timeout`."""
    signs = Signs()
    server = make_server(signs)
    for _ in range(20):
        now = server.next_deadline()
        assert now is not None
        server.handle_deadline(now)
        signs.heard_at = now if signs.pings else 0.0
    assert server.failure is None
    assert now == pytest.approx(100, abs=10)
    assert 9 <= signs.pings <= 20


def test_a_client_that_answers_no_ping_is_given_up() -> None:
    """After `idle_timeout`, and it is told why."""
    signs = Signs()
    server = make_server(signs)
    server.receive(frame(b'{"type":"pong"}'), 1.0)
    signs.heard_at = 1.0
    for now in (5.0, 6.0, 10.9):
        server.handle_deadline(now)
        assert server.failure is None
    assert signs.pings == 1
    server.handle_deadline(11.0)
    assert server.failure is not None
    assert (server.failure.code, server.failure.field) == (Code.IDLE_TIMEOUT, "idle_timeout")
    assert b"IDLE_TIMEOUT" in server.to_send(11.0, 1_000)
    assert server.next_deadline() is None
    server.handle_deadline(12.0)


def test_what_is_due_first_counts() -> None:
    """A message that does not end, or a silence."""
    server = make_server(Signs(), MessageLimits(message_timeout=3))
    assert server.next_deadline() == 5.0
    server.receive(b"\0", 1.0)
    assert server.next_deadline() == 4.0


def test_a_silence_of_our_own_is_nobodys_fault() -> None:
    """While too much is unread nothing is read, so nothing is heard: the peer is not given up for it."""
    asking = Asking(CONFIG, MessageLimits(overflow_bytes=1_000, stall_timeout=100))
    number = asking.ask(Form.STREAM)
    asking.hear()
    asking.now = 1.0
    asking.answer({"id": str(number), "type": "stream:data", "payload": "x" * 2_000})
    for now in (6.0, 11.0, 50.0):
        asking.machine.handle_deadline(now)
    assert asking.machine.failure is None
    assert asking.hear() == []
    asking.consume(number, b"x" * 2_002)
    asking.machine.handle_deadline(55.0)
    assert [one["type"] for one in asking.hear()] == ["ping"]
    asking.machine.handle_deadline(60.0)
    assert isinstance(asking.take()[-1], events.Failed)

"""The client's machine: when a question leaves, what is refused here, and how it is taken back."""

from __future__ import annotations

import pytest

from tests.wire.envelope_asking import Asking
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.states import StreamState
from trio_streams.streams.machine import Machine
from trio_streams.wire.envelope_client import EnvelopeClientMachine
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_limits import MessageLimits


def said(asking: Asking) -> list[tuple[str, str]]:
    return [(one["id"], one["type"]) for one in asking.hear()]


def test_it_is_what_a_stream_asks_for() -> None:
    """A `Machine`, greeted from the start, with nothing to say."""
    asking = Asking()
    machine: Machine = asking.machine
    assert machine is asking.machine
    assert isinstance(asking.greeting[0], events.Greeted)
    assert asking.machine.can_open
    assert asking.hear() == []
    assert EnvelopeClientMachine(config=ConnectionConfig(), now=0.0).next_deadline() == 30.0


def test_a_question_leaves_with_its_item() -> None:
    """A call when it is sent, a stream of items when it is begun."""
    asking = Asking()
    asking.ask(Form.CALL, "a", is_ended=False)
    assert asking.hear() == []
    asking.machine.send(1, [b"1"])
    asking.machine.end(1)
    asking.ask(Form.UPLOAD, "b", is_ended=False)
    assert sorted(said(asking)) == [("1", "request"), ("3", "stream:start")]


def test_a_deadline_travels_as_a_time_of_day() -> None:
    """What is left of it when the stream is begun, in milliseconds."""
    asking = Asking(epoch=1_000.0)
    asking.now = 5.0
    asking.ask(Form.CALL, timeout_ms=2_500)
    (request,) = asking.hear()
    assert request["metadata"] == {"x-deadline": "1007500"}


def test_higher_priorities_go_first() -> None:
    """Though the server knows nothing of them."""
    asking = Asking()
    asking.ask(Form.CALL, "low")
    asking.ask(Form.CALL, "high", priority=5)
    assert [one["procedure"] for one in asking.hear()] == ["high", "low"]


# -- what is refused here -------------------------------------------------------------------------------------------


def test_what_was_not_begun_takes_nothing() -> None:
    """Nobody has said what it is to be; and it is begun once, and not after its end."""
    asking = Asking()
    number = asking.machine.open("thing")
    with pytest.raises(LocalProtocolError, match="nobody said"):
        asking.machine.send(number, [b"1"])
    with pytest.raises(LocalProtocolError, match="nobody said"):
        asking.machine.end(number)
    asking.machine.begin(number, Form.CALL, 0.0)
    with pytest.raises(LocalProtocolError, match="twice"):
        asking.machine.begin(number, Form.CALL, 0.0)
    asking.machine.release(number)
    with pytest.raises(LocalProtocolError, match="over"):
        asking.machine.begin(number, Form.CALL, 0.0)
    assert asking.hear() == []


@pytest.mark.parametrize("form", [Form.CALL, Form.EVENT, Form.STREAM])
def test_one_question_has_one_item(form: Form) -> None:
    """A second one is refused, and the first goes."""
    asking = Asking()
    number = asking.ask(form, "thing", b"1", is_ended=False)
    for more in ([b"2"], [b"2", b"3"]):
        with pytest.raises(LocalProtocolError, match="more than one item"):
            asking.machine.send(number, more)
    assert len(asking.hear()) == 1


@pytest.mark.parametrize("field", ["max_text_bytes", "max_message_bytes"])
@pytest.mark.parametrize("form", [Form.CALL, Form.UPLOAD])
def test_an_item_that_the_server_would_not_take_is_refused(form: Form, field: str) -> None:
    """It would end the connection there; the error has the limit, and what fits passes whole."""
    asking = Asking(limits=MessageLimits(**{field: 1_000}), is_text=field == "max_text_bytes")
    number = asking.ask(form, is_ended=False)
    with pytest.raises(LocalProtocolError) as caught:
        asking.machine.send(number, [b"1" * 1_000])
    error = caught.value
    assert (error.field, error.size, error.code) == (field, 1_000, Code.MESSAGE_TOO_LARGE)
    assert error.limit is not None
    assert asking.machine.send(number, [b"1" * error.limit]) == 1
    assert asking.machine.send(number, []) == 0
    asking.machine.end(number)
    data = b""
    while asking.machine.has_output:
        data += asking.machine.to_send(0.0, 65_536)
    assert len(data) < 1_200


def test_more_streams_than_allowed_wait() -> None:
    """`max_streams` counts those that are open."""
    asking = Asking(ConnectionConfig(max_streams=1, idle_timeout=None))
    asking.ask(Form.CALL)
    with pytest.raises(LocalProtocolError) as caught:
        asking.machine.open("more")
    assert caught.value.field == "max_streams"


def test_a_status_has_no_place_in_one_envelope() -> None:
    """The question goes as it is, once."""
    asking = Asking()
    number = asking.ask(Form.CALL, "thing", is_ended=False)
    asking.machine.end(number, records.Status("OWN"), {"t": "1"})
    assert said(asking) == [("1", "request")]
    upload = asking.ask(Form.UPLOAD, "thing", is_ended=False)
    asking.machine.end(upload, records.Status("OWN"))
    assert said(asking) == [("3", "stream:start"), ("3", "stream:error")]


# -- taking back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_question_that_has_not_left_never_does(is_begun: bool) -> None:
    """Whoever stops waits for nothing, and the server hears of nothing."""
    asking = Asking()
    number = asking.machine.open("thing")
    if is_begun:
        asking.machine.begin(number, Form.CALL, 0.0)
        asking.machine.send(number, [b"1"])
        asking.machine.end(number)
    asking.machine.stop(number)
    assert asking.hear() == []
    assert asking.machine.stream_count == asking.machine.queued_bytes == 0


def test_a_reset_of_what_has_not_left_ends_its_answer() -> None:
    """Whoever waits for it is told, once, and the driver is woken to do so."""
    asking = Asking()
    number = asking.ask(Form.CALL)
    asking.machine.reset(number, Code.ABORTED, "changed my mind")
    assert asking.machine.has_output
    assert asking.take() == [events.Reset(number, Code.ABORTED, "changed my mind")]
    asking.machine.reset(number)
    asking.machine.stop(number)
    assert asking.take() == []
    assert asking.hear() == []
    assert asking.machine.state(number) is StreamState.CLOSED


def test_what_was_stopped_before_it_was_reset() -> None:
    """One end is enough."""
    asking = Asking()
    number = asking.machine.open("thing")
    asking.machine.reset(number)
    asking.machine.stop(number)
    assert [type(event) for event in asking.take()] == [events.Reset]


def test_leaving_a_conversation_does_not_overtake_what_was_said() -> None:
    """Its items and its end go first, then the cancel; nothing else of the answer is wanted."""
    asking = Asking()
    number = asking.ask(Form.BIDIRECTIONAL, "chat", b"1", b"2")
    asking.machine.stop(number)
    assert [kind for _, kind in said(asking)] == ["stream:start", "stream:data", "stream:data", "stream:end", "cancel"]
    assert asking.machine.stream_count == 0


@pytest.mark.parametrize(("is_ended", "kinds"), [(True, ["cancel"]), (False, [])])
def test_a_conversation_that_has_ended_here_is_cancelled_at_once(is_ended: bool, kinds: list[str]) -> None:
    """While ours is open, the other side may still want to hear it."""
    asking = Asking()
    number = asking.ask(Form.BIDIRECTIONAL, "chat", is_ended=is_ended)
    asking.hear()
    asking.machine.stop(number)
    assert [kind for _, kind in said(asking)] == kinds


def test_cancelling_drops_what_is_queued() -> None:
    """Both directions end at once."""
    asking = Asking()
    number = asking.ask(Form.BIDIRECTIONAL, "chat", b"1", is_ended=False)
    asking.machine.reset(number, Code.CANCELLED)
    asking.machine.stop(number, Code.CANCELLED)
    assert [kind for _, kind in said(asking)] == ["stream:start", "stream:error", "cancel"]
    assert asking.machine.stream_count == asking.machine.queued_bytes == 0


def test_too_late_is_no_fault() -> None:
    """What is over can be reset, stopped and released."""
    asking = Asking()
    asking.machine.reset(1)
    asking.machine.stop(1)
    asking.machine.release(1)
    assert asking.hear() == []


def test_a_sender_goes_on_when_half_a_window_has_left() -> None:
    """The window is ours: the server grants none."""
    asking = Asking(limits=MessageLimits(send_window_items=4))
    number = asking.ask(Form.UPLOAD, is_ended=False)
    assert asking.machine.send(number, [b"1"] * 10) == 4
    asking.hear()
    assert events.Writable(number) in asking.take()


# -- signs of life --------------------------------------------------------------------------------------------------


def test_a_silent_server_is_asked_and_then_given_up() -> None:
    """At half of `idle_timeout`, and at all of it."""
    asking = Asking(ConnectionConfig(idle_timeout=10))
    assert asking.machine.next_deadline() == 5.0
    asking.machine.handle_deadline(5.0)
    assert said(asking) == [("p1", "ping")]
    asking.machine.handle_deadline(10.0)
    assert asking.machine.failure is not None
    assert asking.machine.failure.code is Code.IDLE_TIMEOUT

"""The machine of a relay: who hears what, how far ahead a sender may be, and who is told that a peer has left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trio_streams.errors import LocalProtocolError
from trio_streams.wire.signal_relay import RelayLimits, RelayMachine, RelayMember


def taken(machine: RelayMachine, member: RelayMember) -> list[Any]:
    """What waits for a peer, decoded."""
    return [json.loads(one) for one in machine.take(member, 1 << 30)]


def joined(machine: RelayMachine, topic: str = "room", **options: Any) -> RelayMember:
    """A peer that has taken its welcome."""
    member, _ = machine.join(topic, 0.0, **options)
    machine.take(member, 1 << 30)
    return member


def request(to: str | None = None, sender: str | None = None, request_id: str = "r1") -> bytes:
    """A request as a peer sends it."""
    message = {"category": "request", "requestId": request_id, "data": 1, "to": to, "from": sender}
    return json.dumps({name: value for name, value in message.items() if value is not None}).encode()


def test_a_peer_is_welcomed() -> None:
    """The first message tells a peer its id, and the secret that brings the id back."""
    machine = RelayMachine()
    member, replaced = machine.join("room", 0.0)
    assert replaced is None
    assert taken(machine, member) == [
        {
            "category": "welcome",
            "clientId": member.client_id,
            "sessionId": member.session_id,
            "restoredSession": False,
        }
    ]
    assert machine.members == (member,)
    assert len(member.session_id) == 64


def test_a_topic_hears_what_has_no_address() -> None:
    """A message without `to` goes to all others on the topic, as it came, and to nobody else."""
    machine = RelayMachine()
    one, two, three = (joined(machine) for _ in range(3))
    other = joined(machine, "elsewhere")
    text = b'{"type":"StreamData", "streamId":"s","payload":1}'
    machine.receive(one, text)
    assert machine.take(two, 1 << 30) == machine.take(three, 1 << 30) == [text]
    assert machine.take(one, 1 << 30) == machine.take(other, 1 << 30) == []


def test_what_has_an_address_goes_there_alone() -> None:
    """A message with `to` reaches that peer, on whatever topic it is, requests and stream messages alike."""
    machine = RelayMachine()
    one, two, other = joined(machine), joined(machine), joined(machine, "elsewhere")
    machine.receive(one, request(other.client_id, one.client_id))
    machine.receive(one, b'{"type":"StreamEnd","streamId":"s","to":"%s"}' % other.client_id.encode())
    assert [each.get("category", each.get("type")) for each in taken(machine, other)] == ["request", "StreamEnd"]
    assert taken(machine, two) == []


def test_pings_are_answered_here() -> None:
    """A ping comes back as a pong with its timestamp; nobody else hears of it, nor of pongs and welcomes."""
    machine = RelayMachine()
    one, two = joined(machine), joined(machine)
    machine.receive(one, b'{"category":"ping","timestamp":17}')
    machine.receive(one, b'{"category":"pong","timestamp":17}')
    machine.receive(one, b'{"category":"welcome","clientId":"x"}')
    assert taken(machine, one) == [{"category": "pong", "timestamp": 17}]
    assert taken(machine, two) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"nonsense", "INVALID_ARGUMENT"),
        (b'{"category":"request","requestId":"r","from":"somebody else"}', "PERMISSION_DENIED"),
        (b'{"category":"request","requestId":"' + b"r" * 200 + b'"}', "MESSAGE_TOO_LARGE"),
    ],
)
def test_what_is_wrong_is_told_to_its_sender(text: bytes, code: str) -> None:
    """A broken, forged or oversized message is answered with an error, and forwarded to nobody."""
    machine = RelayMachine(RelayLimits(max_message_bytes=200))
    one, two = joined(machine), joined(machine)
    machine.receive(one, text)
    (answer,) = taken(machine, one)
    assert (answer["category"], answer["details"]["code"]) == ("error", code)
    assert taken(machine, two) == []


def test_an_absent_peer_is_told_at_once() -> None:
    """A message to nobody is answered with its address, and a request with its id."""
    machine = RelayMachine()
    one = joined(machine)
    machine.receive(one, request("nobody"))
    machine.receive(one, b'{"type":"StreamEnd","streamId":"s","to":"nobody"}')
    first, second = taken(machine, one)
    assert first["error"] == "Target peer not found"
    assert first["details"] == {"code": "UNAVAILABLE", "field": "to", "targetId": "nobody", "requestId": "r1"}
    assert "requestId" not in second["details"]


def test_who_waits_for_a_peer_that_leaves_is_told() -> None:
    """A request that was not answered fails when its callee leaves; one that was answered does not."""
    machine = RelayMachine()
    one, two, three = joined(machine), joined(machine), joined(machine)
    machine.receive(one, request(two.client_id, request_id="answered"))
    machine.receive(one, request(two.client_id, request_id="open"))
    machine.receive(three, request(two.client_id, request_id="gone"))
    machine.receive(two, b'{"category":"response","requestId":"answered","to":"%s"}' % one.client_id.encode())
    machine.receive(two, b'{"category":"error","error":"x","requestId":"r","to":"%s"}' % one.client_id.encode())
    machine.receive(two, b'{"category":"error","error":"x","to":"%s"}' % one.client_id.encode())
    taken(machine, one)
    machine.leave(three, 0.0)
    machine.leave(two, 0.0)
    (told,) = taken(machine, one)
    assert told["error"] == "Target peer left"
    assert told["details"] == {"code": "UNAVAILABLE", "targetId": two.client_id, "requestId": "open"}


def test_requests_that_are_remembered_are_bounded() -> None:
    """Past `max_pending_requests` the oldest is forgotten."""
    machine = RelayMachine(RelayLimits(max_pending_requests=2))
    one, two = joined(machine), joined(machine)
    for number in range(3):
        machine.receive(one, request(two.client_id, request_id=str(number)))
    machine.leave(two, 0.0)
    assert [each["details"]["requestId"] for each in taken(machine, one)] == ["1", "2"]


def test_a_sender_waits_for_who_does_not_read() -> None:
    """Past `max_queued_bytes` for a hearer the sender is not read, until there is room or the hearer has left."""
    machine = RelayMachine(RelayLimits(max_queued_bytes=200))
    one, two, three = joined(machine), joined(machine), joined(machine, "elsewhere")
    text = b'{"type":"StreamData","streamId":"s","payload":"' + b"x" * 100 + b'"}'
    machine.receive(one, text)
    assert machine.is_open(one)
    machine.receive(one, text)
    assert not machine.is_open(one)
    assert not machine.is_open(two)  # what it owes itself is not taken
    assert machine.is_open(three)
    assert machine.take(two, 1) == [text]
    assert machine.is_open(one)
    machine.receive(one, text)
    assert not machine.is_open(one)
    machine.leave(two, 0.0)
    assert machine.is_open(one)


def test_a_session_brings_its_id_back_for_a_while() -> None:
    """A peer that has left has its id again by its session id, once, within `max_session_age`."""
    machine = RelayMachine(RelayLimits(max_session_age=10))
    one = joined(machine)
    machine.leave(one, 5.0)
    machine.leave(one, 5.0)
    again, replaced = machine.join("room", 14.9, session_id=one.session_id)
    assert replaced is None
    assert (again.client_id, again.session_id) == (one.client_id, one.session_id)
    assert taken(machine, again)[0]["restoredSession"] is True
    machine.leave(again, 20.0)
    late, _ = machine.join("room", 30.0, session_id=one.session_id)
    assert late.client_id != one.client_id
    assert late.session_id != one.session_id
    assert taken(machine, late)[0]["restoredSession"] is False


def test_a_session_takes_over_from_a_connection_that_is_still_there() -> None:
    """Whoever comes back before its old connection is noticed to be dead replaces it; a wrong id replaces nobody."""
    machine = RelayMachine()
    bystander = joined(machine)
    one = joined(machine)
    again, replaced = machine.join("room", 0.0, session_id=one.session_id)
    assert replaced is one
    assert set(machine.members) == {bystander, again}
    machine.leave(one, 0.0)
    assert set(machine.members) == {bystander, again}
    stranger, replaced = machine.join("room", 0.0, session_id="guessed")
    assert replaced is None
    assert stranger.client_id not in (one.client_id, bystander.client_id)


def test_members_and_sessions_are_bounded() -> None:
    """No peer too many is let in, and of those that have left the oldest is forgotten."""
    machine = RelayMachine(RelayLimits(max_members=2, max_sessions=1))
    one, two = joined(machine), joined(machine, "elsewhere")
    with pytest.raises(LocalProtocolError, match="peer number 3: max_members is 2"):
        machine.join("room", 0.0)
    machine.leave(one, 0.0)
    machine.leave(two, 0.0)
    again, _ = machine.join("room", 0.0, session_id=one.session_id)
    assert again.client_id != one.client_id
    again, _ = machine.join("room", 0.0, session_id=two.session_id)
    assert again.client_id == two.client_id


def test_output_is_told_of_once_and_taken_in_parts() -> None:
    """Peers with something new are listed once; `take` keeps to its limit but for one message."""
    machine = RelayMachine()
    one, two = joined(machine), joined(machine)
    list(machine.take_ready())
    text = b'{"type":"StreamEnd","streamId":"s"}'
    for _ in range(3):
        machine.receive(one, text)
    assert list(machine.take_ready()) == [two]
    assert list(machine.take_ready()) == []
    assert machine.take(two, 2 * len(text)) == [text, text]
    assert machine.take(two, 1) == [text]
    assert machine.take(two, 1) == []
    assert two.queued_bytes == 0

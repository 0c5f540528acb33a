"""Where forks diverge."""

from __future__ import annotations

import json

import pytest

from tests.durable.protocol.driving import Rig
from trio_streams.durable.protocol.entries import MAX_ENTRY_BYTES
from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.offsets import format_offset
from trio_streams.durable.protocol.operations import Append, Create, Fork, Read
from trio_streams.durable.protocol.refusals import Refused

JSON = "application/json"


def make(*bodies: bytes, content_type: str = "application/octet-stream") -> Rig:
    """A rig with a stream at `a` of some appends."""
    rig = Rig()
    rig.run(rig.machine.create(Create("a", content_type)))
    for body in bodies:
        rig.run(rig.machine.append(Append("a", content_type), body))
    return rig


def fork(rig: Rig, position: int | None, sub_offset: int = 0, *, source: str = "a", path: str = "f") -> bytes:
    """What a new fork holds."""
    offset = None if position is None else format_offset(position)
    rig.run(rig.machine.create(Create(path, fork=Fork(source, offset, sub_offset))))
    chunk = rig.run(rig.machine.read(Read(path)))
    return to_array(chunk.pieces) if chunk.state.is_json else b"".join(chunk.pieces)


def refusal(rig: Rig, position: int | None, sub_offset: int = 0, *, source: str = "a") -> int:
    with pytest.raises(Refused) as caught:
        fork(rig, position, sub_offset, source=source, path="other")
    return caught.value.status


@pytest.mark.parametrize(
    ("position", "sub_offset", "expected"),
    [
        (None, 0, b"firstsecond"),
        (11, 0, b"firstsecond"),
        (0, 0, b""),
        (5, 3, b"firstsec"),
        (0, 5, b"first"),
        (3, 1, b"firs"),
    ],
)
def test_binary_forks(position: int | None, sub_offset: int, expected: bytes) -> None:
    """A fork holds what is before its offset, and as many bytes behind it as its sub-offset says."""
    assert fork(make(b"first", b"second"), position, sub_offset) == expected


@pytest.mark.parametrize(("position", "sub_offset"), [(0, 6), (5, 7), (11, 1), (None, 1), (12, 0)])
def test_binary_places_that_are_none(position: int | None, sub_offset: int) -> None:
    """A sub-offset ends with the append that it lies in, an offset with the stream."""
    assert refusal(make(b"first", b"second"), position, sub_offset) == 400


def test_a_sub_offset_of_a_long_append() -> None:
    """A long append lies in several entries, and a sub-offset may lie in any of them."""
    body = bytes(MAX_ENTRY_BYTES) + b"behind"
    assert len(fork(make(body, b"next"), 0, MAX_ENTRY_BYTES + 4)) == MAX_ENTRY_BYTES + 4
    assert refusal(make(body, b"next"), 0, MAX_ENTRY_BYTES + 7) == 400
    assert refusal(make(bytes(MAX_ENTRY_BYTES)), 0, MAX_ENTRY_BYTES + 1) == 400


@pytest.mark.parametrize(
    ("position", "sub_offset", "expected"),
    [(None, 0, [1, 22, 3]), (0, 1, [1]), (0, 2, [1, 22]), (5, 1, [1, 22, 3]), (5, 0, [1, 22]), (0, 0, [])],
)
def test_json_forks(position: int | None, sub_offset: int, expected: list[int]) -> None:
    """In a JSON stream a sub-offset counts messages."""
    assert json.loads(fork(make(b"[1, 22]", b"3", content_type=JSON), position, sub_offset)) == expected


@pytest.mark.parametrize(("position", "sub_offset"), [(0, 3), (5, 2), (2, 0), (2, 1), (7, 1)])
def test_json_places_that_are_none(position: int, sub_offset: int) -> None:
    """An offset that was never given, and more messages than its append has, are refused."""
    assert refusal(make(b"[1, 22]", b"3", content_type=JSON), position, sub_offset) == 400


def test_forks_of_forks() -> None:
    """Sub-offsets compose along a lineage, also where a fork begins within an entry of its source."""
    rig = make(b"[1,2,3]", content_type=JSON)
    assert json.loads(fork(rig, 0, 2)) == [1, 2]
    rig.run(rig.machine.append(Append("f", JSON), b"[4,5]"))
    assert json.loads(fork(rig, 0, 1, source="f", path="g")) == [1]
    assert json.loads(fork(rig, 4, 1, source="f", path="h")) == [1, 2, 4]
    assert refusal(rig, 0, 3, source="f") == 400
    rig.run(rig.machine.append(Append("g", JSON), b"9"))
    chunk = rig.run(rig.machine.read(Read("g", 2)))
    assert to_array(chunk.pieces) == b"[9]"
    with pytest.raises(Refused, match="none that this server gave"):
        rig.run(rig.machine.read(Read("f", 2)))


def test_forks_of_what_is_not_there() -> None:
    """A missing source is 404, a deleted one 409."""
    rig = make(b"ab")
    assert refusal(rig, None, source="x") == 404
    fork(rig, None)
    rig.run(rig.machine.delete("a"))
    with pytest.raises(Refused) as caught:
        fork(rig, None, path="g")
    assert caught.value.status == 409


def test_a_source_that_lost_its_bytes() -> None:
    """Where the store has nothing at an offset there is nothing to fork."""
    rig = make(b"ab")
    rig.store._streams[rig.run(rig.machine.head("a")).stream_id].entries.clear()
    assert refusal(rig, 1) == 400


def test_forking_waits_for_what_it_looks_at() -> None:
    """A fork at an offset looks at entries, which are there when they are durable."""
    rig = make(b"ab")
    rig.store.is_late = True
    late = rig.machine.append(Append("a", "application/octet-stream"), b"cd")
    late.send(rig.satisfy(next(late)))
    assert fork(rig, 2, 1) == b"abc"


def test_a_source_that_goes_while_it_is_looked_at() -> None:
    """A source that is replaced while its entries are read is looked at again."""
    rig = make(b"ab")
    slow = rig.machine.create(Create("f", fork=Fork("a", format_offset(1))))
    need = next(slow)
    for _ in range(2):
        need = slow.send(rig.satisfy(need))
    result = rig.satisfy(slow.send(rig.satisfy(need)))
    rig.run(rig.machine.delete("a"))
    rig.run(rig.machine.create(Create("a", "text/plain"), b"xyz"))
    with pytest.raises(StopIteration):
        while True:
            need = slow.send(result)
            result = rig.satisfy(need)
    assert b"".join(rig.run(rig.machine.read(Read("f"))).pieces) == b"x"

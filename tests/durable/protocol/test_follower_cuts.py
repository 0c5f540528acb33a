"""A reader gives out each byte once, however answers are cut, and however they come in chunks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tests.durable.protocol.model_server import ModelStream, follower, take, text_of
from trio_streams.durable.protocol.follower import Follower, Mode, Phase
from trio_streams.durable.protocol.reading import ReaderConfig
from trio_streams.durable.protocol.retry import RetryOptions
from trio_streams.durable.types import LiveMode

cuts = st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=12)
"""For each answer, the byte behind which the connection breaks; None for a whole one."""
sizes = st.integers(1, 20)


def drive(
    machine: Follower, stream: ModelStream, broken: Iterable[int | None], most: Iterable[int], size: int
) -> bytes:
    """Run a reader against a stream until it is up to date or ended; what it gave out."""
    given_out = b""
    breaks, counts = iter(broken), iter(most)
    now = 0.0
    while machine.phase is not Phase.ENDED:
        now += 10.0
        if machine.phase is Phase.WAITING:
            machine.handle_deadline(now)
        answer = stream.answer(machine.request(now), next(counts))
        assert machine.receive_head(answer.status, answer.headers, now)
        cut = next(breaks, None)
        body = answer.body if cut is None else answer.body[:cut]
        for start in range(0, len(body), size):
            if machine.phase is Phase.READING:
                machine.receive(body[start : start + size], now)
        if machine.phase is Phase.READING:
            if cut is None:
                machine.receive_end(now)
            else:
                assert machine.lose(now)
        pieces = take(machine)
        given_out += b"".join(part for piece in pieces for part in piece.parts)
        if machine.is_following and any(piece.is_up_to_date for piece in pieces):
            return given_out
    assert machine.failure is None
    return given_out


@given(st.lists(st.binary(max_size=30), max_size=12), cuts, st.lists(sizes, min_size=1), sizes, sizes, st.booleans())
def test_bytes_come_once_however_answers_are_cut(
    messages: list[bytes], broken: list[int | None], most: list[int], size: int, piece: int, closed: bool
) -> None:
    """Bytes that were given out of an answer that broke off are skipped in the next one, however long that is."""
    stream = ModelStream(messages, is_closed=closed)
    machine = follower(config=ReaderConfig(max_piece_bytes=piece), retry=RetryOptions(max_retries=None))
    assert drive(machine, stream, broken, itertools.cycle(most), size) == stream.data
    assert machine.offset == text_of(stream.tail)


@given(st.lists(st.integers(), max_size=12), cuts, st.lists(sizes, min_size=1), sizes, st.sampled_from([False, "sse"]))
def test_json_comes_once_and_whole(
    values: list[int], broken: list[int | None], most: list[int], size: int, live: LiveMode
) -> None:
    """Of a JSON answer that broke off nothing is given out: each piece is an array, and together they are the stream."""
    stream = ModelStream([str(value).encode() for value in values], "application/json", is_closed=True)
    machine = follower(live, config=ReaderConfig(max_piece_bytes=1), retry=RetryOptions(max_retries=None))
    machine.takes_whole = True
    if live == "sse":
        machine.mode = Mode.SSE  # from the beginning, so that events bring everything
        machine.is_following = False
    read = drive(machine, stream, broken, itertools.cycle(most), size)
    assert [value for part in _batches(read) for value in part] == values


def _batches(read: bytes) -> list[list[int]]:
    return [json.loads(part + b"]") for part in read.split(b"]") if part]


@given(st.lists(st.binary(max_size=30), max_size=12), cuts, st.lists(sizes, min_size=1), sizes)
def test_events_come_once_however_connections_are_cut(
    messages: list[bytes], broken: list[int | None], most: list[int], size: int
) -> None:
    """What a broken connection leaves of an event comes again, and nothing before it does; also base64."""
    stream = ModelStream(messages, is_closed=True)
    machine = follower("sse", retry=RetryOptions(max_retries=None))
    machine.mode = Mode.SSE
    assert drive(machine, stream, broken, itertools.cycle(most), size) == stream.data
    assert machine.offset == text_of(stream.tail)

"""A client or a server is killed after every byte of a conversation with every kind of frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.faults.readers import Readers
from tests.faults.traces import FROM_CLIENT, FROM_SERVER, KINDS, Said, Spoken, join, offsets, said_by
from trio_streams.testing.peers import live_tasks
from trio_streams.transports import MemoryCarrier, memory_carrier_pair

_HELLO_BYTES: Final = len(join(FROM_SERVER[:2]))


async def _kill(far: MemoryCarrier, ending: str) -> None:
    if ending == "fin":
        await far.aclose()
    else:
        far.lose()


async def _drain(far: MemoryCarrier) -> None:
    while await far.receive():
        pass


async def _strike(readers: Readers, side: str, data: bytes, ending: str, *, settles: bool) -> None:
    """One side hears the data and then the other one dies; it must come to its end by itself."""
    near, far = memory_carrier_pair()
    run = readers.serve if side == "server" else readers.call
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, near)
            await wait_all_tasks_blocked()
            await far.send(data[:_HELLO_BYTES])
            await wait_all_tasks_blocked()  # a client opens its streams once it has been greeted
            await far.send(data[_HELLO_BYTES:])
            if settles:
                await wait_all_tasks_blocked()
            await _kill(far, ending)


def _check(readers: Readers, expected: dict[int, Said], *, is_server: bool) -> None:
    """What was read is what was said, frame by frame, and each stream has one ending."""
    assert readers.running == 0
    for stream_id, said in readers.streams.items():
        known = expected.get(stream_id, Said())
        if is_server and stream_id == 5:
            continue  # it sends, and reads nothing
        ending = known.ending or "lost"
        assert (stream_id, said.ending) == (stream_id, ending)
        if ending == "reset":
            continue  # what was not taken is dropped
        assert (stream_id, said.items) == (stream_id, known.items)


@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize(
    ("side", "heard"), [("server", FROM_CLIENT), ("client", FROM_SERVER)], ids=["server", "client"]
)
async def test_the_other_side_is_killed(
    side: str, heard: Sequence[Spoken], ending: str, autojump_clock: MockClock
) -> None:
    """After every byte: items as far as their frames are whole, one ending for each open stream, and no task left.

    A stream is only ever ended, reset or failed by the frame that says so, and by its last byte.
    """
    data = join(heard)
    before = live_tasks()
    for size in offsets(heard):
        readers = Readers()
        await _strike(readers, side, data[:size], ending, settles=True)
        expected = said_by(heard, size)
        if side == "client":
            assert (readers.refused is not None) == (size < _HELLO_BYTES)
            assert len(readers.streams) == (0 if size < _HELLO_BYTES else 5)
        else:
            assert set(readers.streams) == set(expected)
        _check(readers, expected, is_server=side == "server")
        assert live_tasks() == before, size


@pytest.mark.parametrize(
    ("side", "heard"), [("server", FROM_CLIENT), ("client", FROM_SERVER)], ids=["server", "client"]
)
async def test_killed_in_the_same_breath(side: str, heard: Sequence[Spoken], autojump_clock: MockClock) -> None:
    """Where the last bytes and the end come together, what is read is a prefix, and no ending is made up."""
    data = join(heard)
    before = live_tasks()
    for size in offsets(heard):
        readers = Readers()
        await _strike(readers, side, data[:size], "fin", settles=False)
        expected = said_by(heard, size)
        assert readers.running == 0
        for stream_id, said in readers.streams.items():
            known = expected.get(stream_id, Said())
            assert said.items == known.items[: len(said.items)] or known.ending == "reset"
            assert said.ending in {known.ending, "lost", ""}
        assert live_tasks() == before, size


@pytest.mark.parametrize(
    ("heard", "unsaid"), [(FROM_CLIENT, {"HEADER"}), (FROM_SERVER, {"OPEN"})], ids=["client", "server"]
)
def test_every_kind_of_frame_is_struck(heard: Sequence[Spoken], unsaid: set[str]) -> None:
    """The conversations hold every kind of frame that their side may send."""
    assert {one.kind for one in heard} == KINDS - unsaid

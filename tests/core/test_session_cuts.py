"""Sessions over a line that is cut anywhere: between frames and inside them, while they greet and while they replay."""

from __future__ import annotations

import random

import pytest

from tests.core.sessions import Talk, make_line
from tests.core.support import consume, items, only
from trio_streams.core import events

RUNS_PER_TEST = 50


@pytest.mark.parametrize("first", range(0, 1_000, RUNS_PER_TEST))
def test_every_item_arrives_once_and_in_order(first: int) -> None:
    """A thousand seeded talks, both ways, each cut many times: every item once and in order, every end once."""
    cuts = 0
    for seed in range(first, first + RUNS_PER_TEST):
        talk = Talk(random.Random(seed))
        talk.run()
        cuts += talk.cuts
    assert cuts > RUNS_PER_TEST


def _conversation(size: int, side: int) -> tuple[list[bytes], list[bytes], bool]:
    """A fixed one that is cut when so many bytes of one side have arrived: what was said, what was heard, and if it was cut."""
    line = make_line()
    said = [b"%d" % n * 40 for n in range(12)] + [bytes(20_000)]
    stream = line.client.open("s")
    left, is_cut = size, False
    line.client.send(stream, said)
    line.client.end(stream)
    while line.write(side) or line.write(1 - side):
        line.deliver(1 - side)
        arrives = len(line.under_way[side])
        if not is_cut and arrives >= left:
            line.deliver(side, left)
            line.cut()
            line.mend()
            is_cut = True
        else:
            line.deliver(side)
            left -= arrives
    line.settle()
    happened = line.take(1)
    heard = items(happened, stream)
    consume(line.server, stream, heard)
    assert len(only(events.Opened, happened)) == len(only(events.Ended, happened)) == 1
    return said, heard, is_cut


def test_a_cut_after_every_byte_of_the_first_frames() -> None:
    """Wherever between two bytes the line is cut, at a frame's end or inside it, nothing is lost and nothing comes twice."""
    for size in [*range(700), *range(700, 21_000, 997)]:
        said, heard, is_cut = _conversation(size, 0)
        assert (size, heard) == (size, said)
        assert is_cut == (size < 20_700), size

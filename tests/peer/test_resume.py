"""Peers whose network is cut: calls and streams of both directions go on, once and in order, or end with one clear error."""

from __future__ import annotations

import itertools
import random

import pytest
import trio
from trio.testing import MockClock

from tests.peer.cuts import Books, Cut, PeerSite, converse, open_peer_site, peer_of, random_cuts
from trio_streams.testing.peers import until

CALLS = 4
ITEMS = 12


async def _talk(cuts: list[Cut], seed: int = 0, *, calls: int = CALLS, items: int = ITEMS) -> PeerSite:
    """A conversation from both sides at once, over connections that are cut; what it has done was done once."""
    near, far = Books(), Books()
    with trio.fail_after(1_000):
        async with open_peer_site(far.declare, cuts=iter(cuts), seed=seed) as site, peer_of(site) as peer:
            near.declare(peer)
            await until(lambda: bool(site.peers))
            (other,) = site.peers
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_start, peer, other, calls, items)
                nursery.start_soon(_start, other, peer, calls, items)
            await until(lambda: len(near.told) == len(far.told) == calls)  # nobody answers these
            await peer.drain()
    for books in (near, far):
        assert books.calls == list(range(calls))
        assert sorted(books.told) == list(range(calls))
    assert len(site.connections) == 1
    return site


async def _start(peer: object, other: object, calls: int, items: int) -> None:
    await converse(peer, other, calls=calls, items=items)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_upwards", [True, False], ids=["up", "down"])
async def test_a_cut_at_every_frame(autojump_clock: MockClock, is_upwards: bool) -> None:
    """Before every frame, after its first byte, inside its header and inside its payload: nothing is lost or comes twice."""
    for frames in itertools.count():
        resumes = 0
        for more_bytes in (0, 1, 11, 13):
            site = await _talk([Cut(is_upwards, frames, more_bytes)])
            resumes += len(site.links) - 1
        if not resumes:
            break
    assert frames > 20


@pytest.mark.parametrize("first", range(0, 100, 20))
async def test_cuts_anywhere_and_often(autojump_clock: MockClock, first: int) -> None:
    """A hundred seeded runs, whose connections are cut in turn, while they greet and while they replay, in pieces of any size."""
    cut = 0
    for seed in range(first, first + 20):
        chance = random.Random(seed)
        site = await _talk(list(random_cuts(chance, 12)), seed, calls=6, items=chance.choice([5, 50, 600]))
        cut += len(site.links) - 1
    assert cut > 40

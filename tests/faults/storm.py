"""Weather in which one connection after the other is cut."""

from __future__ import annotations

import random

import attrs

from tests.faults.proxy import Cut, Ending, Weather

__all__ = ["Storm"]


@attrs.frozen
class Storm(Weather):
    """The first connections are cut, each somewhere else and in another way; the later ones are not, so that it ends."""

    most_cuts: int = 6

    def of(self, number: int) -> Weather:
        chance = random.Random(f"{self.seed} {number}")
        cut = None
        if number <= self.most_cuts:
            ending = chance.choices(list(Ending), [4, 4, 1])[0]
            least = 2_000 if number == 1 else 0  # before its first hello a client has no session yet
            cut = Cut(ending, chance.random() < 0.5, least + int(chance.expovariate(1 / 3_000)))
        return Weather(self.seed, self.max_chunk, self.latency, cut)

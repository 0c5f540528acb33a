"""`client.js` as one of two peers, in Node; the other one is ours."""

from __future__ import annotations

import pytest

from tests.browser.node import run_node
from tests.browser.resuming_site import open_resuming_site

SCENARIOS = [
    ("calls", "it calls: results, errors, cancellation, deadlines, messages without an answer"),
    ("answers", "it answers, and a caller that leaves aborts its handler's signal"),
    ("receives", "it receives streams, claimed before they begin or after; leaving one stops the sender"),
    ("forms", "it reads batches and bytes, keeps the order of streams, and refuses what it can't decode"),
    ("sends", "it sends streams; refused, aborted and broken ones end as they should at both ends"),
    ("unclaimed", "what nobody claims is bounded, and refused at both ends"),
    ("lost", "a lost connection ends everything with one error"),
]


@pytest.mark.parametrize("scenario", [name for name, _ in SCENARIOS])
async def test_a_scenario_holds(scenario: str) -> None:
    """What `SCENARIOS` says of each; the claims themselves are in `js/peers.mjs`."""
    async with open_resuming_site() as site:
        await run_node("peers.mjs", scenario, site.url, site.pages)


async def test_peers_go_on() -> None:
    """A second without a network, in the middle of calls and streams of both directions."""
    async with open_resuming_site() as site:
        outcome = await run_node("peers.mjs", "goesOn", site.url, site.pages, 1_000)
        assert outcome["sent"] > 2_000

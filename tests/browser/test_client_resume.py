"""`client.js` in Node, whose network goes away: sessions go on with another WebSocket, or end with one clear error."""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.browser.node import run_node
from tests.browser.resuming_site import ResumingSite, open_resuming_site
from tests.faults.proxy import Cut, Ending, Weather, open_proxy
from trio_streams.config import ResumeOptions

SCENARIOS = [
    ("closedMeanwhile", "a client that is closed, or aborted, while it is detached looks no further"),
    ("usedMeanwhile", "what is asked for meanwhile waits, what is given up is given up on the other side"),
    ("backpressure", "a sender waits at what is retained, and goes on"),
    ("silence", "a WebSocket over which nothing comes is given up, and the session goes on with another"),
    ("badOptions", "wrong options are named"),
]


@pytest.mark.parametrize("scenario", [name for name, _ in SCENARIOS])
async def test_a_scenario_holds(scenario: str) -> None:
    """What `SCENARIOS` says of each; the claims themselves are in `js/resume.mjs`."""
    async with open_resuming_site() as site:
        await run_node("resume.mjs", scenario, site.url, site.pages)


async def test_ten_seconds_without_a_network() -> None:
    """A stream, an upload and a call go on where they were, each item once and in order; ten seconds of real time."""
    async with open_resuming_site() as site:
        outcome = await run_node("resume.mjs", "goesOn", site.url, site.pages, 10_000, seconds=120)
        assert outcome["resumes"] == 1
        assert outcome["away"] >= 9_000
        assert site.outage.refused > 5


# A frame has up to 16 KiB: a network that never passes as many at once would never pass one.
CUTS = [
    Cut(Ending.FIN, is_upwards=True, after_bytes=20_011),
    Cut(Ending.RESET, is_upwards=True, after_bytes=33_347),
    Cut(Ending.FIN, is_upwards=False, after_bytes=21_013),
    Cut(Ending.RESET, is_upwards=False, after_bytes=47_017),
]


@pytest.mark.parametrize("cut", CUTS, ids=str)
async def test_carriers_that_are_cut_again_and_again(cut: Cut) -> None:
    """Each WebSocket is cut after so many bytes, wherever in a frame that is: every item once and in order."""
    async with open_resuming_site() as site:
        port = urlsplit(site.pages).port
        assert port is not None
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        here = listener.socket.getsockname()[1]
        weather = Weather(seed=cut.after_bytes, max_chunk=1_400, cut=cut)
        async with open_proxy(listener, partial(trio.open_tcp_stream, "127.0.0.1", port), weather):
            resumes = await run_node("resume.mjs", "manyCuts", f"ws://127.0.0.1:{here}/", 3_000, seconds=120)
        assert resumes >= 2


async def _end(site: ResumingSite, options: dict[str, object], cut: int) -> str:
    message = await run_node("resume.mjs", "tooOld", site.url, site.pages, options, cut)
    assert isinstance(message, str)
    return message


async def test_a_session_that_is_too_old_ends_everything_once() -> None:
    """Past maxSessionAge, past maxAttempts, and where the server has forgotten: one ConnectionLost that says which."""
    async with open_resuming_site(ResumeOptions(max_session_age=0.1)) as site:
        aged = await _end(site, {"resume": {"maxSessionAge": 300}}, 0)
        assert re.search(r"was lost and not resumed: maxSessionAge of 300 ms has passed", aged)
        tried = await _end(site, {"reconnect": {"initialDelay": 5, "maxAttempts": 3}}, 0)
        assert re.search(r"was lost and not resumed: maxAttempts of 3 were made \(.*\)", tried)
        forgotten = await _end(site, {"resume": True}, 1_500)
        assert re.search(r"could not be resumed: the peer does not have it any more", forgotten)


async def test_a_server_without_sessions() -> None:
    """It makes a plain connection, which ends with its WebSocket."""
    async with open_resuming_site() as site:
        site.is_plain = True
        await run_node("resume.mjs", "plain", site.url, site.pages)

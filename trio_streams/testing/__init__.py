"""For your tests and ours: two machines against each other in virtual time, over a link that does what links do.

    link = Link(seed=7, latency=(0.01, 0.05), max_chunk=100)
    pair = Pair(client_machine, server_machine, link)
    stream_id = client_machine.open("metrics.live")
    pair.run_until_idle()
    assert pair.server_events[-1].open.name == "metrics.live"

Nothing here needs trio or a real clock, so that a minute of silence costs a microsecond, and a seed brings back every
split and every delay.
"""

from __future__ import annotations

from trio_streams.testing.link import Link as Link
from trio_streams.testing.link import Pipe as Pipe
from trio_streams.testing.pair import Machine as Machine
from trio_streams.testing.pair import NotIdleError as NotIdleError
from trio_streams.testing.pair import Pair as Pair

__all__ = ["Link", "Machine", "NotIdleError", "Pair", "Pipe"]

"""What a manager of streams tells about itself."""

from __future__ import annotations

import attrs

from trio_streams.streams.abc import StreamStatistics

__all__ = ["ManagerStatistics"]


@attrs.frozen(kw_only=True)
class ManagerStatistics:
    """A snapshot of a `StreamManager`.

    Attributes:
      sending: our streams under way.
      receiving: streams that were asked for here, begun or not, and are not over.
      unclaimed_streams: streams of the peer that nobody has asked for yet.
      unclaimed_bytes: what they hold, each item at its length plus 64.
      sent_streams: how many of ours are over.
      received_streams: how many of the peer's are over.
      refused_streams: how many of the peer's were refused.
    """

    sending: tuple[StreamStatistics, ...]
    receiving: tuple[StreamStatistics, ...]
    unclaimed_streams: int
    unclaimed_bytes: int
    sent_streams: int
    received_streams: int
    refused_streams: int

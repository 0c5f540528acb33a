"""Limits of the live page."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["DashboardConfig"]

_positive: Final = attrs.validators.gt(0)


@attrs.frozen(kw_only=True)
class DashboardConfig:
    """How often the page is told, and how much.

    Attributes:
      interval: seconds between two snapshots; nobody is asked for figures while nobody looks.
      max_connections: how many of them one snapshot holds, the oldest first; more are counted, not shown.
      max_streams: the same of streams and of HTTP exchanges under way.
      max_recent_exchanges: how many finished HTTP exchanges are remembered.
      max_path_characters: where a longer path of a request is cut.
    """

    interval: float = attrs.field(default=0.25, validator=attrs.validators.ge(0.02))
    max_connections: int = attrs.field(default=200, validator=_positive)
    max_streams: int = attrs.field(default=400, validator=_positive)
    max_recent_exchanges: int = attrs.field(default=20, validator=_positive)
    max_path_characters: int = attrs.field(default=200, validator=_positive)

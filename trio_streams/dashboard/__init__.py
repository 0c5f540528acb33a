"""The live page of a server: its connections, streams and requests, as a browser shows them."""

from __future__ import annotations

from trio_streams.dashboard.config import DashboardConfig as DashboardConfig
from trio_streams.dashboard.serving import Dashboard as Dashboard

__all__ = ["Dashboard", "DashboardConfig"]

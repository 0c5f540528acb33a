"""Sessions that outlive their carriers: one that goes on with the next, clients that come back, servers that wait."""

from __future__ import annotations

from trio_streams.config import ReconnectOptions, ResumeOptions
from trio_streams.resuming.carrier import ResumingCarrier
from trio_streams.resuming.client import run_resuming_client
from trio_streams.resuming.sessions import Sessions

__all__ = ["ReconnectOptions", "ResumeOptions", "ResumingCarrier", "Sessions", "run_resuming_client"]

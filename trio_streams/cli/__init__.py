"""The command line: `trio-streams serve`, `trio-streams call`, `trio-streams demo`."""

from __future__ import annotations

from trio_streams.cli.main import main as main

__all__ = ["main"]

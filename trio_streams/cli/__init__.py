"""The command line `trio-streams`: serves applications, and uses those of others."""

from __future__ import annotations

from trio_streams.cli.main import main as main

__all__ = ["main"]

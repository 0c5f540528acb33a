"""The demo's application: real streams of this machine, and what they leave behind for its view."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_streams.demo.chat import Room, add_chat
from trio_streams.demo.figures import Source
from trio_streams.demo.jobs import add_jobs
from trio_streams.demo.logs import add_logs
from trio_streams.demo.outage import Line, add_outage
from trio_streams.demo.sampling import add_figures
from trio_streams.demo.upload import Upload, add_upload
from trio_streams.procedures.router import Router

__all__ = ["DemoApp", "build_app"]

_logger: Final = logging.getLogger("trio_streams.demo")


@attrs.frozen
class DemoApp:
    """The application and what its view shows of it.

    Attributes:
      router: its procedures.
      room: who chats.
      uploads: what is, and was lately, uploaded.
      line: what the demo's own clients reach the server through.
    """

    router: Router
    room: Room
    uploads: list[Upload]
    line: Line = attrs.field(factory=Line)


def build_app(source: Source, log_path: Path, nursery: trio.Nursery) -> DemoApp:
    """Build the application.

    Args:
      source: reads this machine's figures.
      log_path: the file that `logs.tail` shows.
      nursery: runs what belongs to the server rather than to one call.
    """
    app = DemoApp(Router(), Room(_logger.info), [])
    add_figures(app.router, source, _logger.info)
    add_logs(app.router, log_path, _logger.info)
    add_jobs(app.router, _logger.info)
    add_upload(app.router, app.uploads, _logger.info)
    add_chat(app.router, app.room, nursery)
    add_outage(app.router, app.line, _logger.info)
    return app

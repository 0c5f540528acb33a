"""The demo itself: servers, its own clients, and the view, in one process and on loopback only."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import logging.handlers
import os
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_streams.codecs import Codec, json_codec
from trio_streams.dashboard import Dashboard
from trio_streams.demo import screen, view
from trio_streams.demo.app import DemoApp, build_app
from trio_streams.demo.clients import Clients
from trio_streams.demo.figures import Source
from trio_streams.demo.logs import LineFormatter
from trio_streams.demo.screen import Write
from trio_streams.demo.watch import Watch
from trio_streams.durable.server.opening import open_replay_log
from trio_streams.service.replay_log import ReplayLog
from trio_streams.urls import serve
from trio_streams.urls.serving import HostName

__all__ = ["DemoOptions", "run_demo"]

_HOST: Final = "127.0.0.1"
_PORTS: Final = {"tcp": 7100, "ws": 7101, "http": 7102}
_WEBTRANSPORT_PORT: Final = 7103
_REDRAW: Final = 0.25
_EVENTS: Final = 4
_MAX_LOG_BYTES: Final = 1_048_576
_LOG: Final = logging.getLogger("trio_streams.demo")
_json: Final[Codec[object]] = json_codec(object)


@attrs.frozen(kw_only=True)
class DemoOptions:
    """What the command line says.

    Attributes:
      duration: seconds, after which it ends; infinity for never.
      plain: lines, one for each item, instead of a picture.
      ports: by scheme, `wt` for WebTransport; a scheme that is left out gets its usual port, or a free one where that is
        taken.
      log_path: the file that `logs.tail` shows, instead of the demo's own log.
      is_unicode: whether the terminal shows more than ASCII.
      host: what serves HTTP.
      data: the directory where jobs are kept; None keeps them in memory.
    """

    duration: float
    plain: bool
    ports: dict[str, int] = attrs.field(factory=dict[str, int])
    log_path: Path | None = None
    is_unicode: bool = True
    host: HostName = "hypercorn"
    data: Path | None = None


async def run_demo(
    options: DemoOptions, source: Source, write: Write, *, size: Callable[[], tuple[int, int]] = screen.terminal_size
) -> None:
    """Run the demo until its duration is over.

    Args:
      options: what the command line says.
      source: reads this machine's figures.
      write: writes to the terminal.
      size: of the terminal: columns and lines.

    Raises:
      ListenError: a port that was asked for is taken.
      StoreError: the directory can't be used.
      OSError: what `write` raises.

    Cancellation: everything is ended, and the terminal restored.
    """
    with _own_log() as log_path:
        async with open_replay_log(options.data) as replay_log, trio.open_nursery() as servers:
            app = build_app(source, options.log_path or log_path, servers)
            watch = Watch()
            webtransport = await _serve_webtransport(servers, app, options, log_path.parent)
            urls = await _serve(servers, app, watch, options, replay_log, webtransport)
            own = urls | {scheme: await servers.start(app.line.serve, urls[scheme]) for scheme in ("tcp", "ws")}
            show = _Show(
                app, watch, urls, source.name, options, write, size, view.webtransport_hint(webtransport.origin)
            )
            with trio.move_on_after(options.duration):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(Clients(watch, show.report, log_path).run, own)
                    await show.run()
            servers.cancel_scope.cancel()
        await write(view.summary(show.seconds, show.items) + "\n")


@contextlib.contextmanager
def _own_log() -> Generator[Path, None, None]:
    """What this process does, in a file that lives as long as the block; it rotates, so that a long demo is no large one."""
    logger = logging.getLogger("trio_streams")
    before = logger.level, logger.propagate
    with tempfile.TemporaryDirectory(prefix="trio-streams-demo-") as folder:
        path = Path(folder) / "demo.log"
        # Windows renames no file that somebody reads.
        limit = 0 if os.name == "nt" else _MAX_LOG_BYTES
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=limit, backupCount=1, encoding="utf-8")
        handler.setFormatter(LineFormatter())
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield path
        finally:
            logger.removeHandler(handler)
            handler.close()
            logger.setLevel(before[0])
            logger.propagate = before[1]


@attrs.frozen
class _WebTransport:
    """What there is of WebTransport.

    Attributes:
      origin: where it is served; None without the extra.
      let_in: has pages that are served at these URLs let in.
    """

    origin: str | None = None
    let_in: Callable[[list[str]], None] = lambda _: None


async def _serve_webtransport(servers: trio.Nursery, app: DemoApp, options: DemoOptions, folder: Path) -> _WebTransport:
    """Serve it where the extra is installed; before all else, since the page's policy names its port."""
    if importlib.util.find_spec("aioquic") is None:
        return _WebTransport()
    # Not above: without the extra it can't be imported.
    from trio_streams.demo.webtransport import Door, Endpoint, add_endpoint, serve_webtransport  # noqa: PLC0415

    port = options.ports.get("wt")
    if port is None:
        port = _usual_or_any(_WEBTRANSPORT_PORT, socket.SOCK_DGRAM)
    door = Door(_HOST)
    start = partial(serve_webtransport, f"{_HOST}:{port}", folder, door, _note)
    endpoint: Endpoint = await servers.start(start)
    add_endpoint(app.router, endpoint)
    return _WebTransport(endpoint.url.rpartition("/")[0], door.open_for)


def _note(text: str) -> None:
    _LOG.info(text)


async def _serve(
    servers: trio.Nursery,
    app: DemoApp,
    watch: Watch,
    options: DemoOptions,
    replay_log: ReplayLog,
    webtransport: _WebTransport,
) -> dict[str, str]:
    """The bound URLs by scheme."""
    ports = options.ports

    def url(scheme: str) -> str:
        port = ports[scheme] if scheme in ports else _usual_or_any(_PORTS[scheme])
        return f"{scheme}://{_HOST}:{port}"

    start = partial(
        serve,
        app.router,
        *(url(scheme) for scheme in _PORTS),
        on_connection=watch.connected,
        host=options.host,
        resume=True,
        replay_log=replay_log,
        dashboard=Dashboard(
            app.router,
            title="trio_streams demo",
            connects_to=() if webtransport.origin is None else (webtransport.origin,),
        ),
    )
    urls: list[str] = await servers.start(start)
    by_scheme = {bound.partition(":")[0]: bound for bound in urls}
    pages = [by_scheme["http"].replace(_HOST, host) for host in (_HOST, "localhost")]
    webtransport.let_in(pages)
    return by_scheme


def _usual_or_any(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as probe:
        if os.name == "posix" and kind is socket.SOCK_STREAM:
            # As the server will: a port that was used a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return 0
        return port


class _Show:
    """What a person sees of the demo: a picture, or lines."""

    def __init__(
        self,
        app: DemoApp,
        watch: Watch,
        urls: dict[str, str],
        source: str,
        options: DemoOptions,
        write: Write,
        size: Callable[[], tuple[int, int]],
        webtransport_hint: str,
    ) -> None:
        self._app = app
        self._watch = watch
        self._urls = list(urls.values())
        self._hints = [*view.hints(self._urls), webtransport_hint]
        self._source = source
        self._options = options
        self._write = write
        self._size = size
        self._began = trio.current_time()
        self._events: deque[str] = deque(maxlen=_EVENTS)
        self.items = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return trio.current_time() - self._began

    async def report(self, transport: str, name: str, item: object) -> None:
        """Show an item: as a line, or in the picture if it is a rare one."""
        self.items += 1
        if self._options.plain:
            await self._write(f"{transport:<4} {name:<15} {_json.encode(item).decode()}\n")
        elif not name.startswith("system.") or name in {"system.info", "system.coffee"}:
            self._events.append(f"{transport:<4} {name:<15} {_brief(name, item)}")

    async def run(self) -> None:
        """Show the demo until cancelled."""
        if self._options.plain:
            notes = [f"in a browser: {view.page(self._urls)}", *self._hints]
            await self._write("\n".join([*self._urls, *(f"# {note}" for note in notes)]) + "\n")
            await trio.sleep_forever()
        async with screen.full_screen(self._write):
            while True:
                width, height = self._size()
                lines = view.render(self._shown(), width, height, is_unicode=self._options.is_unicode)
                await self._write(screen.frame(lines))
                await trio.sleep(_REDRAW)

    def _shown(self) -> view.Shown:
        return view.Shown(
            urls=self._urls,
            hints=self._hints,
            source=self._source,
            seconds=self.seconds,
            rows=self._watch.rows(trio.current_time()),
            sessions=self._watch.sessions(),
            uploads=self._app.uploads,
            names=self._app.room.names,
            items=self.items,
            events=list(self._events),
        )


def _brief(name: str, item: object) -> str:
    """An item in the few words that fit into a line."""
    match item:
        case {"type": str(kind), "name": str(who), "text": str(text)} if name == "chat":
            return f"{who} {kind}: {text}".strip(" :")
        case {"level": str(level), "message": str(message)} if name == "logs.tail":
            return f"{level}: {message}"
        case _:
            return _json.encode(item).decode()

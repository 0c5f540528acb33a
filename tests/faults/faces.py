"""Every way to reach the application through the proxy."""

from __future__ import annotations

import shlex
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal
from urllib.parse import urlsplit

import attrs
import trio

from tests.faults.children import PYTHON
from tests.faults.pipe_proxy import describe
from tests.faults.proxy import Weather, open_proxy
from tests.faults.site import Site
from tests.transports.more_links import client_trust, server_tls
from trio_streams import serve
from trio_streams.config import ConnectionConfig
from trio_streams.urls import CarrierName

__all__ = ["FACES", "Face", "Place", "open_place"]


@attrs.frozen
class Face:
    """One way to reach a server.

    Attributes:
      name: as tests show it.
      scheme: of the client's URL.
      served: of the server's, where it is another one.
      carrier: of WebSockets.
      host: of HTTP.
    """

    name: str
    scheme: str
    served: str = ""
    carrier: CarrierName = "websockets"
    host: Literal["hypercorn", "lean"] = "hypercorn"

    @property
    def is_http(self) -> bool:
        """Whether streams are server-sent events."""
        return self.scheme == "http"

    @property
    def is_process(self) -> bool:
        """Whether the server is a child process."""
        return self.scheme == "process"

    @property
    def trust(self) -> ssl.SSLContext | None:
        return client_trust() if self.scheme in {"tls", "wss"} else None

    def __str__(self) -> str:
        return self.name


FACES: Final = (
    Face("tcp", "tcp"),
    Face("tls", "tls"),
    Face("unix", "unix"),
    Face("process", "process"),
    Face("ws", "ws"),
    Face("wss", "wss"),
    Face("trio-websocket", "ws", carrier="trio-websocket"),
    Face("ws-hypercorn", "ws", served="http"),
    Face("ws-lean", "ws", served="http", host="lean"),
    Face("sse-hypercorn", "http"),
    Face("sse-lean", "http", host="lean"),
)


@attrs.frozen
class Place:
    """A server behind a proxy.

    Attributes:
      face: how it is reached.
      site: its application; in a process of its own this is another one.
      direct: its URL, without the proxy.
      url: the proxy's.
    """

    face: Face
    site: Site
    direct: str
    url: str


@asynccontextmanager
async def open_place(face: Face, weather: Weather, config: ConnectionConfig | None = None) -> AsyncIterator[Place]:
    """Serve the application behind a proxy, for as long as the block."""
    if face.is_process:
        url, direct = (_command(describe(one)) for one in (weather, Weather()))
        yield Place(face, Site(), direct, url)
        return
    site = Site()
    with TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            address = (
                f"unix:{folder}/server" if face.scheme == "unix" else f"{face.served or face.scheme}://127.0.0.1:0"
            )
            start = partial(
                serve,
                site.router(),
                address,
                config=config,
                carrier=face.carrier,
                host=face.host,
                ssl_context=server_tls() if face.trust else None,
            )
            (bound,) = await nursery.start(start)
            async with _proxied(face, bound, Path(folder) / "proxy", weather) as url:
                yield Place(face, site, bound.replace(face.served, face.scheme, 1) if face.served else bound, url)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _proxied(face: Face, bound: str, path: Path, weather: Weather) -> AsyncIterator[str]:
    if face.scheme == "unix":
        listening = trio.socket.socket(trio.socket.AF_UNIX)
        await listening.bind(str(path))
        listening.listen()
        connect = partial(trio.open_unix_socket, bound.removeprefix("unix:"))
        async with open_proxy(trio.SocketListener(listening), connect, weather):
            yield f"unix:{path}"
        return
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    connect = partial(trio.open_tcp_stream, "127.0.0.1", urlsplit(bound).port or 0)
    async with open_proxy(listener, connect, weather):
        yield f"{face.scheme}://127.0.0.1:{listener.socket.getsockname()[1]}"


def _command(argument: str) -> str:
    return "process:" + shlex.join([*PYTHON, "-m", "tests.faults.pipe_proxy", argument])

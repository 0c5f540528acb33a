"""What every library of WebTransport can do, in one set of words: peers' programs are written once, over this.

The modules beside this file (`peer_*`, `ours`) put one library each into these words. Nothing here or in `cases` and
`behaviours` knows an event loop: what runs side by side is given to
`together` and `start_soon`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = [
    "LIBRARIES",
    "Cannot",
    "Handler",
    "Library",
    "Place",
    "Session",
    "SessionOver",
    "Stream",
    "WasReset",
    "WasStopped",
    "load",
    "payload_bytes",
    "read_all",
]

LIBRARIES: Final = {
    "ours": "ours",
    "aioquic": "peer_aioquic",
    "pywebtransport-0.8.1": "peer_0_8",
    "pywebtransport-0.21.1": "peer_0_21",
}
"""Libraries by name, and the module that puts each into our words."""


class WasReset(Exception):
    """The peer has reset the stream; `args[0]` is the application's code, None if there was none."""


class WasStopped(Exception):
    """The peer has stopped the stream; `args[0]` is the application's code, None if there was none."""


class SessionOver(Exception):
    """The session is over, or never was; `args[0]` is then the status of the refusal, where the library tells it."""


class Cannot(Exception):
    """The library has no way to do this."""


class Stream(Protocol):
    """One stream; a half that it does not have fails."""

    async def read(self) -> bytes:
        """Some bytes, empty at the end; raises `WasReset`."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits where the library waits; raises `WasStopped`."""
        ...

    async def end(self) -> None:
        """Send the end behind all that was written."""
        ...

    async def reset(self, code: int) -> None:
        """Abandon what is sent."""
        ...

    async def stop(self, code: int) -> None:
        """Refuse what is received."""
        ...

    async def wait_stopped(self) -> int | None:
        """The code with which the peer stops us."""
        ...


class Session(Protocol):
    """One session, on either side."""

    @property
    def protocol(self) -> str | None:
        """The subprotocol."""
        ...

    async def open_bidirectional(self) -> Stream: ...

    async def open_unidirectional(self) -> Stream: ...

    async def accept_bidirectional(self) -> Stream:
        """The peer's next one; raises `SessionOver`."""
        ...

    async def accept_unidirectional(self) -> Stream:
        """The peer's next one; raises `SessionOver`."""
        ...

    async def send_datagram(self, data: bytes) -> None: ...

    async def receive_datagram(self) -> bytes:
        """The next one; raises `SessionOver`."""
        ...

    async def close(self, code: int, reason: str) -> None: ...

    async def wait_closed(self) -> tuple[int, str]:
        """The code and reason of the end."""
        ...

    async def how_ended(self) -> tuple[int, str] | None:
        """The code and reason of the end; None before it. Does not wait, and works where the caller is cancelled."""
        ...

    async def together(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """Run functions side by side until all have returned, or one fails."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """Run a function beside the caller, until the session's handler has returned."""
        ...


Handler = Callable[[str, Session], Awaitable[None]]
"""Is given a session's path and the session, which is closed when it returns."""


@dataclass(frozen=True)
class Place:
    """What a server needs to know.

    Attributes:
      handler: is run for each session.
      paths: what there is; others get 404.
      certificate, key: files.
      origins: whose pages may come in; empty for all. A request without an origin may.
      protocols: subprotocols, the best first.
      idle_timeout: seconds of silence after which a connection is lost, where the library has a choice.
      ended: returns when nobody wants the server any more; to be called in a thread.
    """

    handler: Handler
    paths: tuple[str, ...]
    certificate: str
    key: str
    origins: tuple[str, ...]
    protocols: tuple[str, ...]
    idle_timeout: float
    ended: Callable[[], object]

    def choose(self, offered: Sequence[str]) -> str | None:
        """The subprotocol for a client's offer."""
        return next((name for name in self.protocols if name in offered), None)


class Library(Protocol):
    """A module that puts one library into these words."""

    def run(self, main: Callable[[], Awaitable[None]], timeout: float | None = None) -> None:
        """Run a program, for so many seconds at most."""
        ...

    async def serve(self, place: Place) -> None:
        """Serve sessions on a free port, and say where: the first line of the output is JSON."""
        ...

    async def use(
        self,
        url: str,
        visit: Callable[[Session], Awaitable[None]],
        *,
        protocols: tuple[str, ...] = (),
        origin: str | None = None,
    ) -> None:
        """Connect without a look at the certificate, and be in a session until `visit` returns."""
        ...


def load(name: str) -> Library:
    """The module of a library."""
    module: Any = importlib.import_module(f"tests.interop.webtransport.{LIBRARIES[name]}")
    library: Library = module
    return library


def payload_bytes(default: int) -> int:
    """The UDP payloads to send, for libraries that can be told; benchmarks compare them at equal sizes."""
    return int(os.environ.get("PAYLOAD_BYTES", default))


async def read_all(stream: Stream) -> bytes:
    """Everything until the end."""
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)

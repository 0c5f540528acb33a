"""aioquic's own HTTP/3 client, on its own event loop in a thread: a peer without a line of ours.

A test hands it a script, an async function of asyncio's that is given a client; what it returns comes back.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar, cast

import attrs
import trio
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events as quic
from aioquic.quic.configuration import QuicConfiguration

__all__ = ["AioquicClient", "Answer", "run_client"]

T = TypeVar("T")

_PATIENCE: Final = 30.0


@attrs.define
class Answer:
    """What has come on a request's stream so far.

    Attributes:
      stopped: the code with which the server refused the rest of the request.
      reset: that with which it broke its answer off.
    """

    stream_id: int
    headers: list[tuple[str, str]] = attrs.field(factory=list)
    body: bytes = b""
    is_ended: bool = False
    reset: int | None = None
    stopped: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.headers)[":status"])

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


class AioquicClient(QuicConnectionProtocol):
    """One connection. Attributes: `goaway`, whether the connection is `lost`, and what session `tickets` came."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.http = H3Connection(self._quic)
        self.answers: dict[int, Answer] = {}
        self.lost: quic.ConnectionTerminated | None = None
        self._changed = asyncio.Event()

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        is_ended: bool = True,
        pseudo: tuple[tuple[str, str], ...] | None = None,
    ) -> Answer:
        """Send a request, whole unless it is not ended."""
        stream_id = self._quic.get_next_available_stream_id()
        if pseudo is None:
            pseudo = ((":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path))
        raw = [(name.encode(), value.encode("latin-1")) for name, value in (*pseudo, *headers)]
        self.http.send_headers(stream_id, raw, end_stream=is_ended and body is None)
        if body is not None:
            self.http.send_data(stream_id, body, end_stream=is_ended)
        self.transmit()
        answer = self.answers[stream_id] = Answer(stream_id)
        return answer

    def add(self, answer: Answer, data: bytes, *, is_ended: bool = False) -> None:
        """Go on with a request's body."""
        self.http.send_data(answer.stream_id, data, end_stream=is_ended)
        self.transmit()

    def reset(self, answer: Answer, code: int = 0x10C) -> None:
        """Abandon the request."""
        self._quic.reset_stream(answer.stream_id, code)
        self.transmit()

    def stop(self, answer: Answer, code: int = 0x10C) -> None:
        """Refuse the answer."""
        self._quic.stop_stream(answer.stream_id, code)
        self.transmit()

    async def until(self, claim: Callable[[], bool]) -> None:
        """Wait until something that arrives makes it true."""
        async with asyncio.timeout(_PATIENCE):
            while not claim():
                self._changed.clear()
                await self._changed.wait()

    async def whole(self, answer: Answer) -> Answer:
        """Wait until the answer is over, one way or the other."""
        await self.until(lambda: answer.is_ended or answer.reset is not None or self.lost is not None)
        return answer

    async def fetch(self, path: str, **options: Any) -> Answer:
        """Ask, and wait."""
        return await self.whole(self.ask(path, **options))

    def quic_event_received(self, event: quic.QuicEvent) -> None:
        """Sort what arrives."""
        if isinstance(event, quic.StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].reset = event.error_code
        elif isinstance(event, quic.StopSendingReceived) and event.stream_id in self.answers:
            self.answers[event.stream_id].stopped = event.error_code
        elif isinstance(event, quic.ConnectionTerminated):
            self.lost = event
        for one in self.http.handle_event(event):
            answer = self.answers.get(getattr(one, "stream_id", -1))
            if answer is None:
                continue
            if isinstance(one, HeadersReceived):
                answer.headers += [(name.decode(), value.decode("latin-1")) for name, value in one.headers]
                answer.is_ended = answer.is_ended or one.stream_ended
            elif isinstance(one, DataReceived):
                answer.body += one.data
                answer.is_ended = answer.is_ended or one.stream_ended
        self._changed.set()


async def run_client(
    port: int,
    script: Callable[[AioquicClient], Awaitable[T]],
    configure: Callable[[QuicConfiguration], None] = lambda _: None,
    **options: Any,
) -> T:
    """Run a script against a server on this machine, in a thread; it has half a minute and a bit.

    Args:
      port: of UDP.
      script: of asyncio's; given the client.
      configure: changes the connection's configuration.
      options: of `aioquic.asyncio.connect`.
    """

    async def main() -> T:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
        configure(configuration)
        connecting = connect("127.0.0.1", port, configuration=configuration, create_protocol=AioquicClient, **options)
        async with asyncio.timeout(2 * _PATIENCE), connecting as client:
            return await script(cast("AioquicClient", client))

    return await trio.to_thread.run_sync(partial(asyncio.run, main()))

"""A session without a connection: its streams are real, and a test says what their peer does.

Tests use it for what is made on sessions; that sessions are as it says is for their own tests to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

if TYPE_CHECKING:
    from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.streams import Data, WebTransportSendStream, WebTransportStream

T = TypeVar("T", WebTransportStream, WebTransportSendStream)


class FakeMachine:
    """Takes what streams send, up to `room_bytes` a stream that nobody has fetched."""

    def __init__(self) -> None:
        self.sent: dict[int, bytearray] = {}
        self.ended: list[int] = []
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.consumed_bytes: dict[int, int] = {}
        self.room_bytes: int = 1 << 30

    def send(self, stream_id: int, data: Data) -> int:
        taken = min(len(data), self.send_room(stream_id))
        self.sent.setdefault(stream_id, bytearray()).extend(data[:taken])
        return taken

    def send_room(self, stream_id: int) -> int:
        return self.room_bytes - len(self.sent.get(stream_id, b""))

    def fetch(self, stream: WebTransportStream | WebTransportSendStream) -> bytes:
        """What was sent, off the machine's hands."""
        data = bytes(self.sent.pop(stream.stream_id, b""))
        stream.on_writable()
        return data

    def end(self, stream_id: int) -> None:
        self.ended.append(stream_id)

    def reset(self, stream_id: int, code: int) -> None:
        self.resets[stream_id] = code

    def stop(self, stream_id: int, code: int) -> None:
        self.stops[stream_id] = code

    def consumed(self, stream_id: int, size: int) -> None:
        self.consumed_bytes[stream_id] = self.consumed_bytes.get(stream_id, 0) + size

    def unsent_bytes(self, stream_id: int) -> int:
        return len(self.sent.get(stream_id, b""))


class FakeSession:
    """Opens streams as long as there is credit for them."""

    window_bytes = 65_536

    def __init__(self, credit: int = 1_000) -> None:
        self.machine = FakeMachine()
        self.credit = credit
        self.error: Exception | None = None
        self.streams: dict[int, WebTransportStream | WebTransportSendStream] = {}
        self._next_id = 0
        self._lot = trio.lowlevel.ParkingLot()

    @property
    def opened(self) -> int:
        """How many streams there ever were."""
        return self._next_id // 4

    def grant(self, credit: int) -> None:
        """The peer allows more streams."""
        self.credit += credit
        self._lot.unpark_all()

    def fail(self, error: Exception) -> None:
        """The connection is over."""
        self.error = error
        self._lot.unpark_all()
        for stream in list(self.streams.values()):
            stream.on_lost(lambda: error)

    async def create_bidirectional_stream(self) -> WebTransportStream:
        return await self._create(WebTransportStream)

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        return await self._create(WebTransportSendStream)

    async def _create(self, kind: type[T]) -> T:
        await trio.lowlevel.checkpoint()
        while not self.credit and self.error is None:
            await self._lot.park()
        if self.error is not None:
            raise self.error
        self.credit -= 1
        stream = kind(cast("Any", self), self._next_id, self._forget)
        self.streams[self._next_id] = stream
        self._next_id += 4
        return stream

    def _forget(self, stream_id: int) -> None:
        del self.streams[stream_id]

    # -- what streams ask of their link ------------------------------------------------------------------------

    def kick(self) -> None:
        """Nobody waits for it."""

    def hurry(self) -> None:
        """Nobody waits for it."""

    def kick_if_wanted(self) -> None:
        """Nobody waits for it."""

    def release_stream(self, stream_id: int) -> None:
        """The machine has nothing to forget."""

    @property
    def as_session(self) -> WebTransportSession:
        """It, where a session is expected."""
        return cast("WebTransportSession", self)


def end_by_both(stream: WebTransportStream | WebTransportSendStream) -> None:
    """Both sides have ended their halves, and know it."""
    stream.end()
    stream.on_delivered()
    if isinstance(stream, WebTransportStream):
        stream.on_received([], is_ended=True)

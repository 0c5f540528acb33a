"""A peer that is a bare socket: it can say anything, and hears what the server says."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.transports.messages import SUBPROTOCOL
from trio_streams.wire.binary import PREFACE, BinaryWire

__all__ = ["HELLO", "RawPeer", "frame", "open_stream"]

R = TypeVar("R")

_WIDE: Final = 1 << 50

HELLO: Final = PREFACE + BinaryWire().encode(
    0,
    records.Hello(
        "raw",
        window_items=_WIDE,
        window_bytes=_WIDE,
        connection_bytes=_WIDE,
        max_streams=100,
        max_item_bytes=1 << 20,
    ),
)
"""A greeting that grants more than anybody needs."""


def frame(kind: int, stream_id: int, payload: bytes, flags: int = 0, length: int | None = None) -> bytes:
    """A frame by its parts, however wrong."""
    return struct.pack(">BBHQ", kind, flags, len(payload) if length is None else length, stream_id) + payload


def open_stream(stream_id: int, name: str) -> bytes:
    """An OPEN as it should be, with wide windows."""
    return BinaryWire().encode(stream_id, records.Open(name, window_items=_WIDE, window_bytes=_WIDE))


class RawPeer:
    """A socket, under WebSocket framing where there is a machine for it."""

    def __init__(self, stream: trio.SocketStream, machine: ClientProtocol | None) -> None:
        self.stream = stream
        self._machine = machine
        self._wire = BinaryWire()
        self._frames: list[object] = []
        self.close_code: int | None = None

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, shakes_hands: bool = True) -> AsyncIterator[RawPeer]:
        """Connect to a server; over WebSocket, shake hands unless told otherwise."""
        parts = urlsplit(url)
        async with await trio.open_tcp_stream("127.0.0.1", parts.port or 0) as stream:
            machine = None
            if parts.scheme == "ws" and shakes_hands:
                machine = ClientProtocol(parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL)])
                machine.send_request(machine.connect())
                await stream.send_all(b"".join(machine.data_to_send()))
                while machine.state is not OPEN:
                    machine.receive_data(await stream.receive_some(4_096))
            yield cls(stream, machine)

    async def send(self, data: bytes) -> None:
        """Send bytes of the dialect; a server that has left is no fault."""
        try:
            if self._machine is not None:
                self._machine.send_binary(data)
                data = b"".join(self._machine.data_to_send())
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def send_frame(self, opcode: Opcode, data: bytes) -> None:
        """Send one WebSocket frame of any kind."""
        await self.stream.send_all(Frame(opcode, data).serialize(mask=True))

    async def _read(self) -> bool:
        try:
            data = bytes(await self.stream.receive_some(65_536))
        except trio.BrokenResourceError:
            data = b""
        payloads = [data]
        if self._machine is not None and data:
            self._machine.receive_data(data)
            arrived = [one for one in self._machine.events_received() if isinstance(one, Frame)]
            payloads = [bytes(one.data) for one in arrived if one.opcode in {Opcode.BINARY, Opcode.CONT}]
            if self._machine.close_rcvd is not None:
                self.close_code = self._machine.close_rcvd.code
        for payload in payloads:
            self._frames += [content for _, content in self._wire.decode(payload)]
        return bool(data)

    async def find(self, kind: type[R], where: Callable[[R], bool] = lambda _: True) -> R:
        """The next record of a kind; everything before it is passed over."""
        while True:
            while self._frames:
                one = self._frames.pop(0)
                if isinstance(one, kind) and where(one):
                    return one
            assert await self._read(), f"the server left without a {kind.__name__}"

    async def items(self) -> list[bytes]:
        """The next run of items."""
        while True:
            while self._frames:
                one = self._frames.pop(0)
                assert not isinstance(one, Piece)
                if isinstance(one, list):
                    return one
            assert await self._read(), "the server left without an item"

    async def wait_end(self) -> None:
        """Read until the server has closed."""
        while await self._read():
            pass

    async def call(self, stream_id: int, name: str, payload: bytes) -> list[bytes]:
        """Call a procedure as it should be called."""
        await self.send(open_stream(stream_id, name) + frame(4, stream_id, payload) + frame(5, stream_id, b""))
        return await self.items()

    def reset(self) -> None:
        """Vanish: the server gets RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

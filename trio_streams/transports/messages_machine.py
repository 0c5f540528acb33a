"""The frames of an open WebSocket: a fast path for plain ones in front of `websockets`' machine.

Nearly every frame is *plain*: a whole text or binary message in one frame. Those are parsed and made here, at a tenth of
the cost. Everything else (fragments, control frames, whatever breaks a rule) goes to a `websockets` machine, frame by
frame, and that machine alone decides what it means: answers, faults, close codes and the closing handshake are its own. It
is made when it is needed, and dropped once nothing of it is left, so that an idle WebSocket has none. Where an extension
was agreed on, or the WebSocket is closing, it gets every byte.

What is plain is decided without any doubt left: the first byte is 0x81 or 0x82 (FIN, no reserved bits), the mask bit is
as the side demands, no fragmented message is under way, and the length is within `max_message_bytes`. A differential test
holds both ways against each other.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from logging import Logger
from struct import Struct
from typing import Final, TypeAlias

from websockets.exceptions import InvalidState
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side, State

from trio_streams.core.buffer import FrameBuffer
from trio_streams.transports.gather import Chunk

try:
    from websockets.speedups import apply_mask  # in C, where the wheel has it
except ImportError:  # pragma: no cover - every wheel that we test with has it
    from websockets.utils import apply_mask

__all__ = ["Part", "WebSocketMachine"]

Part: TypeAlias = tuple[int, bytes, bool]
"""An opcode (0 in the midst of a message), a payload, and whether the message ends with it."""

_TEXT, _BINARY = 0x81, 0x82  # first bytes of plain frames
_PLAIN: Final = frozenset({_TEXT, _BINARY})
_OPCODES: Final = frozenset(Opcode)
_HEAD_BYTES: Final = 14  # the longest head of a frame

_PIECE_BYTES: Final = 16_384
"""The least part of a long binary message that is handed on before the rest is here; for smaller ones the objects would
take more memory than the bytes."""

_LONG_BYTES: Final = 1_024  # of a payload: from here on a view costs less than a copy

_SLOW_FRAMES: Final = 512
_SLOW_BYTES: Final = 16_384
"""What one call leaves to `websockets`' machine: some milliseconds between two schedule points."""

_MEDIUM_HEAD: Final = Struct(">BBH")
_LARGE_HEAD: Final = Struct(">BBQ")


class WebSocketMachine:
    """One side of an open WebSocket that does no I/O.

    Args:
      opened: a machine whose opening handshake is done and that has seen nothing behind it.
      logger: for the machines that are made later.

    Attributes:
      parts: what has arrived of messages, in order; whoever takes them empties the list.
      close: the peer's goodbye, once it is here.
      subprotocol: what both sides agreed on, or None.
    """

    __slots__ = (
        "_buffer",
        "_is_client",
        "_left_of_odd",
        "_left_of_plain",
        "_logger",
        "_machine",
        "_mask",
        "_max_message_bytes",
        "close",
        "parts",
        "subprotocol",
    )

    def __init__(self, opened: Protocol, *, logger: Logger) -> None:
        self._is_client = opened.side is Side.CLIENT
        self._max_message_bytes = opened.max_message_size
        self._logger = logger
        self._machine: Protocol | None = opened if opened.extensions or opened.state is not OPEN else None
        self._buffer: FrameBuffer | None = None
        self._left_of_plain = 0  # bytes to come of a plain frame whose beginning was handed on
        self._mask = b""  # for them
        self._left_of_odd = 0  # bytes to come of a frame whose beginning has gone to `websockets`
        self.parts: list[Part] = []
        self.close: Close | None = None
        self.subprotocol: str | None = opened.subprotocol

    @property
    def is_server(self) -> bool:
        """Which side this is."""
        return not self._is_client

    @property
    def max_message_bytes(self) -> int | None:
        """The longest message that is accepted."""
        return self._max_message_bytes

    @property
    def state(self) -> State:
        """Open, closing or closed."""
        return OPEN if self._machine is None else self._machine.state

    @property
    def fault(self) -> Exception | None:
        """What was wrong with the input."""
        return None if self._machine is None else self._machine.parser_exc

    @property
    def is_midway(self) -> bool:
        """Whether a frame or a message has begun that is not whole."""
        return bool(self._left_of_plain or self._left_of_odd or self._buffer or self._is_in_message)

    @property
    def has_ended(self) -> bool:
        """Whether our side of TCP is to be ended: nothing follows what was answered."""
        return self._machine is not None and self._machine.eof_sent

    def complete(self) -> Protocol:
        """`websockets`' machine, made if there is none."""
        if self._machine is None:
            side = Side.CLIENT if self._is_client else Side.SERVER
            self._machine = Protocol(side, state=OPEN, max_size=self._max_message_bytes, logger=self._logger)
        return self._machine

    # -- in ---------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the peer. Afterwards look at `parts`, `answers()`, `close` and `fault`.

        Returns:
          What was not looked at yet, for the next call: a flood of frames that cost much ends a call early.
        """
        if self._buffer is not None:
            joined = self._buffer.join(data)
            if joined is None:
                return b""
            data = joined
        slow = _SLOW_FRAMES
        while data and slow:
            slow -= 1
            if self._left_of_plain:
                data = self._take_piece(data, 0)
            elif self._left_of_odd:
                data = self._pass_on(data, self._left_of_odd)
            elif self._is_all_odd:
                data = self._pass_on(data, min(len(data), _SLOW_BYTES))
                slow = 0
            else:
                position = self._take_plain(data)
                data = self._take_odd(data, position) if position < len(data) else b""
        return data

    def receive_eof(self) -> None:
        """The peer has ended its side of TCP."""
        machine = self.complete()
        machine.receive_eof()
        self._collect(machine)

    @property
    def _is_all_odd(self) -> bool:
        machine = self._machine
        return machine is not None and bool(machine.state is not OPEN or machine.extensions)

    @property
    def _is_in_message(self) -> bool:
        return self._machine is not None and self._machine.current_size is not None

    def _take_plain(self, data: bytes) -> int:
        """Take the plain frames at the beginning; where the first one begins that is not plain, or is not whole."""
        if self._is_in_message:
            return 0
        mask_bytes, mask_bit = (0, 0) if self._is_client else (4, 0x80)
        limit = self._max_message_bytes
        append = self.parts.append
        position, size = 0, len(data)
        while size - position > 1:
            first = data[position]
            length = data[position + 1] ^ mask_bit  # 128 or more where the mask bit is wrong
            start = position + 2
            if length > 125:
                extra = 2 if length == 126 else 8
                if length > 127 or size - start < extra:
                    break
                length = int.from_bytes(data[start : start + extra], "big")
                start += extra
            start += mask_bytes
            end = start + length
            if end > size or first not in _PLAIN or (limit is not None and length > limit):
                break
            if mask_bytes:
                masked = data[start:end] if length < _LONG_BYTES else memoryview(data)[start:end]
                append((first & 15, apply_mask(masked, data[start - 4 : start]), True))
            else:
                append((first & 15, data[start:end], True))
            position = end
        return position

    def _take_odd(self, data: bytes, at: int) -> bytes:
        """Take one frame that is not plain and begins `at`, or keep the beginning of one that is not whole."""
        size = len(data) - at
        if size < 2:
            return self._keep(data[at:], 2)
        first, length = data[at], data[at + 1] & 0x7F
        if first & 15 not in _OPCODES or (data[at + 1] > 127) == self._is_client:
            return self._pass_on(data[at:], size)  # a fault in any case
        start = 2
        if length > 125:
            start += 2 if length == 126 else 8
            length = int.from_bytes(data[at + 2 : at + start], "big")
        if size < start:
            return self._keep(data[at:], start)
        start += 0 if self._is_client else 4
        limit = self._max_message_bytes
        is_plain = first in _PLAIN and not self._is_in_message and (limit is None or length <= limit)
        if not is_plain:
            return self._pass_on(data[at:], start + length)  # which needs no mask to find it too long
        if size < start:
            return self._keep(data[at:], start)
        if first == _TEXT or size - start < min(length, _PIECE_BYTES):
            return self._keep(data[at:], start + (length if first == _TEXT else min(length, _PIECE_BYTES)))
        self._mask = b"" if self._is_client else data[at + start - 4 : at + start]
        self._left_of_plain = length
        return self._take_piece(data, at + start, Opcode.BINARY)

    def _take_piece(self, data: bytes, at: int, opcode: int = Opcode.CONT) -> bytes:
        """Hand on what is here of a plain frame that is not whole; its bytes begin `at`."""
        end = at + self._left_of_plain
        piece = memoryview(data)[at:end]
        self._left_of_plain -= len(piece)
        if mask := self._mask:
            turned = len(piece) % 4
            self._mask = mask[turned:] + mask[:turned]
            payload = apply_mask(piece, mask)
        else:
            payload = data[at:end]  # no copy where it is all
        self.parts.append((opcode, payload, not self._left_of_plain))
        return data[end:]

    def _keep(self, data: bytes, needed: int) -> bytes:
        if self._buffer is None:
            limit = self._max_message_bytes
            self._buffer = FrameBuffer((limit if limit is not None else 1 << 63) + _HEAD_BYTES, "max_message_bytes")
        self._buffer.keep(data, needed)
        return b""

    def _pass_on(self, data: bytes, size: int) -> bytes:
        """Let `websockets` see the next `size` bytes, or what is here of them."""
        machine = self.complete()
        machine.receive_data(data[:size])
        self._collect(machine)
        self._left_of_odd = max(0, size - len(data)) if machine.state is OPEN else 0
        return data[size:]

    def _collect(self, machine: Protocol) -> None:
        for frame in machine.events_received():
            # The machine goes on parsing what came in one piece with a close frame; nobody else should.
            if self.close is not None or not isinstance(frame, Frame):
                continue
            if frame.opcode is Opcode.CLOSE:
                self.close = Close.parse(frame.data)
            elif frame.opcode is not Opcode.PING and frame.opcode is not Opcode.PONG:
                self.parts.append((frame.opcode, bytes(frame.data), frame.fin))

    # -- out --------------------------------------------------------------------------------------------------

    def answers(self) -> bytes:
        """Take what the protocol owes the peer, in whole frames. Where nothing else is left of it, so goes the machine."""
        machine = self._machine
        if machine is None:
            return b""
        owed = b"".join(machine.data_to_send())  # an empty one asks to end our side of TCP: `has_ended` says so
        if machine.state is OPEN and machine.current_size is None and not self._left_of_odd and not machine.extensions:
            self._machine = None
        return owed

    def send(self, messages: Sequence[str | bytes]) -> list[Chunk]:
        """Each message as a frame of its own, in chunks.

        Raises:
          InvalidState: the WebSocket is closing.
        """
        if self._is_all_odd:
            return self._send_odd(messages)
        chunks: list[Chunk] = []
        # Nobody may foretell a mask (RFC 6455 §5.3), but one draw is enough for all of them.
        masks = secrets.token_bytes(4 * len(messages)) if self._is_client else b""
        mask_bit = 0x80 if masks else 0
        for index, message in enumerate(messages):
            first, payload = (_TEXT, message.encode()) if isinstance(message, str) else (_BINARY, message)
            chunks.append(_head(first, mask_bit, len(payload)))
            if masks:
                mask = masks[4 * index : 4 * index + 4]
                chunks.append(mask)
                payload = apply_mask(payload, mask)
            if payload:
                chunks.append(payload)
        return chunks

    def send_chunks(self, payload: list[Chunk]) -> list[Chunk]:
        """Chunks as one binary message, which is not copied where it is not masked.

        Raises:
          InvalidState: the WebSocket is closing.
        """
        if self._is_all_odd:
            return self._send_odd([b"".join(payload)])
        size = sum(map(len, payload))
        if not self._is_client:
            return [_head(_BINARY, 0, size), *payload]
        mask = secrets.token_bytes(4)
        chunks: list[Chunk] = [_head(_BINARY, 0x80, size), mask]
        for chunk in payload:
            chunks.append(apply_mask(chunk, mask))
            turned = len(chunk) % 4
            mask = mask[turned:] + mask[:turned]
        return chunks

    def _send_odd(self, messages: Sequence[str | bytes]) -> list[Chunk]:
        machine = self.complete()
        if machine.state is not OPEN:
            raise InvalidState(f"connection is {machine.state.name.lower()}")
        for message in messages:
            if isinstance(message, str):
                machine.send_text(message.encode())
            else:
                machine.send_binary(message)
        return [*machine.data_to_send()]

    def send_ping(self) -> None:
        """Ask for a sign of life; `answers` has the frame. A WebSocket that is closing is not asked."""
        machine = self.complete()
        if machine.state is OPEN:
            machine.send_ping(b"")

    def send_close(self, code: int, reason: str) -> None:
        """Say goodbye; `answers` has the frame."""
        self.complete().send_close(code, reason)

    def fail(self, code: CloseCode, reason: str) -> None:
        """Give up because of what a well-formed frame holds; `answers` has the close frame."""
        self.complete().fail(code, reason)


def _head(first: int, mask_bit: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, mask_bit | size))
    if size < 65_536:
        return _MEDIUM_HEAD.pack(first, mask_bit | 126, size)
    return _LARGE_HEAD.pack(first, mask_bit | 127, size)

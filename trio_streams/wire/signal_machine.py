"""The machine of a peer RPC connection that speaks ts-signal-rpc's JSON messages; either side is one.

Streams, halves, order and commands are the multiplexer's own; what a call, a message and a stream are called is in
`signal_names`, as on our own dialect. The wire has no credit and no word for a stop: what is not read pauses the carrier,
and a stop is an error message that names the stream, which our own peers understand and the original shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.envelope import SignsOfLife
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_mux import MessageMux
from trio_streams.wire.message_stream import MessageStream
from trio_streams.wire.signal import Category, RpcMessage, encode
from trio_streams.wire.signal_inbox import SignalInbox
from trio_streams.wire.signal_writer import Kind, SignalWriter, said_of

__all__ = ["SignalMachine"]

_DEFAULT: Final = MessageLimits()
_MAX_PINGS: Final = 64


def _new_id() -> str:
    return str(uuid.uuid4())


class SignalMachine(MessageMux):
    """The machine of one peer.

    Args:
      is_client: which side this is; the other one is welcomed.
      config: limits and timeouts that every dialect has.
      limits: this dialect's own.
      now: seconds, on the clock that every later call uses.
      epoch: the time of day, in seconds since 1970, when that clock was 0: pings carry times of day.
      name: what this side calls itself; None for nothing.
      is_relayed: whether the other end is a relay, through which several peers hear the same streams.
      awaits_welcome: whether the peer has to welcome us, within `handshake_timeout`, before streams are opened. It is
        pinged meanwhile: a server of several dialects on a byte stream waits for a client's first word.
      signs: of the peer's life, where the carrier has such; without, the peer is asked by messages.
      new_id: makes the ids of calls, streams and clients; unguessable ones.
    """

    carries_metadata: ClassVar[bool] = False

    def __init__(
        self,
        *,
        is_client: bool,
        config: ConnectionConfig,
        limits: MessageLimits = _DEFAULT,
        now: float,
        epoch: float = 0.0,
        name: str | None = None,
        is_relayed: bool = False,
        awaits_welcome: bool = False,
        signs: SignsOfLife | None = None,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._signs = signs
        self._is_relayed = is_relayed
        self._writer = SignalWriter(name, is_relayed=is_relayed)
        self._limits = limits
        self._epoch = epoch
        self._new_id = new_id
        self._now = now
        super().__init__(self._writer, is_client=is_client, config=config, idle_timeout=config.idle_timeout, now=now)
        if awaits_welcome:
            self._liveness.restart(now)
        self._in: SignalInbox = SignalInbox(
            self._writer,
            self._streams,
            self._out,
            self._liveness,
            config,
            limits,
            is_client=is_client,
            awaits_welcome=awaits_welcome,
            now=now,
        )
        if awaits_welcome:
            self.ping(now)
        if not is_client:
            self._out.put(frame(encode(_make_welcome(new_id))))

    @property
    def welcome(self) -> RpcMessage | None:
        """What the peer, or a relay, welcomed us with, once it has."""
        return self._in.welcome

    @property
    def has_addresses(self) -> bool:
        """Whether a relay is between."""
        return self._is_relayed

    @property
    def client_id(self) -> str | None:
        """What we are called in the welcome."""
        return None if self._in.welcome is None else self._in.welcome.client_id

    def open(
        self,
        name: str,
        *,
        metadata: Mapping[str, str] = records.NO_METADATA,
        priority: int = 0,
        timeout_ms: int | None = None,
        window_items: int | None = None,
        window_bytes: int | None = None,
    ) -> int:
        """Open a call, a message or a stream; deadlines and windows mean nothing to the peer.

        Raises:
          LocalProtocolError: as many are open as `max_streams` allows, the peer is gone, a stream is being sent under
            this id, or the dialect has no place for what is asked.
        """
        said = said_of(name, metadata, self._new_id)
        if said.kind is Kind.STREAM and self._in.is_sending(said.id):
            raise LocalProtocolError(
                f"a stream {said.id[:64]!r} is being sent already", code=Code.ALREADY_EXISTS, field="stream-id"
            )
        stream_id = super().open(name, priority=priority)
        self._writer.begin(stream_id, said)
        self._streams[stream_id] = MessageStream(self._limits, priority=priority)
        self._in.note_said(stream_id, said)
        if said.kind is not Kind.REQUEST:
            self._in.end_unanswered(stream_id)
        return stream_id

    def ping(self, now: float) -> int:
        """Ask for a sign of life; as in every dialect."""
        number = self._liveness.start_ping(now)
        self._send_ping(number, now)
        return number

    def _send_ping(self, number: int, now: float) -> None:
        pings = self._in.pings
        timestamp = round((self._epoch + now) * 1_000)
        while timestamp in pings:
            timestamp += 1
        pings[timestamp] = number
        if len(pings) > _MAX_PINGS:
            del pings[next(iter(pings))]
        self._out.put(frame(encode(RpcMessage(category=Category.PING, timestamp=timestamp))))

    @property
    def _last_heard_at(self) -> float:
        heard_at = self._in.heard_at
        return heard_at if self._signs is None else max(heard_at, self._signs.heard_at)

    def handle_deadline(self, now: float) -> None:
        """As in every dialect of messages."""
        self._now = now
        super().handle_deadline(now)

    def _ask_for_life(self, number: int) -> None:
        if self._signs is None:
            self._send_ping(number, self._now)
        else:
            self._signs.ping_nowait()


def _make_welcome(new_id: Callable[[], str]) -> RpcMessage:
    return RpcMessage(category=Category.WELCOME, client_id=new_id(), session_id=new_id(), restored_session=False)

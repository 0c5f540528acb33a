"""The machine of a connection that speaks Raffel's JSON envelopes: the server's side, on TCP and on WebSockets.

Everything that is not the dialect is the multiplexer's own: streams, their halves, the order in which they send, what a
command means. Three things differ, and are files of their own:

- what comes in (`envelope_inbox`): messages instead of frames, ids that the client chooses, no credit;
- what goes out (`envelope_writer`): items and ends as envelopes;
- what bounds a client that reads or is read slowly: windows of our own (`envelope_limits`).

Both ways messages have their length in front (`envelope_framing`): that is the format on TCP, and a carrier of
WebSocket messages takes it off and puts it on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_streams.config import ConnectionConfig
from trio_streams.core.mux import Mux
from trio_streams.wire.envelope_channels import ChannelMessage
from trio_streams.wire.envelope_framing import frame
from trio_streams.wire.envelope_inbox import EnvelopeInbox
from trio_streams.wire.envelope_limits import EnvelopeLimits
from trio_streams.wire.envelope_records import Envelope as Envelope
from trio_streams.wire.envelope_records import EnvelopeType as EnvelopeType
from trio_streams.wire.envelope_writer import EnvelopeWriter
from trio_streams.wire.envelope_writer import Form as Form

__all__ = ["Envelope", "EnvelopeLimits", "EnvelopeMachine", "EnvelopeType", "Form"]

_UNLIMITED: Final = 1 << 62

_DEFAULT: Final = EnvelopeLimits()


class EnvelopeMachine(Mux):
    """The machine of one client that speaks envelopes. It opens no streams of its own.

    Args:
      find_form: what is asked for by a name; None for a name that nothing has, which is answered NOT_FOUND. What takes
        no items is given the payload of its start as the only one.
      config: limits and timeouts that every dialect has; `idle_timeout` is the carrier's business here.
      limits: this dialect's own.
      now: seconds, on the clock that every later call uses.
      epoch: the time of day, in seconds since 1970, when that clock was 0: deadlines travel as times of day.
      has_channels: whether the owner takes messages about channels; without, they are answered UNIMPLEMENTED.
      has_json_rpc: whether the owner takes JSON-RPC texts, which share a WebSocket with envelopes.
      on_aside: called, without waiting, when either is there to be taken.
    """

    def __init__(
        self,
        *,
        find_form: Callable[[str], Form | None],
        config: ConnectionConfig,
        limits: EnvelopeLimits = _DEFAULT,
        now: float,
        epoch: float = 0.0,
        has_channels: bool = False,
        has_json_rpc: bool = False,
        on_aside: Callable[[], None] | None = None,
    ) -> None:
        self._on_aside = on_aside
        writer = EnvelopeWriter()
        super().__init__(writer, is_client=False, config=config, session_id="", now=now)
        self._out.raise_credit(_UNLIMITED)
        self._in: EnvelopeInbox = EnvelopeInbox(
            writer,
            self._streams,
            self._out,
            self._liveness,
            config,
            limits,
            find_form=find_form,
            has_channels=has_channels,
            has_json_rpc=has_json_rpc,
            epoch=epoch,
        )

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier. Never raises for the peer's fault: `Failed` is the last event then."""
        super().receive(data, now)
        if self._on_aside is not None and (self._in.channel_messages or self._in.rpc_texts):
            self._on_aside()

    @property
    def wants_input(self) -> bool:
        """Whether to go on reading; not while too much is unread, here or of what we owe."""
        return super().wants_input and not self._in.is_full

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, if ever."""
        return None if self._in.failure else self._in.deadline

    def handle_deadline(self, now: float) -> None:
        """End what has held up reading for too long, or a client whose message never ends."""
        if self._in.failure is None:
            self._in.check(now)

    @property
    def has_channel_messages(self) -> bool:
        """Whether something was said about channels."""
        return bool(self._in.channel_messages)

    def take_channel_messages(self) -> list[ChannelMessage]:
        """Take what was said about channels, in order."""
        return self._in.take_channel_messages()

    def take_rpc_texts(self, most: int) -> list[bytes]:
        """Take the first JSON-RPC texts, at most so many."""
        return self._in.take_rpc_texts(most)

    def send_aside(self, message: bytes, *, is_owed: bool = False) -> bool:
        """Queue a message that belongs to no stream: of `envelope_channels`, or an answer to a JSON-RPC text.

        Args:
          message: encoded; one encoding serves all who listen.
          is_owed: whether it answers something, so that whoever asks and doesn't read is not read either.

        Returns:
          Whether it was taken. What is not owed is not where the client leaves more than `max_control_bytes` unread.
        """
        is_full = self._out.control_bytes > self._config.max_control_bytes
        if self._in.failure is not None or (is_full and not is_owed):
            return False
        self._out.put(frame(message))
        return True

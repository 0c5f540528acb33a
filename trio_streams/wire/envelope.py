"""The machine of a connection whose other side asks in Raffel's JSON envelopes: the server's role of `message_mux`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from trio_streams.config import ConnectionConfig
from trio_streams.wire.envelope_channels import ChannelMessage
from trio_streams.wire.envelope_records import Envelope as Envelope
from trio_streams.wire.envelope_records import EnvelopeType as EnvelopeType
from trio_streams.wire.envelope_requests import RequestInbox
from trio_streams.wire.envelope_writer import EnvelopeWriter
from trio_streams.wire.envelope_writer import Form as Form
from trio_streams.wire.message_framing import frame
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_mux import MessageMux

__all__ = ["Envelope", "EnvelopeMachine", "EnvelopeType", "Form", "MessageLimits", "SignsOfLife"]

_DEFAULT: Final = MessageLimits()


@runtime_checkable
class SignsOfLife(Protocol):
    """A carrier that can ask its peer for a sign of life by itself: the dialect's own clients know no ping."""

    @property
    def heard_at(self) -> float:
        """When anything last came from the peer, on the machine's clock."""
        ...

    def ping_nowait(self) -> None:
        """Ask; what comes of it moves `heard_at`."""
        ...


class EnvelopeMachine(MessageMux):
    """The machine of one client that speaks envelopes. It opens no streams of its own.

    Args:
      find_form: what is asked for by a name; None for a name that nothing has, which is answered NOT_FOUND. What takes
        no items is given the payload of its start as the only one.
      config: limits and timeouts that every dialect has.
      limits: this dialect's own.
      now: seconds, on the clock that every later call uses.
      epoch: the time of day, in seconds since 1970, when that clock was 0: deadlines travel as times of day.
      has_channels: whether the owner takes messages about channels; without, they are answered UNIMPLEMENTED.
      has_json_rpc: whether the owner takes JSON-RPC texts, which share a WebSocket with envelopes.
      on_aside: called, without waiting, when either is there to be taken.
      signs: of the client's life, for `idle_timeout`; None where silence is the carrier's business.
    """

    def __init__(
        self,
        *,
        find_form: Callable[[str], Form | None],
        config: ConnectionConfig,
        limits: MessageLimits = _DEFAULT,
        now: float,
        epoch: float = 0.0,
        has_channels: bool = False,
        has_json_rpc: bool = False,
        on_aside: Callable[[], None] | None = None,
        signs: SignsOfLife | None = None,
    ) -> None:
        self._on_aside = on_aside
        self._signs = signs
        writer = EnvelopeWriter()
        idle_timeout = None if signs is None else config.idle_timeout
        super().__init__(writer, is_client=False, config=config, idle_timeout=idle_timeout, now=now)
        self._in: RequestInbox = RequestInbox(
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
    def _last_heard_at(self) -> float:
        return self._heard_at if self._signs is None else self._signs.heard_at

    def _ask_for_life(self, number: int) -> None:
        assert self._signs is not None  # there is no `idle_timeout` otherwise
        self._signs.ping_nowait()

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

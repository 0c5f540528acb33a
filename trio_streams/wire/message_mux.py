"""The machine of a connection that speaks Raffel's JSON envelopes, as far as both roles share it.

Everything that is not the dialect is the multiplexer's own: streams, their halves, the order in which they send, what a
command means. Three things differ, and are files of their own:

- what comes in (`message_inbox`): messages instead of frames, ids that the client chooses, no credit;
- what goes out: what a server answers (`envelope_writer`) or a client asks (`envelope_asker`), as envelopes;
- what bounds a peer that reads or is read slowly: windows of our own (`message_limits`).

Both ways messages have their length in front (`message_framing`): that is the format on TCP, and a carrier of
WebSocket messages takes it off and puts it on.
"""

from __future__ import annotations

from abc import abstractmethod

from trio_streams.config import ConnectionConfig
from trio_streams.core.liveness import Liveness
from trio_streams.core.mux import Mux
from trio_streams.wire.message_inbox import MessageInbox
from trio_streams.wire.message_stream import UNLIMITED
from trio_streams.wire.message_wire import MessageWire

__all__ = ["MessageMux"]


class MessageMux(Mux):
    """One side of a connection of envelopes; a role makes `_in`.

    Args:
      wire: encodes what this side says.
      is_client: which side this is.
      config: limits and timeouts that every dialect has.
      idle_timeout: seconds of silence after which the peer is given up; None where it cannot be asked for a sign of
        life, and its silence means nothing.
      now: seconds, on the clock that every later call uses.
    """

    _in: MessageInbox

    def __init__(
        self, wire: MessageWire, *, is_client: bool, config: ConnectionConfig, idle_timeout: float | None, now: float
    ) -> None:
        super().__init__(wire, is_client=is_client, config=config, session_id="", now=now)
        self._out.raise_credit(UNLIMITED)
        self._liveness = Liveness(config.handshake_timeout, idle_timeout, now)
        self._liveness.greeted()
        self._heard_at = now

    @property
    def wants_input(self) -> bool:
        """Whether to go on reading; not while too much is unread, here or of what we owe."""
        return super().wants_input and not self._in.is_full

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, if ever."""
        if self._in.failure is not None:
            return None
        due, silence = self._in.deadline, self._liveness.deadline
        return silence if due is None else due if silence is None else min(due, silence)

    def handle_deadline(self, now: float) -> None:
        """End what has held up reading for too long, or a peer that is gone; ask one that is silent for a sign of life."""
        if self._in.failure is not None:
            return
        self._in.check(now)
        self._look_for_life(now)

    def _look_for_life(self, now: float) -> None:
        # A silence that comes of our not reading is ours.
        heard_at = max(self._heard_at, self._last_heard_at) if self.wants_input else now
        if heard_at != self._heard_at:
            self._heard_at = heard_at
            self._liveness.heard(heard_at)
        error = self._liveness.check(now, greeted=self._in.is_greeted)
        if error is not None:
            self._in.fail(error)
        elif (number := self._liveness.ping_due(now)) is not None:
            self._ask_for_life(number)

    @property
    @abstractmethod
    def _last_heard_at(self) -> float:
        """When the peer last gave a sign of life."""

    @abstractmethod
    def _ask_for_life(self, number: int) -> None:
        """Ask for one."""

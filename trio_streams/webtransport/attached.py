"""What an endpoint knows of one of its connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from trio_streams.webtransport.driven import Driven
from trio_streams.webtransport.timers import Timer

__all__ = ["Attached", "Roster"]

_QUIET_TICKS: Final = 2  # tasks run in no certain order, so one that sends in each tick may seem to have missed one
_FEW_KICKS: Final = 4
_MAX_UNSETTLED_TICKS: Final = 16
_MAX_UNSETTLED_SECONDS: Final = 0.001


class Roster:
    """The connections of an endpoint, by their ids.

    Args:
      wake: called when a connection asks for a flush.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.routes: dict[bytes, Attached] = {}
        self.attached: dict[Attached, None] = {}
        self.dirty: dict[Attached, None] = {}
        self.half_open_items: int = 0

    def add(self, driven: Driven, name: str, give_up_at: float) -> Attached:
        """Take a connection in; nothing leads to it yet."""
        attached = Attached(self, driven, name, give_up_at)
        self.attached[attached] = None
        self.half_open_items += 1
        return attached

    def remove(self, attached: Attached) -> None:
        """Forget a connection, and all that leads to it."""
        self.confirm(attached)
        attached.is_detached = True
        self.attached.pop(attached, None)
        self.dirty.pop(attached, None)
        for connection_id in attached.connection_ids:
            del self.routes[connection_id]
        attached.connection_ids.clear()

    def mark(self, attached: Attached) -> None:
        """Have a connection flushed when it has settled; one that is marked keeps its place."""
        if not attached.is_detached:
            self.dirty[attached] = None
            self._wake()

    def confirm(self, attached: Attached) -> None:
        """A connection is not half-open any more."""
        if attached.is_half_open:
            attached.is_half_open = False
            self.half_open_items -= 1


class Attached(Timer):
    """One connection, and its `Attachment`.

    Args:
      roster: where it is in.
      driven: what does the work.
      name: of the peer, for people.
      give_up_at: when it is lost, if its handshake is not complete.

    Attributes:
      clock: the latest time that it was told. A deadline that is almost due is handled early, and time does not go back then.
      was_kicked: whether it was marked since the endpoint last looked.
      kicks: how often it was marked since the last flush.
      unsettled_ticks: how often the endpoint has looked since the last flush; at the first time it sets `flush_by`.
      quiet_ticks: how often in a row it had not been marked again.
      flush_by: when a marked connection is flushed even if it is marked again and again.
      refused_items: how often its peer's host said that nobody listens, since something was last received.
    """

    __slots__ = (
        "_roster",
        "clock",
        "connection_ids",
        "driven",
        "flush_by",
        "give_up_at",
        "is_detached",
        "is_half_open",
        "kicks",
        "name",
        "quiet_ticks",
        "refused_items",
        "unsettled_ticks",
        "was_kicked",
    )

    def __init__(self, roster: Roster, driven: Driven, name: str, give_up_at: float) -> None:
        super().__init__()
        self._roster = roster
        self.driven: Driven = driven
        self.name: str = name
        self.give_up_at: float = give_up_at
        self.clock: float = 0.0
        self.connection_ids: set[bytes] = set()
        self.is_half_open: bool = True
        self.is_detached: bool = False
        self.refused_items: int = 0
        self.was_kicked: bool = False
        self.kicks: int = 0
        self.unsettled_ticks: int = 0
        self.quiet_ticks: int = 0
        self.flush_by: float = 0.0

    def advance(self, now: float) -> float:
        """The time to tell it."""
        self.clock = max(self.clock, now)
        return self.clock

    def kick(self) -> None:
        """Ask for a flush: once, however often it is asked for, when nobody has asked again for a scheduler tick or two."""
        self.was_kicked = True
        self.kicks += 1
        if self not in self._roster.dirty:
            self._roster.mark(self)

    def hurry(self) -> None:
        """Ask for a flush in the next tick, whoever asks for another one."""
        self.kick()
        self.unsettled_ticks, self.flush_by = 1, 0.0

    def settle(self) -> None:
        """Nobody is waited for: what is marked is flushed at the next turn, unless it is marked again before."""
        self.was_kicked = False
        self.quiet_ticks = _QUIET_TICKS

    def is_settled(self, now: float) -> bool:
        """Whether nobody has anything to add for the time being, or had long enough for it; asking counts as a tick."""
        if self.unsettled_ticks == 0:
            self.flush_by = now + _MAX_UNSETTLED_SECONDS
        self.unsettled_ticks += 1
        self.quiet_ticks = 0 if self.was_kicked else self.quiet_ticks + 1
        self.was_kicked = False
        is_quiet = self.quiet_ticks >= (1 if self.has_few_kicks else _QUIET_TICKS)
        return is_quiet or self.unsettled_ticks > _MAX_UNSETTLED_TICKS or now >= self.flush_by

    @property
    def has_few_kicks(self) -> bool:
        """Whether it was marked no more often since the last flush than one question or answer does it."""
        return self.kicks <= _FEW_KICKS

    def add_connection_id(self, connection_id: bytes) -> None:
        """Let datagrams to an id reach this connection. An id that leads to another one stays there."""
        if not self.is_detached and self._roster.routes.setdefault(connection_id, self) is self:
            self.connection_ids.add(connection_id)

    def remove_connection_id(self, connection_id: bytes) -> None:
        """Let datagrams to an id reach it no more."""
        if connection_id in self.connection_ids:
            self.connection_ids.remove(connection_id)
            del self._roster.routes[connection_id]

    def note_handshake(self) -> None:
        """Say that the handshake is complete."""
        self._roster.confirm(self)

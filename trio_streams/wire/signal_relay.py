"""The machine of a relay for peers that speak `signal`: who is there, who hears what, and how far ahead a sender may be.

A message with `to` goes to that peer alone, every other one to all others on its sender's topic; pings are answered
here. Messages are forwarded as they came, never encoded again.

Nothing is lost in it. What waits for a peer is bounded by `max_queued_bytes`: who has sent to a peer that has more than
that is not read any further (`is_open`) until there is room. Who does not read for too long is the owner's to remove;
whose requests were waiting for that peer is told at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Iterator
from typing import Final

import attrs

from trio_streams.config import positive
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.signal import Category, RpcMessage, SignalFault, StreamMessage, decode, encode

__all__ = ["RelayLimits", "RelayMachine", "RelayMember"]

_PONG: Final = Category.PONG


@attrs.frozen(kw_only=True)
class RelayLimits:
    """What one relay holds.

    Attributes:
      max_members: peers at once.
      max_message_bytes: the longest message; a longer one is refused, and its sender told.
      max_queued_bytes: what waits for one peer. Beyond it nobody on its topic is read, but for the one message that
        crossed the limit from each.
      max_pending_requests: requests under way to one peer of which the relay remembers who asked; the oldest are
        forgotten, and end by their own deadline.
      max_sessions: peers that have left and may come back under their id.
      max_session_age: seconds for which they may.
    """

    max_members: int = attrs.field(default=1_024, validator=positive)
    max_message_bytes: int = attrs.field(default=1_048_576, validator=positive)
    max_queued_bytes: int = attrs.field(default=1_048_576, validator=positive)
    max_pending_requests: int = attrs.field(default=1_024, validator=positive)
    max_sessions: int = attrs.field(default=4_096, validator=positive)
    max_session_age: float = attrs.field(default=60.0, validator=positive)


@attrs.define(eq=False)
class RelayMember:
    """One connected peer.

    Attributes:
      client_id: what the others call it.
      session_id: what brings it back under that id; only the peer itself is told.
      topic: where its messages go.
      queued_bytes: what waits for it, in `queue`.
      queue: messages, in order.
      asked_by: requests that it has not answered, by their ids, and who asked.
      waits_for: those who had more than `max_queued_bytes` waiting when it last sent to them.
    """

    client_id: str
    session_id: str
    topic: str
    queued_bytes: int = 0
    queue: deque[bytes] = attrs.field(factory=deque[bytes])
    asked_by: dict[str, str] = attrs.field(factory=dict[str, str])
    waits_for: set[RelayMember] = attrs.field(factory=set["RelayMember"])


class RelayMachine:
    """All peers of one relay.

    Args:
      limits: what it holds.
    """

    def __init__(self, limits: RelayLimits | None = None) -> None:
        self.limits: RelayLimits = limits or RelayLimits()
        self._members: dict[str, RelayMember] = {}
        self._topics: dict[str, dict[str, RelayMember]] = {}
        self._sessions: dict[bytes, tuple[str, float]] = {}
        self._ready: dict[RelayMember, None] = {}

    @property
    def members(self) -> tuple[RelayMember, ...]:
        """Who is there."""
        return tuple(self._members.values())

    # -- coming and going -------------------------------------------------------------------------------------

    def join(self, topic: str, now: float, *, session_id: str | None = None) -> tuple[RelayMember, RelayMember | None]:
        """Let a peer in, and queue its welcome.

        Args:
          topic: where its messages go.
          now: seconds.
          session_id: from an earlier welcome, to have the same id again.

        Returns:
          The peer, and whom it replaces: the same peer on an earlier connection, which the owner should close.

        Raises:
          LocalProtocolError: there are `max_members` already.
        """
        client_id = None if session_id is None else self._find_session(session_id, now)
        replaced = None if client_id is None else self._members.get(client_id)
        if replaced is not None:
            self._remove(replaced)
        if len(self._members) >= (limit := self.limits.max_members):
            raise LocalProtocolError(
                f"peer number {limit + 1}: max_members is {limit}", field="max_members", size=limit + 1, limit=limit
            )
        is_restored = client_id is not None and session_id is not None
        member = RelayMember(
            client_id or secrets.token_hex(16),
            session_id if is_restored and session_id else secrets.token_hex(32),
            topic,
        )
        self._members[member.client_id] = member
        self._topics.setdefault(topic, {})[member.client_id] = member
        welcome = RpcMessage(
            category=Category.WELCOME,
            client_id=member.client_id,
            session_id=member.session_id,
            restored_session=is_restored,
        )
        self._put(member, encode(welcome))
        return member, replaced

    def leave(self, member: RelayMember, now: float) -> None:
        """A peer's connection is over; too late is no fault. It may come back with its session id."""
        if not self._is_here(member):
            return
        self._remove(member)
        self._forget_sessions(now)
        if len(self._sessions) >= self.limits.max_sessions:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(member.session_id)] = (member.client_id, now)
        for request_id, asker in member.asked_by.items():
            if (found := self._members.get(asker)) is not None:
                self._tell_lost(found, member.client_id, request_id)

    def _remove(self, member: RelayMember) -> None:
        del self._members[member.client_id]
        others = self._topics[member.topic]
        del others[member.client_id]
        if not others:
            del self._topics[member.topic]
        self._ready.pop(member, None)

    def _find_session(self, session_id: str, now: float) -> str | None:
        """Whose session it is. Digests are compared, so that the time it takes tells nothing of an id."""
        self._forget_sessions(now)
        digest = _digest(session_id)
        if (found := self._sessions.pop(digest, None)) is not None:
            return found[0]
        for member in self._members.values():
            if secrets.compare_digest(_digest(member.session_id), digest):
                return member.client_id
        return None

    def _forget_sessions(self, now: float) -> None:
        for digest, (_, left) in list(self._sessions.items()):
            if now < left + self.limits.max_session_age:
                break  # they are in the order in which they left
            del self._sessions[digest]

    # -- messages ---------------------------------------------------------------------------------------------

    def is_open(self, member: RelayMember) -> bool:
        """Whether to read from a peer: not while somebody who hears it, or the peer itself, has too much waiting."""
        limit = self.limits.max_queued_bytes
        if member.waits_for:
            member.waits_for = {one for one in member.waits_for if one.queued_bytes > limit and self._is_here(one)}
        return not member.waits_for and member.queued_bytes <= limit

    def _is_here(self, member: RelayMember) -> bool:
        return self._members.get(member.client_id) is member

    def receive(self, member: RelayMember, text: bytes) -> None:
        """Take a message of a peer. What is wrong with it is told to the peer, and changes nothing.

        Args:
          member: from whom.
          text: JSON.
        """
        try:
            self._check_size(len(text))
            self._route(member, text, decode(text))
        except SignalFault as fault:
            self._tell(member, fault)

    def _check_size(self, size: int) -> None:
        if size > (limit := self.limits.max_message_bytes):
            details = {"field": "max_message_bytes", "size": size, "limit": limit}
            raise SignalFault("MESSAGE_TOO_LARGE", f"Message too large: {size} bytes, the limit is {limit}", details)

    def _route(self, member: RelayMember, text: bytes, message: StreamMessage | RpcMessage) -> None:
        to = message.to
        if isinstance(message, RpcMessage):
            if message.category is Category.PING:
                self._put(member, encode(attrs.evolve(message, category=_PONG)))
                return
            if message.category in (_PONG, Category.WELCOME):
                return
            if message.sender not in (None, member.client_id):
                raise SignalFault("PERMISSION_DENIED", "from is not the sender's own id", {"field": "from"})
        if to is None:
            for other in self._topics[member.topic].values():
                if other is not member:
                    self._forward(member, other, text)
            return
        target = self._members.get(to)
        if target is None:
            details: dict[str, object] = {"field": "to", "targetId": to[:128]}
            if isinstance(message, RpcMessage) and message.request_id is not None:
                details["requestId"] = message.request_id
            raise SignalFault("UNAVAILABLE", "Target peer not found", details)
        if isinstance(message, RpcMessage):
            self._note(member, target, message)
        self._forward(member, target, text)

    def _forward(self, member: RelayMember, target: RelayMember, text: bytes) -> None:
        self._put(target, text)
        if target.queued_bytes > self.limits.max_queued_bytes:
            member.waits_for.add(target)

    def _note(self, member: RelayMember, target: RelayMember, message: RpcMessage) -> None:
        """Remember who waits for whom, so that nobody waits for a peer that has left."""
        if message.request_id is None:
            return
        if message.category is Category.RESPONSE:
            member.asked_by.pop(message.request_id, None)
        elif message.category is Category.REQUEST:
            asked_by = target.asked_by
            if len(asked_by) >= self.limits.max_pending_requests:
                del asked_by[next(iter(asked_by))]
            asked_by[message.request_id] = member.client_id

    def _tell_lost(self, member: RelayMember, target_id: str, request_id: str) -> None:
        details = {"targetId": target_id, "requestId": request_id}
        self._tell(member, SignalFault("UNAVAILABLE", "Target peer left", details))

    def _tell(self, member: RelayMember, fault: SignalFault) -> None:
        details = {"code": fault.code, **(fault.details or {})}
        self._put(member, encode(RpcMessage(category=Category.ERROR, error=fault.message, details=details)))

    def _put(self, member: RelayMember, text: bytes) -> None:
        member.queue.append(text)
        member.queued_bytes += len(text)
        self._ready[member] = None

    # -- output -----------------------------------------------------------------------------------------------

    def take_ready(self) -> Iterator[RelayMember]:
        """The peers for whom something has been queued since they were last asked for."""
        ready, self._ready = self._ready, {}
        return iter(ready)

    def take(self, member: RelayMember, max_bytes: int) -> list[bytes]:
        """Take messages that wait for a peer, in order.

        Args:
          member: for whom.
          max_bytes: how many; one message at least.
        """
        queue = member.queue
        taken: list[bytes] = []
        size = 0
        while queue and (not taken or size + len(queue[0]) <= max_bytes):
            taken.append(queue.popleft())
            size += len(taken[-1])
        member.queued_bytes -= size
        return taken


def _digest(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).digest()

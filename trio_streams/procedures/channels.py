"""Channels: names that clients listen to and speak on, and an application with them.

    channels = Channels(authorize=may_listen)
    await serve(router, "ws://…", channels=channels)
    await channels.publish("prices", "tick", {"eur": 1.08})

Whoever subscribes hears what is published from then on. A name's prefix says who may: `private-` asks for leave, and so
does `presence-`, where all who listen also learn who else is there. Clients of JSON envelopes have messages for this;
a handler listens with `listen`, so that a server stream gives a channel to callers on any other transport.

What is published is encoded once, and queued for each listener without waiting. One that leaves too much unread is let
go with its whole connection: to miss an event without a word would be worse.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias

import attrs
import trio

from trio_streams.codecs import json_codec
from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.errors import RpcError
from trio_streams.service.broadcast import Broadcast, BroadcastConfig, LagPolicy, Subscription
from trio_streams.service.context import Context
from trio_streams.wire.envelope_channels import ChannelType, channel_type, encode_channel_event

__all__ = ["ChannelEvent", "ChannelLimits", "Channels", "Listener", "Member"]

Authorize: TypeAlias = Callable[[Context, str], Awaitable[bool]]
"""Whether somebody may listen to a channel."""
AuthorizePublish: TypeAlias = Callable[[Context, str, str, object], Awaitable[bool]]
"""Whether somebody may say this on a channel: the channel, the event and its data."""
DescribeMember: TypeAlias = Callable[[Context, str], Mapping[str, object]]
"""What the members of a presence channel are told of a new one."""

_encode: Final = json_codec(object).encode
_decode: Final = json_codec(object).decode


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value!r}")


@attrs.frozen(kw_only=True)
class ChannelLimits:
    """What channels hold.

    Attributes:
      max_channels: channels that anybody listens to.
      max_subscriptions: channels of one connection.
      max_listeners: connections on one channel.
      max_members: of one presence channel; each newcomer is sent all of them.
      max_event_bytes: the data of an event, and what a member is described by.
      window_bytes: how far behind a `listen` in this process may be.
      authorize_timeout: seconds that a hook of the application gets.
    """

    max_channels: int = attrs.field(default=100_000, validator=_positive)
    max_subscriptions: int = attrs.field(default=1_000, validator=_positive)
    max_listeners: int = attrs.field(default=10_000, validator=_positive)
    max_members: int = attrs.field(default=1_000, validator=_positive)
    max_event_bytes: int = attrs.field(default=65_536, validator=_positive)
    window_bytes: int = attrs.field(default=262_144, validator=_positive)
    authorize_timeout: float = attrs.field(default=10.0, validator=_positive)

    def __attrs_post_init__(self) -> None:
        if self.window_bytes < self.max_event_bytes + ITEM_OVERHEAD_BYTES:
            raise ValueError(f"window_bytes of {self.window_bytes} has no room for an event of max_event_bytes")


@attrs.frozen(kw_only=True)
class Member:
    """One connection on a presence channel.

    Attributes:
      id: of the connection; unique in this process, and nobody can guess it.
      user_id: the name of its principal, where an interceptor found one.
      info: what the application says of it.
      joined_at: milliseconds since 1970.
    """

    id: str
    user_id: str | None
    info: Mapping[str, object]
    joined_at: int

    def to_json(self, *fields: str) -> dict[str, object]:
        """The member as clients are told of it: the named fields of theirs, without a user id that nobody knows."""
        whole = {"id": self.id, "userId": self.user_id, "info": dict(self.info), "joinedAt": self.joined_at}
        return {name: value for name, value in whole.items() if value is not None and (not fields or name in fields)}


@attrs.frozen
class ChannelEvent:
    """What was said on a channel.

    Attributes:
      channel: where.
      event: what it calls itself.
      payload: its data, as JSON text.
    """

    channel: str
    event: str
    payload: bytes

    @property
    def data(self) -> object:
        """Its data, decoded."""
        return _decode(self.payload)


def _payload(event: ChannelEvent) -> bytes:
    return event.payload


class Listener(Protocol):
    """A connection that listens."""

    @property
    def id(self) -> str:
        """Unique in this process."""
        ...

    def deliver(self, message: bytes) -> None:
        """Queue a message without waiting; one that is too far behind ends."""
        ...


@attrs.define(eq=False)
class _Channel:
    listeners: dict[Listener, Member | None] = attrs.field(factory=dict[Listener, "Member | None"])
    local: Broadcast[ChannelEvent] | None = None
    local_listeners: int = 0

    @property
    def is_empty(self) -> bool:
        return not self.listeners and not self.local_listeners


class Channels:
    """The channels of an application.

    Args:
      authorize: an async function: whether the caller in a context may listen to a channel. It is asked for every
        channel; without it the public ones are everybody's and the others nobody's.
      authorize_publish: an async function: whether a client that listens may say something there; None lets each.
      describe_member: what the members of a presence channel are told of a new one; None for nothing.
      limits: what is held.
      clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        authorize: Authorize | None = None,
        authorize_publish: AuthorizePublish | None = None,
        describe_member: DescribeMember | None = None,
        limits: ChannelLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits: ChannelLimits = limits or ChannelLimits()
        self._authorize = authorize
        self._authorize_publish = authorize_publish
        self._describe_member = describe_member
        self._clock = clock
        self._channels: dict[str, _Channel] = {}
        self._subscriptions: dict[Listener, dict[str, None]] = {}

    # -- for applications -------------------------------------------------------------------------------------

    async def publish(self, channel: str, event: str, data: object = None) -> int:
        """Say something on a channel.

        Args:
          channel: its name; nobody needs to have made it.
          event: what it calls itself.
          data: anything that JSON has a form for.

        Returns:
          How many connections it was queued for.

        Raises:
          RpcError: MESSAGE_TOO_LARGE: the data passes `max_event_bytes`.
          CodecError: JSON has no form for the data.
        Cancellation: atomic; nothing was published.
        """
        await trio.lowlevel.checkpoint()
        return self.publish_nowait(channel, event, data)

    def publish_nowait(self, channel: str, event: str, data: object = None) -> int:
        """As `publish`, at once."""
        payload = _encode(data)
        self._check_size("data", len(payload))
        return self._spread(channel, event, payload)

    @asynccontextmanager
    async def listen(
        self, channel: str, *, policy: LagPolicy = LagPolicy.DISCONNECT
    ) -> AsyncGenerator[Subscription[ChannelEvent], None]:
        """Listen to a channel in this process, for as long as the block; nobody is asked for leave.

        Args:
          channel: its name.
          policy: what happens when the block falls behind by `window_bytes`; not `WAIT`, for nobody waits here.

        Returns:
          An async iterable of events.

        Raises:
          RpcError: RESOURCE_EXHAUSTED: there are `max_channels`.
          ValueError: the policy.
        Cancellation: stops listening.
        """
        if policy is LagPolicy.WAIT:
            raise ValueError("policy is DISCONNECT or DROP: who publishes on a channel waits for nobody")
        found = self._require(channel)
        if found.local is None:
            found.local = Broadcast(_payload, config=BroadcastConfig(window_bytes=self.limits.window_bytes))
        found.local_listeners += 1
        try:
            async with found.local.subscribe(policy=policy) as subscription:
                yield subscription
        finally:
            found.local_listeners -= 1
            if not found.local_listeners:
                found.local = None
            self._forget_if_empty(channel, found)

    def members(self, channel: str) -> list[Member]:
        """Who is on a presence channel, in the order of their coming."""
        found = self._channels.get(channel)
        return [] if found is None else [member for member in found.listeners.values() if member is not None]

    def listeners(self, channel: str) -> int:
        """How many connections listen to a channel."""
        found = self._channels.get(channel)
        return 0 if found is None else len(found.listeners)

    @property
    def names(self) -> tuple[str, ...]:
        """The channels that anybody listens to."""
        return tuple(self._channels)

    def remove_member(self, channel: str, id_: str) -> bool:
        """Let a connection listen no more, without a word to it; whether it did.

        Args:
          channel: its name.
          id_: a member's.
        """
        found = self._channels.get(channel)
        for listener in [] if found is None else list(found.listeners):
            if listener.id == id_:
                self.unsubscribe(listener, channel)
                return True
        return False

    # -- for connections --------------------------------------------------------------------------------------

    async def subscribe(self, listener: Listener, channel: str, context: Context) -> list[Member] | None:
        """Let a connection listen, if it may; a second time changes nothing.

        Args:
          listener: the connection.
          channel: its name.
          context: who asks.

        Returns:
          The members of a presence channel, the new one among them; None for other channels.

        Raises:
          RpcError: PERMISSION_DENIED: it may not; RESOURCE_EXHAUSTED: a limit, which the message names;
            DEADLINE_EXCEEDED: the application's hook took too long.
        Cancellation: it does not listen.
        """
        kind = channel_type(channel)
        if self._authorize is not None:
            await self._ask(self._authorize(context, channel), f"Not authorized to subscribe to {channel}")
        elif kind is not ChannelType.PUBLIC:
            raise _denied(f"Authorization required for {kind.value} channels")
        member = None
        own = self._subscriptions.get(listener, {})
        if channel not in own:
            if kind is ChannelType.PRESENCE:
                member = self._make_member(listener, channel, context)
            self._add(listener, channel, member)
        return self.members(channel) if kind is ChannelType.PRESENCE else None

    def unsubscribe(self, listener: Listener, channel: str) -> None:
        """Let a connection listen no more; one that doesn't is no fault."""
        found = self._channels.get(channel)
        if found is None or listener not in found.listeners:
            return
        member = found.listeners.pop(listener)
        own = self._subscriptions[listener]
        del own[channel]
        if not own:
            del self._subscriptions[listener]
        self._forget_if_empty(channel, found)
        if member is not None:
            self._spread(channel, "member_removed", _encode(member.to_json("id", "userId")))

    def leave(self, listener: Listener) -> None:
        """Let a connection go, wherever it listens."""
        for channel in list(self._subscriptions.get(listener, ())):
            self.unsubscribe(listener, channel)

    async def publish_from(
        self, listener: Listener, channel: str, event: str, payload: bytes, context: Context
    ) -> None:
        """Let a connection say something to all others on a channel that it listens to.

        Args:
          listener: the connection.
          channel: its name.
          event: what it calls itself.
          payload: JSON text.
          context: who speaks.

        Raises:
          RpcError: as `subscribe`, or MESSAGE_TOO_LARGE.
        Cancellation: nothing was said.
        """
        if channel not in self._subscriptions.get(listener, ()):
            raise _denied(f"Must be subscribed to publish to {channel}")
        self._check_size("data", len(payload))
        if self._authorize_publish is not None:
            asked = self._authorize_publish(context, channel, event, _decode(payload))
            await self._ask(asked, f"Not allowed to publish to {channel}")
        self._spread(channel, event, payload, except_for=listener)

    # -- inside -----------------------------------------------------------------------------------------------

    async def _ask(self, answer: Awaitable[bool], refusal: str) -> None:
        patience = self.limits.authorize_timeout
        with trio.move_on_after(patience) as scope:
            if not await answer:
                raise _denied(refusal)
        if scope.cancelled_caught:
            raise RpcError(Code.DEADLINE_EXCEEDED, f"no leave within authorize_timeout of {patience:g} s")

    def _make_member(self, listener: Listener, channel: str, context: Context) -> Member:
        info = {} if self._describe_member is None else dict(self._describe_member(context, channel))
        member = Member(
            id=listener.id, user_id=_user_id(context.principal), info=info, joined_at=int(self._clock() * 1_000)
        )
        self._check_size("member", len(_encode(member.to_json())))
        return member

    def _add(self, listener: Listener, channel: str, member: Member | None) -> None:
        limits = self.limits
        _check_room("max_subscriptions", len(self._subscriptions.get(listener, ())), limits.max_subscriptions)
        _check_room("max_listeners", self.listeners(channel), limits.max_listeners)
        if member is not None:
            _check_room("max_members", self.listeners(channel), limits.max_members)
        self._require(channel).listeners[listener] = member
        self._subscriptions.setdefault(listener, {})[channel] = None
        if member is not None:
            news = _encode(member.to_json("id", "userId", "info"))
            self._spread(channel, "member_added", news, except_for=listener)

    def _require(self, channel: str) -> _Channel:
        found = self._channels.get(channel)
        if found is None:
            _check_room("max_channels", len(self._channels), self.limits.max_channels)
            found = self._channels[channel] = _Channel()
        return found

    def _forget_if_empty(self, channel: str, found: _Channel) -> None:
        if found.is_empty:
            self._channels.pop(channel, None)

    def _spread(self, channel: str, event: str, payload: bytes, *, except_for: Listener | None = None) -> int:
        found = self._channels.get(channel)
        if found is None:
            return 0
        if found.local is not None:
            found.local.publish_nowait(ChannelEvent(channel, event, payload))
        message = encode_channel_event(channel, event, payload)
        listeners = [listener for listener in found.listeners if listener is not except_for]
        for listener in listeners:
            listener.deliver(message)
        return len(listeners)

    def _check_size(self, what: str, size: int) -> None:
        limit = self.limits.max_event_bytes
        if size > limit:
            raise RpcError(
                Code.MESSAGE_TOO_LARGE,
                f"{what} of {size} bytes passes max_event_bytes of {limit}",
                {"field": what, "size": size, "limit": limit},
            )


def _denied(message: str) -> RpcError:
    return RpcError(Code.PERMISSION_DENIED, message)


def _check_room(field: str, count: int, limit: int) -> None:
    if count >= limit:
        details = {"field": field, "size": count + 1, "limit": limit}
        raise RpcError(Code.RESOURCE_EXHAUSTED, f"{count + 1} pass {field} of {limit}", details)


def _user_id(principal: object) -> str | None:
    name = getattr(principal, "name", principal)
    return name if isinstance(name, str) else None

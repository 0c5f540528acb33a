"""Channels: who may listen and speak, who is told what, and what is held."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from tests.procedures.envelope_site import FACES, Envelopes, Handled, make_router, open_envelopes, serving
from trio_streams import Code, ConnectionConfig, Context, Router, RpcError, StreamReset, connect
from trio_streams.errors import CodecError
from trio_streams.procedures.channels import ChannelEvent, ChannelLimits, Channels, Member
from trio_streams.procedures.interceptors import BearerAuthentication, Principal
from trio_streams.service.broadcast import LagPolicy

on_every_face = pytest.mark.parametrize("face", FACES)


@attrs.define(eq=False)
class Ear:
    """A listener that keeps what it hears."""

    id: str
    heard: list[Any] = attrs.field(factory=list[Any])

    def deliver(self, message: bytes) -> None:
        self.heard.append(json.loads(message))


def context(principal: object = None) -> Context:
    return Context(
        procedure="channels.subscribe",
        peer="test",
        metadata={},
        deadline=float("inf"),
        cancel_scope=trio.CancelScope(),
        request_id="1",
        principal=principal,
    )


async def yes(_: Context, __: str) -> bool:
    return True


async def subscribe(client: Envelopes, channel: str, **more: Any) -> Any:  # noqa: ANN401 - any JSON
    await client.say({"id": f"sub {channel}", "type": "subscribe", "channel": channel, **more})
    return await client.hear()


# -- the hub -------------------------------------------------------------------------------------------------------


async def test_what_is_published_is_heard_by_all_who_listen() -> None:
    """In the original's words; a second subscription changes nothing, and an empty channel is forgotten."""
    channels = Channels()
    a, b = Ear("a"), Ear("b")
    for ear in (a, b, b):
        assert await channels.subscribe(ear, "room", context()) is None
    assert await channels.publish("room", "msg", {"t": "hi"}) == 2
    assert await channels.publish("elsewhere", "msg") == 0
    assert a.heard == b.heard == [{"type": "event", "channel": "room", "event": "msg", "data": {"t": "hi"}}]
    assert (channels.names, channels.listeners("room"), channels.members("room")) == (("room",), 2, [])
    channels.unsubscribe(a, "room")
    channels.unsubscribe(a, "room")
    channels.unsubscribe(a, "nowhere")
    channels.leave(b)
    channels.leave(b)
    assert (channels.names, channels.listeners("room")) == ((), 0)


@pytest.mark.parametrize(("channel", "kind"), [("private-x", "private"), ("presence-x", "presence")])
async def test_without_an_authorizer_the_others_are_nobodys(channel: str, kind: str) -> None:
    """As the original has it."""
    with pytest.raises(RpcError, match=f"Authorization required for {kind} channels") as info:
        await Channels().subscribe(Ear("a"), channel, context())
    assert info.value.code == "PERMISSION_DENIED"


async def test_an_authorizer_is_asked_for_every_channel() -> None:
    """It sees who asks and for what, of public channels too."""
    asked: list[tuple[object, str]] = []

    async def authorize(ctx: Context, channel: str) -> bool:
        asked.append((ctx.principal, channel))
        return channel.endswith("-ada")

    channels = Channels(authorize=authorize)
    await channels.subscribe(Ear("a"), "private-ada", context("ada"))
    with pytest.raises(RpcError, match="Not authorized to subscribe to room"):
        await channels.subscribe(Ear("a"), "room", context())
    assert asked == [("ada", "private-ada"), (None, "room")]
    assert channels.names == ("private-ada",)


async def test_an_authorizer_has_its_time(autojump_clock: trio.testing.MockClock) -> None:
    """One that does not answer within `authorize_timeout` lets nobody in."""

    async def authorize(_: Context, __: str) -> bool:
        await trio.sleep_forever()
        return True

    channels = Channels(authorize=authorize, limits=ChannelLimits(authorize_timeout=3))
    with pytest.raises(RpcError, match="authorize_timeout of 3 s") as info:
        await channels.subscribe(Ear("a"), "room", context())
    assert (info.value.code, trio.current_time()) == ("DEADLINE_EXCEEDED", 3)
    assert channels.names == ()


async def test_members_know_of_each_other() -> None:
    """A newcomer gets all members, the others are told of it, and of those who leave, in any way."""
    channels = Channels(
        authorize=yes,
        describe_member=lambda ctx, channel: {"name": str(ctx.principal), "at": channel},
        clock=lambda: 1.5,
    )
    a, b = Ear("a"), Ear("b")
    await channels.subscribe(a, "presence-x", context(Principal("ada")))
    members = await channels.subscribe(b, "presence-x", context())
    ada = {"name": str(Principal("ada")), "at": "presence-x"}
    nobody = {"name": "None", "at": "presence-x"}
    assert (
        members
        == channels.members("presence-x")
        == [
            Member(id="a", user_id="ada", info=ada, joined_at=1_500),
            Member(id="b", user_id=None, info=nobody, joined_at=1_500),
        ]
    )
    assert members[0].to_json() == {"id": "a", "userId": "ada", "info": ada, "joinedAt": 1_500}
    assert (a.heard.pop(), b.heard) == (
        {
            "type": "event",
            "channel": "presence-x",
            "event": "member_added",
            "data": {"id": "b", "info": nobody},
        },
        [],
    )
    assert channels.remove_member("presence-x", "a")
    assert not channels.remove_member("presence-x", "a")
    assert not channels.remove_member("nowhere", "a")
    assert [(one["event"], one["data"]) for one in b.heard] == [("member_removed", {"id": "a", "userId": "ada"})]
    assert a.heard == []


async def test_clients_speak_to_all_others() -> None:
    """Where they listen, and where the application lets them; the server's own words reach everybody."""

    async def may_publish(_: Context, __: str, event: str, data: object) -> bool:
        return event == "ok" and data == [1]

    channels = Channels(authorize_publish=may_publish)
    a, b = Ear("a"), Ear("b")
    with pytest.raises(RpcError, match="Must be subscribed to publish to room"):
        await channels.publish_from(a, "room", "ok", b"[1]", context())
    await channels.subscribe(a, "room", context())
    await channels.subscribe(b, "room", context())
    await channels.publish_from(a, "room", "ok", b"[1]", context())
    with pytest.raises(RpcError, match="Not allowed to publish to room"):
        await channels.publish_from(a, "room", "ok", b"[2]", context())
    assert (a.heard, [one["data"] for one in b.heard]) == ([], [[1]])


@pytest.mark.parametrize(
    ("limits", "channel"),
    [
        ({"max_channels": 2}, "public-{}"),
        ({"max_subscriptions": 2}, "public-{}"),
        ({"max_listeners": 2}, "public"),
        ({"max_members": 2}, "presence-x"),
    ],
)
async def test_what_is_held_has_limits(limits: dict[str, int], channel: str) -> None:
    """The error names the limit, its size and what passed it; nothing has changed."""
    (field,) = limits
    channels = Channels(authorize=yes, limits=ChannelLimits(**limits))
    same = Ear("same")
    for number in range(3):
        ear = same if field == "max_subscriptions" else Ear(str(number))
        asking = partial(channels.subscribe, ear, channel.format(number), context())
        if number < 2:
            await asking()
            continue
        with pytest.raises(RpcError, match=f"3 pass {field} of 2") as info:
            await asking()
        assert info.value.code == "RESOURCE_EXHAUSTED"
        assert info.value.details == {"field": field, "size": 3, "limit": 2}
        assert channel.format(number) not in channels.names or channels.listeners(channel) == 2


async def test_events_have_a_size() -> None:
    """Of the server, of clients, and what members are described by; and JSON must have a form for them."""
    limits = ChannelLimits(max_event_bytes=100)
    channels = Channels(authorize=yes, describe_member=lambda *_: {"name": "x" * 100}, limits=limits)
    ear = Ear("a")
    await channels.subscribe(ear, "room", context())
    with pytest.raises(RpcError, match="data of 102 bytes passes max_event_bytes of 100"):
        await channels.publish("room", "m", "x" * 100)
    with pytest.raises(RpcError, match="max_event_bytes"):
        await channels.publish_from(ear, "room", "m", b'"' + b"x" * 100 + b'"', context())
    with pytest.raises(RpcError, match="member of .* max_event_bytes"):
        await channels.subscribe(ear, "presence-x", context())
    with pytest.raises(CodecError):
        await channels.publish("room", "m", object())
    assert ear.heard == []
    with pytest.raises(ValueError, match="max_members must be more than 0"):
        ChannelLimits(max_members=0)
    with pytest.raises(ValueError, match="no room for an event"):
        ChannelLimits(window_bytes=1_000)


async def test_a_cancelled_publication_is_none() -> None:
    """It is a checkpoint before, and whole after."""
    channels, ear = Channels(), Ear("a")
    await channels.subscribe(ear, "room", context())
    with trio.CancelScope() as scope:
        scope.cancel()
        await channels.publish("room", "m")
    assert ear.heard == []


async def test_this_process_listens_too() -> None:
    """From the block's beginning to its end; several blocks and connections hear the same, and nobody is asked."""
    channels, ear = Channels(), Ear("a")
    async with channels.listen("private-x") as first, channels.listen("private-x") as second:
        await channels.publish("private-x", "m", {"a": 1})
        heard = await first.receive()
        assert heard == await second.receive() == ChannelEvent("private-x", "m", b'{"a":1}')
        assert heard.data == {"a": 1}
        await channels.subscribe(ear, "room", context())
    assert channels.names == ("room",)
    with pytest.raises(ValueError, match="DISCONNECT or DROP"):
        async with channels.listen("room", policy=LagPolicy.WAIT):
            pass


async def test_who_falls_behind_in_this_process_is_told() -> None:
    """Past `window_bytes`, by the policy: disconnected, or with a number of events missed. Nobody else notices."""
    channels = Channels(limits=ChannelLimits(max_event_bytes=100, window_bytes=300))
    async with (
        channels.listen("room") as strict,
        channels.listen("room", policy=LagPolicy.DROP) as lax,
        channels.listen("room") as prompt,
    ):
        for number in range(20):
            await channels.publish("room", "m", number)
            assert (await prompt.receive()).data == number
        with pytest.raises(StreamReset) as info:
            await strict.receive()
        assert info.value.code is Code.RESOURCE_EXHAUSTED
        event = await lax.receive()
        assert event.data == lax.dropped_items > 0


# -- over the wire -------------------------------------------------------------------------------------------------


@on_every_face
async def test_the_messages_of_the_captures(face: str) -> None:
    """Subscribe, publish, unsubscribe, a private channel: what the original answers."""
    channels = Channels(authorize=yes)
    async with serving(Router(), face, channels=channels) as url, open_envelopes(url) as a, open_envelopes(url) as b:
        await a.say({"id": "1", "type": "subscribe", "channel": "room"})
        assert await a.hear() == {"id": "1", "type": "subscribed", "channel": "room"}
        await subscribe(b, "room")
        await a.say({"id": "2", "type": "publish", "channel": "room", "event": "msg", "data": {"t": "hi"}})
        assert await b.hear() == {"type": "event", "channel": "room", "event": "msg", "data": {"t": "hi"}}
        await a.say({"id": "3", "type": "unsubscribe", "channel": "room"})
        assert await a.hear() == {"id": "3", "type": "unsubscribed", "channel": "room"}
        await a.say({"id": "4", "type": "subscribe", "channel": "private-x"})
        assert await a.hear() == {"id": "4", "type": "subscribed", "channel": "private-x"}
        await a.say({"id": "5", "type": "publish", "channel": "room", "event": "msg"})
        assert await a.hear() == {
            "id": "5",
            "type": "error",
            "code": "PERMISSION_DENIED",
            "status": 403,
            "message": "Must be subscribed to publish to room",
        }


@on_every_face
async def test_presence_over_the_wire(face: str) -> None:
    """Members come with the answer; those who are there hear of each that comes, leaves, and is lost."""
    channels = Channels(authorize=yes, describe_member=lambda ctx, _: {"name": ctx.metadata["name"]})
    async with serving(Router(), face, channels=channels) as url, open_envelopes(url) as a:
        answer = await subscribe(a, "presence-x", metadata={"name": "ada"})
        (first,) = answer["members"]
        assert (first["info"], set(first)) == ({"name": "ada"}, {"id", "info", "joinedAt"})
        async with open_envelopes(url) as b:
            answer = await subscribe(b, "presence-x", metadata={"name": "bob"})
            assert [one["info"]["name"] for one in answer["members"]] == ["ada", "bob"]
            added = await a.hear()
            assert (added["event"], added["data"]["info"]) == ("member_added", {"name": "bob"})
        removed = await a.hear()
        assert (removed["event"], removed["data"]) == ("member_removed", {"id": added["data"]["id"]})


@on_every_face
async def test_interceptors_tell_who_asks(face: str) -> None:
    """A bearer token in a request's metadata is a principal to the authorizer; a wrong one is refused before it."""

    async def verify(token: str) -> Principal | None:
        return Principal("ada") if token == "right" else None

    async def authorize(ctx: Context, channel: str) -> bool:
        return isinstance(ctx.principal, Principal) and channel == f"private-{ctx.principal.name}"

    router = Router()
    router.use(BearerAuthentication(verify))
    async with serving(router, face, channels=Channels(authorize=authorize)) as url, open_envelopes(url) as client:
        right, wrong = ({"Authorization": f"Bearer {token}"} for token in ("right", "wrong"))
        assert (await subscribe(client, "private-ada", metadata=right))["type"] == "subscribed"
        assert (await subscribe(client, "private-bob", metadata=right))["code"] == "PERMISSION_DENIED"
        assert (await subscribe(client, "private-ada", metadata=wrong))["code"] == "UNAUTHENTICATED"


async def test_a_broken_authorizer_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that it is our fault and not what it was; our log does."""

    async def authorize(_: Context, __: str) -> bool:
        raise KeyError("secret")

    async with serving(Router(), channels=Channels(authorize=authorize)) as url, open_envelopes(url) as client:
        answer = await subscribe(client, "room")
        assert (answer["code"], answer["status"]) == ("INTERNAL_ERROR", 500)
        assert "secret" not in json.dumps(answer)
    assert "'room'" in caplog.text


async def test_handlers_publish_and_streams_listen() -> None:
    """A call speaks on a channel; a server stream gives it to callers of our own dialect."""
    channels, router = Channels(), Router()
    listening = trio.Event()

    @router.call("say")
    async def say(text: str) -> int:
        return await channels.publish("room", "said", text)

    @router.stream("hear.[channel]")
    async def hear(ctx: Context) -> AsyncIterator[dict[str, object]]:
        async with channels.listen(ctx.params["channel"]) as events:
            listening.set()
            async for event in events:
                yield {"event": event.event, "data": event.data}

    async with serving(router, "tcp", channels=channels) as url, open_envelopes(url) as client, connect(url) as own:
        await subscribe(client, "room")
        async with own.stream("hear.room") as heard:
            await listening.wait()
            await client.say({"id": "r", "type": "request", "procedure": "say", "payload": "hi"})
            assert await heard.receive() == {"event": "said", "data": "hi"}
        answers = {one["type"]: one for one in await client.hear_many(2)}
        assert (answers["event"]["data"], answers["response"]["payload"]) == ("hi", 1)


@on_every_face
async def test_a_listener_that_reads_nothing_is_let_go(face: str) -> None:
    """Bounded by `max_control_bytes`, with its whole connection; the others hear everything."""
    channels = Channels()
    config = ConnectionConfig(max_control_bytes=4_096, close_timeout=0.1)
    async with serving(Router(), face, channels=channels, config=config) as url, open_envelopes(url) as lazy:
        await subscribe(lazy, "room")
        async with open_envelopes(url) as prompt:
            await subscribe(prompt, "room")
            count = 0
            with trio.fail_after(60):
                while channels.listeners("room") == 2:
                    await channels.publish("room", "m", "x" * 60_000)
                    assert (await prompt.hear())["event"] == "m"
                    count += 1
            assert count > 1
        await lazy.hear_end()


@on_every_face
async def test_ten_thousand_subscriptions(face: str) -> None:
    """Those up to the limit are taken, the others refused by its name; the client goes on being served."""
    channels = Channels()
    handled = Handled()
    async with serving(make_router(handled), face, channels=channels) as url, open_envelopes(url) as client:

        async def ask() -> None:
            for n in range(10_000):
                await client.say({"id": str(n), "type": "subscribe", "channel": f"c{n}"})
            await client.say({"id": "r", "type": "request", "procedure": "ping", "payload": {}})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            heard = await client.hear_many(10_001)
        refused = [one for one in heard if one["type"] == "error"]
        assert len(refused) == 9_000
        assert {one["code"] for one in refused} == {"RESOURCE_EXHAUSTED"}
        assert "max_subscriptions of 1000" in refused[0]["message"]
        assert len(channels.names) == 1_000
    with trio.fail_after(30):
        while channels.names:
            await trio.testing.wait_all_tasks_blocked()


async def test_without_channels_they_are_refused() -> None:
    """An application that has none says so."""
    async with serving(Router()) as url, open_envelopes(url) as client:
        answer = await subscribe(client, "room")
        assert answer["payload"]["code"] == "UNIMPLEMENTED"

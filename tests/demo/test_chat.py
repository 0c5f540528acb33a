"""`chat`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.demo.links import open_client
from trio_streams.demo import chat
from trio_streams.demo.chat import ChatEvent, ChatMessage, Room, add_chat
from trio_streams.errors import RpcError
from trio_streams.procedures.client import ConnectionClient
from trio_streams.procedures.router import Router
from trio_streams.streams.abc import Stream


@asynccontextmanager
async def _chat() -> AsyncGenerator[tuple[ConnectionClient, Room], None]:
    async with trio.open_nursery() as nursery:
        router, room = Router(), Room(lambda text: None)
        add_chat(router, room, nursery)
        async with open_client(router) as client:
            yield client, room


async def _arrive(stream: Stream[object, ChatEvent]) -> None:
    """Take part, and know that one does: nobody else can have come before."""
    await stream.send("status")
    assert (await stream.receive()).type == "status"


async def test_what_is_said_comes_back_transformed(autojump_clock: MockClock) -> None:
    """Upper case for the speaker; `status` tells who is there, as soon as it is asked."""
    async with _chat() as (client, _), client.bidi("chat", returns=ChatEvent) as stream:
        await stream.send("hello")
        said = ChatEvent(type="echo", text="HELLO", name="guest-1", processed=True)
        assert await stream.receive() == said
        await stream.send(ChatMessage("status", name="ada"))
        assert await stream.receive() == ChatEvent(type="status", online=True, participants=("ada",))
        stream.end()
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()


async def test_participants_hear_each_other(autojump_clock: MockClock) -> None:
    """Who comes, what they say and who leaves reaches the others, and not who did it."""
    async with _chat() as (client, room), client.bidi("chat", returns=ChatEvent) as ada:
        await ada.send(ChatMessage("status", name="ada"))
        await ada.receive()
        async with client.bidi("chat", returns=ChatEvent) as bob:
            assert await ada.receive() == ChatEvent(type="joined", name="guest-2")
            await bob.send(ChatMessage("hi", name="bob"))
            heard = await ada.receive()
            assert heard == ChatEvent(type="message", text="HI", name="bob", processed=True)
            assert await bob.receive() == attrs.evolve(heard, type="echo")
            assert room.names == ("ada", "bob")
            bob.end()
        assert await ada.receive() == ChatEvent(type="left", name="bob")
        assert list(room.names) == ["ada"]


async def test_who_does_not_listen_holds_nobody_up(autojump_clock: MockClock) -> None:
    """A deaf participant's inbox keeps the oldest 64 events; the first one after the gap says how many are missing."""
    async with _chat() as (client, _), client.bidi("chat", high_water_mark=1, returns=ChatEvent) as deaf:
        await _arrive(deaf)
        async with client.bidi("chat", returns=ChatEvent) as loud:
            for number in range(200):
                await loud.send(f"{number}")
                await loud.receive()
            events = [await deaf.receive() for _ in range(20)]
            assert [event.text for event in events[1:]] == [f"{number}" for number in range(19)]
            await loud.send("after")
            while (event := await deaf.receive()).text != "AFTER":
                assert event.missed == 0
            assert event.missed > 100


async def test_who_does_not_listen_to_itself_has_to_wait(autojump_clock: MockClock) -> None:
    """The echoes of a speaker who does not read fill its inbox and its windows, and then it can say no more."""
    async with _chat() as (client, _), client.bidi("chat", high_water_mark=1) as stream:
        with trio.move_on_after(5) as scope:
            for _ in range(10_000):
                await stream.send("more")
        assert scope.cancelled_caught
        assert stream.statistics().items_sent < 2 * 256 + chat._INBOX + 10


@pytest.mark.parametrize(
    ("message", "field"), [(ChatMessage("x" * 4_097), "text"), (ChatMessage("x", name="n" * 41), "name")]
)
async def test_a_message_that_is_too_long_ends_its_stream(
    message: ChatMessage, field: str, autojump_clock: MockClock
) -> None:
    """The error names the field and the limits, after the answers to what was said before; others stay."""
    async with _chat() as (client, room), client.bidi("chat", returns=ChatEvent) as other:
        await _arrive(other)
        async with client.bidi("chat", returns=ChatEvent) as stream:
            await stream.send("fine")
            await stream.send(message)
            assert (await stream.receive()).text == "FINE"
            with pytest.raises(RpcError, match="at most 4096 characters and a name 40") as caught:
                await stream.receive()
        assert caught.value.code == "INVALID_ARGUMENT"
        assert caught.value.details == {"field": field}
        assert (await other.receive()).type == "joined"
        await wait_all_tasks_blocked()
        assert room.names == ("guest-1",)


async def test_a_full_room_takes_nobody(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the limit; when somebody leaves there is room again."""
    monkeypatch.setattr(chat, "MAX_PARTICIPANTS", 1)
    async with _chat() as (client, _):
        async with client.bidi("chat") as first:
            await first.send("status")
            await first.receive()
            async with client.bidi("chat") as second:
                with pytest.raises(RpcError, match="the room has 1 participants"):
                    await second.receive()
            first.end()
        await wait_all_tasks_blocked()
        async with client.bidi("chat", returns=ChatEvent) as third:
            await third.send("x")
            assert (await third.receive()).type == "echo"

"""`chat`: a bidirectional stream; what one participant says is transformed and reaches the others.

A handler's generator can wait for one thing at a time, and must not hold a nursery while it is suspended. So what a
participant says is read by a task of the server's nursery, and the generator waits for one inbox alone: answers to
its own client and what the others say arrive there in order.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router

__all__ = ["ChatEvent", "ChatMessage", "Room", "add_chat"]

MAX_TEXT: Final = 4_096
MAX_PARTICIPANTS: Final = 256
_INBOX: Final = 64
"""What may wait for a participant who does not read; more is left out, and counted."""


@attrs.frozen
class ChatMessage:
    """What a participant sends; a plain string is a message without a name.

    Attributes:
      text: what is said; `status` asks who is there.
      name: what the participant calls itself from now on; empty for no change.
    """

    text: str
    name: str = ""


@attrs.frozen(kw_only=True)
class ChatEvent:
    """What a participant receives.

    Attributes:
      type: `echo` of one's own message, `message` of another, `status`, `joined` or `left`.
      text: what was said, in upper case.
      name: who said it.
      processed: whether the text was transformed.
      online: in a status: that the room is.
      participants: in a status: who is there.
      missed: how many events were left out before this one, since their reader was slow.
    """

    type: str
    text: str = ""
    name: str = ""
    processed: bool = False
    online: bool = False
    participants: tuple[str, ...] = ()
    missed: int = 0


class _Participant:
    def __init__(self, name: str) -> None:
        self.name = name
        self.scope: trio.CancelScope = trio.CancelScope()
        self.failure: Exception | None = None
        self._missed = 0
        self.inbox: trio.MemoryReceiveChannel[ChatEvent]
        self._send, self.inbox = trio.open_memory_channel[ChatEvent](_INBOX)

    def tell(self, event: ChatEvent) -> None:
        try:
            self._send.send_nowait(attrs.evolve(event, missed=self._missed) if self._missed else event)
        except trio.WouldBlock:
            self._missed += 1
        except trio.BrokenResourceError:
            pass  # its generator is closing
        else:
            self._missed = 0

    async def answer(self, event: ChatEvent) -> None:
        # Who does not read the answers to what it says itself has to wait with saying more.
        await self._send.send(event)

    def no_more(self) -> None:
        self._send.close()


class Room:
    """Who is there, and who hears what.

    Args:
      note: told, for the log, who comes and goes.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._participants: list[_Participant] = []
        self._numbers = itertools.count(1)

    @property
    def names(self) -> tuple[str, ...]:
        """The participants, in the order in which they came."""
        return tuple(participant.name for participant in self._participants)

    def join(self) -> _Participant:
        """Let somebody in.

        Raises:
          RpcError: RESOURCE_EXHAUSTED: the room is full.
        """
        if len(self._participants) >= MAX_PARTICIPANTS:
            details = {"limit": MAX_PARTICIPANTS}
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"the room has {MAX_PARTICIPANTS} participants", details)
        participant = _Participant(f"guest-{next(self._numbers)}")
        self._tell_others(participant, ChatEvent(type="joined", name=participant.name))
        self._participants.append(participant)
        self._note(f"chat: {participant.name} joined, {len(self._participants)} are there")
        return participant

    def leave(self, participant: _Participant) -> None:
        """Let somebody out."""
        self._participants.remove(participant)
        self._tell_others(participant, ChatEvent(type="left", name=participant.name))
        self._note(f"chat: {participant.name} left, {len(self._participants)} are there")

    async def say(self, participant: _Participant, message: str | ChatMessage) -> None:
        """Pass on a message: the message to the others, and its echo to who said it, waiting for room there.

        Raises:
          RpcError: INVALID_ARGUMENT: it is too long.
        """
        if isinstance(message, str):
            message = ChatMessage(message)
        if len(message.text) > MAX_TEXT or len(message.name) > 40:
            raise RpcError(
                Code.INVALID_ARGUMENT,
                f"a text is at most {MAX_TEXT} characters and a name 40, not {len(message.text)} and {len(message.name)}",
                {"field": "text" if len(message.text) > MAX_TEXT else "name"},
            )
        participant.name = message.name or participant.name
        if message.text == "status":
            await participant.answer(ChatEvent(type="status", online=True, participants=self.names))
            return
        said = ChatEvent(type="echo", text=message.text.upper(), name=participant.name, processed=True)
        self._tell_others(participant, attrs.evolve(said, type="message"))
        await participant.answer(said)

    def _tell_others(self, participant: _Participant, event: ChatEvent) -> None:
        for other in self._participants:
            if other is not participant:
                other.tell(event)


def add_chat(router: Router, room: Room, nursery: trio.Nursery) -> None:
    """Enter `chat` into a router.

    Args:
      router: gets the procedure.
      room: whom it is shared by.
      nursery: runs the tasks that read what participants say, as long as the server.
    """

    async def read(participant: _Participant, messages: AsyncIterable[str | ChatMessage]) -> None:
        with participant.scope:
            try:
                async for message in messages:
                    await room.say(participant, message)
            except Exception as exc:  # noqa: BLE001 - the participant's generator raises it
                participant.failure = exc
            finally:
                participant.no_more()

    @router.stream("chat", direction="bidirectional")
    async def chat(messages: AsyncIterable[str | ChatMessage]) -> AsyncIterator[ChatEvent]:
        """What you say comes back in upper case, and reaches the others; `status` tells who is there."""
        participant = room.join()
        nursery.start_soon(read, participant, messages)
        try:
            async for event in participant.inbox:
                yield event
            if participant.failure is not None:
                raise participant.failure
        finally:
            participant.scope.cancel()
            participant.inbox.close()
            room.leave(participant)

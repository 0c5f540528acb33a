"""Two sessions over a line that is cut: what the tests of `core.session` share."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.core.support import consume, items, only, take
from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.core.session import Session
from trio_streams.wire.binary import BinaryWire

CONFIG = ConnectionConfig()


def make_session(
    *, is_client: bool, config: ConnectionConfig = CONFIG, max_retained_bytes: int = 1_048_576, session_id: str = ""
) -> Session:
    return Session(
        BinaryWire(),
        is_client=is_client,
        config=config,
        session_id=session_id or ("client" if is_client else "server"),
        max_retained_bytes=max_retained_bytes,
        now=0.0,
    )


class Line:
    """A client and a server, and the bytes between them; nothing moves unless it is told to.

    Attributes:
      happened: what each side's machine has said and nobody has taken, the client's first.
    """

    def __init__(self, client: Session, server: Session) -> None:
        self.sides = (client, server)
        self.under_way = (bytearray(), bytearray())  # to the server, to the client
        self.happened: tuple[list[events.Event], list[events.Event]] = ([], [])

    @property
    def client(self) -> Session:
        return self.sides[0]

    @property
    def server(self) -> Session:
        return self.sides[1]

    def write(self, side: int, max_bytes: int = 65_536) -> bool:
        """Let a side write once; whether it had something."""
        data = self.sides[side].to_send(0.0, max_bytes) if self.sides[side].has_output else b""
        self.under_way[side].extend(data)
        self.happened[side].extend(self.sides[side].events())
        return bool(data)

    def deliver(self, side: int, size: int | None = None) -> bool:
        """Let bytes that a side has written arrive; whether there were any."""
        line = self.under_way[side]
        data = bytes(line[:size])
        del line[:size]
        if data:
            self.sides[1 - side].receive(data, 0.0)
            self.happened[1 - side].extend(self.sides[1 - side].events())
        return bool(data)

    def settle(self) -> None:
        """Go on until there is nothing more to say."""
        for _ in range(100_000):
            if not any([*(self.write(side) for side in (0, 1)), *(self.deliver(side) for side in (0, 1))]):
                return
        raise AssertionError("the sessions never came to rest")

    def cut(self) -> None:
        """Lose the line and what is on it; both sides notice, and nothing takes its place."""
        for side in (0, 1):
            self.under_way[side].clear()
            self.sides[side].detach()

    def mend(self) -> None:
        """Put both sides on another line."""
        for side in self.sides:
            side.attach(0.0)

    def take(self, side: int) -> list[events.Event]:
        return take(self.happened[side])


def make_line(
    client: ConnectionConfig = CONFIG, server: ConnectionConfig | None = None, *, max_retained_bytes: int = 1_048_576
) -> Line:
    """Two sessions that have greeted."""
    line = Line(
        make_session(is_client=True, config=client, max_retained_bytes=max_retained_bytes),
        make_session(is_client=False, config=server or client, max_retained_bytes=max_retained_bytes),
    )
    line.settle()
    for side in (0, 1):
        line.take(side)
    return line


class Talk:
    """A client with some streams, and items both ways on each; a line that chance cuts wherever it likes.

    Args:
      chance: decides everything.
    """

    def __init__(self, chance: random.Random) -> None:
        self.random = chance
        self.line = make_line(max_retained_bytes=self.random.choice([131_072, 1_048_576]))
        self.cuts = 0
        self.streams = [self.line.client.open(f"s{n}") for n in range(self.random.randint(1, 3))]
        self.unsent = {
            (side, stream): [self._item(side, stream, n) for n in range(self.random.randint(0, 25))]
            for side in (0, 1)
            for stream in self.streams
        }
        self.said = {key: list(unsent) for key, unsent in self.unsent.items()}
        self.heard: dict[tuple[int, int], list[bytes]] = {key: [] for key in self.unsent}
        self.ended: dict[tuple[int, int], int] = dict.fromkeys(self.unsent, 0)
        self.opened: list[int] = []

    def _item(self, side: int, stream: int, number: int) -> bytes:
        size = self.random.choice([0, 1, 16, 16, 16, 16, 900, 900, 20_000, 70_000])
        return f"{side}.{stream}.{number}.".encode().ljust(size, b"x")

    def run(self) -> None:
        """Talk until everything is said, with cuts; then let it come to rest."""
        while any(self.unsent.values()) or self.random.random() < 0.7:
            self._step()
        if not self.line.client.is_attached:
            self.line.mend()
        while True:
            self._say_all()
            self.line.settle()
            self._hear()
            if not any(self.unsent.values()) and all(self.ended.values()):
                break
        assert self.heard == self.said  # every item once, in order, and none that was never sent
        assert set(self.ended.values()) == {1}
        assert self.opened == self.streams

    def _step(self) -> None:
        pick = self.random.random()
        side = self.random.choice((0, 1))
        if pick < 0.05 and self.line.client.is_greeted and self.line.server.is_greeted:
            self.line.cut()
            self.cuts += 1
        elif pick < 0.08 and self.line.client.is_attached:
            # While they still greet.
            self.line.cut()
            self.cuts += 1
        elif not self.line.client.is_attached and pick < 0.3:
            self.line.mend()
        elif pick < 0.4:
            self._say(*self.random.choice(list(self.unsent)), most=self.random.randint(1, 9))
        elif pick < 0.7:
            self.line.write(side, self.random.choice([1, 5_000, 70_000]))
        else:
            self.line.deliver(side, self.random.choice([1, 7, 100, 4_000, 70_000]))
        self._hear()

    def _say(self, side: int, stream: int, most: int) -> None:
        mux, unsent = self.line.sides[side], self.unsent[side, stream]
        if not unsent or (side and stream not in self.opened):
            return
        taken = mux.send(stream, unsent[:most])
        del unsent[:taken]
        if not unsent:
            mux.end(stream)

    def _say_all(self) -> None:
        for side, stream in self.unsent:
            self._say(side, stream, 100)
            if not self.said[side, stream]:
                self._end_empty(side, stream)

    def _end_empty(self, side: int, stream: int) -> None:
        if not self.ended[side, stream] and (not side or stream in self.opened):
            self.line.sides[side].end(stream)
            self.said[side, stream] = [b""]
            self.heard[side, stream].append(b"")

    def _hear(self) -> None:
        for side in (0, 1):
            happened = self.line.take(side)
            assert not only(events.Failed, happened), happened
            self.opened += [event.stream_id for event in only(events.Opened, happened)]
            for stream in self.streams:
                taken = items(happened, stream)
                self.heard[1 - side, stream] += taken
                consume(self.line.sides[side], stream, taken)
            self._note_ends(side, only(events.Ended, happened))

    def _note_ends(self, side: int, ended: Iterable[events.Ended]) -> None:
        for event in ended:
            self.ended[1 - side, event.stream_id] += 1

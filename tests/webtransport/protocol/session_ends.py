"""Two ends of one session without QUIC: streams with windows, whose bytes arrive in whatever pieces and order a choice says.

What QUIC promises is kept and nothing else: the bytes of one half arrive in order, and its end behind them; a reset may
overtake what was not delivered, stops and limits may come at any time, and streams overtake each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from tests.core.support import CONFIG
from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.webtransport.protocol.session_mux import SessionMux

__all__ = ["End", "Half", "SessionEnds", "Windows", "first"]

Choose = Callable[[int], int]
"""One of so many, counted from 0."""


def first(_: int) -> int:
    """Deliver all there is, the oldest stream first."""
    return 0


@attrs.frozen
class Windows:
    """What the session's connection allows."""

    stream_bytes: int = 1_048_576
    session_bytes: int = 16_777_216
    buffer_bytes: int = 262_144
    bidirectional: int = 100
    unidirectional: int = 3


@attrs.define(eq=False)
class Half:
    """One direction of a stream, at both ends."""

    unsent: bytearray = attrs.field(factory=bytearray)
    is_ended: bool = False
    end_told: bool = False
    reset: int | None = None
    reset_told: bool = False
    stop: int | None = None
    stop_told: bool = False
    is_refusing: bool = False
    is_starved: bool = False
    delivered: int = 0
    consumed: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.end_told or self.reset is not None

    @property
    def unread(self) -> int:
        """What was delivered, and is held by the reader."""
        return self.delivered - self.consumed


class End:
    """One side: the port of its mux."""

    def __init__(self, ends: SessionEnds, name: str) -> None:
        self._ends = ends
        self.name = name
        self.out: dict[int, Half] = {}
        self.into: dict[int, Half] = {}
        self.unidirectional: set[int] = set()
        self.opened = [0, 0]
        self.released_by_peer = [0, 0]
        self.released: set[int] = set()
        self.priorities: dict[int, int] = {}
        self.told: set[int] = set()
        self.has_drained = False
        self.drain_told = False
        self.wants: set[bool] = set()
        self.peer: End
        self.mux: SessionMux

    # -- the port ---------------------------------------------------------------------------------------------

    def can_open(self, *, is_unidirectional: bool) -> bool:
        windows = self._ends.windows
        limit = windows.unidirectional if is_unidirectional else windows.bidirectional
        if self.opened[is_unidirectional] - self.released_by_peer[is_unidirectional] < limit:
            return True
        self.wants.add(is_unidirectional)
        return False

    def open_stream(self, *, is_unidirectional: bool, priority: int = 0) -> int:
        assert self.can_open(is_unidirectional=is_unidirectional)
        number = self.opened[is_unidirectional] + 1
        self.opened[is_unidirectional] = number
        stream_id = 4 * number + 2 * is_unidirectional + (self.name == "server")
        self.out[stream_id] = self.peer.into[stream_id] = Half()
        if is_unidirectional:
            self.unidirectional.add(stream_id)
            self.peer.unidirectional.add(stream_id)
        else:
            self.into[stream_id] = self.peer.out[stream_id] = Half()
        self.told.add(stream_id)
        self.priorities[stream_id] = priority
        return stream_id

    def set_priority(self, stream_id: int, priority: int) -> None:
        self.priorities[stream_id] = priority

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        half = self.out[stream_id]
        assert stream_id not in self.released
        assert not half.is_ended
        if half.reset is not None:
            return 0
        taken = min(len(data), self._ends.windows.buffer_bytes - len(half.unsent))
        half.unsent += data[:taken]
        half.is_starved = taken < len(data)
        return taken

    def end(self, stream_id: int) -> None:
        half = self.out[stream_id]
        assert not half.is_ended and half.reset is None
        half.is_ended = True

    def reset(self, stream_id: int, code: int) -> None:
        half = self.out[stream_id]
        if half.reset is None and not half.end_told:
            half.reset = code
            half.unsent.clear()

    def stop(self, stream_id: int, code: int) -> None:
        self._refuse(stream_id, code)

    def _refuse(self, stream_id: int, code: int) -> None:
        half = self.into[stream_id]
        if not half.is_refusing and not half.is_over:
            half.stop = code
        half.is_refusing = True
        half.consumed = half.delivered

    def consumed(self, stream_id: int, size: int) -> None:
        half = self.into.get(stream_id)
        if half is None or half.is_refusing or stream_id in self.released:
            return
        assert 0 < size <= half.unread, (stream_id, size, half)
        half.consumed += size

    def release(self, stream_id: int) -> None:
        assert stream_id not in self.released, "released twice"
        self.released.add(stream_id)
        if stream_id in self.into:
            self._refuse(stream_id, 0)
        if stream_id in self.out:
            half = self.out[stream_id]
            assert half.is_ended or half.reset is not None, "released with a half of ours that is open"
        if stream_id % 2 != (self.name == "server"):
            self.peer.released_by_peer[stream_id in self.unidirectional] += 1

    def drain(self) -> None:
        self.has_drained = True

    # -- what arrives -----------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """What was delivered here and is held by the reader."""
        return sum(half.unread for half in self.into.values())

    def arrivals(self) -> list[Callable[[Choose], None]]:
        """Everything that might happen here next."""
        found: list[Callable[[Choose], None]] = []
        for stream_id, half in self.into.items():
            if stream_id not in self.released and self._deliverable(half):
                found.append(lambda choose, i=stream_id: self._deliver(i, choose))  # type: ignore[misc]
        for stream_id, half in self.out.items():
            if half.stop is not None and not half.stop_told:
                found.append(lambda _, i=stream_id: self._tell_stop(i))  # type: ignore[misc]
            elif half.is_starved and len(half.unsent) * 2 <= self._ends.windows.buffer_bytes:
                found.append(lambda _, i=stream_id: self._tell_writable(i))  # type: ignore[misc]
        if self.peer.has_drained and not self.drain_told:
            found.append(lambda _: self._tell_drained())
        if any(self._is_allowed(kind) for kind in self.wants):
            found.append(lambda _: self._tell_allowed())
        return found

    def _deliverable(self, half: Half) -> bool:
        if half.reset is not None:
            return not half.reset_told
        if half.unsent:
            return half.is_refusing or self._room(half) > 0
        return half.is_ended and not half.end_told

    def _room(self, half: Half) -> int:
        windows = self._ends.windows
        return min(windows.stream_bytes - half.unread, windows.session_bytes - self.held_bytes)

    def _deliver(self, stream_id: int, choose: Choose) -> None:
        half = self.into[stream_id]
        if stream_id not in self.told:
            self.told.add(stream_id)
            self.mux.opened(stream_id, is_unidirectional=stream_id in self.unidirectional)
        if stream_id in self.released:
            return
        if half.reset is not None:
            half.reset_told = True
            half.consumed = half.delivered
            if not half.is_refusing:
                half.is_refusing = True
                self.mux.was_reset(stream_id, half.reset)
            return
        most = len(half.unsent) if half.is_refusing else min(len(half.unsent), self._room(half))
        size = most - choose(most) if most else 0
        chunk = bytes(half.unsent[:size])
        del half.unsent[:size]
        half.delivered += size
        is_ended = half.is_ended and not half.unsent and not (size and choose(2))
        half.end_told = is_ended
        if half.is_refusing:
            half.consumed = half.delivered
            return
        cut = choose(max(1, size))
        run = [chunk[:cut], chunk[cut:]] if cut else [chunk]
        self.mux.received(stream_id, run, is_ended=is_ended, now=self._ends.now)

    def _tell_stop(self, stream_id: int) -> None:
        half = self.out[stream_id]
        half.stop_told = True
        assert half.stop is not None
        was_over = half.end_told
        if half.reset is None and not was_over:
            half.reset = half.stop
            half.unsent.clear()
        if stream_id not in self.released:
            self.mux.was_stopped(stream_id, half.stop)

    def _tell_writable(self, stream_id: int) -> None:
        self.out[stream_id].is_starved = False
        if stream_id not in self.released:
            self.mux.writable(stream_id)

    def _is_allowed(self, kind: bool) -> bool:
        windows = self._ends.windows
        limit = windows.unidirectional if kind else windows.bidirectional
        return self.opened[kind] - self.released_by_peer[kind] < limit

    def _tell_allowed(self) -> None:
        self.wants.clear()
        self.mux.allowed()

    def _tell_drained(self) -> None:
        self.drain_told = True
        self.mux.drained()


class SessionEnds:
    """A client's and a server's mux, and the session between them.

    Args:
      client, server: their limits.
      windows: of the session's connection.
      choose: what arrives next, and how much of it; all there is, in order, by default.
      starts: whether to go on until both have greeted.
    """

    def __init__(
        self,
        client: ConnectionConfig = CONFIG,
        server: ConnectionConfig | None = None,
        *,
        windows: Windows | None = None,
        choose: Choose = first,
        starts: bool = True,
    ) -> None:
        self.windows: Final = windows or Windows()
        self.choose = choose
        self.now = 0.0
        self.client_end, self.server_end = End(self, "client"), End(self, "server")
        self.client_end.peer, self.server_end.peer = self.server_end, self.client_end
        self.client = self.client_end.mux = SessionMux(self.client_end, config=client, session_id="c", now=0.0)
        self.server = self.server_end.mux = SessionMux(
            self.server_end, config=server or client, session_id="s", now=0.0
        )
        self.client_events: list[events.Event] = []
        self.server_events: list[events.Event] = []
        if starts:
            self.run()
            self.take_client()
            self.take_server()

    def step(self) -> bool:
        """Flush both, and let one thing happen; whether there was one."""
        self.flush()
        arrivals = [*self.client_end.arrivals(), *self.server_end.arrivals()]
        if not arrivals:
            return False
        arrivals[self.choose(len(arrivals))](self.choose)
        self.flush()
        return True

    def flush(self) -> None:
        """Have both hand on what they have."""
        for mux, told in ((self.client, self.client_events), (self.server, self.server_events)):
            while mux.has_output:
                mux.flush()
            mux.flush()
            told.extend(mux.events())

    def run(self, steps: int = 200_000) -> None:
        """Go on until nothing is under way."""
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("never at rest")

    def take_client(self) -> list[events.Event]:
        """What the client's mux has said since."""
        self.run()
        taken, self.client_events = self.client_events, []
        return taken

    def take_server(self) -> list[events.Event]:
        """What the server's mux has said since."""
        self.run()
        taken, self.server_events = self.server_events, []
        return taken

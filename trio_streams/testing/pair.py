"""Two machines against each other, in virtual time.

The pair is the driver, the clock and the wire of both: it moves bytes as the link says, keeps the machines' deadlines,
and collects their events. Nothing happens between its methods, so that a test can look at both machines, give
commands, and go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from trio_streams.testing.link import Link, Pipe

__all__ = ["Machine", "NotIdleError", "Pair"]

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)


class Machine(Protocol[EventT_co]):
    """What a pair asks of a machine; `Mux` has it, and so has every sans-IO machine of this library."""

    @property
    def wants_input(self) -> bool:
        """Whether to go on reading."""
        ...

    @property
    def has_output(self) -> bool:
        """Whether `to_send` has something to give."""
        ...

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer."""
        ...

    def events(self) -> Iterator[EventT_co]:
        """Take the events that have happened."""
        ...

    def to_send(self, now: float, max_bytes: int) -> bytes:
        """Bytes for the peer."""
        ...

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called."""
        ...

    def handle_deadline(self, now: float) -> None:
        """Do what is due."""
        ...


class NotIdleError(Exception):
    """The machines were still talking after as many steps as they were allowed."""


class _End(Generic[EventT]):
    """One machine, what it sends into, what it receives from, and what it said."""

    def __init__(self, machine: Machine[EventT], outgoing: Pipe, incoming: Pipe) -> None:
        self.machine = machine
        self.outgoing = outgoing
        self.incoming = incoming
        self.events: list[EventT] = []

    def flush(self, now: float, max_bytes: int) -> bool:
        machine = self.machine
        sent = False
        while machine.has_output and (data := machine.to_send(now, max_bytes)):
            self.outgoing.send(data, now)
            sent = True
        self.events += machine.events()
        return sent

    def next_input(self) -> float | None:
        return self.incoming.next_arrival if self.machine.wants_input else None

    def deliver(self, now: float) -> None:
        self.machine.receive(self.incoming.receive(now), now)
        self.events += self.machine.events()

    def keep_deadline(self, now: float) -> None:
        self.machine.handle_deadline(now)
        self.events += self.machine.events()


class Pair(Generic[EventT]):
    """A client's and a server's machine, and the link between them.

    Args:
      client: one machine.
      server: the other one.
      link: carries the bytes; a fresh perfect one by default.
      now: what time it is, in seconds: what the machines were made with.
      max_bytes: what one `to_send` is asked for.
      max_steps: how many deliveries, writes and deadlines one call may take: two machines that never come to rest are
        a failure, not a hanging test.

    Attributes:
      client_events, server_events: everything the machines have said, in order. Clear them as you like.
      now: what time it is.
    """

    def __init__(
        self,
        client: Machine[EventT],
        server: Machine[EventT],
        link: Link | None = None,
        *,
        now: float = 0.0,
        max_bytes: int = 65_536,
        max_steps: int = 1_000_000,
    ) -> None:
        self.client = client
        self.server = server
        self.link: Link = Link() if link is None else link
        self.now: float = now
        self._max_bytes = max_bytes
        self._max_steps = max_steps
        self._ends = (
            _End(client, self.link.to_server, self.link.to_client),
            _End(server, self.link.to_client, self.link.to_server),
        )

    @property
    def client_events(self) -> list[EventT]:
        """What the client's machine has said."""
        return self._ends[0].events

    @property
    def server_events(self) -> list[EventT]:
        """What the server's machine has said."""
        return self._ends[1].events

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be sent and nothing under way that anybody would read."""
        return not any(end.machine.has_output or end.next_input() is not None for end in self._ends)

    def flush(self) -> bool:
        """Put on the line whatever the machines have to send; nothing is delivered.

        Returns:
          Whether there was anything.
        """
        sent = [end.flush(self.now, self._max_bytes) for end in self._ends]
        return any(sent)

    def deliver(self, chunks: int = 1) -> int:
        """Flush, and deliver the next chunks, moving time to their arrival.

        Args:
          chunks: how many at most.

        Returns:
          How many there were.
        """
        delivered = 0
        while delivered < chunks:
            self.flush()
            if not self._deliver_next(float("inf")):
                break
            delivered += 1
        return delivered

    def run_until_idle(self) -> None:
        """Go on until nothing is to be sent and nothing under way, keeping the deadlines that pass meanwhile.

        Time moves only as far as bytes need it: a deadline alone keeps nothing going.

        Raises:
          NotIdleError: after `max_steps`.
        """
        for _ in range(self._max_steps):
            sent = self.flush()
            if not self._deliver_next(float("inf")) and not sent:
                return
        raise NotIdleError(f"not idle after {self._max_steps} steps, at {self.now:g} s")

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that happens in it.

        Args:
          seconds: how long.

        Raises:
          NotIdleError: after `max_steps`.
        """
        until = self.now + seconds
        for _ in range(self._max_steps):
            sent = self.flush()
            if not self._deliver_next(until) and not self._keep_next_deadline(until) and not sent:
                self.now = until
                return
        raise NotIdleError(f"still busy after {self._max_steps} steps, at {self.now:g} s")

    def _deliver_next(self, until: float) -> bool:
        """Deliver the chunk that arrives next, or keep the deadline before it."""
        waiting = [
            (arrival, index) for index, end in enumerate(self._ends) if (arrival := end.next_input()) is not None
        ]
        if not waiting or min(waiting)[0] > until:
            return False
        arrival, index = min(waiting)
        if not self._keep_next_deadline(arrival):
            self.now = max(self.now, arrival)
            self._ends[index].deliver(self.now)
        return True

    def _keep_next_deadline(self, until: float) -> bool:
        deadlines = [end.machine.next_deadline() for end in self._ends]
        due = min((deadline for deadline in deadlines if deadline is not None), default=None)
        if due is None or due > until:
            return False
        self.now = max(self.now, due)
        for end in self._ends:
            end.keep_deadline(self.now)
        return True

"""A carrier that outlives those it stands on: where one is lost another one takes its place, and the driver never knows.

The driver sees bytes that stop coming for a while. What it has sent on a carrier that was lost is the machine's business,
which retains and repeats it; so a `send` that fails just returns. The machine says nothing between two carriers, so nobody
sends then, and whoever receives waits for the next one, for as long as a session may wait.

Each carrier belongs to a task of its own that was there before (a connection's on a server, the reconnecting one on a
client). It hands the carrier over with `attach`, waits on the `Link` until the session has done with it, and closes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from trio_streams.carrier import Carrier, PromptCarrier
from trio_streams.core.session import Session
from trio_streams.errors import ConnectionLost

__all__ = ["Link", "ResumingCarrier"]


def _ignore() -> None:
    """Nobody wants to know."""


def _unknown() -> bool:
    return False


def _closed_here() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("this session was closed here")


class Link:
    """A carrier while a session has it.

    Args:
      carrier: connected.
      received: what was taken from it already; it comes first.
    """

    __slots__ = ("_done", "carrier", "is_writable", "received")

    def __init__(self, carrier: Carrier, received: bytes = b"") -> None:
        self.carrier: Final = carrier
        self.is_writable: Callable[[], bool] = carrier.is_writable if isinstance(carrier, PromptCarrier) else _unknown
        self.received: bytes = received
        self._done = trio.Event()

    def release(self) -> None:
        """The session has done with the carrier."""
        self._done.set()

    async def wait_released(self) -> None:
        """Wait until the session has done with the carrier. Cancellation: atomic."""
        await self._done.wait()

    async def close(self) -> None:
        """Close the carrier without a goodbye, which the session has said if it wanted to. Cancellation: likewise."""
        with trio.CancelScope(shield=True) as scope:
            scope.cancel()
            await self.carrier.aclose()


class ResumingCarrier:
    """See the module.

    Args:
      machine: is detached and attached with the carriers.
      max_session_age: seconds that may pass between the loss of a carrier and the peer's hello on another one.
      peer: who is on the other side, for people.

    Attributes:
      on_detached: told, without waiting, of each loss.
      last_fault: why the last carrier was lost, or the last attempt to find another one failed.
    """

    def __init__(self, machine: Session, *, max_session_age: float, peer: str) -> None:
        self.machine: Final = machine
        self.peer: Final = peer
        self._kick: Callable[[], None] = _ignore
        self.on_detached: Callable[[], None] = _ignore
        self.last_fault: str = ""
        self._max_session_age = max_session_age
        self._link: Link | None = None
        self._lost_at = -math.inf  # when the last carrier went on which the peer had greeted
        self._end: Callable[[], Exception] | None = None
        self._changed = trio.lowlevel.ParkingLot()

    # -- for whoever brings carriers --------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the session takes no other carrier any more."""
        return self._end is not None or not self.machine.can_outlive

    @property
    def is_detached(self) -> bool:
        """Whether it waits for one."""
        return self._link is None

    def attach(self, carrier: Carrier, received: bytes = b"") -> Link:
        """Go on with a carrier; one that is still there has to leave, since its peer has. Not on a session that is over.

        Args:
          carrier: connected. It stays the caller's, who closes it once the link is released.
          received: what was taken from it already.
        """
        link = Link(carrier, received)
        if self._link is not None:
            self._detach(ConnectionLost(f"{self.peer} came back on another connection"))
        self._link = link
        if not self.machine.is_attached:
            self.machine.attach(trio.current_time())
        self._wake()
        return link

    def drive(self, kick: Callable[[], None]) -> None:
        """Have a driver told whenever the machine may have something to send; a carrier may have come before it."""
        self._kick = kick
        kick()

    def abandon(self) -> None:
        """Nobody drives this any more: let go of the carrier, without a goodbye if there was none."""
        self._finish(_closed_here)
        self._kick = self.on_detached = _ignore
        if self._link is not None:
            self._link.release()

    def give_up(self, reason: str) -> None:
        """There will be no other carrier: the session ends, if it has none, with one error that says so.

        Args:
          reason: why, for people.
        """
        text = f"the connection to {self.peer} was lost and not resumed: {reason} ({self.last_fault})"
        self._finish(partial(ConnectionLost, text))

    def _finish(self, make_error: Callable[[], Exception]) -> None:
        if self._end is None:
            self._end = make_error  # an error that was raised would hold this by its traceback
            if self._link is None:
                self.machine.give_up()
            self._wake()

    def _detach(self, fault: Exception) -> None:
        link, self._link = self._link, None
        assert link is not None
        if self.machine.is_greeted:
            self._lost_at = trio.current_time()
        self.last_fault = str(fault)
        self.machine.detach()
        link.release()
        self.on_detached()
        self._wake()

    def _wake(self) -> None:
        self._changed.unpark_all()
        self._kick()

    def _outlive(self, link: Link, fault: Exception | None) -> bool:
        """A carrier has failed, or its peer has ended it; whether the session goes on without it."""
        if link is not self._link:
            return True  # it was known
        if self._end is not None or not self.machine.can_outlive:
            return False
        self._detach(fault or ConnectionLost(f"{self.peer} closed the connection"))
        return True

    # -- for the driver ---------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """Take the next bytes; `b""` once the peer has closed the session cleanly.

        Raises:
          ConnectionLost: the session can't go on without the carrier that was lost, or has waited too long for another.
          RemoteProtocolError: the peer broke the rules of the carrier's own protocol.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        while True:
            link, fault = self._link, self.machine.carrier_fault
            if link is not None and fault is not None and not self._outlive(link, fault):
                raise fault
            if self._link is None:
                await self._wait_attached()
            elif (data := await self._receive(self._link)) is not None:
                return data

    async def _receive(self, link: Link) -> bytes | None:
        """The next bytes of a carrier; None where another one is due."""
        if link.received:
            await trio.lowlevel.checkpoint()
            data, link.received = link.received, b""
            return data if link is self._link else None
        fault: Exception | None = None
        try:
            data = await link.carrier.receive()
        except (ConnectionLost, trio.ClosedResourceError) as exc:
            fault, data = exc, b""
        if data:
            return data if link is self._link else None
        if self._outlive(link, fault):
            return None
        if fault is not None:
            raise fault
        return b""

    async def _wait_attached(self) -> None:
        deadline = self._lost_at + self._max_session_age
        with trio.CancelScope(deadline=deadline):
            while self._link is None and self._end is None:
                await self._changed.park()
        if self._link is None and self._end is None:
            self.give_up(f"max_session_age of {self._max_session_age:g} s has passed")
        if self._end is not None:
            raise self._end()

    async def send(self, data: bytes) -> None:
        """Send all of `data`, or lose it with the carrier; the machine repeats it on the next one.

        Raises:
          ConnectionLost: the session can't go on without the carrier that was lost.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as for the carrier below.
        """
        link = self._link
        if link is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await link.carrier.send(data)
        except (ConnectionLost, trio.ClosedResourceError) as exc:
            if not self._outlive(link, exc):
                raise

    async def wait_writable(self) -> None:
        """Wait until the kernel would take bytes, or the carrier is lost.

        Raises:
          Exception: as for `send`.
        Cancellation: atomic.
        """
        link = self._link
        if link is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await link.carrier.wait_writable()
        except (ConnectionLost, trio.ClosedResourceError) as exc:
            if not self._outlive(link, exc):
                raise

    def is_writable(self) -> bool:
        """Whether `wait_writable` would return at once. False where that is not known."""
        return self._link is not None and self._link.is_writable()

    async def aclose(self) -> None:
        """Say goodbye on the carrier, if there is one, and take no other. Idempotent.

        Cancellation: without the goodbye.
        """
        self._finish(_closed_here)
        link = self._link
        self._kick = self.on_detached = _ignore
        if link is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await link.carrier.aclose()
        finally:
            link.release()

"""Whether the peer is still there: the hello in time, pings into a silence, and the round trip they measure."""

from __future__ import annotations

from trio_streams.codes import Code
from trio_streams.core.errors import ProtocolError, RemoteProtocolError

__all__ = ["Liveness"]

_MAX_PINGS = 64  # pings under way: more than anybody needs for a measurement; older ones are forgotten


class Liveness:
    """Keeps the time of one connection, on a clock that the caller reads.

    Input does not move the deadline, it only notes the time: the deadline is looked at again when it has passed, so
    that a busy connection pays nothing.

    Args:
      handshake_timeout: seconds for the peer's hello.
      idle_timeout: seconds of silence after which the peer is given up; None for never. A ping goes out at half.
      now: seconds.
    """

    __slots__ = (
        "_handshake_timeout",
        "_idle_timeout",
        "_is_probing",
        "_last_heard",
        "_next_number",
        "_pings",
        "deadline",
        "round_trip",
    )

    def __init__(self, handshake_timeout: float, idle_timeout: float | None, now: float) -> None:
        self._handshake_timeout = handshake_timeout
        self._idle_timeout = idle_timeout
        self._last_heard = now
        self._next_number = 1
        self._pings: dict[int, float] = {}
        self._is_probing = False
        self.round_trip: float | None = None
        self.deadline: float | None = now + handshake_timeout

    def heard(self, now: float) -> None:
        """Something arrived."""
        self._last_heard = now
        self._is_probing = False

    def greeted(self) -> None:
        """The peer's hello arrived: from now on only silence counts."""
        self.deadline = None if self._idle_timeout is None else self._last_heard + self._idle_timeout / 2

    def pause(self) -> None:
        """There is nobody to be heard: the carrier is gone, and the pings on it."""
        self.deadline = None
        self._pings.clear()
        self._is_probing = False

    def restart(self, now: float) -> None:
        """There is another carrier, on which the peer has to greet again."""
        self._last_heard = now
        self.deadline = now + self._handshake_timeout

    def check(self, now: float, *, greeted: bool) -> ProtocolError | None:
        """Look whether the peer is to be given up.

        Returns:
          Why, or None.
        """
        if self.deadline is None or now < self.deadline:
            return None
        if not greeted:
            return RemoteProtocolError(
                f"the peer sent no hello within handshake_timeout of {self._handshake_timeout:g} s",
                code=Code.HANDSHAKE_TIMEOUT,
                field="handshake_timeout",
            )
        assert self._idle_timeout is not None
        # The same sum as for the deadline: a difference may round to just below it, and the clock would never get there.
        if now >= self._last_heard + self._idle_timeout:
            return RemoteProtocolError(
                f"the peer was silent for {now - self._last_heard:.3g} s, idle_timeout is {self._idle_timeout:g} s",
                code=Code.IDLE_TIMEOUT,
                field="idle_timeout",
            )
        return None

    def ping_due(self, now: float) -> int | None:
        """Look whether to ask for a sign of life, and set the next deadline.

        Returns:
          The number of the ping to send, or None.
        """
        if self.deadline is None or self._idle_timeout is None or now < self.deadline:
            return None
        half = self._idle_timeout / 2
        if now < self._last_heard + half:
            self.deadline = self._last_heard + half
            return None
        self.deadline = self._last_heard + self._idle_timeout
        if self._is_probing:
            return None
        self._is_probing = True
        return self.start_ping(now)

    def start_ping(self, now: float) -> int:
        """Note a ping.

        Returns:
          Its number.
        """
        number = self._next_number
        self._next_number += 1
        self._pings[number] = now
        if len(self._pings) > _MAX_PINGS:
            del self._pings[next(iter(self._pings))]
        return number

    def finish_ping(self, number: int, now: float) -> float | None:
        """Note a pong.

        Returns:
          The round trip in seconds, or None for a number that is not under way.
        """
        started = self._pings.pop(number, None)
        if started is None:
            return None
        self.round_trip = now - started
        return self.round_trip

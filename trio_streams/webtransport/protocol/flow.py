"""A session's own flow control: bytes and numbers of streams, above what QUIC counts for streams and connections.

Both sides have to ask for it; else nothing is counted and nothing refused. Limits are absolute and only grow; grants follow
consumption, by the same credit that connections have. Unlike an item of ours, bytes and streams never pass their limit.

Spec: draft-ietf-webtrans-http3 §5.
"""

from __future__ import annotations

from trio_streams.core.errors import FlowControlError, LocalProtocolError
from trio_streams.core.flow import ReceiveCredit
from trio_streams.webtransport.protocol.capsules import Capsule, DataBlocked, MaxData, MaxStreams, StreamsBlocked
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.settings import SessionLimits
from trio_streams.webtransport.protocol.varint import MAX_VARINT

__all__ = ["Allowance", "SessionFlow"]


class Allowance:
    """What we may still send, or open.

    Attributes:
      used: since the session began.
      limit: how much may have been used.
      is_wanted: whether more was asked for than there was.

    Args:
      limit: the first one.
      name: of what is counted, for errors.
    """

    __slots__ = ("_name", "_told", "is_wanted", "limit", "used")

    def __init__(self, limit: int, name: str) -> None:
        self._name = name
        self._told = -1
        self.used: int = 0
        self.limit: int = limit
        self.is_wanted: bool = False

    @property
    def left(self) -> int:
        """How much is left."""
        return self.limit - self.used

    def use(self, amount: int) -> None:
        """Use some.

        Raises:
          LocalProtocolError: there is less left; nothing was used.
        """
        used = self.used + amount
        if used > self.limit:
            raise LocalProtocolError(
                f"{used} {self._name} pass the session's limit of {self.limit}",
                field=self._name,
                size=used,
                limit=self.limit,
            )
        self.used = used

    def raise_limit(self, limit: int) -> bool:
        """Take a grant.

        Returns:
          Whether somebody had asked for more and gets it.

        Raises:
          Http3Error: the limit is lower than it was.
        """
        if limit < self.limit:
            raise Http3Error(
                f"the peer lowered the session's limit of {self._name} from {self.limit} to {limit}",
                Http3Code.WT_FLOW_CONTROL_ERROR,
                field=self._name,
                size=limit,
                limit=self.limit,
            )
        is_news = self.is_wanted and limit > self.limit
        self.limit = limit
        if is_news:
            self.is_wanted = False
        return is_news

    def take_blocked(self) -> int | None:
        """The limit to complain of, once for each; None for no complaint."""
        if not self.is_wanted or self._told == self.limit:
            return None
        self._told = self.limit
        return self.limit


class SessionFlow:
    """The flow control of one session.

    Args:
      own: what the peer may do.
      peer: what we may do at first.
    """

    __slots__ = ("_due", "_granted", "_is_on", "_streams", "data")

    def __init__(self, own: SessionLimits, peer: SessionLimits) -> None:
        self._is_on = own.asks_for_flow_control and peer.asks_for_flow_control
        self.data: Allowance = Allowance(peer.window_bytes, "bytes")
        self._streams = (
            Allowance(peer.max_bidirectional_streams, "bidirectional streams"),
            Allowance(peer.max_unidirectional_streams, "unidirectional streams"),
        )
        windows = (own.max_bidirectional_streams, own.max_unidirectional_streams, own.window_bytes)
        self._granted = tuple(ReceiveCredit(0, window, eager=True, name="session") for window in windows)
        self._due = [False, False, False]

    @property
    def is_on(self) -> bool:
        """Whether anything is counted."""
        return self._is_on

    # -- what we may do ---------------------------------------------------------------------------------------

    @property
    def sendable_bytes(self) -> int:
        """Bytes that may be sent on the session's streams now."""
        return self.data.left if self._is_on else MAX_VARINT

    def want_data(self) -> None:
        """More is to be sent than may be."""
        self.data.is_wanted = self._is_on

    def count_sent(self, size: int) -> None:
        """Bytes were sent on a stream, behind its header.

        Raises:
          LocalProtocolError: they pass the limit.
        """
        if self._is_on:
            self.data.use(size)

    def count_unsent(self, size: int) -> bool:
        """Bytes that were counted as sent never were.

        Returns:
          Whether somebody waits for them.
        """
        if not self._is_on or not size:
            return False
        self.data.used -= size
        was_wanted, self.data.is_wanted = self.data.is_wanted, False
        return was_wanted

    def may_open(self, *, is_unidirectional: bool) -> bool:
        """Whether a stream may be opened; if not, the peer hears that one was wanted."""
        if not self._is_on:
            return True
        allowance = self._streams[is_unidirectional]
        allowance.is_wanted = not allowance.left
        return not allowance.is_wanted

    def count_opened(self, *, is_unidirectional: bool) -> None:
        """We opened a stream.

        Raises:
          LocalProtocolError: it passes the limit.
        """
        if self._is_on:
            self._streams[is_unidirectional].use(1)

    def receive_limit(self, capsule: MaxData | MaxStreams) -> bool:
        """The peer granted more. Without flow control that says nothing.

        Returns:
          Whether somebody waits for it.

        Raises:
          Http3Error: the limit is lower than it was.
        """
        if not self._is_on:
            return False
        if isinstance(capsule, MaxData):
            return self.data.raise_limit(capsule.limit_bytes)
        return self._streams[capsule.is_unidirectional].raise_limit(capsule.limit_streams)

    # -- what the peer may do -----------------------------------------------------------------------------------

    def count_accepted(self, *, is_unidirectional: bool) -> None:
        """The peer opened a stream.

        Raises:
          Http3Error: it passes the limit; the session is over.
        """
        self._receive(int(is_unidirectional), 1, "streams")

    def count_finished(self, *, is_unidirectional: bool) -> bool:
        """A stream that the peer opened is over; whether a grant is due."""
        return self._consume(int(is_unidirectional), 1)

    def count_received(self, size: int) -> None:
        """Bytes arrived on a stream, behind its header; a reset stream counts up to its final size.

        Raises:
          Http3Error: they pass the limit; the session is over.
        """
        self._receive(2, size, "bytes")

    def count_consumed(self, size: int) -> bool:
        """Bytes were taken, or are nobody's: those of a stream that was reset or stopped; whether a grant is due."""
        return self._consume(2, size)

    def _receive(self, which: int, amount: int, name: str) -> None:
        if not self._is_on or not amount:
            return
        credit = self._granted[which]
        try:
            credit.receive_bytes(amount, 1)  # the last byte must be below the limit, so none passes it
        except FlowControlError as error:
            raise Http3Error(
                f"the peer passed the session's limit of {credit.byte_limit} {name}",
                Http3Code.WT_FLOW_CONTROL_ERROR,
                field=name,
                size=error.size,
                limit=error.limit,
            ) from error

    def _consume(self, which: int, amount: int) -> bool:
        if self._is_on and self._granted[which].consume(0, amount):
            self._due[which] = True
        return self._due[which]

    # -- what to tell it ---------------------------------------------------------------------------------------

    def take_capsules(self) -> list[Capsule]:
        """Grants and complaints that are due, the newest limit of each."""
        capsules: list[Capsule] = []
        for which, credit in enumerate(self._granted):
            if not self._due[which]:
                continue
            self._due[which] = False
            limit = credit.grant()[1]
            capsules.append(MaxData(limit) if which == 2 else MaxStreams(limit, is_unidirectional=bool(which)))
        if (limit_bytes := self.data.take_blocked()) is not None:
            capsules.append(DataBlocked(limit_bytes))
        for kind, allowance in enumerate(self._streams):
            if (limit_streams := allowance.take_blocked()) is not None:
                capsules.append(StreamsBlocked(limit_streams, is_unidirectional=bool(kind)))
        return capsules

"""The server's side of sessions: which there are, who may take one over, and how many wait for their clients.

A session belongs to no connection: its driver runs in the server's nursery, and each connection's own task hands its
carrier over and waits until the session has done with it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig, ResumeOptions
from trio_streams.core import records
from trio_streams.core.session import RESUME, Session
from trio_streams.core.wire import Frame
from trio_streams.errors import StreamsError
from trio_streams.resuming.carrier import Link, ResumingCarrier
from trio_streams.wire.binary import BinaryWire

__all__ = ["Offer", "Run", "Sessions", "resume_options"]

_logger: Final = logging.getLogger("trio_streams")

Run = Callable[[ResumingCarrier], Awaitable[None]]
"""Serves a session on a carrier until it is over."""


def resume_options(resume: ResumeOptions | bool | None) -> ResumeOptions | None:
    """What an argument stands for: True for the defaults, False and None for nothing."""
    return ResumeOptions() if resume is True else resume or None


@attrs.frozen
class Offer:
    """What a client has said first.

    Attributes:
      received: its bytes.
      hello: its hello, if that offers to resume.
    """

    received: bytes
    hello: records.Hello | None


class _Known:
    """One session.

    Attributes:
      key: under which it is found.
      carrier: what stands on its carriers.
      scope: around its driver.
    """

    __slots__ = ("carrier", "key", "scope")

    def __init__(self, key: tuple[bytes, Hashable], carrier: ResumingCarrier) -> None:
        self.key = key
        self.carrier = carrier
        self.scope = trio.CancelScope()


class Sessions:
    """The sessions of one server.

    Args:
      options: limits.
      config: limits and timeouts of their connections.
      nursery: the sessions run in it.

    Attributes:
      identify: the options'.
    """

    def __init__(self, options: ResumeOptions, config: ConnectionConfig, nursery: trio.Nursery) -> None:
        self._options = options
        self._config = config
        self._nursery = nursery
        self.identify: Final = options.identify
        self._known: dict[tuple[bytes, Hashable], _Known] = {}
        self._detached: dict[_Known, None] = {}  # in the order in which they lost their carriers

    @property
    def count(self) -> int:
        """How many there are, attached or not."""
        return len(self._known)

    @property
    def detached_count(self) -> int:
        """How many wait for their clients."""
        return len(self._detached)

    async def receive_offer(self, carrier: Carrier, received: bytes = b"") -> Offer:
        """Wait until a client of `trio-streams.v1` has greeted, `handshake_timeout` at most.

        Args:
          carrier: connected.
          received: what was taken from it already.

        Raises:
          ConnectionLost: the connection broke.
        Cancellation: nothing is to be done with the carrier any more.
        """
        wire = BinaryWire()
        first: Frame | None = next((frame for _, frame in wire.decode(received)), None)
        with trio.move_on_after(self._config.handshake_timeout):
            while first is None and (chunk := await carrier.receive()):
                received += chunk  # a frame is no longer than 16 KiB
                first = next((frame for _, frame in wire.decode(chunk)), None)
        if isinstance(first, records.Hello) and RESUME in first.features:
            return Offer(received, first)
        return Offer(received, None)

    async def serve(self, carrier: Carrier, offer: Offer, principal: Hashable, run: Run) -> None:
        """Go on with the session that a client names, or begin a new one; until the session has done with the carrier.

        A name that nobody has, that is too old, or that is another principal's begins a new session. Its own id tells
        the client that it was not resumed.

        Args:
          carrier: connected; it is closed at the end.
          offer: with a hello.
          principal: who the client is, as far as that is known.
          run: serves a new session.

        Cancellation: the session ends as when its own driver is cancelled, with its goodbyes on the carrier.
        """
        assert offer.hello is not None
        session_id = offer.hello.session_id
        known = self._find(session_id, principal)
        is_new = known is None
        if known is None:
            known = self._begin(session_id, principal, carrier.peer)
        link = known.carrier.attach(carrier, offer.received)
        self._detached.pop(known, None)
        if is_new:
            self._nursery.start_soon(self._run, known, run)
        await _hold(known, link)

    def _find(self, session_id: str, principal: Hashable) -> _Known | None:
        key = _digest(session_id), principal
        known = self._known.get(key)
        # A table finds by a hash of the digest; equal must be equal in a time that tells nothing.
        if known is None or not hmac.compare_digest(known.key[0], key[0]) or known.carrier.is_over:
            return None
        return known

    def _begin(self, session_id: str, principal: Hashable, peer: str) -> _Known:
        machine = Session(
            BinaryWire(),
            is_client=False,
            config=self._config,
            session_id=secrets.token_hex(16),
            max_retained_bytes=self._options.max_retained_bytes,
            now=trio.current_time(),
        )
        carrier = ResumingCarrier(machine, max_session_age=self._options.max_session_age, peer=peer)
        known = _Known((_digest(session_id), principal), carrier)
        carrier.on_detached = lambda: self._note_detached(known)
        self._known[known.key] = known
        return known

    def _note_detached(self, known: _Known) -> None:
        self._detached[known] = None
        limit = self._options.max_detached_sessions
        if len(self._detached) > limit:
            longest = next(iter(self._detached))
            del self._detached[longest]
            longest.carrier.give_up(f"more than max_detached_sessions of {limit} wait")

    async def _run(self, known: _Known, run: Run) -> None:
        try:
            with known.scope:
                await run(known.carrier)
        except StreamsError as exc:
            _logger.info("a session ended: %s", exc)
        finally:
            known.carrier.abandon()
            self._detached.pop(known, None)
            if self._known.get(known.key) is known:
                del self._known[known.key]


async def _hold(known: _Known, link: Link) -> None:
    try:
        await link.wait_released()
    except trio.Cancelled:
        known.scope.cancel()
        with trio.CancelScope(shield=True):
            await link.wait_released()  # its end is bounded by `close_timeout`, as without resuming
        raise
    finally:
        await link.close()


def _digest(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()

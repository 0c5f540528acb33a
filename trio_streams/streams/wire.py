"""A stream on a connection: the user's end of one `StreamMachine`.

User tasks never touch a carrier: see the two halves. This file is what concerns both: who owns the stream, how its
block is left, and when the peer's end of it cancels the owner.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import trio

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core import records
from trio_streams.core.states import HalfState, StreamState, project
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.errors import ConnectionLost, RpcError, StreamReset, StreamStopped, as_rpc_error, split_cancelled
from trio_streams.streams.abc import Stream, StreamStatistics
from trio_streams.streams.machine import Machine
from trio_streams.streams.wire_receive import WireReceiveHalf
from trio_streams.streams.wire_send import WireSendHalf

__all__ = ["StopPolicy", "WireStream"]

S = TypeVar("S")
R = TypeVar("R")
S2 = TypeVar("S2")
R2 = TypeVar("R2")


class StopPolicy(enum.Enum):
    """When the peer's STOP cancels the scope of the task that serves a stream; one with an error always does."""

    ALWAYS = "always"  # the stream only answers: with nobody to answer there is nothing left to do
    WHEN_ENDED = "when_ended"  # both directions matter: once the peer's own half is over too
    ON_ERROR = "on_error"  # an upload goes on when its client simply left


class WireStream(WireSendHalf[S], WireReceiveHalf[R], Stream[S, R]):
    """A stream of items over a connection, in both directions.

    Made by a connection, never by hand. Several tasks may send and several may receive; each is served first come,
    first served, and END queues behind senders that wait.

    Attributes:
      id: the stream's number on its connection.
      name: what was asked for when it was opened.
      metadata: the opener's string pairs.
      priority: higher goes first.
      deadline: when the opener stops caring, on Trio's clock; infinity for never.
      cancel_scope: the scope of the block that owns the stream. The peer's RESET, its STOP (see `stop_policy`) and a
        lost connection cancel it where the stream was opened by the peer.
      cancel_reason: what cancelled the scope from outside, if anything did.
      cancels_owner: whether they do; at first where the stream was opened by the peer, and nowhere else.
      stop_policy: when the peer's STOP cancels the scope.
      peer: the other end, for people.
      on_arrival: called, without waiting, after items or the end have arrived: for who watches a stream that nobody
        receives from; None for nobody.
    """

    __slots__ = (
        "__weakref__",
        "_decode",
        "_encode",
        "_head",
        "_head_arrived",
        "_is_accepted",
        "_is_refused",
        "_items_received",
        "_items_sent",
        "_kick",
        "_looked",
        "_machine",
        "_pending_end",
        "_readers",
        "_receive_over",
        "_receive_pace",
        "_report_bytes",
        "_report_items",
        "_run",
        "_runs",
        "_send_over",
        "_send_pace",
        "_senders",
        "_state",
        "_stride",
        "_taken_bytes",
        "_taken_items",
        "_turn",
        "_unlooked",
        "_writers",
        "cancel_reason",
        "cancel_scope",
        "cancels_owner",
        "deadline",
        "id",
        "metadata",
        "name",
        "on_arrival",
        "peer",
        "priority",
        "stop_policy",
        "trailers",
    )

    def __init__(
        self,
        machine: Machine,
        kick: Callable[[], None],
        stream_id: int,
        state: StreamMachine,
        *,
        name: str,
        metadata: Mapping[str, str],
        deadline: float = math.inf,
        is_accepted: bool,
        peer: str,
    ) -> None:
        self._machine = machine
        self._kick = kick
        self._state = state
        self.id: int = stream_id
        self.name: str = name
        self.metadata: Mapping[str, str] = metadata
        self.priority: int = state.priority
        self.deadline: float = deadline
        self.peer: str = peer
        self.cancel_scope: trio.CancelScope = trio.CancelScope()
        self.cancel_reason: Exception | None = None
        self.stop_policy: StopPolicy = StopPolicy.ALWAYS
        self.trailers: Mapping[str, str] = records.NO_METADATA
        self.cancels_owner: bool = is_accepted
        self.on_arrival: Callable[[], None] | None = None
        self._is_accepted = is_accepted
        self._is_refused = False
        self._encode: Callable[[S], bytes] | None = None
        self._decode: Callable[[bytes], R] | None = None
        self._begin_sending()
        self._begin_receiving(state)

    def __repr__(self) -> str:
        return f"<WireStream {self.id} {self.name!r} {self.state.value}>"

    def typed(self, encode: Callable[[S2], bytes] | None, decode: Callable[[bytes], R2] | None) -> WireStream[S2, R2]:
        """Say how items become payloads; None leaves that direction as it is.

        Args:
          encode: an item to its payload, for sending.
          decode: a payload to its item, for receiving; called by the task that takes the item.

        Returns:
          This very stream, under its new type.
        """
        if encode is not None:
            self._encode = cast("Callable[[S], bytes]", encode)
        if decode is not None:
            self._decode = cast("Callable[[bytes], R]", decode)
        return cast("WireStream[S2, R2]", self)

    def _closed_here(self, how: str) -> Callable[[], Exception]:
        # Without `self`: what a stream keeps must not keep the stream, or only the collector of cycles could free it.
        number, name, halves = self.id, self.name, self._state
        return lambda: trio.ClosedResourceError(
            f"can't use this half of stream {number} ({name!r}): it was {how} here, "
            f"state {project(halves.send_state, halves.receive_state).value}"
        )

    # -- the whole stream -------------------------------------------------------------------------------------

    @property
    def state(self) -> StreamState:
        """The state of both halves together."""
        return project(self._state.send_state, self._state.receive_state)

    @property
    def weight(self) -> int:
        """How many turns our half has in a round with others of its priority, at least 1. Set it before sending."""
        return self._state.weight

    @weight.setter
    def weight(self, weight: int) -> None:
        self._state.weight = weight

    @property
    def unread_bytes(self) -> int:
        """What arrived and was not taken, each item at its length plus 64."""
        return self._state.receive_credit.unconsumed_bytes

    @property
    def is_drained(self) -> bool:
        """Whether nothing more will come out: the peer's half is over, and all of it was taken or dropped."""
        return self._receive_over is not None and not self._has_items

    @property
    def is_refused(self) -> bool:
        """Whether the peer, or the loss of the connection, has ended our half before we did."""
        return self._is_refused

    async def aclose(self) -> None:
        """Let go of both halves: END and, if the peer's half is unfinished, STOP without an error."""
        self.end()
        self.stop()
        await trio.lowlevel.checkpoint()

    def cancel(self, reason: str = "") -> None:
        """Abandon both halves: RESET and STOP with CANCELLED.

        Args:
          reason: why, in words; the peer sees it.
        """
        self.reset(Code.CANCELLED, reason)
        self.stop(Code.CANCELLED, reason)

    def leave(self, exc: BaseException | None) -> None:
        """Apply the exit policy at the end of the block that owns the stream.

        Left normally: END, and STOP without an error if the peer's half is unfinished. Cancelled: RESET and STOP
        with CANCELLED. By an exception: END with its status where the peer opened the stream, RESET where we did. By
        the opener's deadline: END with DEADLINE_EXCEEDED.

        Args:
          exc: what leaves the block, or None.
        """
        _, rest = split_cancelled(exc) if exc is not None else (None, None)
        if exc is None:
            self._leave_with(records.OK)
        elif rest is not None and self._is_accepted:
            error = as_rpc_error(rest)
            self._leave_with(records.Status(error.code, error.message, error.details))
        elif rest is None and self._is_accepted and self._is_past_deadline:
            self._leave_with(records.Status(Code.DEADLINE_EXCEEDED.name, "the deadline passed"))
        else:
            self.cancel("" if rest is None else f"the caller failed ({type(rest).__name__})")
        self._writers.unpark_all()
        self._machine.release(self.id)
        self._kick()

    def _leave_with(self, status: records.Status) -> None:
        if self._send_over is None:
            self._send_over = self._closed_here("ended")
            self._pending_end = status
        self._finish_send()  # the block is over: senders elsewhere have no turn any more
        self.stop()

    @property
    def _is_past_deadline(self) -> bool:
        return self.cancel_reason is None and trio.current_time() >= self.deadline

    def statistics(self) -> StreamStatistics:
        """A snapshot of both halves."""
        state = self._state
        return StreamStatistics(
            id=str(self.id),
            send_state=state.send_state.value,
            receive_state=state.receive_state.value,
            items_sent=self._items_sent,
            items_received=self._items_received + self._taken_items,
            bytes_sent=state.send_credit.bytes - ITEM_OVERHEAD_BYTES * state.send_credit.items,
            bytes_received=state.receive_credit.bytes - ITEM_OVERHEAD_BYTES * state.receive_credit.items,
            buffered_items=len(self._run) + sum(map(len, self._runs)),
            buffered_bytes=state.receive_credit.unconsumed_bytes,
            tasks_waiting_send=self._senders,
            tasks_waiting_receive=len(self._readers),
            window_items=state.receive_credit.window_items,
            window_bytes=state.receive_credit.window_bytes,
            queued_items=state.queued_items,
            credit_items=state.send_credit.item_limit - state.send_credit.items,
        )

    # -- what the connection reports ----------------------------------------------------------------------------

    def on_ended(self, status: records.Status, trailers: Mapping[str, str]) -> None:
        """The peer's half is complete."""
        self.trailers = trailers
        if status.is_ok:
            self._end_receiving(trio.EndOfChannel)
        else:
            self._end_receiving(lambda: RpcError(status.code, status.message, status.details))
        if self._is_refused and self.stop_policy is StopPolicy.WHEN_ENDED:
            self._cancel_owner(StreamStopped(Code.OK, "the peer left"))

    def on_reset(self, code: Code, reason: str) -> None:
        """The peer abandoned its half: what was not taken is dropped."""
        self._drop_items()
        self._end_receiving(lambda: StreamReset(code, reason))
        self._cancel_owner(StreamReset(code, reason))

    def on_stopped(self, code: Code, reason: str) -> None:
        """The peer refuses more of our half."""
        self._is_refused = True
        self._end_sending(lambda: StreamStopped(code, reason))
        policy = self.stop_policy
        is_ended = self._state.receive_state is not HalfState.OPEN
        if code is not Code.OK or policy is StopPolicy.ALWAYS or (policy is StopPolicy.WHEN_ENDED and is_ended):
            self._cancel_owner(StreamStopped(code, reason))

    def on_lost(self, error: ConnectionLost) -> None:
        """The connection is over. What had arrived can still be taken."""

        def lost() -> Exception:
            again = ConnectionLost(*error.args)
            again.__cause__ = error.__cause__
            return again

        self._is_refused = True
        self._end_sending(lost)
        self._end_receiving(lost)
        self._cancel_owner(error)

    def _cancel_owner(self, reason: Exception) -> None:
        if self.cancels_owner:
            if self.cancel_reason is None:
                self.cancel_reason = reason
            self.cancel_scope.cancel()

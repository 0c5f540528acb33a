"""The receiving side of a connection of JSON envelopes, whichever side this is: messages, items, and what bounds them.

What an envelope of each type means is the role's: what a client asks (`envelope_requests`), and what a server answers
(`envelope_answers`).

There is no credit to grant, so what is not read is bounded in another way: past `overflow_bytes` of one stream, or the
connection's window of all, `is_full` asks the driver to stop reading. As soon as enough was taken, `owes_grant` wakes
the driver: our own dialect would have sent a grant, and here it says nothing on the wire.
"""

from __future__ import annotations

from abc import abstractmethod

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import events, records
from trio_streams.core.errors import ProtocolError, RemoteProtocolError
from trio_streams.core.flow import ReceiveCredit, cost
from trio_streams.core.inbox import Inbox
from trio_streams.core.liveness import Liveness
from trio_streams.core.outbox import Outbox
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.wire.envelope_records import Envelope, EnvelopeFault, id_text, parse_metadata
from trio_streams.wire.message_framing import MessageBuffer
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_stream import UNLIMITED
from trio_streams.wire.message_wire import MessageWire

__all__ = ["MessageInbox"]


class MessageInbox(Inbox):
    """What both roles have in common.

    Args:
      wire: encodes what this side says.
      streams: the connection's live streams, by number.
      out: takes what is said at once.
      liveness: notes that the peer lives.
      config: the limits that every dialect has.
      limits: this dialect's own.
      is_client: which side this is.
      hello: what the peer would have greeted with; the dialect has no greeting.
    """

    def __init__(
        self,
        wire: MessageWire,
        streams: dict[int, StreamMachine],
        out: Outbox,
        liveness: Liveness,
        config: ConnectionConfig,
        limits: MessageLimits,
        *,
        is_client: bool,
        hello: records.Hello,
    ) -> None:
        super().__init__(wire, streams, out, liveness, config, is_client=is_client, session_id="")
        self._encoder = wire
        self._limits = limits
        self._messages = MessageBuffer(limits.max_message_bytes)
        self._message_began: float | None = None
        self._full: dict[int, None] = {}
        self._run: list[bytes] = []
        self._run_number = 0
        self._now = 0.0
        self.full_since: float | None = None
        self.credit: ReceiveCredit = ReceiveCredit(UNLIMITED, UNLIMITED, name="connection")
        self.owes_grant: bool = False
        self.is_greeted: bool = True
        self.max_item_bytes_out: int = config.max_item_bytes
        self.hello: records.Hello | None = hello
        self._events.append(events.Greeted(hello))

    # -- what a role decides ----------------------------------------------------------------------------------

    @abstractmethod
    def _take_message(self, message: bytes) -> None:
        """Do what a message says.

        Raises:
          ProtocolError: the connection cannot go on.
        """

    @abstractmethod
    def _refuse_item(self, stream_id: int, status: records.Status) -> None:
        """End a stream for an item that is too large."""

    @abstractmethod
    def _exhaust(self, stream_id: int, field: str, limit: int) -> None:
        """End a stream that holds too much for too long."""

    @property
    def _has_others(self) -> bool:
        """Whether more than the streams that hold too much waits for what reading would bring."""
        return True

    @property
    def _asides(self) -> int:
        """How many messages wait that belong to no stream."""
        return 0

    # -- what the mux asks ------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether as much is unread as may be."""
        too_much = self.credit.unconsumed_bytes > self._config.connection_window_bytes
        return bool(self._full) or too_much or self._asides > self._limits.max_channel_messages

    @property
    def deadline(self) -> float | None:
        """When `check` is due: for a message that has begun, or for streams that hold too much."""
        if self.full_since is not None:
            return self.full_since + self._limits.stall_timeout
        if self._message_began is None or self._limits.message_timeout is None:
            return None
        return self._message_began + self._limits.message_timeout

    def check(self, now: float) -> None:
        """Do what is due."""
        due = self.deadline
        if due is None or now < due:
            return
        if self.full_since is None:
            limit = self._limits.message_timeout
            self.fail(
                RemoteProtocolError(
                    f"a message was not complete within message_timeout of {limit:g} s",
                    code=Code.IDLE_TIMEOUT,
                    field="message_timeout",
                )
            )
            return
        if self._has_others:
            self._make_room()
        if self.full_since is not None:
            self.full_since = now  # what waits now is not a stream's

    def _make_room(self) -> None:
        """End the streams that hold too much."""
        for stream_id in list(self._full):
            self._exhaust(stream_id, "overflow_bytes", self._limits.overflow_bytes)
        window = self._config.connection_window_bytes
        by_size = sorted(self._streams, key=lambda i: -self._streams[i].receive_credit.unconsumed_bytes)
        for stream_id in by_size:
            if self.credit.unconsumed_bytes <= window:
                break
            self._exhaust(stream_id, "connection_window_bytes", window)
        self._resume_if_possible()

    def grant(self) -> records.ConnectionCredit:
        """The driver is awake; nothing is written."""
        self.owes_grant = False
        return records.ConnectionCredit(UNLIMITED, 0)

    def consume(self, size: int) -> None:
        """Bytes were taken; if reading had paused for them, it goes on."""
        self.credit.consume(0, size)
        limit = self._limits.overflow_bytes
        for stream_id in list(self._full):
            if self._streams[stream_id].receive_credit.unconsumed_bytes <= limit:
                del self._full[stream_id]
        self._resume_if_possible()

    def _resume_if_possible(self) -> None:
        if self.full_since is None or self.is_full:
            return
        self.full_since = None
        self._wake_driver()
        if self._message_began is not None:
            self._message_began = self._now  # the pause was ours

    def _wake_driver(self) -> None:
        self.owes_grant = self.failure is None

    def remove_if_over(self, stream_id: int, machine: StreamMachine) -> None:
        """Forget a stream that is over, and let one that has sent go on queueing."""
        if machine.is_finished and (machine.is_released or stream_id & 1 != self._peer_parity):
            del self._streams[stream_id]
            self._full.pop(stream_id, None)
            self._encoder.forget(stream_id)
            self._note_removed()
            return
        credit, limits = machine.send_credit, self._limits
        credit.raise_limits(
            credit.items - machine.queued_items + limits.send_window_items,
            credit.bytes - machine.queued_bytes + limits.send_window_bytes,
        )
        # At half a window, so that a handler is not woken for each item.
        is_low = machine.queued_items * 2 <= limits.send_window_items
        if is_low and machine.queued_bytes * 2 <= limits.send_window_bytes:
            self.wake(stream_id)

    def _note_removed(self) -> None:
        """A stream is gone."""

    # -- messages ---------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier."""
        if self.failure is not None:
            return
        self._now = now
        messages: list[bytes] = []
        fault: ProtocolError | None = None
        try:
            self._messages.decode(data, messages)
        except ProtocolError as exc:
            fault = exc
        try:
            for message in messages:
                self._take_message(message)
            self._flush_run()
        except ProtocolError as exc:
            fault = exc
        if fault is not None:
            self.fail(fault)
            return
        if not len(self._messages):
            self._message_began = None
        elif messages or self._message_began is None:
            self._message_began = now
        if self.full_since is None and self.is_full:
            self.full_since = now
        self._resume_if_possible()

    def _metadata(self, envelope: Envelope) -> dict[str, str]:
        metadata = parse_metadata(envelope.metadata)
        size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
        if size > (limit := self._limits.max_metadata_bytes):
            raise EnvelopeFault.too_large("metadata", size, limit, id_text(envelope.id))
        return metadata

    def _flush_run(self) -> None:
        """Take the items that have come one behind the other."""
        if self._run:
            run, self._run = self._run, []
            self._take_items(self._run_number, run)

    def _take_items(self, stream_id: int, run: list[bytes]) -> None:
        machine = self._streams[stream_id]
        limit = self._config.max_item_bytes
        large = None
        if max(map(len, run)) > limit:
            large = next(place for place, item in enumerate(run) if len(item) > limit)
        wanted = run[:large]
        if wanted:
            size = cost(wanted)
            machine.receive_run(wanted, size)
            self.credit.receive_bytes(size, size)
            self._deliver(stream_id, wanted)
        if large is not None:
            size = len(run[large])
            message = f"an item of {size} bytes passes max_item_bytes of {limit}"
            details = {"field": "max_item_bytes", "size": size, "limit": limit}
            self._refuse_item(stream_id, records.Status("MESSAGE_TOO_LARGE", message, details))
        elif machine.receive_credit.unconsumed_bytes > self._limits.overflow_bytes:
            self._full[stream_id] = None

    def _stalled(self, stream_id: int, field: str, limit: int) -> records.Status:
        """Why a stream is ended whose items nobody takes."""
        size = self._streams[stream_id].receive_credit.unconsumed_bytes
        message = f"{size} bytes were not read within stall_timeout, {field} is {limit}"
        return records.Status("RESOURCE_EXHAUSTED", message, {"field": field, "size": size, "limit": limit})

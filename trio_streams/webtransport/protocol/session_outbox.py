"""What waits to be sent in a session of procedures. Who goes first is the session's matter: here each stream waits for its own."""

from __future__ import annotations

from typing import Final

from trio_streams.core import records
from trio_streams.core.states import HalfState
from trio_streams.webtransport.protocol.control_streams import ControlStreams
from trio_streams.webtransport.protocol.procedure_stream import ProcedureStream
from trio_streams.webtransport.protocol.stream_port import StreamPort

__all__ = ["SessionOutbox"]

_RECALLED_TIMES: Final = 16
"""How often a stream that waits to be handed on is given more before that counts as news again: a flush that is put off while
there are news lets more come together."""


class SessionOutbox:
    """The sending side.

    Args:
      port: the session.
      streams: the live streams, by id.
      control: ours goes first.
      max_send_buffer_bytes: when senders have to wait, all streams together.

    Attributes:
      queued_bytes: what is queued in all streams and not yet in frames, at its cost.
      bytes_sent: what the session's streams have taken.
      has_news: whether there is more to hand on than when somebody last set this to false.
    """

    __slots__ = (
        "_control",
        "_granted",
        "_max_bytes",
        "_port",
        "_quiet_times",
        "_ready",
        "_streams",
        "_waiting",
        "bytes_sent",
        "has_news",
        "queued_bytes",
    )

    def __init__(
        self, port: StreamPort, streams: dict[int, ProcedureStream], control: ControlStreams, max_send_buffer_bytes: int
    ) -> None:
        self._port = port
        self._streams = streams
        self._control = control
        self._max_bytes = max_send_buffer_bytes
        self._ready: dict[int, None] = {}
        self._granted: dict[int, None] = {}
        self._waiting: dict[int, None] = {}
        self._quiet_times = 0
        self.has_news: bool = False
        self.queued_bytes: int = 0
        self.bytes_sent: int = 0

    @property
    def room(self) -> int:
        """Bytes that may still be queued; below 0 after an item that crossed the limit."""
        return self._max_bytes - self.queued_bytes

    @property
    def has_output(self) -> bool:
        """Whether a flush would hand something on."""
        return bool(self._ready or self._granted) or self._control.has_output

    @property
    def is_flushed(self) -> bool:
        """Whether everything was handed on."""
        return not (self._granted or self._control.queued_bytes or any(s.has_output for s in self._streams.values()))

    def schedule(self, stream: ProcedureStream) -> None:
        """A stream has something to send; one that is full waits until it is writable."""
        if stream.is_full:
            return
        if stream.id in self._ready and self._quiet_times < _RECALLED_TIMES:
            self._quiet_times += 1
            return
        self._ready[stream.id] = None
        self._quiet_times = 0
        self.has_news = True

    def wait_for_room(self, stream_id: int) -> None:
        """A stream had to refuse items because too much is queued."""
        self._waiting[stream_id] = None

    def grant(self, stream_id: int) -> None:
        """A stream's peer is owed new limits: they are looked up when they leave."""
        self._granted[stream_id] = None
        self.has_news = True

    def forget(self, stream: ProcedureStream, queued: int) -> None:
        """A stream abandons what it had queued, `queued` bytes."""
        self.queued_bytes -= queued
        self._ready.pop(stream.id, None)
        self._waiting.pop(stream.id, None)
        stream.abandon()

    def flush(self) -> list[ProcedureStream]:
        """Hand on what the session takes.

        Returns:
          The streams that were looked at: they may be over now.
        """
        self._put_grants()
        self.bytes_sent += self._control.flush()
        ready, self._ready = self._ready, {}
        served = [self._streams[stream_id] for stream_id in ready if stream_id in self._streams]
        for stream in served:
            machine = stream.machine
            assert machine is not None
            before = machine.queued_bytes
            self.bytes_sent += stream.flush(self._port)
            self.queued_bytes -= before - machine.queued_bytes
        return served

    def _put_grants(self) -> None:
        granted, self._granted = self._granted, {}
        for stream_id in granted:
            stream = self._streams.get(stream_id)
            machine = None if stream is None else stream.machine
            if machine is not None and machine.receive_state is HalfState.OPEN:
                self._control.put(stream_id, records.Credit(*machine.receive_credit.grant()))

    def writable(self) -> list[int]:
        """Take the streams that have room again: all at half a buffer, one whose own queue is empty at once."""
        waiting = self._waiting
        has_room = self.queued_bytes * 2 <= self._max_bytes
        ready = [stream_id for stream_id in waiting if has_room or not self._has_queued(stream_id)]
        for stream_id in ready:
            del waiting[stream_id]
        return ready

    def _has_queued(self, stream_id: int) -> bool:
        stream = self._streams.get(stream_id)
        return stream is not None and stream.machine is not None and bool(stream.machine.queued_bytes)

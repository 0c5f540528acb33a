"""A connection that outlives its carrier: `Mux` that can be taken off one carrier and put on another.

What it adds to the rules of `Mux`:

- Both sides offer `resume` in their HELLOs. Then each keeps what it has written until the peer acknowledges it, and
  acknowledges what it receives: with the next write, and at the latest after 32 KiB or 256 frames.
- `detach` when a carrier is gone, `attach` when there is another one. A HELLO goes first on each, with the same session id
  and the number of counted frames that are here. Nothing else goes before the peer's HELLO has come; then what the peer
  lacks goes again, and then everything else. Frames that belong to a carrier (HELLO, PING, PONG, ACK) are neither counted
  nor repeated.
- A peer that answers with another session id has lost this one: the connection fails, with one clear error.
- While `max_retained_bytes` are unacknowledged no data is taken from streams; control goes on for `max_control_bytes`.

A silence, or a write that is stuck, is the carrier's fault here, not the session's: see `carrier_fault`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import attrs

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError, StreamsError
from trio_streams.core.inbox import Inbox
from trio_streams.core.mux import Mux, make_hello
from trio_streams.core.retention import Retention
from trio_streams.core.wire import ResumableWire

__all__ = ["RESUME", "Session"]

RESUME: Final = "resume"
"""The feature that both HELLOs offer."""

_ACKNOWLEDGE_BYTES: Final = 32_768
_ACKNOWLEDGE_FRAMES: Final = 256


class _SessionInbox(Inbox):
    """An inbox whose peer may greet again, on another carrier, and acknowledges what it has received.

    Attributes:
      session_hello: the peer's first hello, which is the session's; `hello` is that of the carrier.
      retention: what the peer has not acknowledged; None once it does not offer to resume.
      replay: what the peer lacks since its last hello.
      resumes: how often it has greeted again.
    """

    __slots__ = ("replay", "resumes", "retention", "session_hello")

    session_hello: records.Hello | None
    retention: Retention | None
    replay: deque[bytes]
    resumes: int

    def _on_hello(self, stream_id: int, hello: records.Hello) -> None:
        first = self.session_hello
        if first is None or self.hello is not None:
            super()._on_hello(stream_id, hello)
            self._begin(hello)
            return
        if hello.session_id != first.session_id:
            self._out.drop_control()  # meant for streams of the session that is gone
            raise RemoteProtocolError(
                "the session could not be resumed: the peer does not have it any more",
                code=Code.UNAVAILABLE,
                field="session_id",
            )
        self.hello = hello
        self._liveness.greeted()
        assert self.retention is not None  # or there would have been no second carrier
        self.replay = deque(self.retention.replay(hello.frames_received))
        self.resumes += 1
        self._allow_streams()

    def _begin(self, hello: records.Hello) -> None:
        if hello.frames_received:
            raise RemoteProtocolError(
                "the peer wants to resume a session that is not here",
                code=Code.UNAVAILABLE,
                field="frames_received",
                size=hello.frames_received,
                limit=0,
            )
        self.session_hello = hello
        if RESUME not in hello.features:
            self.retention = None

    def _on_ack(self, stream_id: int, record: records.Ack) -> None:
        if self.retention is not None:
            self.retention.acknowledge(record.frames)

    _HANDLERS: ClassVar[Mapping[type, Callable[[Any, int, Any], None]]] = {
        **Inbox._HANDLERS,  # noqa: SLF001 - a subclass extends it
        records.Hello: _on_hello,
        records.Ack: _on_ack,
    }


class Session(Mux):
    """The machine of a connection that may go on with another carrier. It begins attached.

    Args:
      wire: the dialect's encoder and decoder; a fresh one.
      is_client: which side this is.
      config: limits and timeouts.
      session_id: names the session to the peer; whoever knows the client's can take the session over.
      max_retained_bytes: of what is written and not acknowledged; a write costs its length plus 64.
      now: seconds, on the clock that every later call uses.

    Attributes:
      is_attached: whether there is a carrier.
      carrier_fault: why the carrier is of no use, where the machine has found out; `detach` is due.
    """

    __slots__ = (
        "_acknowledged",
        "_extra_bytes",
        "_greeting",
        "_is_full",
        "_is_given_up",
        "_is_steady",
        "_owes_ack",
        "_session_id",
        "_unacknowledged_bytes",
        "carrier_fault",
        "is_attached",
    )

    def __init__(
        self,
        wire: ResumableWire,
        *,
        is_client: bool,
        config: ConnectionConfig,
        session_id: str,
        max_retained_bytes: int,
        now: float,
    ) -> None:
        super().__init__(wire, is_client=is_client, config=config, session_id=session_id, now=now)
        self._out.drop_control()  # a greeting that is none of a session
        self._wire: ResumableWire = wire
        self._session_id = session_id
        self._acknowledged = 0
        self._unacknowledged_bytes = 0
        self._owes_ack = False
        self._extra_bytes = 0  # control that was written while the retention was full
        self._is_full = False
        self._is_given_up = False
        self._is_steady = False  # nothing stands between the streams and a carrier
        self.is_attached: bool = True
        self.carrier_fault: StreamsError | None = None
        self._in: _SessionInbox = _SessionInbox(
            wire, self._streams, self._out, self._liveness, config, is_client=is_client, session_id=session_id
        )
        self._in.session_hello = None
        self._in.retention = Retention(wire, max_retained_bytes)
        self._in.replay = deque()
        self._in.resumes = 0
        self._greeting = b""
        self._greet()

    # -- carriers ---------------------------------------------------------------------------------------------

    @property
    def can_outlive(self) -> bool:
        """Whether the session may go on with another carrier: both offer it, and neither has ended it."""
        has_begun = self._in.session_hello is not None
        return has_begun and self._retention is not None and self._in.failure is None and not self._in.peer_went_away

    @property
    def is_greeted(self) -> bool:
        """Whether the peer has greeted on the present carrier."""
        return self._in.hello is not None

    @property
    def resumes(self) -> int:
        """How often the session went on with another carrier."""
        return self._in.resumes

    @property
    def retained_bytes(self) -> int:
        """What is written and not acknowledged; a write costs its length plus 64."""
        return 0 if self._retention is None else self._retention.retained_bytes

    def outlives(self, fault: StreamsError) -> bool:
        """Tell the machine that its carrier is of no further use; whether another one may take its place."""
        if not self.can_outlive:
            return False
        self.carrier_fault = fault
        self._is_steady = False
        return True

    def detach(self) -> None:
        """The carrier is gone, and with it half a frame, pings and their answers. Idempotent.

        Raises:
          LocalProtocolError: the session can't go on with another one (see `can_outlive`).
        """
        if not self.can_outlive:
            raise LocalProtocolError("can't detach a session that can't be resumed")
        self.is_attached = self._is_steady = False
        self.carrier_fault = None
        self._in.hello = None
        self._greeting = b""
        self._in.replay.clear()
        self._wire.reset_input()
        self._out.keep_control(self._wire.find_counted)
        self._liveness.pause()

    def give_up(self) -> None:
        """There will be no other carrier: what was kept for one goes."""
        self._in.retention = None
        self._in.replay.clear()
        self._is_given_up = True

    def attach(self, now: float) -> None:
        """There is another carrier: greet on it.

        Raises:
          LocalProtocolError: the session has one.
        """
        if self.is_attached:
            raise LocalProtocolError("can't attach a session that is attached")
        self.is_attached = True
        self._greet()
        self._liveness.restart(now)

    def _greet(self) -> None:
        hello = attrs.evolve(
            make_hello(self._config, self._session_id),
            frames_received=self._in.frames,
            features=frozenset({RESUME}),
        )
        self._greeting = self._wire.preface + self._wire.encode(0, hello)
        self._note_acknowledged()

    def _note_acknowledged(self) -> None:
        self._acknowledged = self._in.frames
        self._unacknowledged_bytes = 0
        self._owes_ack = False

    def _look_whether_steady(self) -> None:
        is_greeted = self.is_greeted or self._in.session_hello is None
        has_carrier = self.is_attached and self.carrier_fault is None
        self._is_steady = has_carrier and is_greeted and not self._greeting and not self._in.replay

    @property
    def _retention(self) -> Retention | None:
        return self._in.retention

    # -- what the driver asks ---------------------------------------------------------------------------------

    @property
    def wants_input(self) -> bool:
        """Whether to go on reading; not while the peer leaves too much of what we owe it unread."""
        return not self.is_attached or self.carrier_fault is not None or super().wants_input

    @property
    def can_open(self) -> bool:
        """Whether a stream can be opened now."""
        return self._in.hello is not None and super().can_open

    @property
    def has_output(self) -> bool:
        """Whether `to_send` has something to give."""
        if self._is_steady:
            return self._owes_ack or (self._has_control if self._is_full else super().has_output)
        if not self.is_attached or self.carrier_fault is not None:
            return False
        if self._in.failure is not None:
            return bool(self._greeting) or super().has_output
        return bool(self._greeting or self._in.replay)

    @property
    def _has_control(self) -> bool:
        return self._out.control_bytes > 0 or bool(self._granted_streams) or self._in.owes_grant

    @property
    def is_flushed(self) -> bool:
        """Whether everything was given to a carrier that lives."""
        if self._is_steady:
            return super().is_flushed
        if self._is_given_up:
            return True
        if self._in.failure is not None:  # what is kept will never be wanted
            return not self._out.control_bytes
        return not (self._greeting or self._out.queued_bytes or self._out.control_bytes or self.retained_bytes)

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the carrier. Never raises for the peer's fault: `Failed` is the last event then."""
        super().receive(data, now)
        retention = self._in.retention
        self._is_full = retention is not None and retention.is_full
        if not self._is_steady:
            self._look_whether_steady()
        self._unacknowledged_bytes += len(data)
        owed = self._in.frames - self._acknowledged
        if owed >= _ACKNOWLEDGE_FRAMES or (owed and self._unacknowledged_bytes >= _ACKNOWLEDGE_BYTES):
            self._owes_ack = retention is not None and self._in.failure is None

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, if ever; long ago where the carrier is of no use."""
        return super().next_deadline() if self.carrier_fault is None else -math.inf

    def handle_deadline(self, now: float) -> None:
        """Do what is due: a ping into a silence, or giving the carrier up."""
        if self.can_outlive and self.carrier_fault is None:
            error = self._liveness.check(now, greeted=self._in.hello is not None)
            if error is not None:
                self.outlives(error)
        if self.carrier_fault is None:
            super().handle_deadline(now)

    def chunks_to_send(self, now: float, max_bytes: int) -> list[bytes | memoryview]:
        """Whole frames to write now: what greets, then what the peer lacks, then control, then data by priority.

        Args:
          now: seconds.
          max_bytes: when to stop adding data frames; control and the last turn may exceed it.

        Returns:
          One chunk at most, since what is retained is kept as it was written.
        """
        data = self._take(now, max_bytes)
        return [data] if data else []

    def _take(self, now: float, max_bytes: int) -> bytes:
        if not self._is_steady:
            return self._take_opening(now, max_bytes)
        retention = self._retention
        if retention is None or self._in.failure is not None:
            self._owes_ack = False
            return b"".join(super().chunks_to_send(now, max_bytes))
        if self._in.frames > self._acknowledged:
            self._note_acknowledged()
            self._out.put_record(0, records.Ack(self._acknowledged))
        if self._is_full:
            data = b"".join(super().chunks_to_send(now, 0))
            self._extra_bytes += len(data)
        else:
            self._extra_bytes = 0
            data = b"".join(super().chunks_to_send(now, max_bytes))
        retention.keep(data)
        self._is_full = retention.is_full
        if self._extra_bytes > self._config.max_control_bytes:
            self._in.fail(self._unacknowledged())
        return data

    def _take_opening(self, now: float, max_bytes: int) -> bytes:
        """What goes first on a carrier: the greeting, and once the peer has greeted what it lacks."""
        if not self.has_output:
            return b""
        if self._greeting:
            data, self._greeting = self._greeting, b""
        elif self._in.failure is not None:
            data = b"".join(super().chunks_to_send(now, max_bytes))
        else:
            data = self._take_replay(max_bytes)
        self._look_whether_steady()
        return data

    def _take_replay(self, max_bytes: int) -> bytes:
        writes = [self._in.replay.popleft()]
        size = len(writes[0])
        while self._in.replay and size + len(self._in.replay[0]) <= max_bytes:
            writes.append(self._in.replay.popleft())
            size += len(writes[-1])
        return b"".join(writes)

    def _unacknowledged(self) -> RemoteProtocolError:
        limit = self._config.max_control_bytes
        return RemoteProtocolError(
            f"the peer acknowledges nothing: {self.retained_bytes} bytes are retained, and {self._extra_bytes} of them are "
            f"more than max_retained_bytes; max_control_bytes is {limit}",
            code=Code.RESOURCE_EXHAUSTED,
            field="max_control_bytes",
            size=self._extra_bytes,
            limit=limit,
        )

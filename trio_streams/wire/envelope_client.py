"""The machine of a connection that asks in Raffel's JSON envelopes: the client's role of `message_mux`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core import records
from trio_streams.core.errors import LocalProtocolError
from trio_streams.core.states import HalfState
from trio_streams.wire.envelope_answers import AnswerInbox
from trio_streams.wire.envelope_asker import EnvelopeAsker
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_mux import MessageMux
from trio_streams.wire.message_stream import MessageStream

__all__ = ["EnvelopeClientMachine"]

_DEFAULT: Final = MessageLimits()


class EnvelopeClientMachine(MessageMux):
    """The machine of a connection to a server that speaks envelopes.

    A stream is opened like any other, and begun by saying what it is to be: the dialect asks for a call, an event and a
    stream in words of its own.

    Args:
      config: limits and timeouts that every dialect has; `max_streams` is how many are opened at once.
      limits: this dialect's own.
      is_text: whether it is a WebSocket, on which the server takes envelopes of `max_text_bytes`, elsewhere of
        `max_message_bytes`; it would end the connection for a longer one.
      now: seconds, on the clock that every later call uses.
      epoch: the time of day, in seconds since 1970, when that clock was 0: deadlines travel as times of day.
    """

    def __init__(
        self,
        *,
        config: ConnectionConfig,
        limits: MessageLimits = _DEFAULT,
        is_text: bool = False,
        now: float,
        epoch: float = 0.0,
    ) -> None:
        self._asker = EnvelopeAsker(limits)
        self._limits = limits
        self._limit = "max_text_bytes" if is_text else "max_message_bytes"
        self._max_sent_bytes = limits.max_text_bytes if is_text else limits.max_message_bytes
        self._epoch = epoch
        self._timeouts_ms: dict[int, int] = {}
        super().__init__(self._asker, is_client=True, config=config, idle_timeout=config.idle_timeout, now=now)
        self._in: AnswerInbox = AnswerInbox(
            self._asker, self._streams, self._out, self._liveness, config, limits, now=now
        )

    # -- asking -----------------------------------------------------------------------------------------------

    def open(
        self,
        name: str,
        *,
        metadata: Mapping[str, str] = records.NO_METADATA,
        priority: int = 0,
        timeout_ms: int | None = None,
        window_items: int | None = None,
        window_bytes: int | None = None,
    ) -> int:
        """Open a stream, of which the server learns when it is begun; windows mean nothing to it.

        Raises:
          LocalProtocolError: as many are open as `max_streams` allows, the server is gone, or name and metadata pass
            their limits.
        """
        stream_id = super().open(name, metadata=metadata, priority=priority)
        self._streams[stream_id] = MessageStream(self._limits, priority=priority)
        if timeout_ms is not None:
            self._timeouts_ms[stream_id] = timeout_ms
        return stream_id

    def begin(self, stream_id: int, form: Form, now: float) -> None:
        """Say what a stream is to be, once and before anything is sent on it.

        Args:
          stream_id: from `open`, at the same time.
          form: what is asked for.
          now: seconds.

        Raises:
          LocalProtocolError: it has begun already, or is over.
        """
        self._require(stream_id, "begin")
        if self._asker.form(stream_id) is not None:
            raise LocalProtocolError(f"can't begin stream {stream_id} twice")
        timeout_ms = self._timeouts_ms.pop(stream_id, None)
        deadline = None if timeout_ms is None else math.ceil((self._epoch + now) * 1_000) + timeout_ms
        if data := self._asker.begin(stream_id, form, deadline):
            self._out.put(data)

    def _require_form(self, stream_id: int, action: str) -> Form:
        form = self._asker.form(stream_id)
        if form is None:
            raise LocalProtocolError(f"can't {action} on stream {stream_id}: nobody said what it is to be")
        return form

    def send(self, stream_id: int, payloads: Sequence[bytes]) -> int:
        """Queue items, JSON texts; what takes one answer to one question takes one item.

        Raises:
          LocalProtocolError: also where an envelope with the item would be longer than the server takes.
        """
        machine = self._require(stream_id, "send")
        form = self._require_form(stream_id, "send")
        if not form.takes_items and machine.send_credit.items + len(payloads) > 1:
            raise LocalProtocolError(f"can't send more than one item on stream {stream_id}, a {form.value}")
        limit = self._max_sent_bytes - self._asker.overhead_bytes(stream_id)
        if (size := max(map(len, payloads), default=0)) > limit:
            raise LocalProtocolError(
                f"an item of {size} bytes passes {self._limit} of {self._max_sent_bytes}, which leaves it {limit}",
                code=Code.MESSAGE_TOO_LARGE,
                field=self._limit,
                size=size,
                limit=limit,
            )
        return super().send(stream_id, payloads)

    def end(
        self,
        stream_id: int,
        status: records.Status = records.OK,
        trailers: Mapping[str, str] = records.NO_METADATA,
    ) -> None:
        """End our half; what is asked in one envelope has no place for a status and trailers."""
        self._require(stream_id, "end")
        if self._require_form(stream_id, "end").takes_items:
            super().end(stream_id, status, trailers)
        else:
            super().end(stream_id)

    def reset(self, stream_id: int, code: Code = Code.CANCELLED, reason: str = "") -> None:
        """Abandon our half; with one of which the server has not heard, its answer too."""
        if stream_id in self._streams and not self._asker.is_asked(stream_id):
            self._in.abandon(stream_id, code, reason)
        super().reset(stream_id, code, reason)

    def stop(self, stream_id: int, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more of the answer, with `cancel`; a question that has not left never does."""
        machine = self._streams.get(stream_id)
        if machine is not None and not self._asker.is_asked(stream_id):
            super().reset(stream_id, code, reason)
        elif (
            machine is not None
            and machine.send_state in (HalfState.OPEN, HalfState.CLOSING)
            and self._asker.form(stream_id) is Form.BIDIRECTIONAL
            and code is Code.OK
        ):
            self._asker.cancel_at_end(stream_id)
        super().stop(stream_id, code, reason)

    # -- signs of life ----------------------------------------------------------------------------------------

    @property
    def _last_heard_at(self) -> float:
        return self._in.heard_at

    def _ask_for_life(self, number: int) -> None:
        self._out.put_record(0, records.Ping(number))

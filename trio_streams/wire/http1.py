"""The server's side of an HTTP/1.1 connection, without I/O and without a clock. RFC 9110, RFC 9112.

Bytes go in, events come out: a request's head, pieces of its body, its end. Commands go in (head, body, end), bytes come
out. One request is served at a time: what is pipelined waits unparsed, so answers leave in order, and a flood costs
`max_pipelined_bytes` at most, after which `is_full` asks the host to stop reading.

A peer's fault is answered here, if the answer's head has not left: then `Failed` comes behind the events before it, and
the commands of whoever was answering do nothing any more. Nothing after a fault is looked at, and the connection ends:
after two parties have disagreed about where a message ends, nobody knows where the next one starts. The client's end of
input is no fault between messages. What it asked for before is still answered, in order. An answer that ends before its
request leaves a body that nobody wants. It is dropped up to `max_drain_bytes` and `drain_timeout`; if it ends within
those, the connection goes on.

Deadlines: for a head, from its first byte (or the connection's beginning) on; for a body, between two pieces; for silence
between requests; for what is dropped. While a handler works, or the host does not read (`pause`), none runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.http1_body import ChunkedBody
from trio_streams.wire.http1_fields import Fields, check_fields, parse_length, status_line
from trio_streams.wire.http1_head import HeadFault
from trio_streams.wire.http1_heads import HeadReader
from trio_streams.wire.http1_records import BodyEnded as BodyEnded
from trio_streams.wire.http1_records import BodyReceived as BodyReceived
from trio_streams.wire.http1_records import Event as Event
from trio_streams.wire.http1_records import Failed as Failed
from trio_streams.wire.http1_records import Http1Limits as Http1Limits
from trio_streams.wire.http1_records import InputEnded as InputEnded
from trio_streams.wire.http1_records import Request as Request
from trio_streams.wire.http1_states import (
    BODILESS,
    CHUNKED,
    CLOSED,
    HEADLESS,
    IDLE,
    INPUT_BODY,
    INPUT_CLOSED,
    INPUT_HEAD,
    INPUT_WAITING,
    IS_BODILESS,
    OPEN,
    OVER,
    SIZED,
    UNTIL_CLOSE,
    InputState,
    OutputState,
)

__all__ = ["BodyEnded", "BodyReceived", "Event", "Failed", "Http1Limits", "Http1Server", "InputEnded", "Request"]


class Http1Server:
    """One connection, from its first request to its last.

    Args:
      limits: for the client.
      now: when the connection began.
    """

    __slots__ = (
        "_answer_left", "_body_bytes", "_buffer", "_chunks", "_deadline", "_drained", "_events", "_heads", "_input",
        "_input_ended", "_is_paused", "_is_persistent", "_is_upgrade", "_kept", "_left", "_limits", "_out", "_output",
        "_owes_continue", "_request",
    )  # fmt: skip

    def __init__(self, limits: Http1Limits, now: float) -> None:
        self._limits = limits
        self._input: InputState = INPUT_HEAD
        self._output: OutputState = IDLE
        self._buffer = b""
        self._heads = HeadReader(limits)
        self._kept = 0  # of the buffer: a head that a protocol which takes over wants, too
        self._input_ended = False
        self._request: Request | None = None
        self._chunks: ChunkedBody | None = None
        self._left = 0  # of the request's body, where its length is known
        self._body_bytes = 0
        self._drained = -1  # bytes dropped of a body that nobody wants; negative while somebody does
        self._answer_left = 0
        self._is_upgrade = False
        self._owes_continue = False
        self._is_persistent = True
        self._is_paused = False
        self._deadline: float | None = now + limits.header_timeout
        self._events: list[Event] = []
        self._out: list[bytes] = []

    # What the host looks at.

    @property
    def is_full(self) -> bool:
        """Whether as much is pipelined as may be: the host stops reading until the answer's end."""
        return self._input is INPUT_WAITING and len(self._buffer) >= self._limits.max_pipelined_bytes

    @property
    def is_chunking(self) -> bool:
        """Whether the answer under way is chunked and nothing waits to be sent, so that chunks may go past `to_send`."""
        return self._output is CHUNKED and not self._out

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being asked or answered."""
        return self._input is INPUT_HEAD and self._output is IDLE and not self._buffer

    @property
    def is_closing(self) -> bool:
        """Whether nothing comes after what `to_send` has: the host sends it, and closes."""
        return self._input is INPUT_CLOSED and self._output in OVER

    @property
    def has_input_ended(self) -> bool:
        """Whether the client has ended its side."""
        return self._input_ended

    @property
    def has_output(self) -> bool:
        """Whether `to_send` has anything."""
        return bool(self._out)

    @property
    def has_events(self) -> bool:
        """Whether `events` has any."""
        return bool(self._events)

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def to_send(self) -> bytes:
        """What is to be written."""
        out = self._out
        if not out:
            return b""
        self._out = []
        return out[0] if len(out) == 1 else b"".join(out)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is due; None for never."""
        return None if self._is_paused else self._deadline

    # Input.

    def receive(self, data: bytes, now: float) -> None:
        """Take what the client sent; `b""` for the end of its side. Never raises for what it is."""
        if self._input is INPUT_CLOSED:
            return
        if data:
            self._buffer = self._buffer + data if self._buffer else data
        elif not self._input_ended:
            self._input_ended = True
            self._events.append(InputEnded())
        self._advance(now)

    def handle_deadline(self, now: float) -> None:
        """End what took too long, if anything did."""
        due = self.next_deadline()
        if due is None or now < due:
            return
        if self._drained >= 0 or (self._input is INPUT_HEAD and not self._buffer):
            self._close()
        else:
            what = "head" if self._input is INPUT_HEAD else "body"
            self._fail(408, f"the request's {what} did not come in time")

    def pause(self) -> None:
        """The host does not read, because the handler doesn't: what is late is not the client's fault."""
        self._is_paused = True

    def resume(self, now: float) -> None:
        """The host reads again."""
        self._is_paused = False
        if self._input is INPUT_BODY and self._drained < 0:
            self._deadline = now + self._limits.body_timeout

    def _advance(self, now: float) -> None:
        """Parse as far as the order of answers allows."""
        while True:
            if self._input is INPUT_HEAD:
                if not self._take_head(now):
                    break
            elif self._input is INPUT_BODY:
                if not self._take_body(now):
                    break
            else:
                return
        if not self._input_ended:
            return
        if self._input is INPUT_BODY and self._drained < 0:
            self._fail(400, "the request's body stops short")
        else:
            self._close()

    def _take_head(self, now: float) -> bool:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            # "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line".
            buffer = self._buffer = buffer[2:]
        if not buffer:
            return False
        heads = self._heads
        was_begun = heads.is_begun
        try:
            request = heads.read(buffer)
        except HeadFault as fault:
            self._fail(fault.status, fault.text)
            return False
        if request is None:
            if not was_begun:
                self._deadline = now + self._limits.header_timeout
            return False
        self._begin(request, buffer, heads.end)
        return True

    def forget_head(self) -> None:
        """Keep nothing of the last request, whose answer takes long."""
        self._heads.forget()

    def _begin(self, request: Request, buffer: bytes, end: int) -> None:
        self._request = request
        self._output = HEADLESS
        self._events.append(request)
        self._is_persistent = self._is_persistent and request.is_persistent
        self._deadline = None
        if request.length == 0:
            self._input = INPUT_WAITING
            # A protocol that takes over wants the head, too.
            self._buffer = buffer if request.upgrade else buffer[end:]
            self._kept = end if request.upgrade else 0
            return
        self._buffer = buffer[end:]
        self._input = INPUT_BODY
        self._body_bytes = 0
        self._owes_continue = request.expects_continue
        self._chunks = ChunkedBody(self._limits.max_head_bytes) if request.length is None else None
        self._left = request.length or 0

    def _take_body(self, now: float) -> bool:
        """Take what there is; whether the body has ended with it."""
        data = self._buffer
        if self._drained < 0:
            self._deadline = now + self._limits.body_timeout
        if not data:
            return False
        self._owes_continue = False
        if self._chunks is None:
            pieces = [data[: self._left] if len(data) > self._left else data]
            self._buffer = data[self._left :]
            self._left -= len(pieces[0])
            is_ended, fault = not self._left, None
        else:
            pieces, used = self._chunks.decode(data)
            self._buffer = data[used:]
            is_ended, fault = self._chunks.is_ended, self._chunks.fault
        for piece in pieces:
            if not self._take_piece(piece):
                return False
        if fault is not None:
            self._fail(fault.status, fault.text)
            return False
        if is_ended:
            self._end_body(now)
        return is_ended

    def _take_piece(self, piece: bytes) -> bool:
        limit = self._limits.max_body_bytes
        self._body_bytes += len(piece)
        if limit is not None and self._body_bytes > limit:
            self._fail(413, f"the body has more than {limit} bytes")
            return False
        if self._drained < 0:
            self._events.append(BodyReceived(piece))
            return True
        self._drained += len(piece)
        if self._drained > self._limits.max_drain_bytes:
            self._close()
            return False
        return True

    def _end_body(self, now: float) -> None:
        self._deadline = None
        if self._drained >= 0:
            self._drained = -1
            self._next(now)
        else:
            self._events.append(BodyEnded())
            self._input = INPUT_WAITING

    def _next(self, now: float) -> None:
        """The exchange is over, both ways."""
        self._output = IDLE
        self._request = None
        if not self._is_persistent:
            self._close()
            return
        self._input = INPUT_HEAD
        limits = self._limits
        self._deadline = now + (limits.header_timeout if self._buffer else limits.keep_alive_timeout)

    def _fail(self, status: int, text: str) -> None:
        """Refuse the client, and tell it where that is still possible."""
        self._events.append(Failed(status, text))
        if (self._output is IDLE or self._output is HEADLESS) and self._drained < 0:
            body = f"{text}\n".encode()
            lines = check_fields(
                [
                    ("content-type", "text/plain; charset=utf-8"),
                    ("content-length", str(len(body))),
                    ("connection", "close"),
                ]
            )
            self._out.append(f"{status_line(status)}{lines}\r\n".encode("latin-1") + body)
        self._close()
        self._output = CLOSED

    def _close(self) -> None:
        """Nothing that comes is looked at any more."""
        self._input = INPUT_CLOSED
        self._buffer = b""
        self._deadline = None
        self._drained = -1
        self._is_persistent = False

    # Commands.

    def request_close(self) -> None:
        """Let no request begin after the one that is being answered."""
        self._is_persistent = False
        if self.is_idle:
            self._close()

    def refuse(self, status: int, text: str) -> None:
        """Answer in the handler's stead, if it has not begun to, and end the connection."""
        if self._output is HEADLESS:
            self._fail(status, text)
            self._events.pop()

    def send_continue(self) -> None:
        """Somebody wants the body: tell a client that waits to be told."""
        if self._owes_continue and self._output is HEADLESS:
            self._owes_continue = False
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")

    def send_head(self, status: int, headers: Sequence[tuple[str, str]] | Fields) -> None:
        """Begin the answer. Its body is as long as `content-length` says; without one it is chunked.

        Raises:
          LocalProtocolError: nothing is being asked, or the head is not valid; nothing has changed.
        """
        request = self._request
        if self._output is CLOSED:
            return
        if self._output is not HEADLESS or request is None:
            raise LocalProtocolError(f"can't send a head in state {self._output.name}")
        if not 200 <= status <= 599:
            raise LocalProtocolError(f"can't answer with status {status}", field="status")
        fields = headers if isinstance(headers, Fields) else Fields(headers)
        output: OutputState = CHUNKED if request.version == "1.1" else UNTIL_CLOSE
        left = 0
        for name, value in fields.special:
            if name == "content-length":
                if output is SIZED:
                    raise LocalProtocolError("can't send two of content-length", field=name)
                output, left = SIZED, parse_length(value)
            elif name == "transfer-encoding":
                raise LocalProtocolError("can't send transfer-encoding: the body's coding is the host's", field=name)
            elif name == "connection" and value.lower() == "close":
                self._is_persistent = False
        if request.method == "HEAD" or status in IS_BODILESS:
            output = BODILESS
        if self._owes_continue or output is UNTIL_CLOSE or (self._input_ended and not self._buffer):
            # With a 100 still owed, the client may send the body after this answer or not, and nobody can tell which.
            self._is_persistent = False
        framing = "transfer-encoding: chunked\r\n" if output is CHUNKED else ""
        if not self._is_persistent:
            framing += "" if "connection: close\r\n" in fields.lines else "connection: close\r\n"
        elif request.version == "1.0":
            framing += "connection: keep-alive\r\n"
        self._output = output
        self._answer_left = left
        self._is_upgrade = bool(request.upgrade)
        self._request = None
        self._out.append(f"{status_line(status)}{fields.lines}{framing}\r\n".encode("latin-1"))

    def send_body(self, data: bytes) -> None:
        """Add to the answer's body; what an answer without one (HEAD, 204, 304) is given is dropped.

        Raises:
          LocalProtocolError: there is no head, or more was given than its length says; nothing has changed.
        """
        output = self._output
        if output is CLOSED:
            return
        if output not in OPEN:
            raise LocalProtocolError(f"can't send a body in state {output.name}")
        if not data or output is BODILESS:
            return
        if output is CHUNKED:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
            return
        if output is SIZED:
            if len(data) > self._answer_left:
                raise LocalProtocolError(f"can't send {len(data)} bytes: {self._answer_left} are left of the length")
            self._answer_left -= len(data)
        self._out.append(data)

    def end(self, now: float) -> None:
        """Complete the answer, and go on to the next request.

        Raises:
          LocalProtocolError: there is no head, or the body is shorter than its length says; nothing has changed.
        """
        output = self._output
        if output is CLOSED:
            return
        if output not in OPEN:
            raise LocalProtocolError(f"can't end an answer in state {output.name}")
        if output is SIZED and self._answer_left:
            raise LocalProtocolError(f"can't end the answer: {self._answer_left} bytes of its length are missing")
        if output is CHUNKED:
            self._out.append(b"0\r\n\r\n")
        if self._input is INPUT_BODY and self._is_persistent:
            self._drained = 0
            self._deadline = now + self._limits.drain_timeout
            self._is_paused = False
            self._output = IDLE
        else:
            if self._is_upgrade:
                self._buffer = self._buffer[self._kept :]  # declined: the head is not needed any more
            self._next(now)
        self._advance(now)

    def detach(self) -> bytes:
        """Leave the connection to another protocol; the request's head and what came behind it.

        Raises:
          LocalProtocolError: the request asked for no upgrade, or is being answered.
        """
        request = self._request
        if self._output is not HEADLESS or request is None or not request.upgrade or request.length != 0:
            raise LocalProtocolError("can't leave the connection: no upgrade was asked for")
        data = self._buffer
        self._close()
        self._output = CLOSED
        return data

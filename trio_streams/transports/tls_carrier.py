"""TLS as a carrier: `ssl`'s machine between two buffers, under the same writer as our WebSockets.

Not over `trio.SSLStream`, for three reasons. There a cancelled send breaks the stream; here what was encrypted stays in
line, and the next writer goes on in the middle of the record. There a goodbye is swallowed if data is still unread; here
close_notify goes out whatever has come in. And there a read is one record; here it is all records of 64 KiB.

Records have numbers, so they must be written in the order in which they were made. `Output` sees to it: what a received
record asks us to answer is owed as soon as it is made, and what is sent is encrypted when its turn has come, with no wait
between the two.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

import trio

from trio_streams.core.errors import StreamsError
from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import describe_fault, peer_name, tune_stream
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.transports.output_carrier import OutputCarrier

__all__ = ["TlsCarrier", "TlsMachine"]

_RECORD_BYTES: Final = 16_384  # of plain text; a read yields no more at once


class TlsMachine:
    """One side of a TLS connection that does no I/O: bytes are fed, and taken.

    Args:
      context: certificates, trust, versions, ALPN.
      is_server: which side.
      host: on the client, whom the certificate has to name.
    """

    def __init__(self, context: ssl.SSLContext, *, is_server: bool, host: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server, server_hostname=host)

    @property
    def alpn(self) -> str | None:
        """The protocol both sides agreed on, or None."""
        return self._object.selected_alpn_protocol()

    def feed(self, data: bytes | bytearray) -> None:
        """Take what the peer has sent; nothing for the end of it."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def take_output(self) -> bytes:
        """What is to be sent now; it must be sent in this order."""
        return self._outgoing.read()

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done.

        Raises:
          ssl.SSLError: it has failed.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> bytes:
        """Make records of `data`, behind what is to be sent anyway.

        Raises:
          ssl.SSLError: nothing can be sent any more.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[self._object.write(rest) :]
        return self._outgoing.read()

    def decrypt(self, parts: list[bytes]) -> bool:
        """Append what can be read; whether the peer has said goodbye.

        Raises:
          ssl.SSLError: what was fed is not acceptable, or ended without a goodbye.
        """
        try:
            while part := self._object.read(_RECORD_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            pass
        return True

    def say_goodbye(self) -> None:
        """Make a close_notify; the peer's own is not waited for."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it wants the peer's, or has found data before it: ours was made in any case


class TlsCarrier(OutputCarrier):
    """Bytes over TLS; made by `accept_tls` and `connect_tls`.

    Args:
      stream: the byte stream under it; the carrier owns it.
      machine: its handshake is done.
      peer: who is on the other side, for people.
      close_timeout: seconds that `aclose` takes at most.
      describe: makes the error for a fault of TLS.
    """

    __slots__ = ("_describe", "_failure", "_is_ended", "_machine", "_parts")

    def __init__(
        self,
        stream: trio.abc.Stream,
        machine: TlsMachine,
        *,
        peer: str | None = None,
        close_timeout: float,
        describe: Callable[[str, ssl.SSLError], StreamsError],
    ) -> None:
        peer = peer_name(stream) if peer is None else peer
        super().__init__(stream, peer=peer, close_timeout=close_timeout, protocol="TLS connection")
        self._machine = machine
        self._describe = describe
        self._parts: list[bytes] = []
        self._failure: StreamsError | None = None
        self._is_ended = False  # the peer has said goodbye, or the world did
        tune_stream(stream)
        self._decrypt()  # data may have arrived with the handshake

    @property
    def alpn(self) -> str | None:
        """The application protocol both sides agreed on, or None where the peer names none."""
        return self._machine.alpn

    async def receive(self) -> bytes:
        """Take the bytes that have arrived, all records of one read of 64 KiB; `b""` once the peer has said goodbye.

        Raises:
          ConnectionLost: the connection broke, or ended without TLS's goodbye, as when somebody cut it.
          RemoteProtocolError: the peer broke TLS's rules, or refuses our certificate.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        Spec: RFC 8446 §6.1.
        """
        self._check_open()
        self._is_receiving = True
        try:
            is_read = False
            while not self._parts and not self._is_ended:
                await self._read()
                is_read = True
            if not is_read:
                await trio.lowlevel.checkpoint()
        finally:
            self._is_receiving = False
        self._check_open()
        if not self._parts and self._failure is not None:
            raise self._failure
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def send(self, data: bytes) -> None:
        """Send all of `data`, in records of 16 KiB that are written together.

        Raises:
          ConnectionLost: the connection broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: on a socket, `data` has been sent whole or will be before anything else is, or not at all; the
          connection stays usable. On other streams a write that is cancelled half-way ends it.
        """
        try:
            await self._write(lambda: [self._machine.encrypt(data)] if data else [])
        except ssl.SSLError as exc:
            raise ConnectionLost(f"connection to {self._peer} lost: cannot send: {describe_fault(exc)}") from exc

    async def aclose(self) -> None:
        """Say goodbye, wait at most `close_timeout` seconds for the peer to go, and close. Idempotent.

        Cancellation: closes at once, without the goodbye.
        """
        await self._close(self._say_goodbye)

    def _lose(self, exc: trio.BrokenResourceError) -> None:
        self._end(ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}"), exc)

    def _take(self, data: bytes | bytearray) -> None:
        self._machine.feed(data)
        self._decrypt()

    def _decrypt(self) -> None:
        try:
            if self._machine.decrypt(self._parts):
                self._is_ended = True
        except ssl.SSLEOFError as exc:
            self._end(ConnectionLost(f"connection to {self._peer} lost: it ended without TLS's goodbye"), exc)
        except ssl.SSLError as exc:
            self._end(self._describe(self._peer, exc), exc)
        if answer := self._machine.take_output():
            self._output.owe(answer)

    def _end(self, failure: StreamsError, cause: BaseException) -> None:
        failure.__cause__ = cause
        self._failure = failure
        self._is_ended = True

    async def _say_goodbye(self) -> None:
        self._machine.say_goodbye()
        self._output.owe(self._machine.take_output())
        await self._output.flush()
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        await self._stream.send_eof()
        # What still arrives is dropped; closing with unread bytes would reset the connection, and destroy our last ones.
        # A task that still receives would fight with us for them; closing wakes it.
        while not self._is_receiving and await self._stream.receive_some(RECEIVE_BYTES):
            pass

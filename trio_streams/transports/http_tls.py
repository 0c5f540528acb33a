"""TLS for the lean host: a socket by its descriptor, with `ssl`'s machine before it.

Not over `trio.SSLStream`, whose every write is awaited: each would need a task. Here plain bytes become records without
waiting, and what writes, waits and reads is the plain socket's own.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Awaitable, Generator
from contextlib import contextmanager, suppress
from typing import Final

import trio

from trio_streams.transports.http_link import Link, SocketLink, StreamLink
from trio_streams.transports.tls_carrier import TlsMachine

__all__ = ["LinkStream", "TlsLink", "open_link"]

_MAX_OWED_BYTES: Final = 16_384
"""What a client may make TLS itself answer (new keys) before anything is written."""


class TlsLink(SocketLink):
    """A socket in TLS; whoever receives first shakes hands.

    Args:
      stream: a fresh one.
      context: the server's.
    """

    __slots__ = ("_has_shaken_hands", "_is_ended", "_machine")

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext) -> None:
        super().__init__(stream)
        self._machine = TlsMachine(context, is_server=True)
        self._has_shaken_hands = False
        self._is_ended = False  # the client has said goodbye, or has left without

    def take_over(self) -> trio.abc.Stream:
        """See `Link`."""
        return LinkStream(self)

    async def receive(self) -> bytes:
        """See `Link`."""
        if not self._has_shaken_hands:
            await self._shake_hands()
            if data := self._decrypt():  # it may have come with the handshake
                return data
        if self._is_ended:
            await trio.lowlevel.checkpoint()
            return b""
        return await super().receive()

    def receive_nowait(self) -> bytes | None:
        """See `SocketLink`; None also for part of a record."""
        data = super().receive_nowait()
        if data is None:
            return None
        self._machine.feed(data)
        return self._decrypt() or (b"" if self._is_ended else None)

    def wait_readable(self) -> Awaitable[None]:
        """See `SocketLink`."""
        if self._is_ended:  # bytes may never come
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - as above
        return super().wait_readable()

    def encode(self, data: bytes) -> bytes:
        """See `Link`. Who has not shaken hands can be told nothing."""
        self._check()
        return self._machine.encrypt(data) if self._has_shaken_hands else b""

    def end_sending(self) -> None:
        """See `Link`. The client's own goodbye is not waited for."""
        if self._has_shaken_hands and not self._is_closed:
            self._machine.say_goodbye()
            with suppress(OSError):
                self.send_nowait(self._machine.take_output())
        super().end_sending()

    async def _shake_hands(self) -> None:
        """Cancellation: the connection is of no further use."""
        is_done = False
        while not is_done:
            try:
                is_done = self._machine.shake_hands()
            finally:
                # When it has failed, this is the alert.
                if output := self._machine.take_output():
                    await self.send(memoryview(output))
            if not is_done:
                while (data := super().receive_nowait()) is None:
                    await super().wait_readable()
                self._machine.feed(data)
        self._has_shaken_hands = True

    def _decrypt(self) -> bytes:
        parts: list[bytes] = []
        try:
            self._is_ended = self._machine.decrypt(parts)
        except ssl.SSLEOFError:
            self._is_ended = True  # without a goodbye, which HTTP can do without: its messages say where they end
        if self._machine.owed_bytes > _MAX_OWED_BYTES:
            raise trio.BrokenResourceError(f"the client makes TLS answer more than {_MAX_OWED_BYTES} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class LinkStream(trio.abc.Stream):
    """A link as a stream, for a protocol that takes over. Each direction is for one task at a time.

    Args:
      link: has shaken hands; it belongs to the stream.
    """

    __slots__ = ("_link",)

    def __init__(self, link: TlsLink) -> None:
        self._link = link

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Cancellation: part of it is sent, and the stream is of no further use."""
        await trio.lowlevel.checkpoint()
        with _broken_by_world():
            await self._link.send(memoryview(self._link.encode(bytes(data))))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel takes bytes. Cancellation: atomic."""
        with _broken_by_world():
            await self._link.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, all that came together whatever `max_bytes`; nothing at the end. Cancellation: atomic."""
        with _broken_by_world():
            return await self._link.receive()

    async def aclose(self) -> None:
        """Say goodbye, without waiting for the peer's, and close. Cancellation: likewise."""
        self._link.end_sending()
        self._link.close()
        await trio.lowlevel.checkpoint()


@contextmanager
def _broken_by_world() -> Generator[None, None, None]:
    try:
        yield
    except OSError as exc:
        raise trio.BrokenResourceError(f"the connection broke: {exc}") from exc


def open_link(stream: trio.SocketStream, context: ssl.SSLContext | None) -> Link:
    """The quickest link that there is to a client.

    Args:
      stream: fresh.
      context: for TLS; None for none.
    """
    if sys.platform == "win32":
        if context is None:
            return StreamLink(stream)
        return StreamLink(trio.SSLStream(stream, context, server_side=True, https_compatible=True))
    return SocketLink(stream) if context is None else TlsLink(stream, context)

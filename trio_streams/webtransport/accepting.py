"""The connections of a server: each is made for its client, counted among all that the server around has, and told when the
server goes away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike

from trio_streams.errors import ConnectionLost
from trio_streams.transports.admission import Places
from trio_streams.transports.bytes import host_port
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.driven import Attachment, Opening
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import server_configuration

__all__ = ["Connections"]


class Connections:
    """See the module.

    Args:
      config: limits and timeouts of each.
      certfile: PEM, the server's certificate first.
      keyfile: PEM, without a password.
      prepare: says who is told of what comes on a new link.
      places: how many there may be, besides what the endpoint says; None for no other limit.

    Raises:
      OSError: a file can't be read.
      ValueError: there is no certificate or no key in it.
    """

    def __init__(
        self,
        config: WebTransportConfig,
        certfile: str | PathLike[str],
        keyfile: str | PathLike[str],
        prepare: Callable[[Link], None],
        places: Places | None = None,
    ) -> None:
        self._config = config
        self._configuration = server_configuration(config.quic, certificate_file=certfile, key_file=keyfile)
        self._prepare = prepare
        self._places = places
        self._links: set[Link] = set()

    def accept(self, opening: Opening) -> Link | None:
        """Make the connection of a client, unless there are too many already; see `driven.Accept`."""
        config, places, host = self._config, self._places, str(opening.addr[0])
        if places is not None and places.is_full(host):
            return None
        quic = Quic(
            self._configuration,
            config.quic,
            original_destination_connection_id=opening.original_destination_connection_id,
            retry_source_connection_id=opening.retry_source_connection_id,
        )
        machine = ConnectionMachine(quic, is_client=False, limits=config.limits)
        peer = host_port(*opening.addr[:2])
        if places is None:
            link = Link(machine, peer=peer, config=config, is_client=False)
        else:
            link = _CountedLink(machine, peer=peer, config=config, places=places, host=host)
        self._prepare(link)
        self._links.add(link)
        link.on_over = partial(self._forget, link)
        return link

    def _forget(self, link: Link, _: ConnectionLost) -> None:
        self._links.discard(link)
        if isinstance(link, _CountedLink):
            link.leave()

    def go_away(self) -> None:
        """Tell all clients to ask for no more: GOAWAY."""
        for link in list(self._links):
            link.machine.go_away()
            link.kick()


class _CountedLink(Link):
    """A link that has a place among a server's connections, once its client's address is proven by the handshake: what anybody can
    send in another one's name takes no place from him.
    """

    __slots__ = ("_give_back", "_host", "_places")

    def __init__(
        self, machine: ConnectionMachine, *, peer: str, config: WebTransportConfig, places: Places, host: str
    ) -> None:
        super().__init__(machine, peer=peer, config=config, is_client=False)
        self._places = places
        self._host = host
        self._give_back: Callable[[], None] | None = None

    def attach(self, attachment: Attachment) -> None:
        """See `Driven`."""
        super().attach(_Arrival(attachment, self.arrive))

    def arrive(self) -> None:
        """Take a place; if the last one was given away meanwhile, the client is told."""
        self._give_back = self._places.take_place(self._host)
        if self._give_back is None:
            self.close(Http3Code.H3_EXCESSIVE_LOAD, "too many connections")

    def leave(self) -> None:
        """Give the place back."""
        if self._give_back is not None:
            self._give_back()


class _Arrival:
    """A connection's place at its endpoint that passes on when the handshake is complete; an `Attachment`."""

    __slots__ = ("_arrive", "_inner")

    def __init__(self, inner: Attachment, arrive: Callable[[], None]) -> None:
        self._inner = inner
        self._arrive = arrive

    @property
    def kick(self) -> Callable[[], None]:
        """See `Attachment`."""
        return self._inner.kick

    @property
    def hurry(self) -> Callable[[], None]:
        """See `Attachment`."""
        return self._inner.hurry

    def add_connection_id(self, connection_id: bytes) -> None:
        """See `Attachment`."""
        self._inner.add_connection_id(connection_id)

    def remove_connection_id(self, connection_id: bytes) -> None:
        """See `Attachment`."""
        self._inner.remove_connection_id(connection_id)

    def note_handshake(self) -> None:
        """See `Attachment`."""
        self._inner.note_handshake()
        self._arrive()

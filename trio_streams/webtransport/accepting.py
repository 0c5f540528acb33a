"""The connections of a server: each is made for its client, and told to when the server goes away."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import host_port
from trio_streams.webtransport.config import WebTransportConfig
from trio_streams.webtransport.driven import Opening
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.connection import ConnectionMachine
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
    ) -> None:
        self._config = config
        self._configuration = server_configuration(config.quic, certificate_file=certfile, key_file=keyfile)
        self._prepare = prepare
        self._links: set[Link] = set()

    def accept(self, opening: Opening) -> Link:
        """Make the connection of a client; see `driven.Accept`."""
        config = self._config
        quic = Quic(
            self._configuration,
            config.quic,
            original_destination_connection_id=opening.original_destination_connection_id,
            retry_source_connection_id=opening.retry_source_connection_id,
        )
        machine = ConnectionMachine(quic, is_client=False, limits=config.limits)
        link = Link(machine, peer=host_port(*opening.addr[:2]), config=config, is_client=False)
        self._prepare(link)
        self._links.add(link)

        def forget(_: ConnectionLost) -> None:
            self._links.discard(link)

        link.on_over = forget
        return link

    def go_away(self) -> None:
        """Tell all clients to ask for no more: GOAWAY."""
        for link in list(self._links):
            link.machine.go_away()
            link.kick()

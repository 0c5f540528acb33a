"""What a QUIC connection may hold, and what it takes to make one."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from aioquic.quic.configuration import QuicConfiguration

from trio_streams.config import at_least, positive

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["QuicLimits", "client_configuration", "server_configuration"]

_MAX_DATAGRAM_FRAME_BYTES: Final = 65_536  # any that a UDP datagram can carry


@attrs.frozen(kw_only=True)
class QuicLimits:
    """Limits of one QUIC connection.

    Attributes:
      window_bytes: bytes of one stream that the peer may send beyond what was consumed.
      connection_window_bytes: the same for all streams together. It must be above `window_bytes`, or one stream
        that nobody reads stops all the others.
      max_bidirectional_streams: streams of this kind that the peer may have open at once; one counts until it is over on
        the wire and released.
      max_unidirectional_streams: likewise.
      max_send_buffer_bytes: bytes of one stream that wait to be sent for the first time.
      max_connection_send_buffer_bytes: the same for all streams together. What is left of it is the most that one stream
        may have, so that a few that the peer does not read leave room for the others; 4,096 bytes it may always have.
      send_low_mark_bytes: a stream that was full is writable again when no more than this waits, or half of what it may have.
      max_queued_datagrams: datagrams that wait, in each direction; one more drops the oldest.
      max_queued_datagram_bytes: likewise.
      max_datagram_age: seconds after which a datagram that still waits to be sent is dropped; None for never.
      idle_timeout: seconds of silence after which the connection is lost.
      max_packet_bytes: the largest UDP payload to send, once a probe of it was acknowledged; every connection begins with
        1,200. What an Ethernet frame leaves after the headers of IPv6 and UDP is 1,452.
    """

    window_bytes: int = attrs.field(default=1_048_576, validator=positive)
    connection_window_bytes: int = attrs.field(default=16_777_216, validator=positive)
    max_bidirectional_streams: int = attrs.field(default=1_024, validator=attrs.validators.ge(0))
    max_unidirectional_streams: int = attrs.field(default=1_024, validator=attrs.validators.ge(0))
    max_send_buffer_bytes: int = attrs.field(default=262_144, validator=positive)
    max_connection_send_buffer_bytes: int = attrs.field(default=1_048_576, validator=positive)
    send_low_mark_bytes: int = attrs.field(default=131_072, validator=attrs.validators.ge(0))
    max_queued_datagrams: int = attrs.field(default=256, validator=positive)
    max_queued_datagram_bytes: int = attrs.field(default=262_144, validator=positive)
    max_datagram_age: float | None = attrs.field(default=None, validator=positive)
    idle_timeout: float = attrs.field(default=60.0, validator=positive)
    max_packet_bytes: int = attrs.field(default=1_452, validator=at_least(1_200))

    def __attrs_post_init__(self) -> None:
        if self.connection_window_bytes <= self.window_bytes:
            raise ValueError(
                f"connection_window_bytes must be above window_bytes of {self.window_bytes}, "
                f"not {self.connection_window_bytes}"
            )
        if self.send_low_mark_bytes >= self.max_send_buffer_bytes:
            raise ValueError(
                f"send_low_mark_bytes must be below max_send_buffer_bytes of {self.max_send_buffer_bytes}, "
                f"not {self.send_low_mark_bytes}"
            )


def client_configuration(
    limits: QuicLimits,
    *,
    server_name: str | None = None,
    alpn_protocols: Sequence[str] = ("h3",),
    authorities_pem: bytes | None = None,
    verify: bool = True,
) -> QuicConfiguration:
    """What a client's connections are made with; one serves any number of them.

    Args:
      limits: of each connection.
      server_name: whom the certificate must name.
      alpn_protocols: what to speak, best first.
      authorities_pem: certificates to trust, None for those that certifi brings.
      verify: whether the certificate is looked at; without, anybody can answer.
    """
    return _configuration(
        limits,
        is_client=True,
        server_name=server_name,
        alpn_protocols=list(alpn_protocols),
        cadata=authorities_pem,
        verify_mode=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE,
    )


def server_configuration(
    limits: QuicLimits,
    *,
    certificate_file: str | PathLike[str],
    key_file: str | PathLike[str],
    alpn_protocols: Sequence[str] = ("h3",),
) -> QuicConfiguration:
    """What a server's connections are made with; one serves any number of them.

    Args:
      limits: of each connection.
      certificate_file: PEM, the server's certificate first.
      key_file: PEM, without a password.
      alpn_protocols: what to speak, best first.

    Raises:
      OSError: a file can't be read.
      ValueError: there is no certificate or no key in it, the key has a password, or is not the certificate's.
    """
    configuration = _configuration(limits, is_client=False, alpn_protocols=list(alpn_protocols))
    try:
        configuration.load_cert_chain(Path(certificate_file), Path(key_file))
    except IndexError as exc:
        raise ValueError(f"there is no certificate in {certificate_file}") from exc
    except TypeError as exc:
        raise ValueError(f"the key in {key_file} has a password") from exc
    # Else every handshake would fail, and only clients would hear why.
    if configuration.private_key.public_key() != configuration.certificate.public_key():
        raise ValueError(f"the key in {key_file} is not that of the certificate in {certificate_file}")
    return configuration


def _configuration(limits: QuicLimits, **options: Any) -> QuicConfiguration:
    return QuicConfiguration(
        idle_timeout=limits.idle_timeout,
        max_data=limits.connection_window_bytes,
        max_stream_data=limits.window_bytes,
        max_datagram_frame_size=_MAX_DATAGRAM_FRAME_BYTES,
        **options,
    )

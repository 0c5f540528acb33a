"""QUIC's packets as far as whoever shares a socket among connections has to know them (RFC 8999, RFC 9000 §5.2, §6, §8.1).

A datagram to a known connection id is not looked into here, beyond that id. What begins a connection is parsed, and what is no
such thing is dropped before it costs anything.
"""

from __future__ import annotations

from typing import Final

import attrs
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder

__all__ = [
    "CONNECTION_ID_BYTES",
    "CONNECTION_REFUSED",
    "INVALID_TOKEN",
    "MIN_FIRST_BYTES",
    "FirstPacket",
    "destination_id",
    "first_packet",
    "refusal",
    "retry",
    "version_negotiation",
]

CONNECTION_ID_BYTES: Final = QuicConfiguration().connection_id_length
"""How long our own ids are. A short header does not say it."""

MIN_FIRST_BYTES: Final = 1_200
"""A client's first datagram is at least this long (RFC 9000 §14.1), so that an answer is no amplification."""

CONNECTION_REFUSED: Final = QuicErrorCode.CONNECTION_REFUSED
INVALID_TOKEN: Final = QuicErrorCode.INVALID_TOKEN

_LONG_HEADER: Final = 0x80
_ID_LENGTH_AT: Final = 5  # behind flags and version
_MIN_CHOSEN_ID_BYTES: Final = 8  # RFC 9000 §7.2: of the id that a client makes up for its first packets
_GREASE_VERSION: Final = 0x1A2A3A4A  # RFC 9000 §15: reserved, so that clients do not get used to a list of real ones
_VERSIONS: Final = (int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2))
_CLOSE_FRAME_BYTES: Final = 32


@attrs.frozen
class FirstPacket:
    """What the first packet of a client says before it is decrypted.

    Attributes:
      version: of QUIC.
      destination_id: whom it is for: an id that the client made up, or the one of our Retry.
      source_id: how the client wants to be called.
      token: from our Retry; empty for none.
      is_supported: whether we speak the version. Where not, there is no token.
    """

    version: int
    destination_id: bytes
    source_id: bytes
    token: bytes = b""
    is_supported: bool = True


def destination_id(datagram: bytes) -> bytes:
    """The connection id that a datagram is for; something that is no id of ours where it is garbage."""
    if datagram and datagram[0] & _LONG_HEADER:
        start = _ID_LENGTH_AT + 1
        return datagram[start : start + datagram[_ID_LENGTH_AT]] if len(datagram) > _ID_LENGTH_AT else b""
    return datagram[1 : 1 + CONNECTION_ID_BYTES]


def first_packet(datagram: bytes) -> FirstPacket | None:
    """Read what may begin a connection.

    Returns:
      None where it may not, and is to be dropped.

    Spec: RFC 8999 §5.1 for versions that we do not speak, RFC 9000 §17.2.2 for the others.
    """
    if len(datagram) < MIN_FIRST_BYTES or not datagram[0] & _LONG_HEADER:
        return None
    version = int.from_bytes(datagram[1:_ID_LENGTH_AT], "big")
    if version not in _VERSIONS:
        # 0 is somebody's Version Negotiation: an answer might be answered.
        return _read_ids(datagram, version) if version else None
    try:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=CONNECTION_ID_BYTES)
    except ValueError:
        return None
    if header.packet_type is not QuicPacketType.INITIAL or len(header.destination_cid) < _MIN_CHOSEN_ID_BYTES:
        return None
    return FirstPacket(version, header.destination_cid, header.source_cid, header.token)


def _read_ids(datagram: bytes, version: int) -> FirstPacket | None:
    destination_end = _ID_LENGTH_AT + 1 + datagram[_ID_LENGTH_AT]
    source_end = destination_end + 1 + datagram[destination_end]
    destination, source = datagram[_ID_LENGTH_AT + 1 : destination_end], datagram[destination_end + 1 : source_end]
    return FirstPacket(version, destination, source, is_supported=False)


def version_negotiation(packet: FirstPacket) -> bytes:
    """The answer to a version that we do not speak."""
    return encode_quic_version_negotiation(
        source_cid=packet.destination_id,
        destination_cid=packet.source_id,
        supported_versions=[*_VERSIONS, _GREASE_VERSION],
    )


def retry(packet: FirstPacket, source_id: bytes, token: bytes) -> bytes:
    """The answer that lets a client come back with a token, to another id, and so prove where it is."""
    return encode_quic_retry(
        version=packet.version,
        source_cid=source_id,
        destination_cid=packet.source_id,
        original_destination_cid=packet.destination_id,
        retry_token=token,
    )


def refusal(packet: FirstPacket, code: int) -> bytes:
    """The answer that ends a connection before it begins, with keys that everybody can make.

    Args:
      packet: the client's.
      code: why, as a transport error.
    """
    crypto = CryptoPair()
    crypto.setup_initial(cid=packet.destination_id, is_client=False, version=packet.version)
    builder = QuicPacketBuilder(
        host_cid=packet.destination_id,
        is_client=False,
        max_datagram_size=MIN_FIRST_BYTES,
        peer_cid=packet.source_id,
        version=packet.version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=_CLOSE_FRAME_BYTES)
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(0)  # no reason
    datagrams, _ = builder.flush()
    return datagrams[0]

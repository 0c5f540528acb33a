"""QPACK of one connection: two tables, what may wait for them, and how large a field section may become.

A field of one byte may name an entry as large as the table, so bytes on the wire say little of what they decode to, and the
decoder makes all of a section before anybody can look. But each field counts 32 bytes more than it has (RFC 9114 §4.2.2):
sections with too many fields are refused by a count that decodes nothing.

Spec: RFC 9204.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pylsqpack

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = ["BLOCKED_STREAMS", "MAX_FIELD_SECTION_SIZE", "MAX_TABLE_CAPACITY", "Qpack", "field_section_bytes"]

MAX_TABLE_CAPACITY: Final = 0x01
MAX_FIELD_SECTION_SIZE: Final = 0x06
BLOCKED_STREAMS: Final = 0x07

_FIELD_OVERHEAD_BYTES: Final = 32
_EMPTY: Final = b"\x00\x00"


def field_section_bytes(headers: RawHeaders) -> int:
    """How large a field section is, as limits count it (RFC 9114 §4.2.2)."""
    return sum([len(name) + len(value) for name, value in headers]) + _FIELD_OVERHEAD_BYTES * len(headers)


class Qpack:
    """Both directions.

    Args:
      config: limits.
    """

    def __init__(self, config: Http3Config) -> None:
        self._config = config
        self._decoder = pylsqpack.Decoder(config.qpack_table_bytes, config.qpack_blocked_streams)
        self._encoder = pylsqpack.Encoder()
        self._tableless = pylsqpack.Encoder()  # it knows nothing of the peer's settings, so it fills no table
        self._feedback = bytearray()

    # Sending.

    def apply_settings(self, settings: Mapping[int, int]) -> bytes:
        """Use the table that the peer allows.

        Returns:
          What is to be sent on the encoder stream.
        """
        return self._encoder.apply_settings(
            min(settings.get(MAX_TABLE_CAPACITY, 0), self._config.qpack_sent_table_bytes),
            min(settings.get(BLOCKED_STREAMS, 0), self._config.qpack_sent_blocked_streams),
        )

    def encode(self, stream_id: int, headers: RawHeaders, *, uses_table: bool = True) -> tuple[bytes, bytes]:
        """Encode a field section.

        Args:
          stream_id: whose it is.
          headers: its fields, in lower case.
          uses_table: whether entries may be named and added. Not where the encoder stream has less room than
            `field_section_bytes`, since half an instruction could stop everybody (RFC 9204 §2.1.3).

        Returns:
          What is to be sent on the encoder stream, before or with the section; and the section.

        Raises:
          LocalProtocolError: a name or a value has 65,536 bytes or more.
        """
        if not headers:
            return b"", _EMPTY
        encoder = self._encoder if uses_table else self._tableless
        try:
            return encoder.encode(stream_id, headers)
        except ValueError as error:
            raise LocalProtocolError(f"can't encode the fields: {error}", field="headers") from error

    def receive_decoder(self, data: bytes) -> None:
        """Bytes of the peer's decoder stream arrived.

        Raises:
          Http3Error: they make no sense; the connection is over.
        """
        try:
            self._encoder.feed_decoder(data)
        except pylsqpack.DecoderStreamError as error:
            raise _fatal("decoder stream", Http3Code.QPACK_DECODER_STREAM_ERROR) from error

    # Receiving.

    def receive_encoder(self, data: bytes) -> list[int]:
        """Bytes of the peer's encoder stream arrived.

        Returns:
          Streams whose section waited, and does no longer: `resume` each.

        Raises:
          Http3Error: they make no sense, or fill more than the table; the connection is over.
        """
        try:
            return self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError as error:
            raise _fatal("encoder stream", Http3Code.QPACK_ENCODER_STREAM_ERROR) from error

    def decode(self, stream_id: int, section: bytes) -> RawHeaders | None:
        """Decode a field section.

        Returns:
          Its fields; None if it names entries that are not here yet: its stream waits.

        Raises:
          Http3Error: it is too large, which is its stream's end; or makes no sense, and the connection is over.
        """
        if section == _EMPTY:
            return []
        limit = self._config.max_field_section_bytes
        if len(section) * _FIELD_OVERHEAD_BYTES > limit and _has_more_fields(section, limit // _FIELD_OVERHEAD_BYTES):
            raise _too_large(None, limit)
        try:
            feedback, headers = self._decoder.feed_header(stream_id, section)
        except pylsqpack.StreamBlocked:
            return None
        except pylsqpack.DecompressionFailed as error:
            raise _fatal("field section", Http3Code.QPACK_DECOMPRESSION_FAILED) from error
        return self._checked(feedback, headers)

    def resume(self, stream_id: int) -> RawHeaders:
        """Decode the field section that waited.

        Raises:
          Http3Error: as `decode`.
        """
        try:
            feedback, headers = self._decoder.resume_header(stream_id)
        except pylsqpack.DecompressionFailed as error:
            raise _fatal("field section", Http3Code.QPACK_DECOMPRESSION_FAILED) from error
        return self._checked(feedback, headers)

    def cancel(self, stream_id: int) -> None:
        """No more sections of a stream will be decoded, and none waits any more (RFC 9204 §2.2.2.2)."""
        self._feedback += self._decoder.cancel_stream(stream_id)

    def take_feedback(self) -> bytes:
        """What is to be sent on the decoder stream."""
        if not self._feedback:
            return b""
        feedback = bytes(self._feedback)
        self._feedback.clear()
        return feedback

    def _checked(self, feedback: bytes, headers: RawHeaders) -> RawHeaders:
        self._feedback += feedback
        size, limit = field_section_bytes(headers), self._config.max_field_section_bytes
        if size > limit:
            raise _too_large(size, limit)
        return headers


def _too_large(size: int | None, limit: int) -> Http3Error:
    return Http3Error(
        f"the peer's field section is larger than max_field_section_bytes of {limit}",
        Http3Code.H3_EXCESSIVE_LOAD,
        field="max_field_section_bytes",
        size=size,
        limit=limit,
    )


def _fatal(what: str, code: Http3Code) -> Http3Error:
    return Http3Error(f"the peer's QPACK {what} makes no sense", code, ends_connection=True, field=what)


# A section's lines, as far as it takes to count them (RFC 9204 §4.5).


def _has_more_fields(section: bytes, limit: int) -> bool:
    """Whether a section has more lines than that. What is cut or malformed is for the decoder to say."""
    try:
        position = _number(section, _number(section, 0, 8)[1], 7)[1]
        for _ in range(limit):
            position = _line_end(section, position)
    except IndexError:
        return False
    return position < len(section)


def _line_end(section: bytes, position: int) -> int:
    first = section[position]
    if first & 0x80:  # an entry
        return _number(section, position, 6)[1]
    if first & 0xF0 == 0x10:  # an entry behind the base
        return _number(section, position, 4)[1]
    if first & 0x40:  # a value, with an entry's name
        position = _number(section, position, 4)[1]
    elif first & 0x20:  # a name and a value
        length, position = _number(section, position, 3)
        position += length
    else:  # a value, with the name of an entry behind the base
        position = _number(section, position, 3)[1]
    length, position = _number(section, position, 7)
    return position + length


def _number(data: bytes, position: int, bits: int) -> tuple[int, int]:
    """A number that begins with the last bits of a byte, and where it ends."""
    most = (1 << bits) - 1
    number = data[position] & most
    position += 1
    if number < most:
        return number, position
    for shift in range(0, 63, 7):
        byte = data[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise IndexError("a number of more than 62 bits")

"""What the HTTP/3 of one connection may hold."""

from __future__ import annotations

import attrs

from trio_streams.config import positive

__all__ = ["Http3Config"]


@attrs.frozen(kw_only=True)
class Http3Config:
    """Limits of the HTTP/3 on one connection.

    Attributes:
      max_field_section_bytes: of one head or trailers, on the wire and, with 32 for each field (RFC 9114 §4.2.2), decoded.
        The peer is told.
      max_pending_field_bytes: of all heads and trailers together that have not wholly arrived, or wait for QPACK.
      max_control_frame_bytes: of one SETTINGS or PRIORITY_UPDATE frame.
      max_idle_frames: frames in a row on one stream that carry nothing: unknown ones, empty DATA, answers that are not final,
        and updates of priorities between two requests. They cost no memory, but each costs time.
      qpack_table_bytes: of the table that the peer fills; the peer is told. One field may name an entry of that size, so a
        section decodes to at most max_field_section_bytes / 32 of them before it is refused.
      qpack_blocked_streams: streams that may wait for that table; the peer is told.
      qpack_sent_table_bytes: of the table that we fill, if the peer allows as much; 0 for none.
      qpack_sent_blocked_streams: streams of ours that may wait for it at the peer, if the peer allows as many.
    """

    max_field_section_bytes: int = attrs.field(default=65_536, validator=positive)
    max_pending_field_bytes: int = attrs.field(default=4_194_304, validator=positive)
    max_control_frame_bytes: int = attrs.field(default=16_384, validator=positive)
    max_idle_frames: int = attrs.field(default=4_096, validator=positive)
    qpack_table_bytes: int = attrs.field(default=4_096, validator=attrs.validators.ge(0))
    qpack_blocked_streams: int = attrs.field(default=16, validator=attrs.validators.ge(0))
    qpack_sent_table_bytes: int = attrs.field(default=4_096, validator=attrs.validators.ge(0))
    qpack_sent_blocked_streams: int = attrs.field(default=16, validator=attrs.validators.ge(0))

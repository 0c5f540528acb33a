"""What the encoders of both roles share."""

from __future__ import annotations

import pytest

from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.envelope_asker import EnvelopeAsker
from trio_streams.wire.envelope_writer import EnvelopeWriter, Form
from trio_streams.wire.message_limits import MessageLimits


@pytest.mark.parametrize("wire", [EnvelopeWriter(), EnvelopeAsker(MessageLimits())])
def test_it_has_no_pieces_and_parses_nothing(wire: EnvelopeWriter | EnvelopeAsker) -> None:
    """An item is one message, and messages are parsed elsewhere; there is no preface."""
    with pytest.raises(LocalProtocolError, match="piece"):
        wire.encode_piece(1, Piece(memoryview(b"a"), 2))
    assert wire.decode(b"anything") == []
    assert wire.preface == b""


def test_what_json_cannot_say_is_refused_by_name() -> None:
    """With the record that holds it."""
    writer = EnvelopeWriter()
    writer.begin(1, "a", "thing", Form.STREAM)
    with pytest.raises(LocalProtocolError, match="END can't be encoded"):
        writer.encode(1, records.End(records.Status("OWN", "m", object())))

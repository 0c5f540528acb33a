"""What a machine of our own dialect says of it."""

from __future__ import annotations

from trio_streams.config import ConnectionConfig
from trio_streams.core.mux import Mux
from trio_streams.wire.binary import BinaryWire


def test_our_own_dialect_carries_metadata_between_two() -> None:
    """Metadata travels, nobody is addressed, and the other side gives us no name."""
    machine = Mux(BinaryWire(), is_client=True, config=ConnectionConfig(), session_id="s", now=0.0)
    assert machine.carries_metadata
    assert not machine.has_addresses
    assert machine.client_id is None

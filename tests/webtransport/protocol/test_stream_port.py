"""What procedures ask of the session under them."""

from __future__ import annotations

from tests.webtransport.protocol.port_log import PortLog
from tests.webtransport.protocol.session_ends import SessionEnds
from trio_streams.webtransport.protocol.stream_port import StreamPort


def test_both_stand_ins_are_ports() -> None:
    """They have every name that a port has; the type checker compares the signatures here."""
    ports: list[StreamPort] = [PortLog(), SessionEnds().client_end]
    asked = {name for name in vars(StreamPort) if not name.startswith("_")}
    assert asked == {
        "can_open", "open_stream", "set_priority", "send", "end", "reset", "stop", "consumed", "release", "drain",
    }  # fmt: skip
    assert all(hasattr(port, name) for port in ports for name in asked)

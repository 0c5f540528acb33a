"""What a multiplexer asks of a wire format."""

from __future__ import annotations

from trio_streams.core.mux import Mux
from trio_streams.core.wire import Frame, Wire
from trio_streams.wire.binary import BinaryWire


def test_our_dialect_is_a_wire() -> None:
    """`BinaryWire` has everything that `Wire` asks for, by name; the type checker compares the signatures here."""
    wire: Wire = BinaryWire()
    asked = {name for name in (*vars(Wire), *Wire.__annotations__) if not name.startswith("_")}
    assert asked == {"preface", "max_frame_bytes", "encode", "encode_run", "encode_piece", "decode"}
    assert all(hasattr(wire, name) for name in asked)


def test_a_mux_needs_nothing_but_a_wire() -> None:
    """A dialect that only wraps another one carries a mux, too: no other name of it is used."""

    class Narrow:
        def __init__(self) -> None:
            self._inner = BinaryWire()
            self.preface = self._inner.preface
            self.max_frame_bytes = self._inner.max_frame_bytes
            self.encode = self._inner.encode
            self.encode_run = self._inner.encode_run
            self.encode_piece = self._inner.encode_piece

        def decode(self, chunk: bytes) -> list[tuple[int, Frame]]:
            return self._inner.decode(chunk)

    from tests.core.support import CONFIG, make_mux  # noqa: PLC0415 - so that this file shows what it needs
    from trio_streams.testing import Pair  # noqa: PLC0415

    client = Mux(Narrow(), is_client=True, config=CONFIG, session_id="a", now=0.0)
    pair = Pair(client, make_mux(is_client=False))
    pair.run_until_idle()
    assert client.can_open

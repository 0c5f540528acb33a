"""WebTransport with peers from the package index, both ways, and peers among themselves, which shows that the cases are fair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
import pytest

from tests.interop.webtransport.cases import CASES
from tests.interop.webtransport.environments import PACKAGED
from tests.interop.webtransport.peers import Client, start_client, start_server

OURS: Final = "ours"
PEERS: Final = ("aioquic", PACKAGED)
PAIRS: Final = [
    *((peer, peer) for peer in PEERS),
    *((OURS, peer) for peer in PEERS),
    *((peer, OURS) for peer in PEERS),
    (OURS, OURS),
]
"""Whose client meets whose server."""

_OLD: Final = "pywebtransport-0.8.1"
_EARLY: Final = "it forgets streams that come before its session object is made"
_BARE: Final = "its capsules are not in DATA frames, and it takes none that are (RFC 9297 §3.1)"
CANNOT: Final[dict[tuple[str, str, str], str]] = {
    ("client", _OLD, "reset_received"): "it leaves a reader waiting for ever when its stream is reset",
    ("client", _OLD, "stop_received"): "it tells nobody of STOP_SENDING",
    ("server", _OLD, "reset_sent"): "it leaves a reader waiting for ever when its stream is reset",
    ("server", _OLD, "stop_sent"): "it tells nobody of STOP_SENDING",
    **{(role, _OLD, f"close_{way}"): _BARE for role in ("client", "server") for way in ("sent", "received")},
    ("client", _OLD, "server_opened"): _EARLY,
    ("client", _OLD, "protocol"): "it has no subprotocols",
    ("server", _OLD, "protocol"): "it has no subprotocols",
}
"""What a peer does not do, as a client or as a server, and why: cases that cannot be asked of it."""


@attrs.frozen
class Pair:
    """A running client beside a running server, and the names of their libraries."""

    client_library: str
    server_library: str
    client: Client


@pytest.fixture(scope="module", params=PAIRS, ids="-to-".join)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Each pair in turn, for all cases."""
    client_library, server_library = request.param
    with (
        start_server(server_library, tmp_path_factory.mktemp("certificate")) as server,
        start_client(client_library, server.url) as client,
    ):
        yield Pair(client_library, server_library, client)


@pytest.mark.parametrize("case", CASES)
def test_a_case_holds_between_two_libraries(pair: Pair, case: str) -> None:
    """What the case's docstring says, where both libraries can do it."""
    for role, library in (("client", pair.client_library), ("server", pair.server_library)):
        reason = CANNOT.get((role, library, case))
        is_between_equals = reason in {_BARE, _EARLY} and pair.client_library == pair.server_library
        if reason is not None and not is_between_equals:
            pytest.skip(f"{library}'s {role}: {reason}")
    pair.client.run(case)

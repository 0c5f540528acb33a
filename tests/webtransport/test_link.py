"""Links beside their sessions: plain requests that nobody serves, and what is missing without the extra."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.link_pair import open_pair
from tests.webtransport.serving import idle
from trio_streams.transports.origin import OriginPolicy
from trio_streams.webtransport import Accept, Refuse, SessionRequest, WebTransportConfig
from trio_streams.webtransport.admitting import Routes
from trio_streams.webtransport.link import Link
from trio_streams.webtransport.protocol.requests import RawHeaders


@attrs.define(eq=False)
class Answer:
    """What came back on a plain request."""

    headers: dict[bytes, bytes] = attrs.field(factory=dict)
    is_ended: trio.Event = attrs.field(factory=trio.Event)
    lost: list[Exception] = attrs.field(factory=list)

    def on_head(self, headers: RawHeaders, is_ended: bool) -> None:
        self.headers = dict(headers)
        if is_ended:
            self.is_ended.set()

    def on_body(self, run: Sequence[bytes], size: int, is_ended: bool) -> None:
        if is_ended:
            self.is_ended.set()

    def on_trailers(self, headers: RawHeaders) -> None: ...
    def on_reset(self, code: int) -> None: ...
    def on_stopped(self, code: int) -> None: ...
    def on_writable(self) -> None: ...
    def on_delivered(self) -> None: ...

    def on_lost(self, over) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self.lost.append(over())


def ask(link: Link, path: bytes) -> Answer:
    """Send a GET."""
    answer = Answer()
    stream_id = link.machine.open_request()
    link.take_request(stream_id, answer)
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"server.example"), (b":path", path)]
    link.machine.send_head(stream_id, head, is_ended=True)
    link.kick()
    return answer


async def test_a_plain_request_that_nobody_serves_is_answered(autojump_clock: MockClock) -> None:
    """Without any handler it is 404; where sessions are served it is 405, and says what would do."""
    async with open_pair() as pair:
        answer = ask(pair.client, b"/")
        await answer.is_ended.wait()
        assert answer.headers[b":status"] == b"404"
        routes = Routes({"/room": idle}, policy=OriginPolicy(), admit=None, protocols=())
        pair.server.on_request = lambda *request: routes.refuse_request(pair.server, *request)
        for path, status, allow in ((b"/room?x", b"405", b"CONNECT"), (b"/other", b"404", None)):
            answer = ask(pair.client, path)
            await answer.is_ended.wait()
            assert (answer.headers[b":status"], answer.headers.get(b"allow")) == (status, allow)


async def test_requests_hear_that_their_connection_is_lost(autojump_clock: MockClock) -> None:
    """A request that waits for its answer is told once."""
    async with open_pair() as pair:
        pair.server.on_request = lambda *request: None
        answer = ask(pair.client, b"/")
        await trio.sleep(1)
        pair.client.close()
        pair.client.close()
        assert [str(error) for error in answer.lost] == ["the connection to server was closed here"]


async def test_decisions_of_a_server_without_an_admit() -> None:
    """The origin is looked at before anything else is; what is allowed gets the server's choice of a subprotocol."""
    routes = Routes(idle, policy=OriginPolicy(allowed_origins=["https://a.example"]), admit=None, protocols=("x", "y"))
    request = SessionRequest(authority="b.example", path="/", origin="https://a.example", protocols=("y",))
    assert await routes.decide(request) == Accept(protocol="y")
    assert await routes.decide(attrs.evolve(request, origin="https://c.example")) == Refuse(status=403)


@pytest.mark.parametrize("field", ["max_sessions", "max_received_datagrams", "close_timeout", "keep_alive_interval"])
def test_a_limit_is_more_than_nothing(field: str) -> None:
    """A limit that nothing fits in is refused where it is written, by its name."""
    with pytest.raises(ValueError, match=f"{field} must be more than 0"):
        WebTransportConfig(**{field: 0})  # type: ignore[arg-type]


def test_what_is_missing_is_said_in_one_line() -> None:
    """Without aioquic the package's import fails with what to install."""
    code = (
        "import sys\nsys.modules['aioquic'] = None\n"
        "try:\n    import trio_streams.webtransport\nexcept ImportError as exc:\n    print(exc)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "WebTransport needs aioquic: pip install trio_streams[quic]\n"

"""Whatever two applications do, over whatever network: bytes arrive in order and whole, and nothing is left at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.webtransport.link_pair import SMALL, LinkPair, open_pair, session_pair
from tests.webtransport.quic_pair import LOSSLESS, LOST, Fate
from trio_streams.errors import StreamError
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream

TINY: Final = attrs.evolve(
    SMALL,
    quic=attrs.evolve(
        SMALL.quic,
        window_bytes=8_192,
        connection_window_bytes=20_000,
        max_send_buffer_bytes=4_096,
        send_low_mark_bytes=1_024,
        max_bidirectional_streams=4,
        max_unidirectional_streams=6,
    ),
)


@attrs.frozen
class Step:
    """Something that is done to a stream of one side, and how long it may take."""

    side: int
    stream: int
    what: str
    size: int
    patience: float


STEPS: Final = st.lists(
    st.builds(
        Step,
        side=st.integers(0, 1),
        stream=st.integers(0, 3),
        what=st.sampled_from(["write", "write", "read", "read", "read all", "end", "abort", "stop", "close", "flush"]),
        size=st.integers(1, 20_000),
        patience=st.sampled_from([0.0, 0.005, 0.02, 0.5]),
    ),
    max_size=30,
)
FATES: Final = st.lists(
    st.sampled_from([LOSSLESS] * 6 + [LOST, Fate((0.03,)), Fate((0.08,)), Fate((0.01, 0.02)), Fate((0.0,))]),
    max_size=60,
)


def pattern(stream_id: int, start: int, size: int) -> bytes:
    """What is written on a stream, from a position on."""
    return bytes((stream_id * 31 + position * 7 + position // 256) % 256 for position in range(start, start + size))


class End:
    """One end of a stream, and what its application has done."""

    def __init__(self, stream: WebTransportStream | WebTransportSendStream | WebTransportReceiveStream) -> None:
        self.stream = stream
        self.is_ended = False
        self.got = b""

    async def act(self, what: str, size: int) -> None:
        """Do something; what the other end's application brought about is no matter."""
        stream = self.stream
        if not isinstance(stream, WebTransportReceiveStream) and stream.is_writable:
            if what == "write":
                await stream.write(pattern(stream.stream_id, stream.bytes_sent, size))
            elif what == "flush":
                await stream.flush()
            elif what == "end":
                await stream.close()
                self.is_ended = True
        if not isinstance(stream, WebTransportSendStream):
            await self._act_receiving(stream, what, size)
        if what == "abort":
            stream.abort(code=size)
        elif what == "close":
            await stream.aclose()

    async def _act_receiving(
        self, stream: WebTransportStream | WebTransportReceiveStream, what: str, size: int
    ) -> None:
        assert stream.unread_bytes - stream._buffer.returned_bytes <= TINY.quic.window_bytes
        if what == "read":
            self.got += await stream.read(size=size)
        elif what == "read all":
            self.got += await stream.read_all()
        elif what == "stop":
            stream.stop(size)

    def check(self, other: End) -> None:
        """What was read is what the other end wrote, from its start."""
        sent = 0 if isinstance(other.stream, WebTransportReceiveStream) else other.stream.bytes_sent
        assert self.got == pattern(self.stream.stream_id, 0, len(self.got))
        assert len(self.got) <= sent


async def open_streams(here: WebTransportSession, there: WebTransportSession) -> list[tuple[End, End]]:
    """Four streams, of both kinds and by both sides, and their ends here and there."""
    ends: list[tuple[End, End]] = []
    for opener, taker in ((here, there), (there, here)):
        both = End(await opener.create_bidirectional_stream())
        both_taken = End(await taker.accept_bidirectional_stream())
        one = End(await opener.create_unidirectional_stream())
        one_taken = End(await taker.accept_unidirectional_stream())
        pairs = [(both, both_taken), (one, one_taken)]
        ends += pairs if opener is here else [(taken, opened) for opened, taken in pairs]
    return ends


async def play(steps: list[Step], network: Callable[[], Fate]) -> None:
    """Do the steps one after the other, each as long as its patience; then close everything."""
    async with open_pair(config=TINY) as pair, session_pair(pair) as (client, server):
        streams = await open_streams(client, server)
        pair.network = network
        for step in steps:
            end = streams[step.stream][step.side]
            with trio.move_on_after(step.patience):
                try:
                    await end.act(step.what, step.size)
                except (StreamError, trio.ClosedResourceError):
                    continue
        for here, there in streams:
            here.check(there)
            there.check(here)
        await close_all(pair, client, server)


async def close_all(pair: LinkPair, client: WebTransportSession, server: WebTransportSession) -> None:
    """Close every stream, and wait: nothing is left, and all streams that may be opened can be."""
    for stream in (*client.streams, *server.streams):
        await stream.aclose()
    with trio.fail_after(60):
        while client.streams or server.streams:
            await pair.client.wait_changed()
        for session in (client, server):
            opened = [await session.create_bidirectional_stream() for _ in range(2)]
            for stream in opened:
                stream.abort()
    assert client.is_open
    assert server.is_open
    assert pair.client.lost is None


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, FATES)
def test_whatever_two_applications_do(steps: list[Step], fates: list[Fate]) -> None:
    """Reads give what was written, in order; no more than a window waits; and at the end all streams are free again."""
    left: Iterator[Fate] = iter(fates)
    trio.run(play, steps, lambda: next(left, LOSSLESS), clock=MockClock(autojump_threshold=0))

"""Any input whatever: never an exception, never a hang, at most one `Failed`, and bounded memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.support import consume, frame, greeted, make_mux, only
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core import events
from trio_streams.core.mux import Mux

CONFIG = ConnectionConfig(
    stream=StreamLimits(window_items=8, window_bytes=2_000),
    connection_window_bytes=5_000,
    max_streams=4,
    max_item_bytes=40_000,
    max_control_bytes=2_000,
)

PAYLOADS = [
    b"",
    b"abc",
    b"{}",
    b'{"name":"x","window_items":3,"window_bytes":300}',
    b'{"session_id":"x"}',
    b'{"details":[[[]]]}',
    bytes(4),
    bytes(8),
    bytes(16),
    b"\xff" * 16,
    b"\x00\x02\x00\x01\x00\x01ab",
    b"\x00\x00\x01\x00abc",
    bytes(3_000),
]
FRAMES = st.builds(
    frame,
    st.integers(0, 14),
    st.integers(0, 9),
    st.sampled_from(PAYLOADS) | st.binary(max_size=60),
    st.sampled_from([0, 0, 0, 1, 2, 4, 8]),
)


def feed(mux: Mux, data: bytes, sizes: list[int]) -> list[events.Event]:
    """Feed input in pieces and take what comes, as a driver would; check what must hold after each piece."""
    happened: list[events.Event] = []
    position = 0
    turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        mux.receive(data[position : position + size], float(turn))
        position += size
        turn += 1
        new = list(mux.events())
        assert not only(events.Failed, happened) or not new
        happened += new
        for event in only(events.Received, new)[::2]:
            consume(mux, event.stream_id, event.items)
        assert mux.stream_count <= CONFIG.max_streams
        assert 0 <= mux.unread_bytes <= CONFIG.connection_window_bytes + CONFIG.max_item_bytes + 64
        if not mux.wants_input:
            mux.to_send(float(turn), 1)
    failed = only(events.Failed, happened)
    assert len(failed) <= 1
    assert not failed or happened[-1] is failed[0]
    assert bool(failed) is (mux.failure is not None)
    return happened


@given(st.binary(max_size=2_000), st.lists(st.integers(1, 300), min_size=1))
def test_random_bytes(data: bytes, sizes: list[int]) -> None:
    """Bytes that are nothing at all, before and after the greeting."""
    feed(make_mux(is_client=False, config=CONFIG), data, sizes)
    feed(greeted(CONFIG), data, sizes)


@given(st.lists(FRAMES, max_size=40), st.lists(st.integers(1, 5_000), min_size=1), st.booleans())
def test_random_frames(frames: list[bytes], sizes: list[int], is_client: bool) -> None:
    """Frames that are well formed on the outside, in any order, on any stream."""
    mux = greeted(CONFIG, is_client=is_client)
    if is_client:
        mux.open("x")
        mux.open("y")
    whole = feed(mux, b"".join(frames), [10**6])
    again = greeted(CONFIG, is_client=is_client)
    if is_client:
        again.open("x")
        again.open("y")
    cut = feed(again, b"".join(frames), sizes)
    assert [type(event) for event in only(events.Failed, whole)] == [type(event) for event in only(events.Failed, cut)]


def conversation() -> bytes:
    """What a real client sends, large items and all."""
    wide = ConnectionConfig()
    client, server = make_mux(is_client=True, config=wide), make_mux(is_client=False, config=wide)
    server_said = server.to_send(0.0, 10_000)
    client.receive(server_said, 0.0)
    for n in range(4):
        stream_id = client.open(f"stream {n}", metadata={"k": "v"}, priority=n)
        client.send_header(stream_id, {"a": "b"})
        client.send(stream_id, [bytes(n), b"x" * 700, bytes(100)])
        client.ping(0.0)
        if n == 3:
            client.send(stream_id, [bytes(20_000)])
            client.end(stream_id)
    client.stop(3)
    said = bytearray()
    while client.has_output:
        said += client.to_send(0.0, 1_000)
    client.reset(1)
    client.go_away()
    return bytes(said + client.to_send(0.0, 1_000))


CONVERSATION = conversation()


@pytest.mark.parametrize("seed", range(60))
def test_mutated_input(seed: int) -> None:
    """A real conversation with bytes changed, removed, doubled and swapped."""
    rng = random.Random(seed)
    data = bytearray(CONVERSATION)
    for _ in range(rng.randint(1, 6)):
        a = rng.randrange(len(data))
        b = min(len(data), a + rng.randint(1, 40))
        match rng.randrange(4):
            case 0:
                data[a] = rng.randrange(256)
            case 1:
                del data[a:b]
            case 2:
                data[a:a] = data[a:b]
            case _:
                data[a:b] = bytes(reversed(data[a:b]))
    feed(make_mux(is_client=False, config=CONFIG), bytes(data), [rng.choice([1, 7, 100, 10_000])])


def test_every_byte_may_be_wrong() -> None:
    """One bit flipped at every third place of the conversation but its large item."""
    for position in range(0, len(CONVERSATION) - 20_000, 3):
        data = bytearray(CONVERSATION)
        data[position] ^= 0x40
        feed(make_mux(is_client=False, config=CONFIG), bytes(data), [1_000])


def test_unfinished_input_is_bounded() -> None:
    """Headers and pieces that promise more than ever comes hold less than one frame and one window."""
    mux = greeted(CONFIG)
    mux.receive(frame(2, 1, b'{"name":"x"}') + frame(4, 1, b"\x00\x00\x9c\x40abc", 2), 0.0)
    for _ in range(100_000):
        mux.receive(frame(4, 1, b"", 4), 0.0)
    machine = mux.get(1)
    assert machine is not None
    assert machine._assembly is not None
    parts = machine._assembly._parts
    assert (len(parts), b"".join(parts)) == (2, b"abc")

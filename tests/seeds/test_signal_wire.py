"""The items of the seed signal-rpc-streaming.md that are its wire; docs/seed-map.md says which test is whose."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from trio_streams.peer import RpcPeer
from trio_streams.transports.messages import connect_websocket
from trio_streams.urls import serve_peers
from trio_streams.wire.signal import SignalFault, StreamMessage, StreamMessageType, decode, encode


def test_block_1_stream_messages() -> None:
    """Block 1: three types; a payload belongs to data and a reason to errors, under the names that the seed has."""
    assert [kind.value for kind in StreamMessageType] == ["StreamData", "StreamEnd", "StreamError"]
    for message, text in [
        (
            StreamMessage(StreamMessageType.STREAM_DATA, "sid-1", b'{"x":1}'),
            '{"type":"StreamData","streamId":"sid-1","payload":{"x":1}}',
        ),
        (StreamMessage(StreamMessageType.STREAM_END, "sid-1"), '{"type":"StreamEnd","streamId":"sid-1"}'),
        (
            StreamMessage(StreamMessageType.STREAM_ERROR, "sid-2", error="Something went wrong"),
            '{"type":"StreamError","streamId":"sid-2","error":"Something went wrong"}',
        ),
    ]:
        assert encode(message) == text.encode()
        assert decode(text) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"type":"StreamPause","streamId":"s"}', "Unknown type 'StreamPause'"),
        ('{"type":"StreamData"}', "a type and a streamId"),
        ('{"type":"StreamData","streamId":7}', "streamId"),
        ('{"type":"StreamError","streamId":"s"}', "says why in error"),
        ('{"type":"StreamData","streamId":"s","payload":', "Invalid JSON"),
    ],
)
def test_malformed_stream_messages(text: str, reason: str) -> None:
    """What does not fit the schema is refused, and the reason names what is wrong."""
    with pytest.raises(SignalFault, match=reason):
        decode(text)


def test_stream_messages_are_recognised_first() -> None:
    """A message that could be either is a stream's."""
    found = decode('{"category":"request","requestId":"r","type":"StreamEnd","streamId":"s"}')
    assert found == StreamMessage(StreamMessageType.STREAM_END, "s")


async def test_a_plain_websocket_client_connects() -> None:
    """A WebSocket that offers nothing, as a browser's does, is welcomed, answered, and given a stream."""

    async def serve_one(peer: RpcPeer) -> None:
        peer.match(lambda data: data)
        await peer.send_stream([1, 2], "s")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(serve_peers, serve_one, "ws://127.0.0.1:0")
            carrier = await connect_websocket(url, subprotocols=(), require_subprotocol=False)
            await carrier.send_messages(['{"category":"request","requestId":"r","data":"hello"}'])
            heard: list[dict[str, object]] = []
            while len(heard) < 5:
                heard += map(json.loads, await carrier.receive_messages())
            await carrier.aclose()
            nursery.cancel_scope.cancel()
    assert heard[0]["category"] == "welcome"
    assert [one["payload"] for one in heard if one.get("type") == "StreamData"] == [1, 2]
    assert [one["data"] for one in heard if one.get("category") == "response"] == ["hello"]
    assert heard.index({"type": "StreamEnd", "streamId": "s"}) > 2

"""Closing without waiting, for those who have several streams to close and must not forget one."""

from __future__ import annotations

from trio_streams.webtransport.streams import WebTransportSendStream, WebTransportStream

__all__ = ["close_nowait"]


def close_nowait(stream: WebTransportStream | WebTransportSendStream) -> None:
    """What `aclose` does, without a checkpoint: what was written is delivered, what is unread is dropped.

    Args:
      stream: one of ours; one that is over stays so.
    """
    stream.end()
    if isinstance(stream, WebTransportStream):
        stream.stop()

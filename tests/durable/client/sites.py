"""A server of durable streams in a thread of its own, so that blocking clients can be tested against it, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
import httpcore2
import trio

from trio_streams.durable import DurableConfig, serve_durable

__all__ = ["Site", "serve_in_thread"]

JSON = "application/json"


@attrs.frozen
class Site:
    """Where it is, and plain requests that no client of ours makes.

    Attributes:
      root: the URL of streams, with a `/` at its end.
    """

    root: str

    def put(self, path: str, content_type: str = JSON, body: bytes = b"", **headers: str) -> str:
        """Create a stream, and return its URL."""
        assert self._request("PUT", path, content_type, body, headers).status == 201, path
        return self.root + path

    def post(self, path: str, body: bytes, content_type: str = JSON, **headers: str) -> None:
        """Append."""
        assert self._request("POST", path, content_type, body, headers).status < 300

    def close(self, path: str) -> None:
        """Close a stream."""
        self.post(path, b"", stream_closed="true")

    def delete(self, path: str) -> None:
        """Delete a stream."""
        assert self._request("DELETE", path, JSON, b"", {}).status == 204

    def _request(
        self, method: str, path: str, content_type: str, body: bytes, headers: Mapping[str, str]
    ) -> httpcore2.Response:
        fields = [("content-type", content_type), *((name.replace("_", "-"), value) for name, value in headers.items())]
        return httpcore2.request(method, self.root + path, headers=fields, content=body)


@contextmanager
def serve_in_thread(config: DurableConfig | None = None) -> Iterator[Site]:
    """Serve from memory for as long as the block."""
    is_ready = threading.Event()
    urls: list[str] = []
    tokens: list[trio.lowlevel.TrioToken] = []
    scope = trio.CancelScope()

    async def main() -> None:
        settings = DurableConfig(long_poll_timeout=1.0) if config is None else config
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:
                url = await nursery.start(
                    lambda task_status: serve_durable(port=0, config=settings, task_status=task_status)
                )
                urls.append(url)
                is_ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert is_ready.wait(30)
        yield Site(urls[0].rstrip("/") + "/v1/stream/")
    finally:
        tokens[0].run_sync_soon(scope.cancel)
        thread.join(30)
        assert not thread.is_alive()

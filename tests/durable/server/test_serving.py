"""Alone on the lean host, and below another application's path."""

from __future__ import annotations

import pytest
import trio

from trio_streams.durable.server.config import DurableConfig
from trio_streams.durable.server.server import DurableServer
from trio_streams.durable.server.serving import serve_durable
from trio_streams.transports.asgi import asgi_app
from trio_streams.transports.http_client import HttpClient


async def test_alone() -> None:
    """A server on a port of its own takes large appends, gives them back in bounded parts, and closes its store."""
    body = bytes(range(256)) * 12_000
    async with trio.open_nursery() as nursery:
        config = DurableConfig(max_read_bytes=1_048_576)
        url = await nursery.start(lambda task_status: serve_durable(port=0, config=config, task_status=task_status))
        place = f"{url}/v1/stream/a"
        headers = [("content-type", "application/octet-stream")]
        async with HttpClient() as client:
            created = await client.request("PUT", place, headers=headers)
            assert created.header("location") == place
            assert (await client.request("POST", place, headers=headers, body=body)).status == 204
            read, offset = b"", "-1"
            while True:
                answer = await client.request("GET", f"{place}?offset={offset}")
                assert len(answer.body) <= 1_048_576
                read += answer.body
                offset = answer.header("stream-next-offset") or ""
                if answer.header("stream-up-to-date"):
                    break
            assert read == body
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("prefix", ["", "/below"])
async def test_mounted(prefix: str) -> None:
    """As an ASGI application, mounted or not, the streams are where the mount's path says; forks name full paths."""
    async with DurableServer() as server:
        app = asgi_app(server.handle)
        for method, path, headers in (
            ("PUT", "a", []),
            ("PUT", "f", [(b"stream-forked-from", f"{prefix}/v1/stream/a".encode())]),
        ):
            scope = {
                "type": "http",
                "method": method,
                "path": f"{prefix}/v1/stream/{path}",
                "root_path": prefix,
                "query_string": b"",
                "headers": headers,
                "http_version": "1.1",
                "scheme": "http",
            }
            talk = _Talk()
            await app(scope, talk.receive, talk.send)  # type: ignore[arg-type]
            assert talk.sent[0]["status"] == 201
        assert list(await server.list()) == ["a", "f"]


class _Talk:
    """One request without a body, and what is sent for it."""

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []
        self._has_asked = False
        self._is_over = trio.Event()

    async def receive(self) -> dict[str, object]:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._is_over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, object]) -> None:
        self.sent.append(message)
        if not message.get("more_body", True):
            self._is_over.set()

"""A program that is interrupted: `python -m tests.conformance.interrupt FACE handler|caller|waiting`."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator

import trio

from tests.conformance.faces import FACES, open_client
from trio_streams import Router
from trio_streams.errors import StreamsError
from trio_streams.procedures import Client


def say(text: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(face: str, where: str) -> None:
    """Serve and call in one process, and come to rest with a stream open."""
    app = Router()
    received = trio.Event()

    @app.stream("wait")
    async def wait() -> AsyncIterator[int]:
        try:
            yield 1
            if where == "handler":
                await received.wait()  # the caller is in its block
                signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        finally:
            say("handler's finally")

    async with open_client(FACES[face], app) as client:
        try:
            await call(client, where, received)
        except StreamsError:
            # The handler's interrupt ends its stream for the caller too, which here lives in the same process.
            assert where == "handler"
            await trio.sleep_forever()


async def call(client: Client, where: str, received: trio.Event) -> None:
    """Come to rest with a stream open."""
    async with client.stream("wait") as items:
        try:
            await items.receive()
            received.set()
            if where == "caller":
                signal.raise_signal(signal.SIGINT)
            say("ready")
            await items.receive()
        finally:
            say("caller's finally")


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], sys.argv[2])
    except* KeyboardInterrupt:
        say("interrupted")

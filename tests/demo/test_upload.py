"""`files.upload`."""

from __future__ import annotations

import hashlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.demo.links import open_client
from trio_streams.demo.upload import PACE, Chunk, Upload, Uploaded, add_upload
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router


def _router(uploads: list[Upload], notes: list[str], max_bytes: int = 1_000) -> Router:
    router = Router()
    add_upload(router, uploads, notes.append, max_bytes=max_bytes)
    return router


async def test_chunks_of_every_kind_make_one_file(autojump_clock: MockClock) -> None:
    """Bytes, text and plain strings; the answer is the size and the checksum of all of them."""
    uploads: list[Upload] = []
    notes: list[str] = []
    async with open_client(_router(uploads, notes)) as client:
        chunks: list[object] = [Chunk(data=b"\x00\xff"), {"text": "ä"}, "z", {"data": "AAE="}]
        answer = await client.upload("files.upload", chunks, returns=Uploaded)
    whole = b"\x00\xff\xc3\xa4z\x00\x01"
    assert (answer.size, answer.chunks, answer.sha256) == (7, 4, hashlib.sha256(whole).hexdigest())
    assert [(upload.size, upload.outcome) for upload in uploads] == [(7, f"sha256 {answer.sha256[:12]}")]
    assert notes[0].startswith("files.upload: 7 bytes from ")


async def test_progress_is_visible_while_it_goes_on(autojump_clock: MockClock) -> None:
    """Each chunk that has arrived counts; the size that the client announced is the whole."""
    uploads: list[Upload] = []
    metadata = {"size": "200"}
    async with open_client(_router(uploads, [])) as client, client.bidi("files.upload", metadata=metadata) as file:
        await file.send("x" * 50)
        await wait_all_tasks_blocked()
        assert [(it.size, it.expected, it.outcome) for it in uploads] == [(50, 200, "")]
        file.end()
        await file.receive()


async def test_a_client_may_ask_to_be_read_slowly(autojump_clock: MockClock) -> None:
    """100 KiB at 16 KiB a second, the slowest that there is, take six seconds: nobody keeps a handler for ever."""
    async with open_client(_router([], [], max_bytes=102_400)) as client:
        for asked, seconds in (("16384", 6.25), ("1", 6.25), ("102400", 1.0), ("soon", 0.0), ("0", 0.0)):
            answer = await client.upload("files.upload", ["x" * 1024] * 100, returns=Uploaded, metadata={PACE: asked})
            assert answer.size == 102_400
            assert answer.seconds == pytest.approx(seconds, abs=0.1)


async def test_a_file_that_is_too_large_is_refused(autojump_clock: MockClock) -> None:
    """The error names the limit; what is too much is not even hashed, and the next upload works."""
    uploads: list[Upload] = []
    async with open_client(_router(uploads, [], max_bytes=100)) as client:
        with pytest.raises(RpcError, match="at most 100 bytes") as caught:
            await client.upload("files.upload", ["x" * 60] * 1_000)
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert caught.value.details == {"limit": 100, "received": 120}
        assert (uploads[0].size, uploads[0].outcome) == (60, "failed")
        assert (await client.upload("files.upload", ["x" * 100], returns=Uploaded)).size == 100


async def test_a_client_that_gives_up_is_seen(autojump_clock: MockClock) -> None:
    """A cancelled upload is shown as one; only the last few that are over are remembered."""
    uploads: list[Upload] = []
    async with open_client(_router(uploads, [])) as client:
        for _ in range(5):
            await client.upload("files.upload", ["x"])
        with trio.move_on_after(1):
            async with client.bidi("files.upload", metadata={"size": "many"}) as file:
                await file.send("y")
                await trio.sleep_forever()
        await wait_all_tasks_blocked()
    assert len(uploads) == 3
    assert (uploads[-1].outcome, uploads[-1].expected) == ("was cancelled", None)

"""`files.upload`: a client stream of a file's bytes, answered with its size and its checksum; nothing is stored."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, Callable
from typing import Final

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router
from trio_streams.service.context import Context

__all__ = ["MAX_UPLOAD_BYTES", "PACE", "Chunk", "Upload", "Uploaded", "add_upload"]

MAX_UPLOAD_BYTES: Final = 67_108_864
PACE: Final = "bytes-per-second"
"""Metadata by which a client asks to be read slowly, to see backpressure at work."""
MIN_PACE: Final = 16_384
_KEPT: Final = 3
"""Finished uploads that stay in view."""


@attrs.frozen
class Chunk:
    """A piece of a file: bytes (base64 in JSON) or text."""

    data: bytes = b""
    text: str = ""


@attrs.frozen(kw_only=True)
class Uploaded:
    """What an upload is answered with."""

    size: int
    chunks: int
    sha256: str
    seconds: float


@attrs.define
class Upload:
    """The progress of one upload.

    Attributes:
      peer: who sends it.
      expected: its size as the client has announced it in the metadata `size`; None if it has not.
      size: bytes so far.
      outcome: how it ended; empty while it goes on.
    """

    peer: str
    expected: int | None
    size: int = 0
    outcome: str = ""


def add_upload(
    router: Router, uploads: list[Upload], note: Callable[[str], None], *, max_bytes: int = MAX_UPLOAD_BYTES
) -> None:
    """Enter `files.upload` into a router.

    Args:
      router: gets the procedure.
      uploads: where the progress is shown: what goes on, and the last few that are over.
      note: told, for the log, how each upload ended.
      max_bytes: the largest file taken.
    """

    @router.stream("files.upload", direction="client")
    async def receive(chunks: AsyncIterable[str | Chunk], ctx: Context) -> Uploaded:
        """Takes a file in chunks; answers with its size and SHA-256."""
        upload = Upload(ctx.peer, _number(ctx.metadata.get("size", "")))
        pace = _number(ctx.metadata.get(PACE, "")) or None
        uploads.append(upload)
        upload_ended = "was cancelled"
        try:
            result = await _receive(chunks, upload, max_bytes, pace)
            upload_ended = f"sha256 {result.sha256[:12]}"
        except Exception:
            upload_ended = "failed"
            raise
        else:
            return result
        finally:
            upload.outcome = upload_ended
            note(f"files.upload: {upload.size} bytes from {ctx.peer}, {upload_ended}")
            _forget(uploads)


async def _receive(chunks: AsyncIterable[str | Chunk], upload: Upload, max_bytes: int, pace: int | None) -> Uploaded:
    digest = hashlib.sha256()
    began = trio.current_time()
    count = 0
    async for chunk in chunks:
        data = chunk.encode() if isinstance(chunk, str) else chunk.data or chunk.text.encode()
        if upload.size + len(data) > max_bytes:
            details = {"limit": max_bytes, "received": upload.size + len(data)}
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"an upload is at most {max_bytes} bytes", details)
        digest.update(data)
        upload.size += len(data)
        count += 1
        if pace is not None:
            # What is not taken yet costs its sender credit, so that the slowness is felt at the other end.
            await trio.sleep_until(began + upload.size / max(pace, MIN_PACE))
    seconds = trio.current_time() - began
    return Uploaded(size=upload.size, chunks=count, sha256=digest.hexdigest(), seconds=round(seconds, 6))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _forget(uploads: list[Upload]) -> None:
    finished = [upload for upload in uploads if upload.outcome]
    for upload in finished[:-_KEPT]:
        uploads.remove(upload)

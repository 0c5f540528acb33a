"""What a handle and its producers write with: one stream's endpoint, and what its content type says about data.

Spec: Durable Streams §5.2, §5.3, §5.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from trio_streams.durable.client.payloads import encode, join
from trio_streams.durable.client.requests import Endpoint, Repeat
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.headers import (
    STREAM_CLOSED,
    STREAM_EXPIRES_AT,
    STREAM_NEXT_OFFSET,
    STREAM_SEQ,
    STREAM_TTL,
)
from trio_streams.durable.protocol.batcher import Append
from trio_streams.durable.protocol.failures import Operation, is_true, public_url
from trio_streams.durable.protocol.media_types import is_json
from trio_streams.durable.types import AppendResult, HeadResult
from trio_streams.transports.http_client import HttpResponse

__all__ = ["StreamWriter"]


class StreamWriter:
    """Writes to one stream.

    Attributes:
      endpoint: sends its requests.
      content_type: of the stream; None until it is known.
    """

    def __init__(self, endpoint: Endpoint, content_type: str | None) -> None:
        self.endpoint: Endpoint = endpoint
        self.content_type: str | None = content_type
        self._learning = trio.Lock()

    async def encode(self, data: object) -> bytes:
        """The bytes of one append. The first one asks the server for the content type, if nobody knows it.

        Raises:
          LocalProtocolError, CodecError: the data can't be appended.
          DurableStreamError, FetchError: there is no such stream, or it can't be asked.
        Cancellation: whoever waits for the content type, too, asks in its place.
        """
        # While some still wait for it, all go through the lock, so that none overtakes another.
        if self.content_type is None or self._learning.locked():
            async with self._learning:
                if self.content_type is None:
                    await self.head()
        return encode(data, as_json=is_json(self.content_type))

    async def head(self) -> HeadResult:
        """What is known about the stream; its content type is kept."""
        answer = await self.endpoint.request("HEAD", "head")
        self.content_type = answer.header("content-type") or self.content_type or "application/octet-stream"
        ttl = answer.header(STREAM_TTL.lower()) or ""
        return HeadResult(
            content_type=answer.header("content-type"),
            offset=answer.header(STREAM_NEXT_OFFSET.lower()),
            etag=answer.header("etag"),
            cache_control=answer.header("cache-control"),
            is_closed=is_true(answer.header(STREAM_CLOSED.lower())),
            ttl_seconds=int(ttl) if ttl.isascii() and ttl.isdigit() else None,
            expires_at=answer.header(STREAM_EXPIRES_AT.lower()),
        )

    async def post(self, appends: Sequence[Append]) -> AppendResult:
        """Append a batch in one request, which is sent again only after what says that nothing was done.

        Raises:
          DurableStreamError: the server refuses all of it.
          FetchError: no answer came: it may be stored or not.
        """
        first = appends[0]
        payloads = [append.payload for append in appends if append.payload is not None]
        headers = {STREAM_SEQ: first.seq} if first.seq is not None else {}
        repeat = Repeat.UNDONE if payloads else Repeat.ALWAYS
        headers, body = self.request_of(payloads, is_closing=first.is_closing, headers=headers)
        operation: Operation = "close" if first.is_closing else "append"
        answer = await self.endpoint.request("POST", operation, headers=headers, body=body, repeat=repeat)
        return self.result_of(answer)

    def request_of(
        self, payloads: Sequence[bytes], *, is_closing: bool, headers: Mapping[str, str]
    ) -> tuple[dict[str, str], bytes]:
        """The headers and the body of a request that appends payloads, and closes the stream if it is to."""
        fields = dict(headers)
        if payloads and self.content_type is not None:
            fields["Content-Type"] = self.content_type
        if is_closing:
            fields[STREAM_CLOSED] = "true"
        return fields, join(payloads, as_json=is_json(self.content_type))

    def result_of(self, answer: HttpResponse) -> AppendResult:
        """What a successful append or close gave.

        Raises:
          DurableStreamError: the answer does not say where the stream ends.
        """
        offset = answer.header(STREAM_NEXT_OFFSET.lower())
        if not offset:
            what = f"{public_url(self.endpoint.url)}: the answer to an append has no {STREAM_NEXT_OFFSET}"
            raise DurableStreamError(what, status=answer.status, code="PROTOCOL_ERROR")
        return AppendResult(offset)

"""Durable streams: byte and JSON streams behind URLs, that outlive connections, clients and servers.

Spec: https://github.com/durable-streams/durable-streams, PROTOCOL.md.
"""

from __future__ import annotations

from trio_streams.durable.client.astream import AsyncStreamRequest as AsyncStreamRequest
from trio_streams.durable.client.astream import astream as astream
from trio_streams.durable.client.batching import BatchingOptions as BatchingOptions
from trio_streams.durable.client.blocking import StreamResponse as StreamResponse
from trio_streams.durable.client.blocking import stream as stream
from trio_streams.durable.client.blocking_handle import BlockingProducer as BlockingProducer
from trio_streams.durable.client.blocking_handle import DurableStream as DurableStream
from trio_streams.durable.client.consuming import EventMode as EventMode
from trio_streams.durable.client.handle import AsyncDurableStream as AsyncDurableStream
from trio_streams.durable.client.producing import IdempotentProducer as IdempotentProducer
from trio_streams.durable.client.producing import ProducerOptions as ProducerOptions
from trio_streams.durable.client.requests import Endpoint as Endpoint
from trio_streams.durable.client.response import AsyncStreamResponse as AsyncStreamResponse
from trio_streams.durable.errors import DurableStreamError as DurableStreamError
from trio_streams.durable.errors import FetchError as FetchError
from trio_streams.durable.errors import ProducerClosedError as ProducerClosedError
from trio_streams.durable.errors import RetentionGoneError as RetentionGoneError
from trio_streams.durable.errors import SeqConflictError as SeqConflictError
from trio_streams.durable.errors import SequenceGapError as SequenceGapError
from trio_streams.durable.errors import StaleEpochError as StaleEpochError
from trio_streams.durable.errors import StreamClosedError as StreamClosedError
from trio_streams.durable.errors import StreamConsumedError as StreamConsumedError
from trio_streams.durable.errors import StreamExistsError as StreamExistsError
from trio_streams.durable.errors import StreamNotFoundError as StreamNotFoundError
from trio_streams.durable.protocol.reading import ReaderConfig as ReaderConfig
from trio_streams.durable.protocol.retry import RetryOptions as RetryOptions
from trio_streams.durable.protocol.sequencer import ProducerProgress as ProducerProgress
from trio_streams.durable.server.access import require_bearer as require_bearer
from trio_streams.durable.server.config import DurableConfig as DurableConfig
from trio_streams.durable.server.local import StreamChunk as StreamChunk
from trio_streams.durable.server.opening import open_replay_log as open_replay_log
from trio_streams.durable.server.server import DurableServer as DurableServer
from trio_streams.durable.server.serving import serve_durable as serve_durable
from trio_streams.durable.store.base import StoreError as StoreError
from trio_streams.durable.store.memory import MemoryStore as MemoryStore
from trio_streams.durable.store.sqlite import SqliteConfig as SqliteConfig
from trio_streams.durable.store.sqlite import open_sqlite_store as open_sqlite_store
from trio_streams.durable.types import AppendResult as AppendResult
from trio_streams.durable.types import HeadersLike as HeadersLike
from trio_streams.durable.types import HeadResult as HeadResult
from trio_streams.durable.types import LiveMode as LiveMode
from trio_streams.durable.types import Offset as Offset
from trio_streams.durable.types import ParamsLike as ParamsLike
from trio_streams.durable.types import StreamEvent as StreamEvent

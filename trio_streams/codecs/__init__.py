"""Payloads: bytes as they are, JSON of a declared type, runs of JSON lines, query strings."""

from __future__ import annotations

from trio_streams.codecs.base import Codec as Codec
from trio_streams.codecs.base import RawCodec as RawCodec
from trio_streams.codecs.base import raw as raw
from trio_streams.codecs.convert import make_converter as make_converter
from trio_streams.codecs.json import DEFAULT_MAX_DEPTH as DEFAULT_MAX_DEPTH
from trio_streams.codecs.json import JsonCodec as JsonCodec
from trio_streams.codecs.json import json_codec as json_codec
from trio_streams.codecs.json_schema import Schemas as Schemas
from trio_streams.codecs.msgpack import MsgpackCodec as MsgpackCodec
from trio_streams.codecs.msgpack import msgpack_codec as msgpack_codec
from trio_streams.codecs.ndjson import NdjsonCodec as NdjsonCodec
from trio_streams.codecs.ndjson import NdjsonReader as NdjsonReader
from trio_streams.codecs.ndjson import ndjson as ndjson
from trio_streams.codecs.query import decode_query as decode_query

__all__ = [
    "DEFAULT_MAX_DEPTH",
    "Codec",
    "JsonCodec",
    "MsgpackCodec",
    "NdjsonCodec",
    "NdjsonReader",
    "RawCodec",
    "Schemas",
    "decode_query",
    "json_codec",
    "make_converter",
    "msgpack_codec",
    "ndjson",
    "raw",
]

"""A server stream's input in a query: its fields by their names, or a single value as `input`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

import msgspec

from trio_streams.codecs import decode_query
from trio_streams.codes import Code
from trio_streams.errors import CodecError, RpcError
from trio_streams.procedures.documents.content import INPUT
from trio_streams.procedures.procedure import Procedure

__all__ = ["check_utf8", "query_input"]


def check_utf8(query_string: str) -> None:
    """Refuse a query that is no text, whose bytes would otherwise reach the handler as others.

    Args:
      query_string: as it came, percent-encoded.

    Raises:
      RpcError: INVALID_ARGUMENT.
    """
    if "%" not in query_string:
        return
    try:
        unquote_to_bytes(query_string).decode()
    except UnicodeDecodeError as exc:
        raise RpcError(Code.INVALID_ARGUMENT, f"the query is not UTF-8 at byte {exc.start}") from None


def query_input(procedure: Procedure, query: Mapping[str, Sequence[str]]) -> object:
    """Read a stream's input.

    Args:
      procedure: whose input it is.
      query: names to values; empty where the caller says nothing.

    Raises:
      CodecError: a value is not of the declared type.
      RpcError: INVALID_ARGUMENT: fields for an input that has none.
    """
    if not query:
        return procedure.decode_input(None)
    try:
        return decode_query(procedure.input_type, query)
    except TypeError:
        pass  # the declared type has no fields
    values = query.get(INPUT, ())
    if len(query) != 1 or len(values) != 1:
        raise RpcError(Code.INVALID_ARGUMENT, f"{procedure.name!r} takes a single value, as ?{INPUT}=…")
    text = values[0]
    try:
        return procedure.decode_input(text.encode())
    except CodecError as exc:
        try:
            return procedure.decode_input(msgspec.json.encode(text))
        except CodecError:
            raise exc from None

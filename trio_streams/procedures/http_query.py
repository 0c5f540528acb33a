"""A server stream's input in a query: its fields by their names, or a single value as `input`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from trio_streams.codecs import decode_query
from trio_streams.codes import Code
from trio_streams.errors import CodecError, RpcError
from trio_streams.procedures.documents.content import INPUT
from trio_streams.procedures.procedure import Procedure

__all__ = ["query_input"]


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

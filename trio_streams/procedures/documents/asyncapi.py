"""AsyncAPI 3.0: each stream a channel, each of its items a message.

Spec: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from trio_streams.codecs.json_schema import Schemas
from trio_streams.procedures.documents.content import DocumentInfo
from trio_streams.procedures.documents.openapi import tag_of
from trio_streams.procedures.procedure import Procedure, is_parameter

__all__ = ["asyncapi_document"]

_PROTOCOLS: Final = {
    **{scheme: scheme for scheme in ("http", "https", "ws", "wss", "tcp", "tls")},
    "wt": "webtransport",
}


def asyncapi_document(
    procedures: Iterable[Procedure], info: DocumentInfo | None = None, *, servers: Sequence[str] = ()
) -> dict[str, Any]:
    """The AsyncAPI document of an application's streams, events and calls.

    Args:
      procedures: a router, or some of its procedures.
      info: what it says beside them.
      servers: the URLs where it is served.

    Returns:
      The document, as JSON's own types.
    """
    info = info or DocumentInfo()
    schemas = Schemas()
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for procedure in sorted(procedures, key=lambda one: one.name):
        key = _key(procedure.name)
        channels[key] = _channel(procedure, schemas, info)
        operations |= _operations(procedure, key)
    document: dict[str, Any] = {"asyncapi": "3.0.0", "info": info.as_json(), "defaultContentType": info.streams.default}
    if described := _servers(servers):
        document["servers"] = described
    return {**document, "channels": channels, "operations": operations, "components": {"schemas": schemas.components}}


def _key(name: str) -> str:
    """A name as keys of the document may be."""
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in name)


def _channel(procedure: Procedure, schemas: Schemas, info: DocumentInfo) -> dict[str, Any]:
    content_type = procedure.content_type or info.streams.default
    messages: dict[str, Any] = {}
    if procedure.takes_input or procedure.kind.takes_items:
        messages["input"] = {"contentType": content_type, "payload": schemas.of(procedure.input_type)}
    if procedure.kind.gives_items or procedure.kind.gives_result:
        messages["output"] = {"contentType": content_type, "payload": schemas.of(procedure.output_type)}
    parts = procedure.name.split(".")
    channel: dict[str, Any] = {
        "address": ".".join(f"{{{part[1:-1]}}}" if is_parameter(part) else part for part in parts),
        "messages": messages,
    }
    if parameters := [part[1:-1] for part in parts if is_parameter(part)]:
        channel["parameters"] = {name: {} for name in parameters}
    if procedure.description:
        channel["description"] = procedure.description
    if tag := tag_of(procedure.name):
        channel["tags"] = [{"name": tag}]
    return channel


def _operations(procedure: Procedure, key: str) -> dict[str, Any]:
    """What the application does on the channel: it receives the caller's items, and sends its own."""
    channel = {"$ref": f"#/channels/{key}"}
    operations: dict[str, Any] = {}
    has_output = procedure.kind.gives_items or procedure.kind.gives_result
    if procedure.takes_input or procedure.kind.takes_items:
        messages = [{"$ref": f"#/channels/{key}/messages/input"}]
        operations[f"{key}.receive"] = {"action": "receive", "channel": channel, "messages": messages}
    if has_output:
        messages = [{"$ref": f"#/channels/{key}/messages/output"}]
        operations[f"{key}.send"] = {"action": "send", "channel": channel, "messages": messages}
    return operations


def _servers(urls: Sequence[str]) -> dict[str, Any]:
    servers: dict[str, Any] = {}
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme in _PROTOCOLS:
            servers[f"{parts.scheme}{len(servers) or ''}"] = {
                "host": parts.netloc,
                "protocol": _PROTOCOLS[parts.scheme],
            }
    return servers

"""USD 1.0: OpenAPI 3.1, and beside it what other protocols carry.

Spec: Universal Service Documentation 1.0.0, of the project Raffel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from trio_streams.codecs.json_schema import Schemas
from trio_streams.procedures.documents.content import ContentTypes, DocumentInfo
from trio_streams.procedures.documents.openapi import ERROR, OPENAPI, operations, tag_of
from trio_streams.procedures.procedure import Kind, Procedure

__all__ = ["usd_document"]

_DIRECTIONS: Final = {
    Kind.SERVER: "server-to-client",
    Kind.CLIENT: "client-to-server",
    Kind.BIDIRECTIONAL: "bidirectional",
}
_PROTOCOLS: Final = {
    "http": "http",
    "https": "http",
    "ws": "websocket",
    "wss": "websocket",
    "tcp": "tcp",
    "tls": "tcp",
    "wt": "udp",  # USD has no word for WebTransport, nor for QUIC
}


def usd_document(
    procedures: Iterable[Procedure], info: DocumentInfo | None = None, *, servers: Sequence[str] = ()
) -> dict[str, Any]:
    """The USD document of an application.

    Args:
      procedures: a router, or some of its procedures.
      info: what it says beside them.
      servers: the URLs where it is served.

    Returns:
      The document, as JSON's own types.
    """
    info = info or DocumentInfo()
    listed = sorted(procedures, key=lambda procedure: procedure.name)
    schemas = Schemas()
    schemas.components["Error"] = ERROR
    document: dict[str, Any] = {"usd": "1.0.0", "openapi": OPENAPI, "info": info.as_json()}
    if urls := [url for url in servers if url.startswith("http")]:
        document["servers"] = [{"url": url} for url in urls]
    document["paths"] = operations(listed, schemas)
    extension = _extension(listed, schemas, info, servers)
    document["components"] = {"schemas": schemas.components}
    if tags := sorted({tag for procedure in listed if (tag := tag_of(procedure.name))}):
        document["tags"] = [{"name": tag} for tag in tags]
    document["x-usd"] = extension
    return document


def _extension(
    procedures: Sequence[Procedure], schemas: Schemas, info: DocumentInfo, servers: Sequence[str]
) -> dict[str, Any]:
    known = {_PROTOCOLS[scheme] for url in servers if (scheme := urlsplit(url).scheme) in _PROTOCOLS}
    streams = {p.name: _endpoint(p, schemas, info) for p in procedures if p.kind in _DIRECTIONS}
    calls = {p.name: _method(p, schemas) for p in procedures if p.kind in {Kind.CALL, Kind.EVENT}}
    protocols: list[str] = [
        name for name in ("http", "websocket", "tcp", "udp") if name in known or (name == "http" and not servers)
    ]
    protocols += ["streams"] if streams else []
    protocols += ["jsonrpc"] if calls and "http" in protocols else []
    extension: dict[str, Any] = {"protocols": protocols, "contentTypes": _content_types(ContentTypes())}
    others = [url for url in servers if _PROTOCOLS.get(urlsplit(url).scheme) in {"websocket", "tcp", "udp"}]
    if others:
        extension["servers"] = [{"url": url, "protocol": _PROTOCOLS[urlsplit(url).scheme]} for url in others]
    if streams:
        extension["streams"] = {"contentTypes": _content_types(info.streams), "endpoints": streams}
    if "jsonrpc" in protocols:
        batch = {"enabled": True}
        extension["jsonrpc"] = {"endpoint": "/rpc", "version": "2.0", "methods": calls, "batch": batch}
    return extension


def _content_types(types: ContentTypes) -> dict[str, Any]:
    return {"default": types.default, "supported": list(types.supported)}


def _endpoint(procedure: Procedure, schemas: Schemas, info: DocumentInfo) -> dict[str, Any]:
    own = procedure.content_type
    item = procedure.output_type if procedure.kind.gives_items else procedure.input_type
    message: dict[str, Any] = {
        "name": f"{procedure.name}.item",
        "contentType": own or info.streams.default,
        "payload": schemas.of(item),
    }
    endpoint: dict[str, Any] = {"direction": _DIRECTIONS[procedure.kind], "message": message}
    if procedure.description:
        endpoint["description"] = procedure.description
    if own is not None:
        endpoint["contentTypes"] = {"default": own, "supported": sorted({own, *info.streams.supported})}
    if tag := tag_of(procedure.name):
        endpoint["tags"] = [tag]
    if procedure.kind is Kind.BIDIRECTIONAL:
        endpoint["x-input"] = schemas.of(procedure.input_type)
    elif procedure.kind is Kind.CLIENT:
        endpoint["x-result"] = schemas.of(procedure.output_type)
    return {**endpoint, "x-usd-backpressure": True}


def _method(procedure: Procedure, schemas: Schemas) -> dict[str, Any]:
    method: dict[str, Any] = {"description": procedure.description} if procedure.description else {}
    if procedure.takes_input:
        method["params"] = schemas.of(procedure.input_type)
    if procedure.kind is Kind.EVENT:
        method["x-usd-notification"] = True
    else:
        method["result"] = schemas.of(procedure.output_type)
    if tag := tag_of(procedure.name):
        method["tags"] = [tag]
    return method

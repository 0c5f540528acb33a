"""OpenAPI 3.1: what HTTP carries of an application.

Spec: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trio_streams.codecs.json_schema import Schema, Schemas
from trio_streams.procedures.documents.content import INPUT, DocumentInfo
from trio_streams.procedures.procedure import Kind, Procedure, is_parameter

__all__ = ["ERROR", "JSON", "NDJSON", "OPENAPI", "http_path", "openapi_document", "operations", "tag_of"]

OPENAPI: Final = "3.1.0"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_SSE: Final = "text/event-stream"

ERROR: Final[Schema] = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "a name that programs can tell apart"},
                "message": {"type": "string", "description": "for people"},
                "details": {"description": "what the code does not say"},
            },
        }
    },
}
_ERROR_CONTENT: Final = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}


def openapi_document(
    procedures: Iterable[Procedure], info: DocumentInfo | None = None, *, servers: Sequence[str] = ()
) -> dict[str, Any]:
    """The OpenAPI document of an application.

    Args:
      procedures: a router, or some of its procedures.
      info: what it says beside them.
      servers: the `http://` and `https://` URLs where it is served.

    Returns:
      The document, as JSON's own types.
    """
    info = info or DocumentInfo()
    listed = sorted(procedures, key=lambda procedure: procedure.name)
    schemas = Schemas()
    schemas.components["Error"] = ERROR
    document: dict[str, Any] = {"openapi": OPENAPI, "info": info.as_json()}
    if urls := [url for url in servers if url.startswith("http")]:
        document["servers"] = [{"url": url} for url in urls]
    document["paths"] = operations(listed, schemas)
    document["components"] = {"schemas": schemas.components}
    if tags := sorted({tag for procedure in listed if (tag := tag_of(procedure.name))}):
        document["tags"] = [{"name": tag} for tag in tags]
    return document


def operations(procedures: Iterable[Procedure], schemas: Schemas) -> dict[str, Any]:
    """The `paths` of procedures; those that HTTP can't carry are left out."""
    paths: dict[str, Any] = {}
    for procedure in procedures:
        if procedure.kind is not Kind.BIDIRECTIONAL:
            method, path = http_path(procedure)
            paths.setdefault(path, {})[method] = _operation(procedure, schemas)
    return paths


def http_path(procedure: Procedure) -> tuple[str, str]:
    """The method, in lower case, and the path template of a procedure over HTTP."""
    name = ".".join(f"{{{part[1:-1]}}}" if is_parameter(part) else part for part in procedure.name.split("."))
    match procedure.kind:
        case Kind.CALL:
            return "post", f"/{name}"
        case Kind.EVENT:
            return "post", f"/events/{name}"
        case Kind.SERVER:
            return "get", f"/streams/{name}"
        case _:
            return "post", f"/streams/{name}"


def tag_of(name: str) -> str:
    """What a procedure is listed under: the first part of its name, if it has several."""
    first, dot, _ = name.partition(".")
    return first if dot and not is_parameter(first) else ""


def _operation(procedure: Procedure, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": f"{procedure.kind.value}:{procedure.name}"}
    if procedure.description:
        operation["summary"] = procedure.description
    if tag := tag_of(procedure.name):
        operation["tags"] = [tag]
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^.]+$"}}
        for part in procedure.name.split(".")
        if is_parameter(part)
    ]
    if procedure.kind is Kind.SERVER:
        parameters += _query_parameters(procedure, schemas)
        if procedure.durable is not None:
            description = "the id of the last event that the client has, to go on behind it"
            parameters.append(
                {"name": "Last-Event-ID", "in": "header", "description": description, "schema": {"type": "string"}}
            )
    elif procedure.takes_input:
        operation["requestBody"] = _request_body(procedure, schemas)
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = {
        **_success(procedure, schemas),
        **_refusal(procedure),
        "default": {"description": "what went wrong", "content": _ERROR_CONTENT},
    }
    if procedure.kind is Kind.SERVER:
        operation["x-usd-streaming"] = True
    return operation


def _request_body(procedure: Procedure, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(procedure.input_type)
    if procedure.kind is not Kind.CLIENT:
        media: dict[str, Any] = {"schema": schema}
        if examples := _examples(procedure, "input"):
            media["examples"] = examples
        return {"required": not procedure.has_default_input, "content": {JSON: media}}
    if procedure.input_type is bytes:
        return {"required": True, "content": {"application/octet-stream": {}}}
    description = "one item a line, as they come"
    return {"required": True, "description": description, "content": {NDJSON: {"schema": schema}}}


def _success(procedure: Procedure, schemas: Schemas) -> dict[str, Any]:
    if procedure.kind is Kind.EVENT:
        return {"202": {"description": "it has been taken"}}
    schema = schemas.of(procedure.output_type)
    if procedure.kind is Kind.SERVER:
        return {
            "200": {
                "description": "an event for each item, then `end` or `error`",
                # A schema would be one of the whole body, which is no JSON value.
                "content": {
                    _SSE: {"x-item-schema": schema},
                    NDJSON: {"x-item-schema": schema},
                },
            },
            "204": {"description": "the stream that the client asks to go on with is over"},
        }
    media: dict[str, Any] = {"schema": schema}
    if examples := _examples(procedure, "output"):
        media["examples"] = examples
    return {"200": {"description": "the result", "content": {JSON: media}}}


def _refusal(procedure: Procedure) -> dict[str, Any]:
    """An event has been taken before its input is looked at."""
    if not procedure.takes_input or procedure.kind is Kind.EVENT:
        return {}
    return {"400": {"description": "the input is not of the declared type", "content": _ERROR_CONTENT}}


def _examples(procedure: Procedure, side: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, example in enumerate(procedure.examples, 1):
        value = procedure.example_json(getattr(example, side), side)
        if value is not None:
            found[f"example{number}"] = {"value": value, **({"summary": s} if (s := example.description) else {})}
    return found


def _query_parameters(procedure: Procedure, schemas: Schemas) -> list[dict[str, Any]]:
    """A parameter for each field of a stream's input; `input` for one that has no fields."""
    schema = _resolved(schemas.of(procedure.input_type), schemas)
    if schema and schema.get("type") != "object" and procedure.takes_input:
        content = {JSON: {"schema": schemas.of(procedure.input_type)}}
        return [{"name": INPUT, "in": "query", "required": not procedure.has_default_input, "content": content}]
    properties: Mapping[str, Schema] = schema.get("properties", {})
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, **_parameter_form(field, schemas)}
        for name, field in properties.items()
    ]


def _parameter_form(schema: Schema, schemas: Schemas) -> dict[str, Any]:
    """Text, numbers and lists of them stand in a query by themselves; what has fields of its own is JSON there.

    There is no null in a query: an empty value stands for it, where that can't be text.
    """
    schema, is_optional = _without_null(schema)
    options = [_resolved(option, schemas) for option in schema.get("anyOf", [schema])]
    if any(option.get("type") == "object" for option in options):
        return {"content": {JSON: {"schema": schema}}}
    is_null_if_empty = is_optional and not any(map(_may_be_text, options))
    return {"schema": schema, "allowEmptyValue": True} if is_null_if_empty else {"schema": schema}


def _resolved(schema: Schema, schemas: Schemas) -> Schema:
    reference = schema.get("$ref")
    return schemas.components[str(reference).rpartition("/")[2]] if reference else schema


def _without_null(schema: Schema) -> tuple[Schema, bool]:
    options: list[Schema] = schema.get("anyOf", [])
    left = [option for option in options if option.get("type") != "null"]
    if len(left) == len(options):
        return schema, False
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return ({**rest, **left[0]} if len(left) == 1 else {**rest, "anyOf": left}), True


def _may_be_text(schema: Schema) -> bool:
    values: list[object] = [*schema.get("enum", []), schema.get("const")]
    return schema.get("type") == "string" or any(isinstance(value, str) for value in values)

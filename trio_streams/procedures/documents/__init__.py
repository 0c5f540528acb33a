"""What an application offers, for readers and for tools: USD 1.0, OpenAPI 3.1 and AsyncAPI 3.0, from the declarations.

USD       every procedure on every protocol; a superset of OpenAPI
OpenAPI   what HTTP carries: calls, events, server streams, uploads
AsyncAPI  the streams, item by item, as messages of channels
"""

from __future__ import annotations

from trio_streams.procedures.documents.asyncapi import asyncapi_document as asyncapi_document
from trio_streams.procedures.documents.content import ContentTypes as ContentTypes
from trio_streams.procedures.documents.content import DocumentInfo as DocumentInfo
from trio_streams.procedures.documents.openapi import openapi_document as openapi_document
from trio_streams.procedures.documents.usd import usd_document as usd_document
from trio_streams.procedures.documents.yaml import to_yaml as to_yaml

__all__ = ["ContentTypes", "DocumentInfo", "asyncapi_document", "openapi_document", "to_yaml", "usd_document"]

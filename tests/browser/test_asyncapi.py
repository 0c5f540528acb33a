"""The AsyncAPI document, judged by the parser of those who write the specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.browser import tried
from tests.browser.node import run_node
from tests.browser.typescript import install_package
from tests.procedures.test_documents import SERVERS, make_app
from trio_streams.procedures import Router
from trio_streams.procedures.documents import asyncapi_document

VERSION: Final = "3.6.3"
"""Pinned: another version may have other rules."""

ERROR: Final = 0
"""The severity of what makes a document invalid; further ones are advice."""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asyncapi")
    return install_package(folder, "@asyncapi/parser", VERSION)


async def _diagnose(parser: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    """What the parser has to say of a document."""
    diagnostics: list[dict[str, Any]] = await run_node("asyncapi.mjs", "diagnose", str(parser), json.dumps(document))
    return diagnostics


@pytest.mark.parametrize("app", [make_app(), tried.app, Router()], ids=["documents", "tried", "empty"])
@pytest.mark.parametrize("servers", [(), SERVERS], ids=["nowhere", "servers"])
async def test_the_document_is_valid(parser: Path, app: Router, servers: tuple[str, ...]) -> None:
    """With every kind of procedure, with parameters in names, and of nothing; but for advice on newer versions, silence."""
    diagnostics = await _diagnose(parser, asyncapi_document(app, servers=servers))
    assert [it["message"] for it in diagnostics if it["code"] != "asyncapi-latest-version"] == []


async def test_an_invalid_document_is_found_out(parser: Path) -> None:
    """The judge does judge: a message that is not there, an action that there is not."""
    document = asyncapi_document(make_app())
    document["operations"]["chat.send"]["action"] = "shout"
    document["operations"]["chat.receive"]["channel"] = {"$ref": "#/channels/missing"}
    diagnostics = await _diagnose(parser, document)
    assert len([it for it in diagnostics if it["severity"] == ERROR]) >= 2

"""What the page of procedures is told."""

from __future__ import annotations

import json

import attrs
import pytest

from tests.transports.exchange_host import Answer, drive
from trio_streams.dashboard import Dashboard
from trio_streams.dashboard.catalogue import catalogue
from trio_streams.procedures.router import Router
from trio_streams.service.exchange import RequestHead


@attrs.frozen
class Point:
    x: int
    y: int = 0


@pytest.fixture
def app() -> Router:
    router = Router()

    @router.call("points.flip").example(Point(1, 2), Point(2, 1), "once").metadata({"cost": 2, "guard": object()})
    async def flip(point: Point) -> Point:
        """Exchange the two."""
        return Point(point.y, point.x)

    return router


def test_a_procedure_is_described_with_its_examples(app: Router) -> None:
    """As `describe` has it; metadata that JSON can't say stays with the server."""
    told = catalogue(app)
    assert told["procedures"] == [
        {
            "name": "points.flip",
            "kind": "call",
            "description": "Exchange the two.",
            "input": {"$ref": "#/schemas/Point"},
            "output": {"$ref": "#/schemas/Point"},
            "is_input_optional": False,
            "content_type": None,
            "is_durable": False,
            "metadata": {"cost": 2},
            "examples": [{"description": "once", "input": {"x": 1, "y": 2}, "output": {"x": 2, "y": 1}}],
        }
    ]
    assert list(json.loads(json.dumps(told["schemas"]))) == ["Point"]


def test_documents_are_named_once_they_are_enabled(app: Router) -> None:
    """Below the server's root, wherever a proxy mounts that."""
    assert catalogue(app)["documents"] == []
    app.enable_usd()
    assert catalogue(app)["documents"] == ["docs/usd.json", "docs/usd.yaml", "docs/openapi.json", "docs/asyncapi.json"]


async def test_it_is_served_beside_its_page(app: Router) -> None:
    """As it is whenever it is asked for; nobody keeps it."""

    async def refuse(_: object) -> None:
        raise AssertionError

    async def ask() -> Answer:
        return await drive(
            Dashboard(app, title="mine").wrap(refuse), RequestHead(method="GET", path="/dashboard/catalogue")
        )

    answer = await ask()
    assert json.loads(b"".join(answer.writes)) == {"title": "mine", **catalogue(app)}
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]

"""Reflection: what a server says of itself, to a client that knows nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
from jsonschema import Draft202012Validator

from tests.procedures.application import Application, connected
from trio_streams.errors import RpcError
from trio_streams.procedures import Router
from trio_streams.procedures.describe import Description, describe
from trio_streams.service.interceptor import Invocation, Proceed


@attrs.frozen
class Tree:
    name: str
    children: list[Tree] = attrs.field(factory=list)


async def test_every_server_describes_itself() -> None:
    """Names, kinds and schemas of all procedures, as they are when it is asked."""
    application = Application()

    @application.router.stream("trees")
    async def trees(tree: Tree) -> AsyncIterator[Tree]:
        """Grow trees."""
        yield tree

    @application.router.event("noted")
    async def noted(text: str = "x") -> None:
        pass

    async with connected(application) as (client, _):
        description = await client.call("describe", returns=Description)
        plain = await client.call("describe")
    assert description == describe(application.router)
    by_name = {procedure.name: procedure for procedure in description.procedures}
    assert list(by_name) == sorted(by_name)
    assert (by_name["trees"].kind, by_name["trees"].description) == ("server", "Grow trees.")
    assert by_name["trees"].input == {"$ref": "#/schemas/Tree"}
    assert (by_name["noted"].output, by_name["noted"].is_input_optional) == (None, True)
    assert (by_name["add"].input, by_name["add"].is_input_optional) == (
        {"type": "array", "items": {"type": "integer"}},
        False,
    )
    assert by_name["nothing"].input is None
    assert isinstance(plain, dict)
    whole = {"$ref": "#/schemas/Tree", "schemas": plain["schemas"]}
    assert Draft202012Validator(whole).is_valid({"name": "a", "children": [{"name": "b"}]})
    assert not Draft202012Validator(whole).is_valid({"name": "a", "children": [{"nom": "b"}]})


async def test_an_application_may_have_its_own() -> None:
    """And interceptors stand around the one that is given, as around any call."""
    application = Application()

    async def refuse(invocation: Invocation, proceed: Proceed) -> object:
        raise RpcError("PERMISSION_DENIED", f"{invocation.name} is secret")

    application.router.use(refuse)
    async with connected(application) as (client, _):
        with pytest.raises(RpcError, match="describe is secret"):
            await client.call("describe")
    own = Router()

    @own.call("describe")
    async def mine() -> str:
        return "mine"

    found = own.find("describe")
    assert found is not None
    assert found[0].handler is mine

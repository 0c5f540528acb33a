"""Bearer tokens."""

from __future__ import annotations

import pytest

from trio_streams.durable.server.access import require_bearer
from trio_streams.errors import RpcError
from trio_streams.service.exchange import RequestHead


def head(value: str | None) -> RequestHead:
    headers = () if value is None else (("authorization", value),)
    return RequestHead(method="GET", path="/v1/stream/a", headers=headers)


@pytest.mark.parametrize(
    ("value", "action", "code"),
    [
        ("Bearer all", "append", None),
        ("bearer  all ", "delete", None),
        ("Bearer read", "read", None),
        ("Bearer read", "head", None),
        ("Bearer read", "list", None),
        ("Bearer read", "append", "PERMISSION_DENIED"),
        ("Bearer other", "read", "UNAUTHENTICATED"),
        ("Bearer", "read", "UNAUTHENTICATED"),
        ("Basic all", "read", "UNAUTHENTICATED"),
        ("Bearer \u20ac", "read", "UNAUTHENTICATED"),
        (None, "read", "UNAUTHENTICATED"),
    ],
)
async def test_tokens(value: str | None, action: str, code: str | None) -> None:
    """A token lets in to everything, or to reading; anything else is refused."""
    authenticate = require_bearer(["all", "more"], read_tokens=["read"])
    if code is None:
        await authenticate(head(value), action, "a")  # type: ignore[arg-type]
    else:
        with pytest.raises(RpcError) as caught:
            await authenticate(head(value), action, "a")  # type: ignore[arg-type]
        assert caught.value.code == code


@pytest.mark.parametrize(("tokens", "reading"), [([], []), ([""], []), (["a"], [""])])
def test_no_tokens(tokens: list[str], reading: list[str]) -> None:
    """A server that lets everybody in by an empty token is a mistake."""
    with pytest.raises(ValueError, match="token"):
        require_bearer(tokens, read_tokens=reading)


def test_a_text_is_not_a_list() -> None:
    """One token alone would be taken for its letters."""
    with pytest.raises(TypeError, match="several texts"):
        require_bearer("secret")

"""How large an item may be."""

from __future__ import annotations

import pytest

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.core.item_limits import item_too_large, refuse_larger


def test_items_within_the_limit_pass() -> None:
    """An item of exactly the limit may go, and so may nothing at all."""
    refuse_larger([b"abc", b""], 3)
    refuse_larger([], 0)


def test_an_item_beyond_the_limit_is_our_fault() -> None:
    """The first one that is larger is refused with its size and the limit, whatever stands before it."""
    with pytest.raises(LocalProtocolError, match="an item of 4 bytes passes max_item_bytes of 3") as caught:
        refuse_larger([b"abc", b"abcd"], 3)
    error = caught.value
    assert (error.code, error.field, error.size, error.limit) == (Code.MESSAGE_TOO_LARGE, "max_item_bytes", 4, 3)


def test_a_peers_item_beyond_the_limit_is_its_fault() -> None:
    """What is said of it has the size that was announced and the limit."""
    error = item_too_large(4, 3)
    assert type(error) is RemoteProtocolError
    assert str(error) == "the peer sent an item of 4 bytes, max_item_bytes is 3"
    assert (error.code, error.field, error.size, error.limit) == (Code.MESSAGE_TOO_LARGE, "max_item_bytes", 4, 3)

"""Entity tags and lists of them."""

from __future__ import annotations

import pytest

from trio_streams.wire.entity_tags import matches_weakly, parse_etags


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"x", W/"a" ,"y"', True),
        (" * ", True),
        ('"x", "*"', False),
        ("a", False),
        ("", False),
    ],
)
def test_if_none_match_compares_weakly(value: str, expected: bool) -> None:
    """A list matches by one of its tags, weak or not, and `*` matches any; what is not quoted is no tag."""
    assert matches_weakly(value, '"a"') is expected
    assert matches_weakly(value, 'W/"a"') is expected


def test_a_list_is_its_tags() -> None:
    """Tags are found in order, commas within their quotes included, and what is none is left out."""
    assert parse_etags('"a,b", W/"c", nonsense, ""') == ['"a,b"', 'W/"c"', '""']

"""Dictionaries of structured fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.protocol.structured_fields import parse_dictionary


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        ([""], {}),
        ([], {}),
        (["u=1"], {"u": "1"}),
        (["u=1, i"], {"u": "1", "i": "?1"}),
        (["u=1", "i=?0"], {"u": "1", "i": "?0"}),
        (["  u=1\t,\ti;a=1;b  "], {"u": "1", "i": "?1"}),
        (["u=1, u=2"], {"u": "2"}),
        (['a=( 1  2;x "q" ), b=()'], {"a": '( 1  2;x "q" )', "b": "()"}),
        (['a=-1.5, b=:YQ==:, c=@-12, d=tok/en, e=%"a%c3", f=*'], {
            "a": "-1.5", "b": ":YQ==:", "c": "@-12", "d": "tok/en", "e": '%"a%c3"', "f": "*",
        }),
    ],
)  # fmt: skip
def test_dictionaries(lines: list[str], members: dict[str, str]) -> None:
    """Every type of value is read; a key alone is true, and the last of several counts (RFC 9651 §3.2)."""
    assert parse_dictionary(lines) == members


@pytest.mark.parametrize("line", ["u=", "U=1", "u=1,", "u=1 i", "a=(1", "a=(1,2)", "u==1", "é=1", "1"])
def test_malformed_dictionaries(line: str) -> None:
    """What does not match the grammar is void as a whole (RFC 9651 §4.2)."""
    assert parse_dictionary([line]) is None


@given(st.text(alphabet='aui=;, ()"?10.:@%\\-', max_size=60))
def test_any_text_is_read_or_void(text: str) -> None:
    """No text takes long, or raises."""
    members = parse_dictionary([text])
    assert members is None or all(members.values())

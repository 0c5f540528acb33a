"""Subprotocols: lists of Strings, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Error
from trio_streams.webtransport.protocol.subprotocols import (
    check_choice,
    encode_choice,
    encode_offer,
    parse_choice,
    parse_offer,
)

NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(st.lists(NAMES, max_size=4))
def test_offers_survive_the_round_trip(names: list[str]) -> None:
    """Any printable names come back in their order, from one field or from several."""
    assert parse_offer([encode_offer(names)]) == tuple(names)
    assert parse_offer([encode_choice(name) for name in names]) == tuple(names)


@given(NAMES)
def test_choices_survive_the_round_trip(name: str) -> None:
    """Any printable name comes back."""
    assert parse_choice([encode_choice(name)]) == name


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('"a"', ("a",)),
        ('"a", "b"', ("a", "b")),
        ('  "a"\t,\t"b"  ', ("a", "b")),
        ('"a";q=1.5, "b";x;y=?0;z="s;,";t=tok/1:2;b=:YQ==:;d=@12;e=%"%c3%bc"', ("a", "b")),
        (r'"quo\"te", "back\\slash"', ('quo"te', "back\\slash")),
        ('""', ("",)),
        ("", ()),
    ],
)
def test_structured_fields_are_read(line: str, names: tuple[str, ...]) -> None:
    """Spaces, escapes and parameters of every type are read as RFC 9651 says; parameters mean nothing."""
    assert parse_offer([line]) == names


@pytest.mark.parametrize(
    "line",
    [
        "a", "1", '"a", b', '"a", 1', '"a",', ', "a"', '"a" "b"', '"a', 'a"', r'"\x"', '"ä"', "?1", ":YQ==:", '("a")',
        '"a";', '"a";Q=1', '"a";q=', '"a";q=1.', '"a";q=1.2345', "'a'", '"a"\x00',
    ],
)  # fmt: skip
def test_a_wrong_member_voids_the_field(line: str) -> None:
    """One member that is no String, or no member at all, voids the whole field."""
    assert parse_offer([line]) == ()
    assert parse_choice([line]) is None


@pytest.mark.parametrize("lines", [[], ['"a"', '"b"'], ['"a", "b"']])
def test_a_choice_is_one(lines: list[str]) -> None:
    """No choice, or more than one, is none."""
    assert parse_choice(lines) is None


def test_a_choice_may_have_parameters() -> None:
    """Parameters of a choice mean nothing."""
    assert parse_choice([' "a";v=2 ']) == "a"


@pytest.mark.parametrize("name", ["ä", "a\n", "\x7f"])
def test_names_are_printable(name: str) -> None:
    """What no String can hold is refused by name."""
    with pytest.raises(LocalProtocolError) as caught:
        encode_offer(["ok", name])
    assert caught.value.field == "subprotocol"


def test_only_what_was_offered_may_be_chosen() -> None:
    """A choice of the server's own ends the session with 0x0817b3dd."""
    check_choice("a", ["b", "a"])
    with pytest.raises(Http3Error) as caught:
        check_choice("c", ["b", "a"])
    assert (caught.value.http3_code, caught.value.ends_connection) == (0x0817B3DD, False)


@given(st.text('"\\,; a=1?:%@', max_size=40))
def test_any_field_is_read_or_void(line: str) -> None:
    """Any text is a list of names, which come back, or void."""
    names = parse_offer([line])
    assert parse_offer([encode_offer(names)]) == names

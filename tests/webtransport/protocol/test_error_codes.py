"""Error codes: the mapping of the specification, and our own table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import (
    MAX_APPLICATION_CODE,
    Http3Code,
    Http3Error,
    code_from_http3,
    from_http3,
    to_http3,
)

FIRST = 0x52E4A40FA8DB
LAST = 0x52E5AC983162


@pytest.mark.parametrize(
    ("application_code", "number"),
    [(0, FIRST), (0x1D, FIRST + 0x1D), (0x1E, FIRST + 0x1F), (MAX_APPLICATION_CODE, LAST)],
)
def test_the_specs_corners(application_code: int, number: int) -> None:
    """The first and the last code, and those beside the first one that HTTP/3 keeps free."""
    assert to_http3(application_code) == number
    assert from_http3(number) == application_code


@given(st.integers(0, MAX_APPLICATION_CODE))
def test_codes_survive_the_round_trip(application_code: int) -> None:
    """Every 32-bit code comes back, and none becomes one that HTTP/3 keeps free."""
    number = to_http3(application_code)
    assert from_http3(number) == application_code
    assert (number - 0x21) % 0x1F != 0


@given(st.integers(FIRST, LAST))
def test_each_number_of_the_range_is_one_code_or_reserved(number: int) -> None:
    """Backwards, too: a number in the range stands for the code that becomes it, or for none."""
    application_code = from_http3(number)
    if application_code is None:
        assert (number - 0x21) % 0x1F == 0
    else:
        assert to_http3(application_code) == number


@pytest.mark.parametrize("number", [0, 0x100, FIRST - 1, FIRST + 0x1E, LAST + 1, 2**62 - 1])
def test_outside_of_the_range_nobody_said_why(number: int) -> None:
    """Numbers around the range, and the reserved ones in it, are no application's."""
    assert from_http3(number) is None


@pytest.mark.parametrize("application_code", [-1, MAX_APPLICATION_CODE + 1])
def test_codes_have_32_bits(application_code: int) -> None:
    """More than 32 bits are refused by name."""
    with pytest.raises(LocalProtocolError) as caught:
        to_http3(application_code)
    assert caught.value.field == "application_code"


@pytest.mark.parametrize("code", list(Code))
def test_our_codes_travel_as_applications_codes(code: Code) -> None:
    """Each entry of the one error table comes back as itself."""
    assert code_from_http3(to_http3(code)) is code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (Http3Code.WT_SESSION_GONE, Code.CANCELLED),
        (Http3Code.H3_CONNECT_ERROR, Code.CANCELLED),
        (Http3Code.H3_REQUEST_REJECTED, Code.UNAVAILABLE),
        (Http3Code.H3_FRAME_ERROR, Code.PROTOCOL_ERROR),
        (Http3Code.WT_FLOW_CONTROL_ERROR, Code.FLOW_CONTROL_ERROR),
        (0x1234_5678, Code.UNKNOWN),
        (to_http3(4_000_000_000), Code.UNKNOWN),
    ],
)
def test_other_codes_have_an_entry(number: int, code: Code) -> None:
    """HTTP/3's and WebTransport's codes are in the table; unknown ones and other applications' are UNKNOWN."""
    assert code_from_http3(number) is code


def test_an_error_says_what_to_tell_the_peer() -> None:
    """An error has its code on the wire, its entry in the table, and whether the connection ends."""
    error = Http3Error("no", Http3Code.H3_ID_ERROR, ends_connection=True, field="session_id", size=3)
    assert (error.http3_code, error.code, error.ends_connection) == (0x108, Code.PROTOCOL_ERROR, True)
    assert (error.field, error.size, error.limit) == ("session_id", 3, None)

"""Settings: what is advertised, which draft is chosen, and what a peer has to offer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.settings import (
    Draft,
    PeerSettings,
    SessionLimits,
    Setting,
    local_settings,
    read_settings,
)

LIMITS = SessionLimits(window_bytes=1_000_000, max_bidirectional_streams=100, max_unidirectional_streams=50)
NEEDED = {0x08: 1, 0x33: 1}


def read(settings: dict[int, int], *, is_client: bool = True, frame_size: int | None = 65_536) -> PeerSettings:
    return read_settings(settings, is_client=is_client, max_datagram_frame_size=frame_size)


def test_all_drafts_are_advertised_together() -> None:
    """A server sends the settings of drafts 02, 07, 13 and 15, and the limits of sessions."""
    assert local_settings(is_client=False, max_sessions=7, limits=LIMITS) == {
        0x08: 1,
        0x33: 1,
        0x2B603742: 1,
        0xC671706A: 7,
        0x14E9CD29: 7,
        0x2C7CF000: 1,
        0x2B61: 1_000_000,
        0x2B64: 50,
        0x2B65: 100,
    }


def test_a_client_does_not_offer_to_be_connected_to() -> None:
    """ENABLE_CONNECT_PROTOCOL is a server's alone."""
    assert Setting.ENABLE_CONNECT_PROTOCOL not in local_settings(is_client=True, max_sessions=1, limits=LIMITS)


@pytest.mark.parametrize("max_sessions", [0, -1, 2**62])
def test_max_sessions_is_a_positive_varint(max_sessions: int) -> None:
    """A wrong number of sessions fails where it was written."""
    with pytest.raises(ValueError, match="max_sessions"):
        local_settings(is_client=False, max_sessions=max_sessions, limits=LIMITS)


@pytest.mark.parametrize(
    "wrong", [{"window_bytes": -1}, {"max_bidirectional_streams": 2**60 + 1}, {"max_unidirectional_streams": -1}]
)
def test_limits_are_checked(wrong: dict[str, int]) -> None:
    """A wrong limit fails where it was written, by its name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SessionLimits(**wrong)


@pytest.mark.parametrize(
    ("settings", "draft", "max_sessions", "token"),
    [
        ({0x2B603742: 1}, Draft.DRAFT_02, None, "webtransport"),
        ({0x2B603742: 1, 0xC671706A: 5}, Draft.DRAFT_07, 5, "webtransport"),
        ({0xC671706A: 5, 0x14E9CD29: 9}, Draft.DRAFT_13, 9, "webtransport"),
        ({0x14E9CD29: 9, 0x2C7CF000: 1}, Draft.DRAFT_15, None, "webtransport-h3"),
        ({0x14E9CD29: 0, 0x2C7CF000: 0, 0x2B603742: 1}, Draft.DRAFT_02, None, "webtransport"),
    ],
)
def test_the_newest_draft_is_chosen(
    settings: dict[int, int], draft: Draft, max_sessions: int | None, token: str
) -> None:
    """A setting of 0 announces nothing; each draft has its token and its number of sessions."""
    peer = read(NEEDED | settings)
    assert peer.require() is draft
    assert (peer.max_sessions, draft.token) == (max_sessions, token)


def test_both_sides_choose_the_same() -> None:
    """What a server and a client of ours send is enough for each other, with the limits as they were meant."""
    for is_client in (True, False):
        peer = read(local_settings(is_client=not is_client, max_sessions=3, limits=LIMITS), is_client=is_client)
        assert peer.require() is Draft.DRAFT_15
        assert peer.limits == LIMITS


@pytest.mark.parametrize(
    ("settings", "is_client", "frame_size", "missing"),
    [
        ({0x33: 1, 0x2C7CF000: 1}, True, 1, "ENABLE_CONNECT_PROTOCOL"),
        ({0x08: 1, 0x2C7CF000: 1}, True, 1, "H3_DATAGRAM"),
        (NEEDED | {0x2C7CF000: 1}, False, 0, "max_datagram_frame_size"),
        (NEEDED | {0x2C7CF000: 1}, False, None, "max_datagram_frame_size"),
        (NEEDED, True, 1, "any draft of WebTransport"),
    ],
)
def test_unmet_requirements_are_named(
    settings: dict[int, int], missing: str, frame_size: int | None, *, is_client: bool
) -> None:
    """A peer that lacks something gets WT_REQUIREMENTS_NOT_MET on the stream that asks for a session."""
    peer = read(settings, is_client=is_client, frame_size=frame_size)
    with pytest.raises(Http3Error) as caught:
        peer.require()
    assert (caught.value.http3_code, caught.value.ends_connection) == (0x212C0D48, False)
    assert caught.value.field == missing


def test_a_server_needs_no_connect_protocol_of_its_client() -> None:
    """ENABLE_CONNECT_PROTOCOL is not asked of a client."""
    assert read({0x33: 1, 0x2C7CF000: 1}, is_client=False).require() is Draft.DRAFT_15


@pytest.mark.parametrize(
    ("setting", "value"),
    [(0x08, 2), (0x33, 2), (0x2B603742, 2), (0x2C7CF000, 7), (0x2B64, 2**60 + 1), (0x2B65, 2**60 + 1)],
)
def test_impossible_settings_end_the_connection(setting: int, value: int) -> None:
    """A flag that is neither 0 nor 1, or more streams than there are ids, is H3_SETTINGS_ERROR."""
    with pytest.raises(Http3Error) as caught:
        read(NEEDED | {setting: value})
    assert (caught.value.http3_code, caught.value.ends_connection) == (Http3Code.H3_SETTINGS_ERROR, True)


@pytest.mark.parametrize("ours", [SessionLimits(), SessionLimits(max_unidirectional_streams=1)])
@pytest.mark.parametrize("theirs", [{}, {0x2B61: 1}, {0x2B64: 1}, {0x2B65: 1}])
def test_flow_control_takes_both(ours: SessionLimits, theirs: dict[int, int]) -> None:
    """Sessions have flow control if each side sent at least one limit that is not 0."""
    peer = read(NEEDED | {0x2C7CF000: 1} | theirs)
    assert peer.has_flow_control(ours) is (bool(theirs) and ours.asks_for_flow_control)


@given(st.dictionaries(st.sampled_from(list(Setting)) | st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1)))
def test_any_settings_are_read_or_named(settings: dict[int, int]) -> None:
    """Whatever a peer sends has a meaning, or is a named error that ends the connection."""
    try:
        peer = read(settings)
    except Http3Error as error:
        if not error.ends_connection:
            raise
    else:
        assert (peer.draft is None) is not any(
            settings.get(setting) for setting in (0x2B603742, 0xC671706A, 0x14E9CD29, 0x2C7CF000)
        )

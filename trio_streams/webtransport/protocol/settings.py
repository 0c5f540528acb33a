"""Which draft of WebTransport two peers speak, and what they allow each other: HTTP/3 settings.

Each shipping browser knows another draft, and each draft has a setting of its own, so all are sent together; a peer reads
those it knows. Both sides choose the newest draft that the other one names.

Spec: draft-ietf-webtrans-http3 §3.1, §5.5, §9.2; RFC 9220 §3; RFC 9297 §2.1.1.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.varint import MAX_VARINT

__all__ = ["Draft", "PeerSettings", "SessionLimits", "Setting", "local_settings", "read_settings"]


class Setting(enum.IntEnum):
    """Identifiers of settings."""

    ENABLE_CONNECT_PROTOCOL = 0x08
    H3_DATAGRAM = 0x33
    WT_INITIAL_MAX_DATA = 0x2B61
    WT_INITIAL_MAX_STREAMS_UNIDIRECTIONAL = 0x2B64
    WT_INITIAL_MAX_STREAMS_BIDIRECTIONAL = 0x2B65
    ENABLE_WEBTRANSPORT = 0x2B60_3742
    WEBTRANSPORT_MAX_SESSIONS = 0xC671_706A
    WT_MAX_SESSIONS = 0x14E9_CD29
    WT_ENABLED = 0x2C7C_F000


class Draft(enum.IntEnum):
    """The drafts whose settings differ, each by the first that had them."""

    DRAFT_02 = 2
    DRAFT_07 = 7
    DRAFT_13 = 13
    DRAFT_15 = 15

    @property
    def token(self) -> str:
        """The `:protocol` of a CONNECT request."""
        return "webtransport-h3" if self is Draft.DRAFT_15 else "webtransport"


_ANNOUNCED: Final = {
    Draft.DRAFT_15: Setting.WT_ENABLED,
    Draft.DRAFT_13: Setting.WT_MAX_SESSIONS,
    Draft.DRAFT_07: Setting.WEBTRANSPORT_MAX_SESSIONS,
    Draft.DRAFT_02: Setting.ENABLE_WEBTRANSPORT,
}
"""The setting that announces a draft, the newest first."""

_FLAGS: Final = (
    Setting.ENABLE_CONNECT_PROTOCOL,
    Setting.H3_DATAGRAM,
    Setting.ENABLE_WEBTRANSPORT,
    Setting.WT_ENABLED,
)


def _varint(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{attribute.name} must be 0 to {MAX_VARINT}, not {value!r}")


def _stream_count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= 1 << 60:
        raise ValueError(f"{attribute.name} must be 0 to 2**60, not {value!r}")


@attrs.frozen(kw_only=True)
class SessionLimits:
    """What one side lets the other one do in each session before it hears of more.

    Attributes:
      window_bytes: bytes on the session's streams, beyond what was consumed.
      max_bidirectional_streams, max_unidirectional_streams: streams that the other side has open at once.
    """

    window_bytes: int = attrs.field(default=0, validator=_varint)
    max_bidirectional_streams: int = attrs.field(default=0, validator=_stream_count)
    max_unidirectional_streams: int = attrs.field(default=0, validator=_stream_count)

    @property
    def asks_for_flow_control(self) -> bool:
        """Whether any of them is there; sessions have flow control of their own if both sides ask for it."""
        return any((self.window_bytes, self.max_bidirectional_streams, self.max_unidirectional_streams))


@attrs.frozen(kw_only=True)
class PeerSettings:
    """What a peer's settings mean.

    Attributes:
      draft: the newest draft that it names; None for a peer without WebTransport.
      max_sessions: sessions it takes at once; None for no limit. A client's number means nothing but that it is not 0.
      limits: of each session.
      unmet: what WebTransport needs and the peer does not offer, by name.
    """

    draft: Draft | None
    max_sessions: int | None
    limits: SessionLimits
    unmet: tuple[str, ...]

    def require(self) -> Draft:
        """The draft to speak.

        Raises:
          Http3Error: sessions with this peer are not possible; a CONNECT stream is to be reset with its code.
        """
        if self.draft is None or self.unmet:
            missing = ", ".join(self.unmet) or "any draft of WebTransport"
            raise Http3Error(f"the peer does not offer {missing}", Http3Code.WT_REQUIREMENTS_NOT_MET, field=missing)
        return self.draft

    def has_flow_control(self, own: SessionLimits) -> bool:
        """Whether sessions have flow control of their own."""
        return own.asks_for_flow_control and self.limits.asks_for_flow_control


def local_settings(*, is_client: bool, max_sessions: int, limits: SessionLimits) -> dict[int, int]:
    """What to send.

    Args:
      is_client: which side this is.
      max_sessions: sessions at once; a client says with it that it knows WebTransport, so it is at least 1.
      limits: of each session. pywebtransport 0.8.1 opens no stream where they are 0.
    """
    if not 0 < max_sessions <= MAX_VARINT:
        raise ValueError(f"max_sessions must be 1 to {MAX_VARINT}, not {max_sessions!r}")
    settings: dict[int, int] = {
        Setting.H3_DATAGRAM: 1,
        Setting.ENABLE_WEBTRANSPORT: 1,
        Setting.WEBTRANSPORT_MAX_SESSIONS: max_sessions,
        Setting.WT_MAX_SESSIONS: max_sessions,
        Setting.WT_ENABLED: 1,
        Setting.WT_INITIAL_MAX_DATA: limits.window_bytes,
        Setting.WT_INITIAL_MAX_STREAMS_UNIDIRECTIONAL: limits.max_unidirectional_streams,
        Setting.WT_INITIAL_MAX_STREAMS_BIDIRECTIONAL: limits.max_bidirectional_streams,
    }
    if not is_client:
        settings[Setting.ENABLE_CONNECT_PROTOCOL] = 1
    return settings


def read_settings(settings: Mapping[int, int], *, is_client: bool, max_datagram_frame_size: int | None) -> PeerSettings:
    """What the peer sent.

    Args:
      settings: its SETTINGS frame.
      is_client: which side *this* is.
      max_datagram_frame_size: the peer's transport parameter; None or 0 for no datagrams.

    Raises:
      Http3Error: a flag is neither 0 nor 1, or a limit is impossible; the connection is over.
    """
    for flag in _FLAGS:
        _check(settings, flag, 1)
    for count in (Setting.WT_INITIAL_MAX_STREAMS_UNIDIRECTIONAL, Setting.WT_INITIAL_MAX_STREAMS_BIDIRECTIONAL):
        _check(settings, count, 1 << 60)
    draft = next((draft for draft, setting in _ANNOUNCED.items() if settings.get(setting)), None)
    is_counted = draft in {Draft.DRAFT_07, Draft.DRAFT_13}
    unmet: list[str] = []
    if is_client and not settings.get(Setting.ENABLE_CONNECT_PROTOCOL):
        unmet.append("ENABLE_CONNECT_PROTOCOL")
    if not settings.get(Setting.H3_DATAGRAM):
        unmet.append("H3_DATAGRAM")
    if not max_datagram_frame_size:
        unmet.append("max_datagram_frame_size")
    return PeerSettings(
        draft=draft,
        max_sessions=settings[_ANNOUNCED[draft]] if draft is not None and is_counted else None,
        limits=SessionLimits(
            window_bytes=settings.get(Setting.WT_INITIAL_MAX_DATA, 0),
            max_bidirectional_streams=settings.get(Setting.WT_INITIAL_MAX_STREAMS_BIDIRECTIONAL, 0),
            max_unidirectional_streams=settings.get(Setting.WT_INITIAL_MAX_STREAMS_UNIDIRECTIONAL, 0),
        ),
        unmet=tuple(unmet),
    )


def _check(settings: Mapping[int, int], setting: Setting, most: int) -> None:
    if (value := settings.get(setting, 0)) > most:
        raise Http3Error(
            f"the peer's setting {setting.name} is {value}",
            Http3Code.H3_SETTINGS_ERROR,
            ends_connection=True,
            field=setting.name,
            size=value,
            limit=most,
        )

"""Who may ask a web server, by its `Host` and `Origin`."""

from __future__ import annotations

import pytest

from trio_streams.transports.origin import OriginPolicy, is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("127.1", False),
        ("", False),
    ],
)
def test_loopback_by_form(host: str, expected: bool) -> None:
    """A name is this machine's own by its form, never by looking it up: that is what rebinding plays with."""
    assert is_loopback(host) is expected


LOCAL = OriginPolicy("127.0.0.1")
OPEN = OriginPolicy("0.0.0.0")
NAMED = OriginPolicy("0.0.0.0", allowed_hosts=["Example.org", "*.api.example.org", "192.0.2.1"])
PROXIED = OriginPolicy("localhost", allowed_hosts=["example.org"], allowed_origins=["https://App.example.org/"])
WIDE = OriginPolicy("localhost", allowed_hosts=["*"], allowed_origins=["*"])


@pytest.mark.parametrize(
    ("policy", "host", "status"),
    [
        (LOCAL, None, None),
        (LOCAL, "localhost:8000", None),
        (LOCAL, "[::1]:8000", None),
        (LOCAL, "127.0.0.1", None),
        (LOCAL, "evil.example", 421),
        (LOCAL, "192.168.0.1", 421),
        (LOCAL, "", 421),
        (LOCAL, "localhost@evil.example", 421),
        (LOCAL, "localhost/evil.example", 421),
        (LOCAL, "evil.example#localhost", 421),
        (LOCAL, "localhost:x", 421),
        (LOCAL, "[::1", 421),
        (LOCAL, "localhost, evil.example", 421),
        (OPEN, "whatever.example", None),
        (OPEN, None, None),
        (NAMED, "example.org:443", None),
        (NAMED, "EXAMPLE.ORG.", None),
        (NAMED, "v1.api.example.org", None),
        (NAMED, "api.example.org", 421),
        (NAMED, "evilapi.example.org", 421),
        (NAMED, "192.0.2.1:80", None),
        (NAMED, "localhost", 421),
        (PROXIED, "example.org", None),
        (PROXIED, "localhost:1", None),
        (PROXIED, "example.com", 421),
        (WIDE, "evil.example", None),
    ],
)
def test_hosts(policy: OriginPolicy, host: str | None, status: int | None) -> None:
    """A loopback server answers to loopback names and those it is told; any other to all, or those it is told."""
    for _ in range(2):  # what is known is remembered
        refusal = policy.refusal(host, None)
        assert (None if refusal is None else refusal.status) == status
        assert refusal is None or refusal.field == "host"


@pytest.mark.parametrize(
    ("policy", "host", "origin", "status"),
    [
        (LOCAL, "localhost:8000", "http://localhost:8000", None),
        (LOCAL, "localhost:8000", "HTTP://LOCALHOST:8000", None),
        (LOCAL, "localhost", "http://localhost:80", None),
        (LOCAL, "localhost:443", "https://localhost", None),
        (LOCAL, "localhost:8000", "http://localhost:8001", 403),
        (LOCAL, "localhost:8000", "http://127.0.0.1:8000", 403),
        (LOCAL, "localhost", "null", 403),
        (LOCAL, "localhost", "", 403),
        (LOCAL, "localhost", "file://", 403),
        (LOCAL, "localhost", "http://", 403),
        (LOCAL, None, "http://localhost", 403),
        (OPEN, "example.org", "https://example.org", None),
        (OPEN, "example.org", "https://evil.example", 403),
        (OPEN, "example.org", "http://example.org.evil.example", 403),
        (OPEN, "example.org", "http://evil.example@example.org", 403),
        (PROXIED, "example.org", "https://app.example.org", None),
        (PROXIED, "example.org", "http://app.example.org", 403),
        (PROXIED, "example.org", "https://app.example.org:8443", 403),
        (WIDE, "localhost", "null", None),
    ],
)
def test_origins(policy: OriginPolicy, host: str | None, origin: str, status: int | None) -> None:
    """A page may ask its own server, whatever ended TLS before it, and those servers that name it."""
    refusal = policy.refusal(host, origin)
    assert (None if refusal is None else refusal.status) == status
    assert refusal is None or refusal.field == "origin"


def test_a_long_name_is_cut() -> None:
    """What a stranger sends does not make an answer long, and what is remembered does not grow."""
    refusal = LOCAL.refusal("x" * 10_000, None)
    assert refusal is not None
    assert len(refusal.text) < 200
    for number in range(1_000):
        assert LOCAL.refusal(f"n{number}.localhost", None) is None
    assert len(LOCAL._known) <= 64

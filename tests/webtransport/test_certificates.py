"""Certificates for trying things out, judged by `cryptography` and by OpenSSL."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from trio_streams.errors import LocalProtocolError
from trio_streams.webtransport.certificates import MAX_DAYS, certificate_hash, make_certificate

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


def names_of(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """The names and the addresses that a certificate is for."""
    found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(found, x509.SubjectAlternativeName)
    return found.get_values_for_type(x509.DNSName), [str(one) for one in found.get_values_for_type(x509.IPAddress)]


def test_what_browsers_ask_for() -> None:
    """A key on P-256, and less than two weeks between the dates, even with the hour for clocks that are late."""
    made = make_certificate(now=NOW)
    certificate = x509.load_pem_x509_certificate(made.certificate_pem)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc == made.expires_at == NOW + dt.timedelta(days=MAX_DAYS)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < dt.timedelta(days=14)
    certificate.verify_directly_issued_by(certificate)
    assert make_certificate(now=NOW).sha256 != made.sha256


def test_it_is_for_names_and_addresses() -> None:
    """Both kinds of hosts are in it, each once, names in the form that a handshake has them."""
    hosts = ["localhost", "127.0.0.1", "[::1]", "ümlaut.example", "*.example.org", "localhost", "a.example."]
    made = make_certificate(hosts)
    expected = ["localhost", "xn--mlaut-jva.example", "*.example.org", "a.example"]
    assert names_of(x509.load_pem_x509_certificate(made.certificate_pem)) == (expected, ["127.0.0.1", "::1"])
    assert made.hosts == ("localhost", "127.0.0.1", "::1", *expected[1:])


@pytest.mark.parametrize(
    "host", ["", "a b", "-a", "a..b", "*.", "http://a", "a:443", "x" * 64, ".".join(["a" * 60] * 5)]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    """The error names what was given."""
    with pytest.raises(LocalProtocolError, match="is neither a name nor an IP address") as caught:
        make_certificate([host])
    assert caught.value.field == "hosts"


def test_limits() -> None:
    """A certificate that browsers would refuse for its age, or that is for nobody or for too many, is not made."""
    for days in (0, -1, 14, 365):
        with pytest.raises(LocalProtocolError, match=f"days is {days}, outside 1 to 13"):
            make_certificate(days=days)
    for hosts in ([], [f"h{number}" for number in range(101)]):
        with pytest.raises(LocalProtocolError, match="for 1 to 100 hosts"):
            make_certificate(hosts)


def test_the_hash_is_of_the_der_form() -> None:
    """What JavaScript is given is what `openssl x509 -outform der | sha256sum` prints."""
    made = make_certificate()
    der = ssl.PEM_cert_to_DER_cert(made.certificate_pem.decode())
    assert made.sha256 == hashlib.sha256(der).digest()
    assert base64.b64decode(made.sha256_base64) == made.sha256
    other = make_certificate()
    assert certificate_hash(made.certificate_pem + other.certificate_pem) == made.sha256
    with pytest.raises(LocalProtocolError, match="hold no certificate"):
        certificate_hash(b"nothing")


def test_the_files_are_a_pair(tmp_path: Path) -> None:
    """OpenSSL takes them; only the owner can read the key, and its text is in no representation."""
    made = make_certificate()
    certificate, key = made.write(tmp_path / "new" / "folder")
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert made.key_pem.decode() not in repr(made)
    assert "PRIVATE" not in repr(made)


@pytest.mark.parametrize("there", ["cert.pem", "key.pem"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    """One file of the pair that is there keeps both from being written."""
    (tmp_path / there).write_text("precious")
    with pytest.raises(FileExistsError):
        make_certificate().write(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "precious")]


def test_overwriting_replaces(tmp_path: Path) -> None:
    """A key that everybody could read, or a link to another file, is not written through: it is replaced."""
    (tmp_path / "key.pem").write_text("old")
    (tmp_path / "key.pem").chmod(0o644)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / "cert.pem").symlink_to(elsewhere)
    made = make_certificate()
    certificate, key = made.write(tmp_path, overwrite=True)
    assert (certificate.read_bytes(), key.read_bytes()) == (made.certificate_pem, made.key_pem)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert elsewhere.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cert.pem", "elsewhere", "key.pem"]


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path) -> None:
    """What can't be put in place is taken away again."""
    (tmp_path / "key.pem").mkdir()
    with pytest.raises(OSError, match="."):
        make_certificate().write(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]

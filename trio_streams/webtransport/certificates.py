"""Certificates for trying things out: self-signed, and such that a browser accepts one by its hash.

A page may name the hashes of certificates that it trusts without any authority. Browsers take that for what it is, a way
to a server without a name, and ask in return for a key on a curve of NIST and for less than two weeks between a
certificate's two dates. So a server that lives longer needs a new one at least as often, and pages its new hash.

Spec: W3C WebTransport, "custom certificate requirements"; RFC 5280 §4.2.1.6.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trio_streams.errors import LocalProtocolError

__all__ = [
    "DEFAULT_HOSTS",
    "MAX_DAYS",
    "Certificate",
    "certificate_der",
    "certificate_hash",
    "is_valid_now",
    "make_certificate",
]

DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""Whom a certificate names unless told otherwise: this machine, to itself."""

MAX_DAYS: Final = 13
"""Less than two weeks, with the hour that a certificate is older than it is."""

_SKEW: Final = dt.timedelta(hours=1)
"""By how much a client's clock may be behind ours."""

_MAX_HOSTS: Final = 100
_MAX_NAME_CHARACTERS: Final = 253
"""RFC 1035 §2.3.4, without the dot at the end."""


@attrs.frozen
class Certificate:
    """A certificate and its key.

    Attributes:
      certificate_pem: the certificate, in PEM.
      key_pem: its private key, in PEM, without a password.
      hosts: the names and addresses that it is for.
      expires_at: when it stops being good, with a time zone.
    """

    certificate_pem: bytes
    key_pem: bytes = attrs.field(repr=False)
    hosts: tuple[str, ...]
    expires_at: dt.datetime

    @property
    def sha256(self) -> bytes:
        """What browsers call it by: the SHA-256 hash of its DER form, 32 bytes."""
        return certificate_hash(self.certificate_pem)

    @property
    def sha256_base64(self) -> str:
        """The hash in base64, as JavaScript likes it."""
        return base64.b64encode(self.sha256).decode()

    def write(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write `cert.pem` and `key.pem`, the key readable by its owner alone.

        Args:
          folder: where to; made if it is not there.
          overwrite: whether to replace what is there; each file is then old or new at any moment.

        Returns:
          Where the certificate is, and where the key is.

        Raises:
          FileExistsError: one of the files is there; nothing was changed.
          OSError: a file can't be written.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        certificate, key = place / "cert.pem", place / "key.pem"
        if overwrite:
            _replace(key, self.key_pem, 0o600)
            _replace(certificate, self.certificate_pem, 0o644)
            return certificate, key
        _create(key, self.key_pem, 0o600)
        try:
            _create(certificate, self.certificate_pem, 0o644)
        except OSError:
            key.unlink()  # it is ours, and would be half a pair
            raise
        return certificate, key


def make_certificate(
    hosts: Sequence[str] = DEFAULT_HOSTS, *, days: int = MAX_DAYS, now: dt.datetime | None = None
) -> Certificate:
    """Make a certificate that signs itself, on P-256.

    Args:
      hosts: names and IP addresses that it is for; a name may begin with `*.`.
      days: how long it is good for from now on, 1 to 13. It is good for an hour before now, too, for clocks that are late.
      now: the time, with a time zone; the system's by default.

    Raises:
      LocalProtocolError: there is no host, a host is neither a name nor an address, or it would live too long for
        browsers.
    """
    if not 1 <= days <= MAX_DAYS:
        text = (
            f"days is {days}, outside 1 to {MAX_DAYS}: browsers take no certificate by its hash that is good for longer"
        )
        raise LocalProtocolError(text, field="days", size=days, limit=MAX_DAYS)
    if not 1 <= len(hosts) <= _MAX_HOSTS:
        text = f"a certificate is for 1 to {_MAX_HOSTS} hosts, not {len(hosts)}"
        raise LocalProtocolError(text, field="hosts", size=len(hosts), limit=_MAX_HOSTS)
    names = list(dict.fromkeys(_general_name(host) for host in hosts))
    began = (now or dt.datetime.now(dt.UTC)).replace(microsecond=0)
    expires_at = began + dt.timedelta(days=days)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, names, began - _SKEW, expires_at)
    return Certificate(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        hosts=tuple(str(name.value) for name in names),
        expires_at=expires_at,
    )


def certificate_hash(certificate_pem: bytes) -> bytes:
    """The SHA-256 hash of a certificate's DER form, of the first one where there are several.

    Raises:
      LocalProtocolError: there is no certificate in it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError as exc:
        raise LocalProtocolError(
            f"{len(certificate_pem)} bytes of PEM hold no certificate", field="certificate_pem"
        ) from exc
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def _sign(
    key: ec.EllipticCurvePrivateKey, names: Sequence[_GeneralName], begins_at: dt.datetime, expires_at: dt.datetime
) -> x509.Certificate:
    # The names that count are the alternative ones; this one is for people.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trio_streams")])
    # It signs itself, so it is an authority: what is none can't be shown to QUIC by a context of the `ssl` module.
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins_at)
        .not_valid_after(expires_at)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


_GeneralName = x509.DNSName | x509.IPAddress


def _general_name(host: str) -> _GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    name = host.removesuffix(".")
    try:
        ascii_name = f"*.{_idna(name[2:])}" if name.startswith("*.") else _idna(name)
    except UnicodeError as exc:
        raise LocalProtocolError(f"{host[:80]!r} is neither a name nor an IP address", field="hosts") from exc
    return x509.DNSName(ascii_name)


def _idna(name: str) -> str:
    encoded = name.encode("idna").decode()
    if not name or len(encoded) > _MAX_NAME_CHARACTERS or not all(map(_is_label, encoded.split("."))):
        raise UnicodeError("not a host's name")
    return encoded


def _is_label(label: str) -> bool:
    return label.replace("-", "").replace("_", "").isalnum() and not label.startswith("-") and not label.endswith("-")


def _create(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file beside its place and rename it over that, so that a mode or a link that was there stays behind."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        _create(beside, data, mode)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def certificate_der(certificate: x509.Certificate) -> bytes:
    """A certificate as it is on the wire, which is what its hash is of."""
    return certificate.public_bytes(serialization.Encoding.DER)


def is_valid_now(certificate_der: bytes) -> bool:
    """Whether this is a time between a certificate's two dates."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    return certificate.not_valid_before_utc <= dt.datetime.now(dt.UTC) <= certificate.not_valid_after_utc

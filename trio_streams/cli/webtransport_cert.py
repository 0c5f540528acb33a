"""`trio-streams webtransport cert`: a certificate that browsers accept by its hash."""

from __future__ import annotations

import argparse
from functools import partial

import trio

from trio_streams.cli.output import Output
from trio_streams.cli.process import UsageError, run
from trio_streams.webtransport.certificates import DEFAULT_HOSTS, make_certificate

__all__ = ["run_cert"]


def run_cert(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_cert, arguments))


async def _cert(arguments: argparse.Namespace) -> None:
    certificate = make_certificate(arguments.host or DEFAULT_HOSTS, days=arguments.days)
    try:
        paths = await trio.to_thread.run_sync(partial(certificate.write, arguments.folder, overwrite=arguments.force))
    except FileExistsError as exc:
        raise UsageError(f"{exc.filename} is there: --force replaces it") from exc
    except OSError as exc:
        raise UsageError(f"can't write to {arguments.folder}: {exc.strerror}") from exc
    lines = (
        *(str(path) for path in paths),
        f"for {', '.join(certificate.hosts)}, until {certificate.expires_at:%Y-%m-%d %H:%M} UTC",
        f"sha-256: {certificate.sha256.hex()}",
        f"sha-256: {certificate.sha256_base64}",
        javascript(certificate.sha256_base64),
    )
    await Output().write("".join(f"{line}\n" for line in lines))


def javascript(sha256_base64: str) -> str:
    """The option of `new WebTransport(url, …)` that accepts a certificate."""
    value = f'Uint8Array.from(atob("{sha256_base64}"), c => c.charCodeAt(0))'
    return f'{{serverCertificateHashes: [{{algorithm: "sha-256", value: {value}}}]}}'

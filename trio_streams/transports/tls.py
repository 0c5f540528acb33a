"""Opening TLS on both sides: contexts, the handshake, and what to say when it fails.

A handshake that fails ends in one exception whose message is one line, and whose `field` says what was at fault:

    certificate         it was refused: unknown, expired, revoked; or the peer refused ours
    hostname            it is somebody else's
    alpn                the peer chose another application protocol
    tls                 no TLS at all, or no version or cipher that both sides know
    handshake_timeout   it took too long
"""

from __future__ import annotations

import ssl
from typing import Final

import trio

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError, StreamsError
from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import ByteCarrier, describe_fault, host_port, open_tcp_stream, peer_name
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.transports.tls_carrier import TlsCarrier as TlsCarrier
from trio_streams.transports.tls_carrier import TlsMachine
from trio_streams.wire.binary import PROTOCOL

__all__ = ["TlsCarrier", "accept_tls", "client_context", "connect_tls", "open_server_tls", "server_context"]

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h.
_MISMATCHES: Final = frozenset({62, 64})

_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"}
)
"""How OpenSSL says that what it reads are no records."""


def client_context(cafile: str | None = None) -> ssl.SSLContext:
    """What a client of `tls://` needs: it checks certificates and names, and asks for our protocol by ALPN.

    Args:
      cafile: certificates to trust, in PEM; None for what the system trusts.

    Raises:
      LocalProtocolError: the file can't be used; one line.
    """
    try:
        context = ssl.create_default_context(cafile=cafile)
    except OSError as exc:
        raise LocalProtocolError(
            f"can't use the certificates in {cafile}: {describe_fault(exc)}", field="cafile"
        ) from exc
    context.set_alpn_protocols([PROTOCOL])
    return context


def server_context(
    certfile: str, keyfile: str, *, client_cafile: str | None = None, alpn: str | None = PROTOCOL
) -> ssl.SSLContext:
    """What a server of `tls://` needs.

    Args:
      certfile: a certificate chain in PEM.
      keyfile: its key.
      client_cafile: who has to have signed the clients' certificates, in PEM; None asks clients for none.
      alpn: the application protocol that is agreed to; None for none.

    Raises:
      LocalProtocolError: a file can't be used; one line.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as exc:
        raise LocalProtocolError(
            f"can't use the certificate in {certfile} with the key in {keyfile}: {describe_fault(exc)}",
            field="certfile",
        ) from exc
    if client_cafile is not None:
        try:
            context.load_verify_locations(client_cafile)
        except OSError as exc:
            raise LocalProtocolError(
                f"can't use the certificates in {client_cafile}: {describe_fault(exc)}", field="client_cafile"
            ) from exc
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    # Sessions are not resumed, and a ticket that the client never reads makes its kernel reset the connection.
    context.num_tickets = 0
    return context


async def accept_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, *, config: ConnectionConfig | None = None, peer: str | None = None
) -> TlsCarrier:
    """Do the server's part of the handshake on a fresh byte stream.

    Args:
      stream: the byte stream; it belongs to the carrier, and is closed if the handshake fails.
      context: as made by `server_context`.
      config: for its `handshake_timeout` and `close_timeout`; None for the defaults.
      peer: who is on the other side, for people; None to ask the socket.

    Returns:
      The carrier.

    Raises:
      RemoteProtocolError: the handshake failed or took too long; one line, with `code` and `field`.
      ConnectionLost: the client left.
    Cancellation: closes the stream.
    """
    config = ConnectionConfig() if config is None else config
    peer = peer_name(stream) if peer is None else peer
    return await _open(stream, TlsMachine(context, is_server=True), peer, peer, config)


async def connect_tls(
    host: str,
    port: int,
    *,
    config: ConnectionConfig | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> TlsCarrier:
    """Connect to a TLS server.

    Args:
      host: a name or an address, which the server's certificate has to name.
      port: the port.
      config: for its `connect_timeout`, `handshake_timeout` and `close_timeout`; None for the defaults.
      ssl_context: as made by `client_context`; None trusts what the system trusts.

    Returns:
      The carrier.

    Raises:
      ConnectionLost: nobody listens there, nobody answered in time, or the server left; one line.
      RemoteProtocolError: the handshake failed or took too long; one line, with `code` and `field`.
    Cancellation: atomic; nothing stays open.
    """
    config = ConnectionConfig() if config is None else config
    context = client_context() if ssl_context is None else ssl_context
    url = f"tls://{host_port(host, port)}"
    stream = await open_tcp_stream(host, port, url=url, connect_timeout=config.connect_timeout)
    machine = TlsMachine(context, is_server=False, host=host)
    return await _open(stream, machine, url, peer_name(stream), config)


async def open_server_tls(
    stream: trio.SocketStream, context: ssl.SSLContext, *, config: ConnectionConfig
) -> trio.SSLStream[trio.SocketStream]:
    """Do the server's part of the handshake for a protocol that has a goodbye of its own, such as WebSocket.

    Args:
      stream: fresh; it is closed if the handshake fails.
      context: as made by `server_context`.
      config: for its `handshake_timeout`.

    Returns:
      A Trio stream.

    Raises:
      RemoteProtocolError: the handshake failed or took too long; one line, with `code` and `field`.
      ConnectionLost: the client left.
    Cancellation: closes the stream.
    """
    peer = peer_name(stream)
    secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    is_open = False
    try:
        with trio.fail_after(config.handshake_timeout):
            await secure.do_handshake()
        is_open = True
    except trio.TooSlowError as exc:
        raise _too_slow(peer, config) from exc
    except trio.BrokenResourceError as exc:
        if isinstance(exc.__cause__, ssl.SSLError) and not isinstance(exc.__cause__, ssl.SSLEOFError):
            raise _refusal(peer, exc.__cause__) from exc
        raise _left(peer, exc) from exc
    finally:
        if not is_open:
            await trio.aclose_forcefully(stream)
    return secure


async def _open(
    stream: trio.abc.Stream, machine: TlsMachine, name: str, peer: str, config: ConnectionConfig
) -> TlsCarrier:
    is_open = False
    try:
        with trio.fail_after(config.handshake_timeout):
            await _shake_hands(stream, machine)
        if machine.alpn not in {None, PROTOCOL}:  # a proxy that ends TLS for us may know of no ALPN
            raise RemoteProtocolError(
                f"the TLS handshake with {name} failed: it speaks {machine.alpn}, not {PROTOCOL}", field="alpn"
            )
        is_open = True
    except trio.TooSlowError as exc:
        raise _too_slow(name, config) from exc
    except (ssl.SSLEOFError, trio.BrokenResourceError) as exc:
        raise _left(name, exc) from exc
    except ssl.SSLError as exc:
        raise _refusal(name, exc) from exc
    finally:
        if not is_open:
            # Lingers, so that the alert that says why arrives.
            await ByteCarrier(stream, peer="", close_timeout=config.close_timeout).aclose()
    return TlsCarrier(stream, machine, peer=peer, close_timeout=config.close_timeout, describe=_refusal)


async def _shake_hands(stream: trio.abc.Stream, machine: TlsMachine) -> None:
    is_done = False
    while not is_done:
        try:
            is_done = machine.shake_hands()
        finally:
            # When it has failed, this is the alert.
            if output := machine.take_output():
                await stream.send_all(output)
        if not is_done:
            machine.feed(await stream.receive_some(RECEIVE_BYTES))


def _refusal(name: str, fault: ssl.SSLError) -> StreamsError:
    """A fault of TLS in one line."""
    failed = f"the TLS connection to {name} failed"
    reason = fault.reason or ""
    if isinstance(fault, ssl.SSLCertVerificationError):
        is_other = fault.verify_code in _MISMATCHES
        said = fault.verify_message.rstrip(".")
        return RemoteProtocolError(
            f"{failed}: {'its certificate is not its own' if is_other else 'its certificate was refused'}: {said}",
            code=Code.UNAUTHENTICATED,
            field="hostname" if is_other else "certificate",
        )
    words = reason.lower().replace("_", " ") or str(fault)
    if reason in _NO_TLS:
        return RemoteProtocolError(f"{failed}: what it speaks is not TLS ({words})", field="tls")
    if "CERTIFICATE" in reason or reason.endswith("UNKNOWN_CA"):
        said = words.partition("alert ")[2] or words
        if "ALERT" in reason:
            said = f"it refused our certificate: {said}"
        return RemoteProtocolError(f"{failed}: {said}", code=Code.UNAUTHENTICATED, field="certificate")
    field = "alpn" if "APPLICATION_PROTOCOL" in reason else "tls"
    return RemoteProtocolError(f"{failed}: {words}", field=field)


def _left(name: str, exc: BaseException) -> ConnectionLost:
    why = "" if isinstance(exc, ssl.SSLEOFError) or exc.__cause__ is None else f": {describe_fault(exc)}"
    return ConnectionLost(f"{name} left during the TLS handshake{why}")


def _too_slow(name: str, config: ConnectionConfig) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"no TLS handshake from {name} within {config.handshake_timeout:g} s",
        code=Code.HANDSHAKE_TIMEOUT,
        field="handshake_timeout",
    )

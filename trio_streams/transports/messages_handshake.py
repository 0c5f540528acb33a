"""The opening handshake of a WebSocket, on both sides, bounded in time and in bytes.

`websockets`' machine reads at most 128 headers of 8 KiB. A peer that is slow, malformed or speaks another subprotocol
ends in one exception whose message is one line, and on the server in an HTTP answer that says the same.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI, NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.protocol import CONNECTING, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError, StreamsError, forget_frames
from trio_streams.transports.admission import CheckRequest, find_check, find_message_timeout, find_text_limit
from trio_streams.transports.bytes import ByteCarrier, describe_fault, open_tcp_stream, peer_name, tune_stream
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.transports.messages_websocket import (
    DEFAULT_MAX_MESSAGE_BYTES,
    SILENT_LOGGER,
    SUBPROTOCOL,
    WebSocketCarrier,
)

__all__ = ["accept_websocket", "connect_websocket", "open_websocket_stream"]

_Select = Callable[[Sequence[Subprotocol]], Subprotocol | None]


async def accept_websocket(
    stream: trio.abc.Stream,
    *,
    config: ConnectionConfig | None = None,
    subprotocols: Sequence[str] = (SUBPROTOCOL,),
    require_subprotocol: bool = True,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    origins: Sequence[str | None] | None = None,
    check_request: CheckRequest | None = None,
    compress: bool = False,
    peer: str | None = None,
    received: bytes = b"",
) -> WebSocketCarrier:
    """Answer a client's WebSocket handshake on a fresh byte stream.

    Args:
      stream: the byte stream; it belongs to the carrier, and is closed if the handshake fails.
      config: for its `handshake_timeout`, `close_timeout` and `max_control_bytes`; None for the defaults.
      subprotocols: those this server speaks, best first.
      require_subprotocol: whether a client that offers none of them is refused with status 400. One that offers nothing
        at all is let in where the server around speaks with such (`Admission.max_text_bytes`).
      max_message_bytes: the longest message accepted, in one frame or in many.
      origins: acceptable values of the Origin header, None among them if it may be absent; None for any. Browsers send
        it and cannot forge it, so this keeps other sites' pages out.
      check_request: judges the request by its Host and Origin, such as an `OriginPolicy`'s `refusal`; None for what the
        server around asks, if anything.
      compress: whether to agree to permessage-deflate; it costs 2.6 × at 100 bytes and 50 × at 64 KB.
      peer: who is on the other side, for people; None to ask the socket.
      received: what was read of the stream already, from the request's first byte on; hosts of HTTP have looked at it.

    Returns:
      The open WebSocket; its `path` and `subprotocol` say what the client asked for.

    Raises:
      RemoteProtocolError: the request was malformed, slow or not acceptable; the client has been told why.
      ConnectionLost: the client left.
    Cancellation: closes the stream.
    Spec: RFC 6455 §4.2.
    """
    config = ConnectionConfig() if config is None else config
    peer = peer_name(stream) if peer is None else peer
    machine = _ServerMachine(
        _selector(subprotocols, is_required=require_subprotocol),
        origins=_origins(origins),
        extensions=[ServerPerMessageDeflateFactory()] if compress else None,
        max_size=max_message_bytes,
        logger=SILENT_LOGGER,
    )
    tune_stream(stream)
    is_open = False
    try:
        with trio.fail_after(config.handshake_timeout):
            request, unfed = await _serve_handshake(stream, machine, peer, received, find_check(check_request))
        _limit_texts(machine)
        is_open = True
    except trio.TooSlowError as exc:
        await _tell_too_slow(stream, machine, config)
        raise _too_slow(peer, "request", config) from exc
    except ConnectionLost:
        raise  # it is a BrokenResourceError, too
    except trio.BrokenResourceError as exc:
        raise ConnectionLost(f"{peer} left during the WebSocket handshake: {describe_fault(exc)}") from exc
    finally:
        if not is_open:
            await _close_refused(stream, config)
    return _open_carrier(stream, machine, peer, config, request.path, unfed)


async def connect_websocket(
    url: str,
    *,
    config: ConnectionConfig | None = None,
    subprotocols: Sequence[str] = (SUBPROTOCOL,),
    require_subprotocol: bool = True,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    headers: Mapping[str, str] | None = None,
    origin: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    compress: bool = False,
) -> WebSocketCarrier:
    """Connect to a WebSocket server.

    Args:
      url: `ws://host:port/path?query` or `wss://…`; user information in it becomes basic authorization.
      config: for its `connect_timeout`, `handshake_timeout`, `close_timeout` and `max_control_bytes`; None for the
        defaults.
      subprotocols: those this client speaks, best first.
      require_subprotocol: whether a server that chooses none of them is left.
      max_message_bytes: the longest message accepted, in one frame or in many.
      headers: further headers of the request.
      origin: the Origin header; browsers send one, programs rarely do.
      ssl_context: for `wss`; None for the system's defaults.
      compress: whether to offer permessage-deflate; it costs 2.6 × at 100 bytes and 50 × at 64 KB.

    Returns:
      The open WebSocket.

    Raises:
      ConnectionLost: nobody listens there, nobody answered in time, or the server left; one line.
      RemoteProtocolError: the server refused, or answered with something else than a WebSocket handshake; one line with
        its status and the beginning of its text.
      LocalProtocolError: the URL is not a WebSocket's.
    Cancellation: atomic; nothing stays open.
    Spec: RFC 6455 §4.1.
    """
    config = ConnectionConfig() if config is None else config
    uri = parse_url(url)
    machine = ClientProtocol(
        uri,
        origin=None if origin is None else Origin(origin),
        extensions=[ClientPerMessageDeflateFactory(client_max_window_bits=True)] if compress else None,
        subprotocols=[Subprotocol(one) for one in subprotocols] or None,
        max_size=max_message_bytes,
        logger=SILENT_LOGGER,
    )
    stream = await open_websocket_stream(url, config=config, ssl_context=ssl_context)
    is_open = False
    try:
        with trio.fail_after(config.handshake_timeout):
            unfed = await _request_handshake(stream, machine, url, headers or {})
        if require_subprotocol:
            check_chosen(url, subprotocols, machine.subprotocol)
        is_open = True
    except trio.TooSlowError as exc:
        raise _too_slow(url, "answer", config) from exc
    except ConnectionLost:
        raise
    except trio.BrokenResourceError as exc:
        raise ConnectionLost(f"{url} left during the WebSocket handshake: {describe_fault(exc)}") from exc
    finally:
        if not is_open:
            await trio.aclose_forcefully(stream)
    return WebSocketCarrier(stream, machine, peer=peer_name(stream), config=config, path=uri.resource_name, unfed=unfed)


async def open_websocket_stream(
    url: str, *, config: ConnectionConfig, ssl_context: ssl.SSLContext | None = None
) -> trio.abc.Stream:
    """Open the byte stream that a WebSocket URL asks for: TCP, or TLS over it.

    Args:
      url: `ws://…` or `wss://…`.
      config: for its `connect_timeout`, which covers TLS too.
      ssl_context: for `wss`; None for the system's defaults.

    Returns:
      The connected stream; TLS has shaken hands.

    Raises:
      ConnectionLost: nobody listens there, nobody answered in time, or TLS failed; one line that names `url`.
      LocalProtocolError: the URL is not a WebSocket's.
    Cancellation: atomic; nothing stays open.
    """
    uri = parse_url(url)
    deadline = trio.current_time() + config.connect_timeout
    stream = await open_tcp_stream(uri.host, uri.port, url=url, connect_timeout=config.connect_timeout)
    tune_stream(stream)
    if not uri.secure:
        return stream
    context = ssl.create_default_context() if ssl_context is None else ssl_context
    # A WebSocket has its own goodbye, so a peer that skips TLS's is not an attack.
    tls = trio.SSLStream(stream, context, server_hostname=uri.host, https_compatible=True)
    is_open = False
    try:
        with trio.fail_at(deadline):
            await tls.do_handshake()
        is_open = True
    except trio.TooSlowError as exc:
        raise ConnectionLost(f"cannot connect to {url}: no TLS within {config.connect_timeout:g} s") from exc
    except trio.BrokenResourceError as exc:
        raise ConnectionLost(f"cannot connect to {url}: {exc.__cause__ or exc}") from exc
    finally:
        if not is_open:
            await trio.aclose_forcefully(stream)
    return tls


async def _serve_handshake(
    stream: trio.abc.Stream, machine: ServerProtocol, peer: str, received: bytes, check: CheckRequest | None
) -> tuple[Request, bytes]:
    """Read the request and answer it; the request, and what the client sent behind it."""
    request, unfed = await _read_request(stream, machine, peer, received)
    refused: object = machine.handshake_exc
    if request is not None:
        response = _answer(machine, request, check)
        machine.send_response(response)
        refused = response.body.decode().partition("\n")[0] if response.body else None
    answer = b"".join(machine.data_to_send())
    if not answer:  # the machine leaves without a word when the request is not HTTP at all
        answer = machine.reject(400, "Expected the request of a WebSocket handshake.\n").serialize()
    await stream.send_all(answer)
    if machine.handshake_exc is not None:
        forget_frames(machine.handshake_exc)  # they hold the machine
    if request is None or machine.state is not OPEN:
        raise RemoteProtocolError(f"refused the WebSocket handshake of {peer}: {refused}", field="handshake")
    return request, unfed


def _origins(names: Sequence[str | None] | None) -> list[Origin | None] | None:
    return None if names is None else [None if one is None else Origin(one) for one in names]


def _limit_texts(machine: ServerProtocol) -> None:
    limit, most = find_text_limit(), machine.max_message_size
    if machine.subprotocol is None and limit is not None and most is not None:
        machine.max_message_size = min(most, limit)


def _open_carrier(
    stream: trio.abc.Stream, machine: ServerProtocol, peer: str, config: ConnectionConfig, path: str, unfed: bytes
) -> WebSocketCarrier:
    timeout = find_message_timeout() if machine.subprotocol is None else None
    return WebSocketCarrier(stream, machine, peer=peer, config=config, path=path, unfed=unfed, message_timeout=timeout)


def _answer(machine: ServerProtocol, request: Request, check: CheckRequest | None) -> Response:
    if check is not None:
        headers = request.headers
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        # Joined, several make a name that nobody has.
        refusal = check(", ".join(hosts) if hosts else None, ", ".join(origins) if origins else None)
        if refusal is not None:
            return machine.reject(refusal.status, f"{refusal.text}\n")
    return machine.accept(request)


async def _read_request(
    stream: trio.abc.Stream, machine: ServerProtocol, peer: str, received: bytes
) -> tuple[Request | None, bytes]:
    while True:
        data = received or await stream.receive_some(RECEIVE_BYTES)
        received = b""
        if not data:
            raise ConnectionLost(f"{peer} left before the WebSocket handshake was done")
        # Line by line, so that the machine sees no frame before it has answered the request.
        start = 0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            machine.receive_data(data[start:end])
            start = end
            for event in machine.events_received():
                if isinstance(event, Request):
                    return event, bytes(data[start:])
            if machine.handshake_exc is not None:
                return None, b""


async def _request_handshake(
    stream: trio.abc.Stream, machine: ClientProtocol, url: str, headers: Mapping[str, str]
) -> bytes:
    """Send the request and read the answer; what the server sent behind it."""
    request = machine.connect()
    for name, value in headers.items():
        request.headers[name] = value
    machine.send_request(request)
    await stream.send_all(b"".join(machine.data_to_send()))
    # The server's first frames, even its goodbye, may have come in one piece with its answer.
    # Line by line, as on the server, so that the machine sees none of them.
    data, start = b"", 0
    while machine.state is CONNECTING and machine.handshake_exc is None:
        if start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            machine.receive_data(data[start:end])
            start = end
        elif received := await stream.receive_some(RECEIVE_BYTES):
            data, start = bytes(received), 0
        else:
            machine.receive_eof()
    if machine.handshake_exc is not None:
        raise _refusal(url, machine.handshake_exc) from machine.handshake_exc
    return data[start:]


def check_chosen(url: str, subprotocols: Sequence[str], chosen: str | None) -> None:
    """Leave a server that chose no subprotocol although some were offered."""
    if subprotocols and chosen is None:
        raise RemoteProtocolError(
            f"{url} did not choose the WebSocket subprotocol {' or '.join(subprotocols)}", field="subprotocol"
        )


def _refusal(url: str, fault: Exception) -> StreamsError:
    if isinstance(fault.__cause__, EOFError):
        return ConnectionLost(f"{url} left during the WebSocket handshake")
    if isinstance(fault, InvalidStatus):
        response = fault.response
        text = " ".join((response.body or b"")[:200].decode(errors="replace").split())
        status = f"{response.status_code} {response.reason_phrase}"
        return RemoteProtocolError(
            f"{url} refused the WebSocket handshake: {status}{': ' if text else ''}{text}",
            field="status",
            size=response.status_code,
        )
    reason = fault.__cause__ if fault.__cause__ is not None else fault
    return RemoteProtocolError(f"{url} did not answer with a WebSocket handshake: {reason}", field="handshake")


def _too_slow(peer: str, what: str, config: ConnectionConfig) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"no WebSocket handshake {what} from {peer} within {config.handshake_timeout:g} s",
        code=Code.HANDSHAKE_TIMEOUT,
        field="handshake_timeout",
    )


async def _tell_too_slow(stream: trio.abc.Stream, machine: ServerProtocol, config: ConnectionConfig) -> None:
    limit = f"handshake_timeout of {config.handshake_timeout:g} s"
    answer = machine.reject(408, f"Expected the request of a WebSocket handshake within {limit}.\n").serialize()
    with trio.move_on_after(config.close_timeout), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(answer)


class _ServerMachine(ServerProtocol):
    """Chooses in a method of its class: a function that it is given it would bind to itself, and so hold itself."""

    def __init__(self, choose: _Select, **options: Any) -> None:
        super().__init__(**options)
        self._choose = choose

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        return self._choose(subprotocols)


def _selector(subprotocols: Sequence[str], *, is_required: bool) -> _Select:
    def select(offered: Sequence[Subprotocol]) -> Subprotocol | None:
        for one in subprotocols:
            if one in offered:
                return Subprotocol(one)
        if is_required and (offered or find_text_limit() is None):
            offer = ", ".join(offered) or "none"
            raise NegotiationError(f"expected the subprotocol {' or '.join(subprotocols)}, offered: {offer}")
        return None

    return select


def parse_url(url: str) -> WebSocketURI:
    try:
        return parse_uri(url)
    except (InvalidURI, ValueError) as exc:
        raise LocalProtocolError(f"cannot connect to {url}: not a WebSocket URL ({exc})", field="url") from exc


async def _close_refused(stream: trio.abc.Stream, config: ConnectionConfig) -> None:
    # Lingers, so that the answer arrives although the client may have sent more than was read.
    await ByteCarrier(stream, peer="", close_timeout=config.close_timeout).aclose()

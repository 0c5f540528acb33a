"""What an exchange's exceptions become: an error answer, an error in the log, or a body that visibly stops short."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from trio_streams.codes import http_status
from trio_streams.errors import RpcError
from trio_streams.errors import as_rpc_error as as_rpc_error
from trio_streams.transports.exchange import Exchange, ExchangeHandler, Headers, HostedExchange

__all__ = ["answer_error", "as_rpc_error", "error_fields", "respond", "run_handler"]

_LOG: Final = logging.getLogger("trio_streams")


def error_fields(error: RpcError) -> dict[str, object]:
    """An error as JSON says it: `code`, `message`, and `details` where there are any that JSON can say."""
    fields: dict[str, object] = {"code": error.code, "message": error.message}
    if error.details is not None:
        try:
            fields["details"] = msgspec.Raw(msgspec.json.encode(error.details))
        except (TypeError, ValueError, msgspec.MsgspecError):
            _LOG.warning("the details of %s are not JSON and were left out", error.code)
    return fields


async def respond(exchange: Exchange, status: int, body: bytes, headers: Headers = ()) -> None:
    """Answer with a whole body, its length declared."""
    await exchange.send_head(status, [*headers, ("content-length", str(len(body)))])
    await exchange.send(body)
    exchange.end()


async def answer_error(
    exchange: Exchange, error: RpcError, *, status: int | None = None, headers: Headers = ()
) -> None:
    """Answer `{"error": {"code", "message", "details"?}}`.

    Args:
      exchange: one without a head yet.
      error: what to say.
      status: the HTTP status where the code's own (`codes.http_status`) is not meant.
      headers: added to the content's type and length.
    """
    body = msgspec.json.encode({"error": error_fields(error)})
    head = [("content-type", "application/json"), ("cache-control", "no-store"), *headers]
    await respond(exchange, http_status(error.code) if status is None else status, body, head)


async def run_handler(exchange: HostedExchange, handler: ExchangeHandler) -> None:
    """Run a handler in the exchange's scope, and bring the answer to an end whatever it does.

    Cancellation: from outside it passes through, and the answer stays unfinished.
    """
    try:
        if exchange.has_own_scope:
            with exchange.cancel_scope:
                await handler(exchange)
        else:
            await handler(exchange)
        if not exchange.has_head and not exchange.cancel_scope.cancelled_caught:
            raise RuntimeError(f"the handler of {exchange.request.path!r} returned without an answer")  # noqa: TRY301
    except Exception as exc:  # noqa: BLE001 - the exchange is the boundary: one crash ends one exchange
        await _fail(exchange, exc)
    exchange.end()


async def _fail(exchange: HostedExchange, exc: Exception) -> None:
    error = as_rpc_error(exc, debug=exchange.config.debug)
    # A path that was decoded may hold line ends, and a log has its own.
    what = f"{exchange.request.method} {exchange.request.path!r}"
    if error.is_our_fault:
        _LOG.error("%s failed", what, exc_info=exc)
    else:
        _LOG.info("%s: %s", what, error)
    if exchange.is_ended:
        return
    if exchange.has_head or exchange.cancel_scope.cancel_called:
        # The status has been sent, so all that can be said is that the body is not whole.
        exchange.break_off()
    else:
        await answer_error(exchange, error)

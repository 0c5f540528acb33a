"""What stands around a handler: interceptors, each of which sees a call or a stream whole.

::

    async def timed(invocation: Invocation, proceed: Proceed) -> object:
        began = trio.current_time()
        try:
            return await proceed()
        finally:
            log(invocation.name, trio.current_time() - began)

One runs inside the other, in the task and the cancel scope of the handler: so an interceptor may open scopes, hold
resources and catch what the handler raises, and none needs a task. What it must see of the items it asks for
beforehand; a handler without interceptors pays nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import attrs

from trio_streams.errors import LocalProtocolError
from trio_streams.service.context import Context

__all__ = ["Interceptor", "Invocation", "Proceed", "intercept"]

A = TypeVar("A")
B = TypeVar("B")

Proceed: TypeAlias = Callable[[], Awaitable[object]]
"""Runs what is inside, to the end of the call or stream; called once at most."""


@attrs.define(eq=False, kw_only=True)
class Invocation:
    """One call or stream, as its interceptors see it.

    Attributes:
      name: of the procedure.
      kind: `call`, `event`, `server`, `client` or `bidirectional`.
      context: what the handler will be given; an interceptor may put another one in its place before it proceeds, such as
        `attrs.evolve(context, principal=…)`.
      declared: the metadata of the declaration.
    """

    name: str
    kind: str
    context: Context
    declared: Mapping[str, object] = attrs.field(factory=dict)
    _received: list[Callable[[object], object]] = attrs.field(factory=list, init=False, repr=False)
    _sent: list[Callable[[object], object]] = attrs.field(factory=list, init=False, repr=False)

    def map_received(self, fn: Callable[[object], object]) -> None:
        """Put something in the place of each item from the caller: the input, or every item of its stream.

        Args:
          fn: called with the decoded item when the handler takes it; must not wait. What it raises reaches the handler.
        """
        self._received.append(fn)

    def map_sent(self, fn: Callable[[object], object]) -> None:
        """Put something in the place of each item from the handler: its result, or every item of its stream.

        Args:
          fn: called with the item before it is encoded; must not wait. What it raises ends the call or stream.
        """
        self._sent.insert(0, fn)  # an item passes the innermost interceptor first

    def on_received(self, fn: Callable[[object], object]) -> None:
        """Be told of each item from the caller, as `map_received`; what `fn` returns is ignored."""
        self.map_received(_observing(fn))

    def on_sent(self, fn: Callable[[object], object]) -> None:
        """Be told of each item from the handler, as `map_sent`; what `fn` returns is ignored."""
        self.map_sent(_observing(fn))

    # For those who serve.

    def received(self, item: object) -> object:
        """An item from the caller, as the handler is to see it."""
        for fn in self._received:
            item = fn(item)
        return item

    def sent(self, item: object) -> object:
        """An item from the handler, as the caller is to see it."""
        for fn in self._sent:
            item = fn(item)
        return item

    def decoding(self, decode: Callable[[A], object]) -> Callable[[A], object]:
        """A decoder followed by `received`; the decoder itself where nobody asked."""
        return decode if not self._received else lambda payload: self.received(decode(payload))

    def encoding(self, encode: Callable[[object], B]) -> Callable[[object], B]:
        """An encoder after `sent`; the encoder itself where nobody asked."""
        return encode if not self._sent else lambda item: encode(self.sent(item))


Interceptor: TypeAlias = Callable[[Invocation, Proceed], Awaitable[object]]
"""Stands around a handler. What it returns is the result of a call or a client stream, usually what `proceed` returned; of
others it means nothing. One that does not proceed has answered in the handler's place."""


def _observing(fn: Callable[[object], object]) -> Callable[[object], object]:
    def observe(item: object) -> object:
        fn(item)
        return item

    return observe


async def intercept(interceptors: Sequence[Interceptor], invocation: Invocation, innermost: Proceed) -> object:
    """Run a call or a stream inside its interceptors.

    Args:
      interceptors: the outermost first.
      invocation: what they are told of.
      innermost: runs the handler.

    Returns:
      What the outermost one returned.

    Raises:
      BaseException: what came out of the outermost one.
      LocalProtocolError: one has proceeded twice.
    """
    if not interceptors:
        return await innermost()
    has_proceeded = False

    async def proceed() -> object:
        nonlocal has_proceeded
        if has_proceeded:
            raise LocalProtocolError(f"an interceptor of {invocation.name!r} can't proceed twice")
        has_proceeded = True
        return await intercept(interceptors[1:], invocation, innermost)

    return await interceptors[0](invocation, proceed)

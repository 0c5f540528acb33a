"""The shipped interceptors, in virtual time."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_streams.errors import RpcError
from trio_streams.procedures.interceptors import (
    BearerAuthentication,
    ConcurrencyLimit,
    Principal,
    RateLimit,
    Tickets,
    by_caller,
    require_scopes,
    timeout,
)
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, intercept

ANN = Principal("ann", frozenset({"read", "write"}))
BOB = Principal("bob", frozenset({"read"}))
_WAIT = "RESOURCE_EXHAUSTED {'retry_after_ms': 500}"
_TOKENS = {"ann-token": ANN, "bob-token": BOB}


async def verify(token: str) -> Principal | None:
    await trio.lowlevel.checkpoint()
    return _TOKENS.get(token)


def make(metadata: dict[str, str] | None = None, scopes: object = (), peer: str = "10.0.0.1:5000") -> Invocation:
    context = Context(
        procedure="p",
        peer=peer,
        metadata=metadata or {},
        deadline=float("inf"),
        cancel_scope=trio.CancelScope(),
        request_id="1",
    )
    return Invocation(name="p", kind="call", context=context, declared={"scopes": scopes})


async def who(interceptors: list[Interceptor], invocation: Invocation) -> object:
    """Whom the handler sees."""

    async def handler() -> object:
        return invocation.context.principal

    return await intercept(interceptors, invocation, handler)


@pytest.mark.parametrize(
    ("metadata", "scopes", "answer"),
    [
        ({"authorization": "Bearer ann-token"}, (), ANN),
        ({"authorization": "bearer  ann-token "}, ["read", "write"], ANN),
        ({"authorization": "Bearer bob-token"}, "read", BOB),
        ({"authorization": "Bearer bob-token"}, ["read", "write"], "PERMISSION_DENIED"),
        ({"authorization": "Bearer wrong"}, (), "UNAUTHENTICATED"),
        ({"authorization": "Bearer " + "x" * 10_000}, (), "UNAUTHENTICATED"),
        ({"authorization": "Basic ann-token"}, (), "UNAUTHENTICATED"),
        ({"authorization": "Bearer"}, (), "UNAUTHENTICATED"),
        ({"cookie": "theme=dark; session=ann-token"}, (), ANN),
        ({"cookie": "theme=dark"}, (), "UNAUTHENTICATED"),
        ({"cookie": 'session="ann-token'}, (), "UNAUTHENTICATED"),
        ({"authorization": "Bearer bob-token", "cookie": "session=ann-token"}, (), BOB),
        ({}, (), "UNAUTHENTICATED"),
    ],
)
async def test_tokens_cookies_and_scopes(metadata: dict[str, str], scopes: object, answer: object) -> None:
    """A header comes before a cookie; a scope that is missing is another error than a token that is wrong."""
    auth = BearerAuthentication(verify, cookie="session")
    if isinstance(answer, Principal):
        assert await who([auth], make(metadata, scopes)) is answer
    else:
        with pytest.raises(RpcError) as caught:
            await who([auth], make(metadata, scopes))
        assert caught.value.code == answer


async def test_nobody_may_pass_where_that_is_allowed() -> None:
    """As nobody, and not where scopes are declared; a wrong token is refused all the same."""
    auth = BearerAuthentication(verify, is_optional=True)
    assert await who([auth], make()) is None
    for metadata, scopes in (({}, ["read"]), ({"authorization": "Bearer wrong"}, ())):
        with pytest.raises(RpcError, match="token"):
            await who([auth], make(metadata, scopes))


async def test_scopes_by_interceptor() -> None:
    """`require_scopes` stands inside the authentication, and tells what is missing."""
    auth = BearerAuthentication(verify)
    inside = require_scopes("write")
    assert await who([auth, inside], make({"authorization": "Bearer ann-token"})) is ANN
    with pytest.raises(RpcError) as caught:
        await who([auth, inside], make({"authorization": "Bearer bob-token"}))
    assert (caught.value.code, caught.value.details) == ("PERMISSION_DENIED", {"scopes": ["write"]})
    with pytest.raises(RpcError, match="wants a token"):
        await who([inside], make())


async def test_a_ticket_is_good_once_and_for_a_moment(autojump_clock: MockClock) -> None:
    """Used, expired, unknown and forgotten ones are refused alike; it comes before a token."""
    tickets = Tickets(lifetime=10, max_tickets=2)
    auth = BearerAuthentication(verify, tickets=tickets)
    ticket = tickets.issue(ANN)
    assert await who([auth], make({"x-ticket": ticket, "authorization": "Bearer bob-token"})) is ANN
    old = tickets.issue(ANN)
    await trio.sleep(10)
    forgotten = tickets.issue(ANN)
    for _ in range(2):
        tickets.issue(BOB)
    for wrong in (ticket, old, forgotten, "made up"):
        with pytest.raises(RpcError, match="refused"):
            await who([auth], make({"x-ticket": wrong}))


async def test_so_many_a_second_for_each_caller(autojump_clock: MockClock) -> None:
    """A burst, then the rate; one caller's haste is not another's; what is told to wait is enough."""
    limit = RateLimit(2, burst=3)

    async def ask(peer: str) -> str:
        try:
            await who([limit], make(peer=peer))
        except RpcError as exc:
            return f"{exc.code} {exc.details}"
        return "ok"

    assert [await ask("10.0.0.1:1") for _ in range(4)] == ["ok", "ok", "ok", _WAIT]
    assert await ask("10.0.0.2:1") == "ok"
    assert await ask("10.0.0.1:999") == _WAIT  # the port tells nothing
    await trio.sleep(0.5)
    assert [await ask("10.0.0.1:1"), await ask("10.0.0.1:1")] == ["ok", _WAIT]


async def test_a_limit_forgets_the_oldest_callers(autojump_clock: MockClock) -> None:
    """A hundred thousand callers cost the memory of a few."""
    limit = RateLimit(1, max_keys=3)
    for number in range(10):
        await who([limit], make(peer=f"10.0.0.{number}:1"))
    assert len(limit._buckets) == 3


async def test_so_many_at_once() -> None:
    """The next ones wait in order, those past them are refused, and a cancelled one makes room."""
    limit = ConcurrencyLimit(1, max_waiting=1)
    gates = [trio.Event() for _ in range(3)]
    done: list[int] = []

    async def run(index: int) -> None:
        async def handler() -> object:
            await gates[index].wait()
            done.append(index)
            return None

        await intercept([limit], make(), handler)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, 0)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            nursery.start_soon(lambda: _cancel_when_blocked(scope))
            await run(1)
        nursery.start_soon(run, 2)
        await wait_all_tasks_blocked()
        with pytest.raises(RpcError, match="as many times as it may"):
            await run(1)
        for gate in gates:
            gate.set()
    assert done == [0, 2]


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_timeout_ends_what_takes_too_long(autojump_clock: MockClock) -> None:
    """At its time, with the code for it; what is quick is not touched."""

    async def slow() -> object:
        await trio.sleep(5)
        return 1

    assert await intercept([timeout(6)], make(), slow) == 1
    began = trio.current_time()
    with pytest.raises(RpcError, match="'p' may take 4 s") as caught:
        await intercept([timeout(4)], make(), slow)
    assert (caught.value.code, trio.current_time() - began) == ("DEADLINE_EXCEEDED", 4.0)


def test_callers_are_told_apart() -> None:
    """By principal where there is one, else by address without its port."""
    invocation = make(peer="[::1]:5000")
    assert by_caller(invocation) == "peer [::1]"
    assert by_caller(make(peer="a process")) == "peer a process"
    invocation.context = attrs.evolve(invocation.context, principal=ANN)
    assert by_caller(invocation) == "principal ann"


def test_limits_of_nothing_are_refused() -> None:
    """Each names its field."""
    for make_wrong, name in (
        (lambda: RateLimit(0), "per_second"),
        (lambda: RateLimit(1, burst=0), "burst"),
        (lambda: RateLimit(1, max_keys=0), "max_keys"),
        (lambda: ConcurrencyLimit(0), "max_running"),
        (lambda: ConcurrencyLimit(1, max_waiting=-1), "max_waiting"),
        (lambda: timeout(0), "a timeout"),
        (lambda: Tickets(lifetime=0), "lifetime"),
        (lambda: Tickets(max_tickets=0), "max_tickets"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be"):
            make_wrong()

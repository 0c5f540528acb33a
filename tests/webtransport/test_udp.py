"""UDP sockets on loopback: many datagrams a call, and errors that are only lost datagrams."""

from __future__ import annotations

import errno
import socket as stdlib_socket
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_streams.errors import LocalProtocolError
from trio_streams.webtransport.driven import Address
from trio_streams.webtransport.udp import UdpSocket, bind_udp, connect_udp
from trio_streams.webtransport.udp_options import SOL_UDP

HOSTS: Final = ("127.0.0.1", "::1")


def _has_ipv6() -> bool:
    try:
        with stdlib_socket.socket(stdlib_socket.AF_INET6, stdlib_socket.SOCK_DGRAM) as socket:
            socket.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """An address of either family, where there is one."""
    if request.param == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 here")
    return str(request.param)


async def _receive(socket: UdpSocket, count: int) -> list[tuple[bytes, Address]]:
    found: list[tuple[bytes, Address]] = []
    with trio.fail_after(30):
        while len(found) < count:
            await socket.wait_readable()
            found += socket.receive_nowait()
    return found


async def _send(socket: UdpSocket, datagrams: list[tuple[bytes, Address]]) -> None:
    with trio.fail_after(30):
        while datagrams:
            datagrams = datagrams[socket.send_nowait(datagrams) :]
            if datagrams:
                await socket.wait_writable()


def _send_singly(socket: UdpSocket) -> None:
    socket.segments = False


def _receive_singly(socket: UdpSocket) -> None:
    if socket._joins:
        socket._socket.setsockopt(SOL_UDP, 104, 0)
        socket._joins = False


class _Wrapped:
    """A socket some of whose calls end otherwise."""

    def __init__(self, socket: stdlib_socket.socket, **calls: Callable[..., Any]) -> None:
        self._socket = socket
        self.__dict__.update(calls)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._socket, name)


def _wrap(socket: UdpSocket, **calls: Callable[..., Any]) -> None:
    socket._socket = _Wrapped(socket._socket, **calls)  # type: ignore[assignment]


def _refusing(code: int) -> Callable[..., Any]:
    def call(*_: object) -> None:
        raise OSError(code, "refused")

    return call


@pytest.mark.parametrize(
    "prepare", [lambda socket: None, _send_singly, _receive_singly], ids=["all", "no GSO", "no GRO"]
)
async def test_what_is_sent_arrives(host: str, prepare: Callable[[UdpSocket], None]) -> None:
    """Datagrams of all sizes arrive as they are, each on its own, in order, with the sender's address, whatever the kernel can."""
    sizes = [1_452] * 50 + [1_452, 100, 100, 0, 1, 1_200, 1_200, 1_199, 1_452] + [9] * 100
    with_bytes = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    server, client = bind_udp(host, 0), bind_udp(host, 0)
    prepare(server)
    prepare(client)
    await _send(client, [(data, server.address) for data in with_bytes])
    found = await _receive(server, len(sizes))
    assert [data for data, _ in found] == with_bytes
    assert {addr for _, addr in found} == {client.address}
    await _send(server, [(b"back", found[0][1])])
    assert await _receive(client, 1) == [(b"back", server.address)]
    assert client.lost_datagrams == 0
    server.close()
    client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="GSO and GRO are Linux's")
async def test_a_run_is_one_call_each_way() -> None:
    """Forty datagrams of one size to one peer are one write, and come in one read."""
    server, client = bind_udp("127.0.0.1", 0), bind_udp("127.0.0.1", 0)
    sends, reads = [], []
    raw = client._socket
    _wrap(client, sendmsg=lambda *args: sends.append(raw.sendmsg(*args)))
    raw_server = server._socket

    def read(*args: Any) -> Any:  # noqa: ANN401
        reads.append(raw_server.recvmsg_into(*args))
        return reads[-1]

    _wrap(server, recvmsg_into=read)
    await _send(client, [(bytes(1_452), server.address)] * 40 + [(bytes(7), server.address)])
    assert sends == [40 * 1_452 + 7]
    assert [len(data) for data, _ in await _receive(server, 41)] == [1_452] * 40 + [7]
    assert len(reads) == 1
    server.close()
    client.close()


async def test_runs_end_where_they_have_to() -> None:
    """A run has one address and one size but for its last datagram, 64 datagrams at most and 65,000 bytes at most."""
    socket = bind_udp("127.0.0.1", 0)
    a, b = ("127.0.0.1", 1), ("127.0.0.1", 2)

    def end(*datagrams: tuple[int, Address]) -> int:
        return socket._run_end([(bytes(size), addr) for size, addr in datagrams], 0)

    assert end((5, a), (5, a), (5, a)) == 3
    assert end((5, a), (5, (str(a[0]), 1)), (5, b)) == 2
    assert end((5, a), (4, a), (4, a)) == 2
    assert end((5, a), (6, a)) == 1
    assert end(*[(5, a)] * 100) == 64
    assert end(*[(1_452, a)] * 100) == 44
    assert end(*[(40_000, a)] * 3) == 1
    assert end((0, a), (0, a)) == 1
    assert end((5, a), (5, a), (0, a)) == 2
    socket.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT])
async def test_a_kernel_that_refuses_to_cut_is_believed(code: int) -> None:
    """Where a run is refused, its datagrams go one by one, and no other run is tried."""
    server, client = bind_udp("127.0.0.1", 0), bind_udp("127.0.0.1", 0)
    client.segments = True
    _wrap(client, sendmsg=_refusing(code))
    await _send(client, [(bytes([number]), server.address) for number in range(20)])
    assert [data for data, _ in await _receive(server, 20)] == [bytes([number]) for number in range(20)]
    assert not client.segments
    server.close()
    client.close()


async def test_a_run_that_is_too_large_for_the_path_is_lost_alone() -> None:
    """EMSGSIZE is no reason to give up runs: the datagrams that are too large are lost, and the others go on."""
    server, client = bind_udp("127.0.0.1", 0), bind_udp("127.0.0.1", 0)
    client.segments = True
    _wrap(client, sendmsg=_refusing(errno.EMSGSIZE))
    await _send(client, [(b"one", server.address), (b"two", server.address)])
    assert [data for data, _ in await _receive(server, 2)] == [b"one", b"two"]
    assert client.segments
    server.close()
    client.close()


@pytest.mark.parametrize("code", [errno.EMSGSIZE, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM, errno.ENOBUFS])
async def test_what_can_not_be_sent_is_lost(code: int) -> None:
    """An error of a send costs that datagram and nothing else."""
    socket = bind_udp("127.0.0.1", 0)
    _wrap(socket, sendto=_refusing(code), sendmsg=_refusing(code))
    assert socket.send_nowait([(b"x", socket.address), (b"y", ("127.0.0.1", 9))]) == 2
    assert socket.lost_datagrams == 2
    socket.close()


async def test_a_datagram_beyond_what_ip_carries_is_lost() -> None:
    """The kernel's own EMSGSIZE ends nothing, and the next datagram arrives."""
    socket = bind_udp("127.0.0.1", 0)
    assert socket.send_nowait([(bytes(70_000), socket.address), (b"next", socket.address)]) == 2
    assert socket.lost_datagrams == 1
    assert [data for data, _ in await _receive(socket, 1)] == [b"next"]
    socket.close()


async def test_a_full_kernel_is_waited_for() -> None:
    """Where there is no room, what is left is named, and the socket says when there is."""
    socket = bind_udp("127.0.0.1", 0)
    raw = socket._socket
    room = 3

    def sendto(data: bytes, addr: Address) -> None:
        nonlocal room
        if room == 0:
            raise BlockingIOError
        room -= 1
        raw.sendto(data, addr)

    socket.segments = False
    _wrap(socket, sendto=sendto)
    datagrams = [(bytes([number]), socket.address) for number in range(5)]
    assert socket.send_nowait(datagrams) == 3
    assert socket.send_nowait(datagrams[3:]) == 0
    with trio.fail_after(10):
        await socket.wait_writable()
    room = 2
    assert socket.send_nowait(datagrams[3:]) == 2
    assert socket.lost_datagrams == 0
    socket.segments = True
    _wrap(socket, sendmsg=_refusing(errno.EAGAIN))
    assert socket.send_nowait(datagrams) == 0
    socket.close()


async def test_a_connected_socket_hears_that_nobody_listens(host: str) -> None:
    """A closed port is noticed, once for each time that it is said; what is sent counts as sent, and nothing raises."""
    gone = bind_udp(host, 0)
    addr = gone.address
    gone.close()
    socket = connect_udp(addr)
    assert not socket.take_refusal()
    socket.send_nowait([(b"x", addr)])
    with trio.fail_after(30):
        await socket.wait_readable()
    assert socket.receive_nowait() == []
    assert socket.take_refusal()
    assert not socket.take_refusal()
    socket.close()


async def test_a_refusal_that_a_send_is_told_takes_no_datagram_with_it() -> None:
    """The kernel tells the next call of an earlier datagram's fate: that call is made again."""
    server = bind_udp("127.0.0.1", 0)
    socket = connect_udp(server.address)
    told = iter([True, False, False])
    raw = socket._socket

    def send(data: bytes) -> int:
        if next(told):
            raise ConnectionRefusedError
        return raw.send(data)

    _wrap(socket, send=send)
    assert socket.send_nowait([(b"x", server.address)]) == 1
    assert [data for data, _ in await _receive(server, 1)] == [b"x"]
    assert socket.take_refusal()
    server.close()
    socket.close()


async def test_what_other_hosts_say_means_nothing_to_a_server() -> None:
    """A server's socket takes no notice of refusals, which on Windows come as resets of whatever it reads next."""
    socket = bind_udp("127.0.0.1", 0)
    raw = socket._socket
    answers: list[object] = [ConnectionResetError(), ConnectionRefusedError(), None]

    def receive(*args: Any) -> Any:  # noqa: ANN401
        answer = answers.pop(0) if answers else None
        if isinstance(answer, OSError):
            raise answer
        return raw.recvfrom(*args)

    _receive_singly(socket)
    _wrap(socket, recvfrom=receive)
    raw.sendto(b"x", socket.address)
    with trio.fail_after(30):
        await socket.wait_readable()
    assert socket.receive_nowait() == [(b"x", socket.address)]
    assert not socket.take_refusal()
    socket.close()


async def test_a_read_takes_64_and_not_all() -> None:
    """Others get their turn after about 64 datagrams; the rest is there at the next read. Errors count, too."""
    socket = bind_udp("127.0.0.1", 0)
    _send_singly(socket)
    _receive_singly(socket)
    await _send(socket, [(bytes([number]), socket.address) for number in range(100)])
    with trio.fail_after(30):
        await socket.wait_readable()
    assert len(socket.receive_nowait()) == 64
    assert len(socket.receive_nowait()) == 36
    assert socket.receive_nowait() == []
    _wrap(socket, recvfrom=_refusing(errno.ENETDOWN))
    assert socket.receive_nowait() == []
    socket.close()


@pytest.mark.parametrize("wait", ["wait_readable", "wait_writable"])
async def test_a_wait_ends_with_the_socket(wait: str) -> None:
    """Closing wakes whoever waits, and a closed socket says so to every call; closing it again is no matter."""
    socket = bind_udp("127.0.0.1", 0)
    if wait == "wait_readable":
        async with trio.open_nursery() as nursery:

            async def wait_for_the_end() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await socket.wait_readable()

            nursery.start_soon(wait_for_the_end)
            await wait_all_tasks_blocked()
            socket.close()
    socket.close()
    socket.close()
    with pytest.raises(trio.ClosedResourceError):
        await getattr(socket, wait)()
    with pytest.raises(trio.ClosedResourceError):
        socket.receive_nowait()
    with pytest.raises(trio.ClosedResourceError):
        socket.send_nowait([(b"x", ("127.0.0.1", 9))])


async def test_a_cancelled_wait_loses_nothing() -> None:
    """A datagram that comes after a cancelled wait is received by the next one."""
    socket = bind_udp("127.0.0.1", 0)
    with trio.move_on_after(0.01) as scope:
        await socket.wait_readable()
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.wait_writable()
    assert scope.cancelled_caught
    await _send(socket, [(b"x", socket.address)])
    assert [data for data, _ in await _receive(socket, 1)] == [b"x"]
    socket.close()


async def test_what_can_not_be_bound_leaves_no_socket() -> None:
    """An address that is in use, a wrong one, and a peer that can't be reached are `OSError`s, and no descriptor is left open."""
    socket = bind_udp("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        bind_udp("127.0.0.1", socket.address[1])
    with pytest.raises(OSError, match=r".+"):
        bind_udp("192.0.2.1", 0)
    with pytest.raises(LocalProtocolError, match="a name is parts of 1 to 63 characters"):
        bind_udp("a" * 64, 0)
    with pytest.raises(OSError, match=r".+"):
        connect_udp(("255.255.255.255", 9))
    socket.close()


@pytest.mark.skipif(sys.platform != "linux", reason="these numbers are Linux's")
async def test_datagrams_are_not_cut_up(host: str) -> None:
    """Path MTU discovery is on, so that a probe that is too large is lost and not cut up on its way."""
    socket = bind_udp(host, 0)
    level, option = (stdlib_socket.IPPROTO_IP, 10) if host == "127.0.0.1" else (stdlib_socket.IPPROTO_IPV6, 23)
    assert socket._socket.getsockopt(level, option) in (2, 3)
    socket.close()


async def test_a_platform_that_knows_nothing_of_it_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a platform without GSO, GRO and the flag against fragments a socket works all the same."""
    monkeypatch.setattr(sys, "platform", "plan9")
    socket = bind_udp("127.0.0.1", 0)
    assert not socket.segments
    assert not socket._joins
    socket.close()


async def test_a_kernel_without_the_options_does_without() -> None:
    """A kernel that does not know an option is asked for it once, and that is all."""
    raw = stdlib_socket.socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM)
    raw.bind(("127.0.0.1", 0))
    refusing = _refusing(errno.ENOPROTOOPT)
    wrapped: Any = _Wrapped(raw, setsockopt=refusing, getsockopt=refusing)
    socket = UdpSocket(wrapped)
    assert not socket.segments
    assert not socket._joins
    socket.close()

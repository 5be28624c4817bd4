"""Listening sockets, and how their connections are found and cut."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints

from sselib import listening
from sselib.listening import CannotListen, Listening, listen


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def connection(stack: ExitStack, to: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection, the client's first."""
    client = stack.enter_context(socket.socket(to.family))
    client.connect(to.getsockname())
    to.setblocking(True)  # noqa: FBT003 # the standard library's
    accepted, _ = to.accept()
    return client, stack.enter_context(accepted)


def is_shut(sock: socket.socket) -> bool:
    sock.setblocking(False)  # noqa: FBT003 # the standard library's
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


# --- listen ---


async def test_all_addresses_of_a_host_are_listened_on(stack: ExitStack) -> None:
    """A name stands for all its addresses; each has a port of its own."""
    opened = stack.enter_context(await listen("localhost", 0))
    assert [name[:2] for name in map(socket.socket.getsockname, opened.sockets)] == opened.addresses
    for sock in opened.sockets:
        connection(stack, sock)


async def test_a_wanted_port_can_be_had_again_at_once(stack: ExitStack) -> None:
    """Connections of the process before do not keep a port from its successor."""
    with await listen("127.0.0.1", 0) as first:
        [sock] = first.sockets
        _, accepted = connection(stack, sock)
        accepted.close()
        port = sock.getsockname()[1]
    with await listen("127.0.0.1", port) as second:
        assert second.addresses == first.addresses


class NoNames(trio.abc.HostnameResolver):
    """A resolver that knows nobody, without asking the network."""

    async def getaddrinfo(self, *_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: Any) -> Any:
        await self.getaddrinfo()


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("host.invalid", "Name or service not known"),
    ],
)
async def test_an_address_that_is_not_ours_is_said_in_a_line(host: str, complaint: str) -> None:
    """The error tells where and why, and keeps the number."""
    trio.socket.set_custom_hostname_resolver(NoNames())
    with pytest.raises(CannotListen) as caught:
        await listen(host, 0)
    assert str(caught.value) == f"cannot listen on {host} port 0: {complaint}"
    assert caught.value.errno == caught.value.__cause__.errno  # type: ignore[union-attr] # None fails the test


async def test_datagram_sockets_are_refused(stack: ExitStack) -> None:
    """A server of streams needs stream sockets, and leaves what it refuses alone."""
    datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with pytest.raises(ValueError, match="must be stream sockets"):
        await listen("", 0, sockets=[datagrams])
    assert datagrams.fileno() != -1


async def test_a_dead_unix_socket_is_replaced(tmp_path: Path) -> None:
    """A path that a killed process left behind is taken over."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with ExitStack() as stack:
        opened = stack.enter_context(await listen("", 0, unix_path=path))
        connection(stack, opened.sockets[0])
        assert opened.addresses == [str(path)]
    assert not path.exists()


async def test_a_live_unix_socket_is_not_taken_away(tmp_path: Path, stack: ExitStack) -> None:
    """Neither that of another server, nor that of one which is too busy to accept."""
    path = tmp_path / "socket"
    with await listen("", 0, unix_path=path) as first:
        [sock] = first.sockets
        sock.listen(0)
        for expected in ("with room in the queue", "without"):
            with pytest.raises(CannotListen, match=f"{path}: Address already in use"):
                await listen("", 0, unix_path=path)
            assert path.is_socket(), expected
            clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
            for client in clients:
                client.setblocking(False)  # noqa: FBT003 # the standard library's
                client.connect_ex(str(path))
        connection_taken, _ = sock.accept()
        connection_taken.close()


async def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    """What stands there and is no socket stays, and so does a folder that is not there."""
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(CannotListen, match="Address already in use"):
        await listen("", 0, unix_path=path)
    assert path.read_text() == "precious"
    with pytest.raises(CannotListen, match="No such file or directory") as caught:
        await listen("", 0, unix_path=tmp_path / "nowhere" / "socket")
    assert caught.value.errno == errno.ENOENT


async def test_a_successors_unix_socket_is_left(tmp_path: Path) -> None:
    """Only the socket that was made here is removed at the end."""
    path = tmp_path / "socket"
    with await listen("", 0, unix_path=path):
        path.rename(tmp_path / "old")  # so that its number is not given to the next
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.is_socket()
    path.unlink()
    with await listen("", 0, unix_path=path):
        path.unlink()  # somebody tidied up: no reason to fail


async def test_listening_is_a_checkpoint(stack: ExitStack, tmp_path: Path) -> None:
    """Whatever it opens, it waits once, and cancelled it opens nothing."""
    sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    for options in ({}, {"unix_path": tmp_path / "socket"}, {"sockets": [sock]}):
        with trio.CancelScope() as scope:
            scope.cancel()
            await listen("127.0.0.1", 0, **options)
        assert scope.cancelled_caught
        assert list(tmp_path.iterdir()) == []
        with assert_checkpoints():
            opened = await listen("127.0.0.1", 0, **options)
        opened.__exit__(None, None, None)
    gc.collect()


# --- owners ---


async def test_sockets_are_closed_by_who_has_them() -> None:
    """Without a hand-over they are closed at the end, after one they are let be."""
    with await listen("127.0.0.1", 0) as kept:
        [kept_socket] = kept.sockets
    assert kept_socket.fileno() == -1
    with await listen("127.0.0.1", 0) as given:
        [number] = [sock.fileno() for sock in given.sockets]
        given.hand_over()
        assert given.sockets == []
    with socket.socket(fileno=number) as owned:
        assert [owned.getsockname()] == given.addresses


# --- the cut ---


FAMILIES = [
    pytest.param(socket.AF_INET, ("127.0.0.1", 0), id="one address"),
    pytest.param(socket.AF_INET, ("0.0.0.0", 0), id="any address"),
    pytest.param(socket.AF_INET6, ("::1", 0), id="IPv6"),
    pytest.param(socket.AF_INET6, ("::", 0), id="any IPv6"),
    pytest.param(socket.AF_UNIX, "socket", id="path"),
    pytest.param(socket.AF_UNIX, "\0sselib test", id="abstract"),
]


@pytest.mark.parametrize(("family", "name"), FAMILIES)
async def test_the_connections_of_a_listener_are_cut_and_no_others(
    family: int, name: Any, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those it accepted see an end; the listener, clients here and other servers do not."""
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("no IPv6 here")
    monkeypatch.chdir(tmp_path)
    mine, other = (stack.enter_context(socket.socket(family)) for _ in range(2))
    mine.bind(name)
    other.bind(f"{name} 2" if isinstance(name, str) else name)
    for sock in (mine, other):
        sock.listen()
    opened = Listening([mine])
    client, accepted = connection(stack, mine)
    other_client, other_accepted = connection(stack, other)
    unrelated = socket.socketpair()
    for sock in unrelated:
        stack.enter_context(sock)
    opened.cut_connections()
    assert is_shut(accepted)
    assert is_shut(client)
    for sock in (other_client, other_accepted, *unrelated):
        assert not is_shut(sock)
    connection(stack, mine)
    with opened:
        pass


async def test_the_address_of_an_abstract_socket_can_be_shown(stack: ExitStack) -> None:
    """An address is text, whatever the system calls it."""
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind("\0sselib test")
    sock.listen()
    with Listening([sock]) as opened:
        assert opened.addresses == ["\0sselib test"]


async def test_a_connection_to_every_address_is_cut_over_ipv4_too(stack: ExitStack) -> None:
    """A socket for both families has connections of both."""
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    both = stack.enter_context(
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    with Listening([both]) as opened:
        client = stack.enter_context(socket.socket())
        client.connect(("127.0.0.1", both.getsockname()[1]))
        accepted = stack.enter_context(both.accept()[0])
        opened.cut_connections()
        assert is_shut(accepted)


async def test_servers_at_one_port_of_two_addresses_are_two(stack: ExitStack) -> None:
    """The port alone does not make a connection ours."""
    one = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = one.getsockname()[1]
    two = stack.enter_context(socket.create_server(("127.0.0.2", port)))
    _, accepted = connection(stack, two)
    with Listening([one]) as opened:
        opened.cut_connections()
        assert not is_shut(accepted)


async def test_a_cut_closes_no_descriptor(stack: ExitStack) -> None:
    """Whoever has a descriptor still has it, also if it is no socket or a socket without a peer."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    stack.enter_context(socket.socket())
    stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client, accepted = connection(stack, server)
    client.close()
    with Listening([server]) as opened:
        opened.cut_connections()
        opened.cut_connections()
        assert accepted.fileno() != -1
        assert accepted.recv(1) == b""
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(server.fileno())


async def test_a_process_that_may_open_nothing_more_can_cut(stack: ExitStack) -> None:
    """Clients that have taken all descriptors are cut like others."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    _, accepted = connection(stack, server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (accepted.fileno() + 50, hard))
    with Listening([server]) as opened:
        taken: list[int] = []
        with suppress(OSError):
            taken.extend(iter(lambda: os.open(os.devnull, os.O_RDONLY), None))
        opened.cut_connections()
        for descriptor in taken:
            os.close(descriptor)
    assert 0 < len(taken) <= 50
    assert is_shut(accepted)


async def test_where_descriptors_are_not_listed_it_is_said(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a list nothing can be cut, and the log says what that means."""
    monkeypatch.setattr(listening, "DESCRIPTORS", None)
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    _, accepted = connection(stack, server)
    with Listening([server]) as opened:
        opened.cut_connections()
        assert not is_shut(accepted)
    assert "can hold the exit" in caplog.text

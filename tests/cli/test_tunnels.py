"""``expose`` and ``forward``: TCP connections and Unix sockets over the mesh, between processes on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

import netmesh_trio
from netmesh_trio import NodeConfig
from netmesh_trio.addresses import HostPort
from netmesh_trio.cli.commands import run
from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.runner import CommandError
from netmesh_trio.cli.tunnel.endpoints import listen
from netmesh_trio.cli.tunnel.gate import Gate
from netmesh_trio.identity import Identity
from tests.cli.program import Program, running

LOOPBACK = ("--bind", "127.0.0.1:0")
ID = str(Identity(bytes(32)).peer_id)


@contextmanager
def server(handler: Callable[[socket.socket], None], listener: socket.socket | None = None) -> Iterator[str]:
    """A service on this host, one thread a connection; its HOST:PORT."""
    threads: list[threading.Thread] = []
    with listener or socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def handle(connection: socket.socket) -> None:
            with connection, suppress(ConnectionResetError):
                handler(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.settimeout(30)
                threads.append(threading.Thread(target=handle, args=(connection,), daemon=True))
                threads[-1].start()

        threads.append(threading.Thread(target=accept, daemon=True))
        threads[0].start()
        name = listening.getsockname()
        yield name if isinstance(name, str) else f"{name[0]}:{name[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(30)


def echo(connection: socket.socket) -> None:
    """Send back what comes; end when the other end does."""
    while data := connection.recv(65536):
        connection.sendall(data)


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


class Tunnel:
    """``expose`` and ``forward`` of one service, connected directly."""

    def __init__(self, stack: ExitStack, target: str, *options: object, listen: str = "127.0.0.1:0") -> None:
        self.expose = stack.enter_context(running("expose", "thing", target, *LOOPBACK, *options))
        (uri,) = self.expose.wait_for("ready")["addresses"]
        self.expose.wait_for("exposed", service="thing", target=target)
        self.forward = stack.enter_context(running("forward", listen, uri, "thing", *LOOPBACK))
        (self.address,) = self.forward.wait_for("listening", service="thing")["addresses"]

    def connect(self) -> socket.socket:
        if self.address.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30)
            connection.connect(self.address.removeprefix("unix:"))
            return connection
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=30)

    def stop(self) -> None:
        """As a service manager does: the proper end of both."""
        for program in (self.forward, self.expose):
            program.process.send_signal(signal.SIGTERM)
            assert program.finish() == 0, program.errors


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_many_connections_at_once(stack: ExitStack) -> None:
    tunnel = Tunnel(stack, stack.enter_context(server(echo)))
    wrong: list[int] = []

    def send(connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    def client(number: int) -> None:
        data = os.urandom(200_000 + number)
        with tunnel.connect() as connection:
            sender = threading.Thread(target=send, args=(connection, data))
            sender.start()
            if read_all(connection) != data:
                wrong.append(number)
            sender.join()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(100)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert wrong == []
    tunnel.stop()
    size = sum(200_000 + number for number in range(100))
    for program in (tunnel.forward, tunnel.expose):
        done = program.last("done")
        assert (done["connections"], done["failed"]) == (100, 0)
        assert (done["to_mesh"], done["from_mesh"]) == (size, size)
        closed = [e for e in program.events if e["event"] == "connection" and e["state"] == "closed"]
        assert sorted(e["number"] for e in closed) == list(range(1, 101))
        assert {e["reason"] for e in closed} == {None}
        assert program.errors == "netmesh-trio: stopped by SIGTERM\n"


def test_each_half_closes_by_itself(stack: ExitStack) -> None:
    """The client ends first, and reads an answer that depends on all it said; then the server ends first."""

    def digest(connection: socket.socket) -> None:
        connection.sendall(hashlib.sha256(read_all(connection)).hexdigest().encode())

    tunnel = Tunnel(stack, stack.enter_context(server(digest)))
    data = os.urandom(3_000_000)
    with tunnel.connect() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).decode() == hashlib.sha256(data).hexdigest()
    tunnel.stop()

    heard: list[bytes] = []

    def farewell(connection: socket.socket) -> None:
        connection.sendall(b"all I say")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))

    with server(farewell) as target:
        tunnel = Tunnel(stack, target)
        with tunnel.connect() as connection:
            assert read_all(connection) == b"all I say"
            connection.sendall(data)
        tunnel.forward.wait_for("connection", state="closed", to_mesh=len(data), reason=None)
        tunnel.stop()
    assert heard == [data]


def test_a_reader_that_does_not_read_holds_the_writer_back(stack: ExitStack) -> None:
    reading = threading.Event()
    sent: list[int] = []

    def slow(connection: socket.socket) -> None:
        assert reading.wait(60)
        connection.sendall(hashlib.sha256(read_all(connection)).digest())

    tunnel = Tunnel(stack, stack.enter_context(server(slow)))
    piece = os.urandom(1 << 20)
    with tunnel.connect() as connection:
        connection.settimeout(1.0)
        with suppress(TimeoutError):
            while sum(sent) < 200 << 20:
                sent.append(connection.send(memoryview(piece)[sum(sent) % len(piece) :]))
        # what sockets, the two windows and the programs hold
        assert sum(sent) < 60 << 20
        reading.set()
        connection.settimeout(60)
        connection.shutdown(socket.SHUT_WR)
        expected = (piece * (sum(sent) // len(piece) + 1))[: sum(sent)]
        assert read_all(connection) == hashlib.sha256(expected).digest()
    tunnel.stop()


def abort(connection: socket.socket) -> None:
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.skipif(sys.platform == "win32", reason="SO_LINGER is laid out otherwise there")
def test_a_reset_goes_through_both_ways(stack: ExitStack) -> None:
    felt: list[str] = []

    def handler(connection: socket.socket) -> None:
        if connection.recv(1) == b"r":
            abort(connection)
            return
        connection.sendall(b"x")
        try:
            felt.append(repr(connection.recv(1)))
        except ConnectionResetError:
            felt.append("reset")

    tunnel = Tunnel(stack, stack.enter_context(server(handler)))
    with tunnel.connect() as connection:
        connection.sendall(b"r")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    connection = tunnel.connect()
    connection.sendall(b"s")
    assert connection.recv(1) == b"x"
    abort(connection)
    tunnel.expose.wait_for("connection", number=2, state="closed", reason="broken")
    tunnel.stop()
    assert tunnel.forward.last("done")["connections"] == 2
    stack.close()
    assert felt == ["reset"]


def test_a_target_that_refuses(stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tunnel = Tunnel(stack, f"127.0.0.1:{port}")
    for _ in range(2):
        with tunnel.connect() as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)
    # neither command minds: the service comes up, and it works
    with server(echo, socket.create_server(("127.0.0.1", port))), tunnel.connect() as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(10) == b""
    # or else the end of the session might come before that of the connection, and be told
    tunnel.expose.wait_for("connection", state="closed")
    tunnel.stop()
    errors = tunnel.expose.errors.splitlines()
    assert errors[:2] == [errors[0]] * 2
    assert f"cannot connect to 127.0.0.1:{port}: connection refused" in errors[0]
    assert [e["reason"] for e in tunnel.expose.events if e.get("state") == "refused"] == ["target", "target"]
    assert "the other end cannot connect to what it exposes" in tunnel.forward.errors
    assert [e["kind"] for e in tunnel.forward.events if e["event"] == "error"] == ["target", "target"]
    assert len(errors) == len(tunnel.forward.errors.splitlines()) == 3


def test_a_peer_that_is_not_served(stack: ExitStack) -> None:
    tunnel = Tunnel(stack, stack.enter_context(server(echo)), "--from", ID)
    with tunnel.connect() as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    tunnel.stop()
    assert tunnel.expose.last("error")["kind"] == tunnel.forward.last("error")["kind"] == "not-allowed"


def test_a_service_that_nobody_serves(stack: ExitStack) -> None:
    node = stack.enter_context(running("node", *LOOPBACK))
    (uri,) = node.wait_for("ready")["addresses"]
    forward = stack.enter_context(running("forward", "127.0.0.1:0", uri, "thing", *LOOPBACK))
    host, port = forward.wait_for("listening")["addresses"][0].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert forward.wait_for("error")["kind"] == "service-not-found"
    assert "run netmesh-trio expose thing HOST:PORT there" in forward.errors
    forward.interrupt()
    assert forward.finish() == 130
    assert forward.errors.splitlines()[-1] == "netmesh-trio: stopped by Ctrl-C"


def test_a_peer_that_is_not_there(stack: ExitStack) -> None:
    relay = stack.enter_context(running("node", *LOOPBACK))
    (uri,) = relay.wait_for("ready")["addresses"]
    options = (*LOOPBACK, "--bootstrap", uri, "--timeout", 0.2)
    forward = stack.enter_context(running("forward", "127.0.0.1:0", ID, "thing", *options))
    host, port = forward.wait_for("listening")["addresses"][0].split(":")
    for _ in range(2):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            assert forward.wait_for("error")["kind"] == "peer-unreachable"


def test_unix_sockets(stack: ExitStack, tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(far))
    listener.listen()
    stack.enter_context(server(echo, listener))
    # what a program that was killed leaves behind is no obstacle
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(near))
    tunnel = Tunnel(stack, f"unix:{far}", listen=f"unix:{near}")
    with tunnel.connect() as connection:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"hello"
    taken = stack.enter_context(running("forward", f"unix:{near}", ID, "thing", *LOOPBACK))
    assert taken.finish() == 1
    assert "address already in use" in taken.errors
    tunnel.stop()
    assert not near.exists()


def test_a_port_in_use(stack: ExitStack, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["forward", f"127.0.0.1:{port}", ID, "thing"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot listen on 127.0.0.1:{port}: address already in use; give another" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["expose", "ssh"], "Missing argument 'HOST:PORT'"),
        (["expose", "ssh", "22"], "no host"),
        (["expose", "x" * 65, "127.0.0.1:22"], "1 to 64"),
        (["expose", "netmesh.ping", "127.0.0.1:22"], "'netmesh.' in front are taken"),
        (["expose", "ssh", "127.0.0.1:0"], "has the port 0"),
        (["expose", "ssh", "unix:"], "unix:PATH"),
        (["expose", "ssh", "unix:" + "x" * 101], "100 bytes"),
        (["forward", "127.0.0.1:0", "me", "ssh"], "peer id 'me'"),
        (["forward", "127.0.0.1:0", ID], "Missing argument 'SERVICE'"),
    ],
)
def test_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_host_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["forward", "198.51.100.1:0", ID, "thing"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "give an address of this host" in line


def test_a_name_of_which_this_host_has_one_address() -> None:
    """As "localhost" stands for ::1 also where there is no IPv6."""

    class Names(trio.abc.HostnameResolver):
        async def getaddrinfo(
            self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
        ) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

        async def getnameinfo(self, sockaddr: object, flags: int) -> NoReturn:
            raise NotImplementedError

    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Names())
        async with listen(HostPort("name", 0)) as (listeners, bound):
            assert len(listeners) == 1
            assert [where.host for where in bound if isinstance(where, HostPort)] == ["127.0.0.1"]
        del found[1:]
        with pytest.raises(CommandError, match="give an address of this host"):
            async with listen(HostPort("name", 0)):
                raise AssertionError

    found = ["198.51.100.1", "127.0.0.1", "198.51.100.2"]
    trio.run(main)


def test_what_a_tunnel_says_in_the_end() -> None:
    out = io.StringIO()
    gate = Gate(Reporter(stdout=out))
    gate.done()
    gate.refuse("busy", "why", "somebody", {})
    gate.done()
    first, last = (line for line in out.getvalue().splitlines() if line.startswith("done"))
    assert first.startswith("done   0 connections, 0 bytes to the mesh")
    assert last.startswith("done   0 connections, 1 failed, 0 bytes to the mesh")


@pytest.mark.parametrize("command", [["expose", "thing", "127.0.0.1:9"], ["forward", "127.0.0.1:0", ID, "thing"]])
def test_both_ends_outlast_a_network_that_is_away_for_a_while(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[NodeConfig] = []

    @asynccontextmanager
    async def open_node(identity: Identity, *, config: NodeConfig, **_: object) -> AsyncGenerator[None, None]:
        opened.append(config)
        raise CommandError("test", "that is all")
        yield

    monkeypatch.setattr(netmesh_trio, "open_node", open_node)
    assert run([*command, *LOOPBACK]) == 1
    assert [config.dead_peer_timeout for config in opened] == [60.0]


def programs_end(*programs: Program) -> None:
    for program in programs:
        program.interrupt()
        assert program.finish() == 130
        assert "Traceback" not in program.errors


def test_ctrl_c_in_the_middle(stack: ExitStack) -> None:
    tunnel = Tunnel(stack, stack.enter_context(server(echo)))
    with tunnel.connect() as connection:
        connection.sendall(b"hello")
        assert connection.recv(10) == b"hello"
        programs_end(tunnel.forward, tunnel.expose)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

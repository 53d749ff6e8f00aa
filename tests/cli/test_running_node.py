"""Where a command's node listens."""

from __future__ import annotations

import socket

import pytest

from netmesh_trio.addresses import HostPort
from netmesh_trio.cli import session
from netmesh_trio.cli.options import NodeOptions
from tests.cli.program import running


def options(*binds: str) -> NodeOptions:
    bind = tuple(map(HostPort.parse, binds))
    return NodeOptions(identity=None, bind=bind, bootstrap=(), direct=True, network_key=None)


def test_all_addresses_of_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_has_ipv6", lambda: True)
    assert session._where_to_bind(options()) == [("0.0.0.0", 0), ("::", 0)]


def test_what_the_option_says_and_nothing_else() -> None:
    assert session._where_to_bind(options("127.0.0.1:7")) == [("127.0.0.1", 7)]
    assert session._where_to_bind(options("[::1]:7", "0.0.0.0:8")) == [("::1", 7), ("0.0.0.0", 8)]


@pytest.mark.parametrize("fails", ["socket", "bind"])
def test_without_ipv6_there_is_none(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoIpv6(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            if fails == "socket":
                raise OSError("address family not supported")
            super().__init__(family, kind)

        def bind(self, address: object) -> None:
            raise OSError("cannot assign requested address")

    monkeypatch.setattr(socket, "socket", NoIpv6)
    assert session._where_to_bind(options()) == [("0.0.0.0", 0)]


@pytest.mark.skipif(not session._has_ipv6(), reason="this host has no IPv6")
def test_a_node_that_has_only_ipv6_is_reached_without_an_option() -> None:
    with running("node", "--bind", "[::1]:0") as node:
        [uri] = node.wait_for("ready")["addresses"]
        with running("ping", uri, "-c", 1) as ping:
            assert ping.finish() == 0, ping.errors
            assert ping.last("path")["addr"].startswith("[::1]:")

"""UPnP against miniupnpd, with Debian's upnpc as the independent witness."""

from __future__ import annotations

import socket
from pathlib import Path

import attrs
import pytest
import trio

from netmesh_trio import Address
from netmesh_trio.testing.kernel_netns import nft
from netmesh_trio.testing.namespaces import Host, KernelInternet
from netmesh_trio.traversal.portmap import Gateway as RouterAddress
from netmesh_trio.traversal.portmap import PortMapCause, PortMapError, PortMapping
from netmesh_trio.traversal.portmap.upnp import UpnpClient
from tests.kernel.router import PUBLIC, Mapped, RouterDaemon, give_ipv6, need_daemon
from tests.node.test_cancellation import cancelled_at

pytestmark = pytest.mark.kernel

PORT = 4650


@attrs.frozen
class Home:
    """A home network: a gateway with the daemon, and two hosts."""

    daemon: RouterDaemon
    hosts: tuple[Host, Host]

    def client(self, host: Host) -> UpnpClient:
        return UpnpClient(RouterAddress(self.daemon.gateway.inner_address, host.address), open_socket=host.socket)


def make_home(lab: KernelInternet, directory: Path, **options: str) -> Home:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    hosts = (gateway.host("first"), gateway.host("second"))
    daemon = RouterDaemon(gateway, directory, **options)
    daemon.start()
    return Home(daemon, hosts)


async def mapped(client: UpnpClient, previous: PortMapping | None = None, lifetime: float = 600) -> PortMapping:
    with trio.fail_after(10):
        return await client.map(internal_port=PORT, external_port=PORT, lifetime=lifetime, previous=previous)


@pytest.mark.parametrize("older", ["yes", "no"])
async def test_map_renew_and_unmap(older: str, lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path, force_igd_desc_v1=older)
    host, other = home.hosts
    client = home.client(host)
    status = await client.status()
    assert (status.external, status.description) == (PUBLIC, "Debian router, Debian")

    mapping = await mapped(client)
    row = Mapped(PORT, host.address, PORT)
    assert mapping.external == Address(PUBLIC, PORT)
    assert 590 < mapping.lifetime <= 600  # the router tells what is left
    assert home.daemon.mappings() == [row]
    [(listed, (description, left))] = home.daemon.upnpc_mappings(other).items()
    assert (listed, description) == (row, "netmesh-trio")
    assert 590 < left <= 600

    renewed = await mapped(client, mapping, lifetime=900)
    assert renewed.external == mapping.external
    assert 890 < renewed.lifetime <= 900
    assert 890 < home.daemon.upnpc_mappings(other)[row][1] <= 900
    await client.unmap(mapping)
    assert home.daemon.mappings() == []
    assert home.daemon.upnpc_mappings(other) == {}
    await client.unmap(mapping)


async def test_a_packet_from_outside_gets_in(lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path)
    mapping = await mapped(home.client(home.hosts[0]))
    with home.hosts[0].socket() as inside, lab.host("other").socket() as outside:
        inside.bind((home.hosts[0].address, PORT))
        inside.settimeout(5)
        outside.sendto(b"hello", tuple(mapping.external))
        assert inside.recv(100) == b"hello"


@pytest.mark.parametrize("older", ["yes", "no"])
async def test_two_hosts_that_want_the_same_port(older: str, lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path, force_igd_desc_v1=older)
    first, second = (home.client(host) for host in home.hosts)
    one = await mapped(first)
    two = await mapped(second)
    assert one.external.port == PORT
    assert two.external.port == PORT + 1
    rows = [Mapped(PORT, home.hosts[0].address, PORT), Mapped(PORT + 1, home.hosts[1].address, PORT)]
    assert home.daemon.mappings() == rows
    assert home.daemon.upnpc_mappings(home.hosts[0]).keys() == set(rows)
    # Each keeps its own, and can remove no other.
    assert (await mapped(first, one)).external == one.external
    assert (await mapped(second, two)).external == two.external
    await second.unmap(one)
    assert home.daemon.mappings() == rows
    await first.unmap(one)
    await second.unmap(two)
    assert home.daemon.mappings() == []


async def test_a_port_that_upnpc_took(lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path)
    other = home.hosts[1]
    url = home.daemon.description_url
    other.run(["upnpc", "-u", url, "-a", other.address, "9999", str(PORT), "udp", "600"])
    mapping = await mapped(home.client(home.hosts[0]))
    assert mapping.external.port != PORT
    assert Mapped(PORT, other.address, 9999) in home.daemon.mappings()


async def test_a_router_that_forgets_restarts_and_moves(lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path, http_port="0")  # each time another one
    client = home.client(home.hosts[0])
    mapping = await mapped(client)
    home.daemon.stop(kill=True)
    home.daemon.forget()
    home.daemon.gateway.change_address("8.9.10.12")
    home.daemon.start()
    moved = await mapped(client, mapping)
    assert moved.external == Address("8.9.10.12", PORT)
    assert home.daemon.mappings() == [Mapped(PORT, home.hosts[0].address, PORT)]
    home.daemon.stop()
    home.daemon.start()
    await client.unmap(moved)
    assert home.daemon.mappings() == []


async def test_a_router_that_allows_nothing(lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path)
    client = home.client(home.hosts[0])
    with pytest.raises(PortMapError) as caught:
        await client.map(internal_port=1023, external_port=1023, lifetime=600)
    assert caught.value.cause is PortMapCause.REFUSED
    assert home.daemon.mappings() == []
    await mapped(client)


async def test_cancelled_anywhere_nothing_is_left(lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path)
    client = home.client(home.hosts[0])
    await client.status()
    left = 0
    for k in range(0, 300, 3):
        if not await cancelled_at(k, lambda: mapped(client), prompt=False):
            break
        # A request that was cut off may still be read by the daemon, but before the next one.
        await client.unmap()
        left += bool(home.daemon.mappings())
    assert left == 0
    assert home.daemon.mappings() == [Mapped(PORT, home.hosts[0].address, PORT)]


async def test_multicast_and_unicast_searches_find_it(lab: KernelInternet, tmp_path: Path) -> None:
    home = make_home(lab, tmp_path)
    host = home.hosts[0]

    def deafen(*destinations: str) -> None:
        """Drop searches to these."""
        drops = "".join(f"ip daddr {destination} udp dport 1900 drop\n" for destination in destinations)
        hook = "type filter hook input priority -10; policy accept;"
        table = f"table ip deaf {{\nchain in {{\n{hook}\n{drops}}}\n}}\n"
        nft(home.daemon.gateway.namespace, f"table ip deaf\ndelete table ip deaf\n{table}")

    for destination in ("10.0.0.0/8", "239.0.0.0/8"):
        deafen(destination)
        assert (await home.client(host).status()).external == PUBLIC
    deafen("10.0.0.0/8", "239.0.0.0/8")
    with pytest.raises(PortMapError) as caught:
        await home.client(host).status()
    assert caught.value.cause is PortMapCause.TIMEOUT


async def test_pinholes(lab: KernelInternet, tmp_path: Path) -> None:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    host = gateway.host("host")
    router = give_ipv6(gateway, host)
    daemon = RouterDaemon(gateway, tmp_path)
    daemon.start()
    local = "2001:470:1:2::2"
    client = UpnpClient(RouterAddress(f"{router}%eth0", local, host.call(eth0)), open_socket=host.socket)
    status = await client.status()
    assert (status.external, status.description) == (None, "Debian router, Debian")

    mapping = await mapped(client)
    assert mapping.internal == mapping.external == Address(local, PORT)
    assert mapping.lifetime == 600
    assert daemon.pinholes() == [(local, PORT)]
    assert await mapped(client, mapping) == mapping
    assert daemon.pinholes() == [(local, PORT)]
    # As after a reboot: what it is to renew is not there.
    await client.unmap(mapping)
    assert daemon.pinholes() == []
    renewed = await mapped(client, mapping)
    assert daemon.pinholes() == [(local, PORT)]
    await client.unmap(renewed)
    assert daemon.pinholes() == []
    await client.unmap(renewed)


async def test_a_pinhole_in_doubt_is_closed(lab: KernelInternet, tmp_path: Path) -> None:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    host = gateway.host("host")
    router = give_ipv6(gateway, host)
    daemon = RouterDaemon(gateway, tmp_path)
    daemon.start()
    address = RouterAddress(router, "2001:470:1:2::2", host.call(eth0))
    client = UpnpClient(address, open_socket=host.socket)
    await client.status()
    for k in range(100):
        if not await cancelled_at(k, lambda: mapped(client), prompt=False):
            break
        await client.unmap()
        assert daemon.pinholes() == []
    assert daemon.pinholes() == [("2001:470:1:2::2", PORT)]


def eth0() -> int:
    return socket.if_nametoindex("eth0")

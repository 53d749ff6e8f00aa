"""The daemon of the laboratory does what a router does: checked with Debian's clients, before ours are."""

from __future__ import annotations

from pathlib import Path

import pytest

from netmesh_trio.testing.kernel_netns import LabError
from netmesh_trio.testing.namespaces import KernelInternet
from tests.kernel.router import PUBLIC, Mapped, RouterDaemon, give_ipv6, need_daemon

pytestmark = pytest.mark.kernel


def test_its_table_is_one_for_all_protocols_and_lives_in_the_kernel(lab: KernelInternet, tmp_path: Path) -> None:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    host = gateway.host("host")
    daemon = RouterDaemon(gateway, tmp_path)
    daemon.start()
    assert daemon.mappings() == []

    upnpc = ["upnpc", "-u", daemon.description_url]
    host.run([*upnpc, "-e", "by upnpc", "-a", host.address, "4650", "5000", "udp", "600"])
    host.run(["natpmpc", "-g", gateway.inner_address, "-a", "6000", "4651", "udp", "600"])
    upnp, natpmp = Mapped(5000, host.address, 4650), Mapped(6000, host.address, 4651)
    assert daemon.mappings() == [upnp, natpmp]
    listed = daemon.upnpc_mappings(host)
    assert listed.keys() == {upnp, natpmp}
    assert listed[upnp][0] == "by upnpc"
    assert 590 < listed[upnp][1] <= 600

    daemon.stop(kill=True)
    assert daemon.mappings() == [upnp, natpmp]
    daemon.forget()
    gateway.change_address("8.9.10.12")
    daemon.start()
    assert daemon.mappings() == []
    assert "ExternalIPAddress = 8.9.10.12" in host.run([*upnpc, "-s"]).stdout


def test_a_packet_from_outside_reaches_the_mapped_port_only(lab: KernelInternet, tmp_path: Path) -> None:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    host, other = gateway.host("host"), lab.host("other")
    daemon = RouterDaemon(gateway, tmp_path, enable_upnp="no")
    daemon.start()
    host.run(["natpmpc", "-g", gateway.inner_address, "-a", "6000", "4650", "udp", "600"])
    with host.socket() as inside, other.socket() as outside:
        inside.bind((host.address, 4650))
        inside.settimeout(5)
        for port in (4650, 5999, 6000):
            outside.sendto(b"to %d" % port, (PUBLIC, port))
        assert inside.recv(100) == b"to 6000"


def test_pinholes(lab: KernelInternet, tmp_path: Path) -> None:
    need_daemon()
    gateway = lab.nat("router", address=PUBLIC)
    host = gateway.host("host")
    link_local = give_ipv6(gateway, host)
    assert link_local.startswith("fe80:")
    daemon = RouterDaemon(gateway, tmp_path)
    daemon.start()
    url = daemon.description_url.replace(gateway.inner_address, "[2001:470:1:2::1]")
    host.run(["upnpc", "-6", "-u", url, "-A", "", "0", "2001:470:1:2::2", "4650", "udp", "600"])
    assert daemon.pinholes() == [("2001:470:1:2::2", 4650)]
    daemon.forget()
    assert daemon.pinholes() == []


def test_a_daemon_that_does_not_start_says_why(lab: KernelInternet, tmp_path: Path) -> None:
    need_daemon()
    daemon = RouterDaemon(lab.nat("router", address=PUBLIC), tmp_path, ext_ip="nowhere")
    with pytest.raises(LabError, match="nowhere"):
        daemon.start()

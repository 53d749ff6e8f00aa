"""IPv6 beside IPv4: no NAT there, but firewalls that let in replies only."""

from __future__ import annotations

from pathlib import Path

import pytest

from netmesh_trio.testing.kernel_netns import command, ip_batch, nft, write_sysctls
from netmesh_trio.testing.namespaces import Gateway, Host, KernelInternet
from tests.kernel.mesh import Mesh

pytestmark = pytest.mark.kernel

FIREWALL = """table ip6 fw {
 chain forward {
  type filter hook forward priority 0; policy drop
  ct state established,related accept
  iifname "lan" accept
  meta l4proto icmpv6 accept
 }
}
"""


def switch_on(namespace: str, *interfaces: str, forwards: bool = True) -> None:
    names = ("default", *interfaces)
    settings = [(f"net/ipv6/conf/{name}/accept_dad", "0") for name in names]
    settings += [(f"net/ipv6/conf/{name}/disable_ipv6", "0") for name in ("all", *names)]
    if forwards:
        settings.append(("net/ipv6/conf/all/forwarding", "1"))
    write_sysctls(namespace, settings)


def give_ipv6(lab: KernelInternet, number: int, gateway: Gateway, host: Host) -> str:
    """A prefix for a home, routed over the internet, with a firewall at its gateway; the host's address."""
    route = command(["ip", "-n", lab.namespace, "route", "show", gateway.address])
    port = route.split("dev ")[1].split()[0]
    switch_on(lab.namespace, port)
    switch_on(gateway.namespace, "wan", "lan")
    switch_on(host.namespace, "eth0", forwards=False)
    prefix = f"2001:470:{number}"
    ip_batch(
        [f"addr add {prefix}:0::1/64 dev {port} nodad", f"route add {prefix}:1::/64 via {prefix}:0::2 dev {port}"],
        namespace=lab.namespace,
    )
    ip_batch(
        [
            f"addr add {prefix}:0::2/64 dev wan nodad",
            f"addr add {prefix}:1::1/64 dev lan nodad",
            f"route add default via {prefix}:0::1 dev wan",
        ],
        namespace=gateway.namespace,
    )
    # several addresses, as for privacy: packets leave from the one that is not deprecated
    own = [f"addr add {prefix}:1::{n}/64 dev eth0 nodad{' preferred_lft 0' if n != 5 else ''}" for n in range(2, 9)]
    ip_batch([*own, f"route add default via {prefix}:1::1 dev eth0"], namespace=host.namespace)
    nft(gateway.namespace, FIREWALL)
    return f"{prefix}:1::5"


@pytest.mark.parametrize("bind", [(), ("--bind", "0.0.0.0:0")], ids=["default", "ipv4 only"])
def test_direct_where_both_nats_are_symmetric(lab: KernelInternet, tmp_path: Path, bind: tuple[str, ...]) -> None:
    """The relay has no IPv6 itself.  Without it at the ends, traffic stays on the relay."""
    relay = lab.host("relay", delay=0.005)
    gateways = [lab.nat(name, kind="symmetric") for name in ("one", "two")]
    hosts = [gateway.host(f"host-{gateway.name}", delay=0.005) for gateway in gateways]
    addresses = [give_ipv6(lab, n, *home) for n, home in enumerate(zip(gateways, hosts, strict=True), 1)]
    with Mesh(tmp_path) as mesh:
        mesh.relay(relay)
        server = mesh.run(hosts[1], "node", *bind, *mesh.bootstrap)
        peer_id = server.wait_for("ready")["peer_id"]
        ping = mesh.run(hosts[0], "ping", peer_id, "-c", 3, "--until-direct", "--timeout", 20, *bind, *mesh.bootstrap)
        first = ping.wait_for("path", peer_id=peer_id)
        assert first["kind"] == "relayed"
        if bind:
            assert ping.finish() == 1  # it took a while to try, and was answered all the time
            assert ping.last("path")["kind"] == "relayed"
            return
        direct = ping.wait_for("path", peer_id=peer_id, kind="direct")
        assert direct["addr"].startswith(f"[{addresses[1]}]:")
        assert ping.finish() == 0, ping.errors

"""The daemon of real home routers, miniupnpd, on a gateway of the laboratory, and what others say of its table.

It speaks UPnP, NAT-PMP and PCP, and keeps one table for all.  Version 2.3.1 refuses a gateway whose outside address is
reserved, as those of the laboratory are: make the gateway with ``address=PUBLIC``, which nobody outside of the
namespaces ever sees.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import time
from pathlib import Path

import attrs
import pytest

from netmesh_trio.testing.kernel_netns import LabError, in_namespace, ip_batch, nft, write_sysctls
from netmesh_trio.testing.namespaces import Gateway, Host

PUBLIC = "8.9.10.11"
HTTP_PORT = 5000

# The tables and chains that the daemon expects to be there; it fills the last three.
_TABLES = """
table inet filter
delete table inet filter
table inet filter {
  chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
  chain prerouting { type nat hook prerouting priority -100; policy accept; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 100; policy accept; jump postrouting_miniupnpd; }
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
}
"""
_PORTS = {"enable_upnp": 1900, "enable_natpmp": 5351}  # of PCP, too
_MAPPING = re.compile(r"th dport (\d+) dnat ip to ([0-9.]+):(\d+)")
_PINHOLE = re.compile(r"th dport (\d+) @nh,192,128 0x([0-9a-f]+) ")
_LINE = re.compile(r"^ *\d+ (UDP|TCP) +(\d+)->([0-9.]+):(\d+) +'(.*)' '.*' (\d+)$", re.MULTILINE)


@attrs.frozen(order=True)
class Mapped:
    """One mapping of UDP."""

    external_port: int
    client: str
    internal_port: int


def need_daemon() -> None:
    """Skip the test where the daemon or the independent clients are not installed."""
    missing = [name for name in ("miniupnpd", "upnpc", "natpmpc") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install miniupnpd-nftables miniupnpc natpmpc")


class RouterDaemon:
    """miniupnpd on a gateway; the laboratory ends it with the gateway.

    ``options`` are lines of its configuration besides those needed.
    """

    def __init__(self, gateway: Gateway, directory: Path, **options: str) -> None:
        self.gateway = gateway
        self.options = {"enable_upnp": "yes", "enable_natpmp": "yes", **options}
        self._config = directory / f"{gateway.name}.conf"
        self._log = directory / f"{gateway.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.forget()

    def start(self) -> None:
        """Start it, with the gateway's address of now, and wait until it listens."""
        fixed = {
            "ext_ifname": "wan",
            "ext_ifname6": "wan",
            "ext_ip": self.gateway.address,
            "listening_ip": "lan",
            "ipv6_listening_ip": "::",
            "http_port": str(HTTP_PORT),
            "secure_mode": "yes",
            "uuid": "00000000-0000-4000-8000-000000000001",
        }
        lines = [f"{key}={value}\n" for key, value in {**fixed, **self.options}.items()]
        rules = ["allow 1024-65535 0.0.0.0/0 1024-65535\n", "deny 0-65535 0.0.0.0/0 0-65535\n"]
        self._config.write_text("".join(lines + rules))
        pid_file = self._config.with_suffix(".pid")
        with self._log.open("ab") as log:
            command = ["miniupnpd", "-d", "-f", str(self._config), "-P", str(pid_file)]
            self._process = self.gateway.popen(command, stdout=log, stderr=subprocess.STDOUT)
        wanted = {port for option, port in _PORTS.items() if self.options[option] == "yes"}
        in_namespace(self.gateway.namespace, lambda: self._wait_bound(wanted))

    def _wait_bound(self, wanted: set[int]) -> None:
        deadline = time.monotonic() + 10
        while not wanted <= _bound_ports():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"miniupnpd does not start: {self.log[-2000:]}")
            time.sleep(0.002)

    def stop(self, *, kill: bool = False) -> None:
        """End it.  What it mapped stays in the kernel, as when a router's daemon is restarted: see :meth:`forget`."""
        if self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(10)
            self.gateway.ledger.processes.remove(self._process)
            self._process = None

    def forget(self) -> None:
        """Empty its tables in the kernel, as a reboot does."""
        nft(self.gateway.namespace, _TABLES)

    @property
    def log(self) -> str:
        """All that it said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def description_url(self) -> str:
        """Where UPnP begins."""
        return f"http://{self.gateway.inner_address}:{HTTP_PORT}/rootDesc.xml"

    def mappings(self) -> list[Mapped]:
        """What the kernel maps, whoever asked and by whichever protocol."""
        rules = self.gateway.run(["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"]).stdout
        return sorted(Mapped(int(outer), client, int(inner)) for outer, client, inner in _MAPPING.findall(rules))

    def pinholes(self) -> list[tuple[str, int]]:
        """The IPv6 addresses and ports that the kernel lets packets in to."""
        rules = self.gateway.run(["nft", "list", "chain", "inet", "filter", "miniupnpd"]).stdout
        return sorted((str(ipaddress.IPv6Address(int(host, 16))), int(port)) for port, host in _PINHOLE.findall(rules))

    def upnpc_mappings(self, host: Host) -> dict[Mapped, tuple[str, int]]:
        """The table as Debian's upnpc reads it on ``host``: mappings of UDP, their descriptions and seconds left."""
        # It ends with the error that says where the table ends.
        listed = host.run(["upnpc", "-u", self.description_url, "-l"], check=False).stdout
        if "returned 713" not in listed:
            raise LabError(f"upnpc does not list the table: {listed}")
        return {
            Mapped(int(outer), client, int(inner)): (description, int(left))
            for protocol, outer, client, inner, description, left in _LINE.findall(listed)
            if protocol == "UDP"
        }


def _bound_ports() -> set[int]:
    """The UDP ports in use in this thread's namespace."""
    ports: set[int] = set()
    for name in ("udp", "udp6"):
        table = Path("/proc/thread-self/net", name)
        if table.exists():
            ports |= {int(line.split()[1].rpartition(":")[2], 16) for line in table.read_text().splitlines()[1:]}
    return ports


def give_ipv6(gateway: Gateway, *hosts: Host) -> str:
    """IPv6 on the network behind a gateway: the gateway is its ``2001:470:1:2::1``, the hosts count on from 2.

    What the hosts route to is the gateway's link-local address, which is returned without scope.  There is nothing
    beyond the gateway.
    """
    for machine, interface in ((gateway, "lan"), *((host, "eth0") for host in hosts)):
        settings = [
            ("net/ipv6/conf/default/accept_dad", "0"),
            (f"net/ipv6/conf/{interface}/accept_dad", "0"),
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            (f"net/ipv6/conf/{interface}/disable_ipv6", "0"),
        ]
        if machine is gateway:
            settings.append(("net/ipv6/conf/all/forwarding", "1"))
        write_sysctls(machine.namespace, settings)
    ip_batch(["addr add 2001:470:1:2::1/64 dev lan nodad"], namespace=gateway.namespace)
    shown = gateway.run(["ip", "-6", "-o", "addr", "show", "dev", "lan", "scope", "link"]).stdout
    link_local = shown.split("inet6 ")[1].partition("/")[0]
    for number, host in enumerate(hosts, 2):
        lines = [f"addr add 2001:470:1:2::{number}/64 dev eth0 nodad", f"route add default via {link_local} dev eth0"]
        ip_batch(lines, namespace=host.namespace)
    return link_local

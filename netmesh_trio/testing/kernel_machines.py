"""The machines of the laboratory: hosts, gateways, and the book in which it keeps what it made."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

from netmesh_trio.testing.kernel_link import MAX_SHAPED_MTU, LinkShape, ShapedLink
from netmesh_trio.testing.kernel_nat import (
    ROUTED_KINDS,
    NatKind,
    internet_drops,
    port_masks,
    ruleset,
)
from netmesh_trio.testing.kernel_netns import (
    LabError,
    flush_conntrack,
    in_namespace,
    ip_batch,
    nft,
    open_socket,
    wait_running,
    write_sysctls,
)

T = TypeVar("T")

_ROUTER = "192.0.2.254"  # the internet's own address, on each of its ports
_HOSTS = "192.0.2"
_GATEWAYS = "198.51.100"
_ROUTED = "203.0.113"
_QUEUE = 4000  # packets that a tap keeps for its forwarder
IPV6_OFF = ("net/ipv6/conf/all/disable_ipv6", "1")
"""Only IPv4 is built: without addresses, IPv6 would only make noise."""

FORWARDING = (
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    # "Fragmentation needed" must not be rationed: path MTU discovery is among what is tested.
    ("net/ipv4/icmp_ratelimit", "0"),
)
"""What makes a namespace a router."""


class Ledger:
    """What a laboratory has made and must remove, the numbers it hands out, and what it drops."""

    def __init__(self, tag: str, seed: int) -> None:
        self.tag = tag
        self.internet: str = f"{tag}-internet"
        self.random: random.Random = random.Random(seed)
        self.names: list[str] = []
        self.links: list[ShapedLink] = []
        self.hosts: list[Host] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.blocked: set[tuple[Host, Host]] = set()
        self.cut: set[Machine] = set()
        self._serial = 0
        self._networks = 0
        self._used: dict[str, int] = {}

    def namespace(self, name: str) -> str:
        """Enter a namespace for the machine ``name``, to be removed at the end."""
        full = f"{self.tag}-{name}"
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"a name has letters, digits, '-' and '_' only, not {name!r}")
        if self.internet not in self.names:
            raise LabError("the laboratory is not open: use it in a with statement")
        if full in self.names:
            raise ValueError(f"there is a {name!r} already")
        self.names.append(full)
        return full

    def address(self, network: str) -> str:
        """The next free address of ``network``, given as its first three numbers."""
        number = self._used[network] = self._used.get(network, 0) + 1
        if number > 253:
            raise LabError(f"no address is left in {network}.0/24")
        return f"{network}.{number}"

    def serial(self) -> int:
        """A number that no port has yet."""
        self._serial += 1
        return self._serial

    def network(self) -> str:
        """A private network for a gateway, as its first three numbers."""
        self._networks += 1
        if self._networks > 255:
            raise LabError("no private network is left for another gateway")
        return f"10.{self._networks}.0"

    def refresh_drops(self) -> None:
        """Tell the internet what to drop, by the addresses that the machines have now."""
        blocked = {(first.public_address, second.public_address) for first, second in self.blocked}
        cut = {machine.public_address for machine in self.cut}
        nft(self.internet, internet_drops(blocked, cut))


class Machine:
    """A namespace with one interface towards the internet: what hosts and gateways share."""

    _interface = "eth0"

    def __init__(self, ledger: Ledger, name: str, parent: Gateway | None) -> None:
        self.ledger = ledger
        self.name = name
        """As given."""
        self.namespace: str = ledger.namespace(name)
        """The name of the namespace, as ``ip netns`` lists it."""
        self.parent = parent
        """The gateway that it is behind; None on the internet itself."""
        self.address: str = ""
        """Its own address: private behind a NAT, else public."""
        self.mtu: int = 1500
        """Of its link, bytes."""
        self._port = ""
        self._link: ShapedLink | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.address} in {self.namespace}>"

    @property
    def public_address(self) -> str:
        """The address that the internet knows it by."""
        if self.parent is None or self.parent.kind in ROUTED_KINDS:
            return self.address
        return self.parent.public_address

    @property
    def link(self) -> ShapedLink:
        """Its link, to be changed (`ShapedLink.set`) or read (`ShapedLink.stats`) at run time.

        Raises `LabError` if it was made without ``delay``, ``loss``, ``rate`` or ``shape``.
        """
        if self._link is None:
            raise LabError(f"the link of {self.name} has no shape: make it with shape=LinkShape()")
        return self._link

    # Running things

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The arguments that run a command here, for those who start processes their own way."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def popen(
        self,
        arguments: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command here, in a process group that the laboratory kills at its end.

        The process id is the command's own, so signals reach it.
        """
        process = subprocess.Popen(
            self.command(arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        self.ledger.processes.append(process)
        return process

    def run(
        self,
        arguments: Sequence[str],
        *,
        input: str | None = None,
        timeout: float = 30,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end and keep what it prints.

        Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds, and ``CalledProcessError``
        if it fails and ``check`` is set.
        """
        return subprocess.run(
            self.command(arguments),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=check,
            env=env,
            cwd=cwd,
        )

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket of this program that sends and receives here. Close it before the end."""
        return open_socket(self.namespace, family, kind)

    def call(self, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread that lives here: for functions that open sockets."""
        return in_namespace(self.namespace, function)

    # Changing the link

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU of its link, bytes, on both ends."""
        _check_mtu(mtu, shaped=self._link is not None)
        ip_batch([f"link set {self._interface} mtu {mtu}"], namespace=self.namespace)
        ip_batch([f"link set {self._port} mtu {mtu}"], namespace=self._upstream)
        self.mtu = mtu

    def change_address(self, address: str | None = None) -> str:
        """Give it another address (the next free one if not told) and return it."""
        old = self.address
        self.address = address or self._allocate()
        length = self._prefix_length
        ip_batch(
            [
                # In this order: with the first address of a network its later ones would go too.
                f"addr del {old}/{length} dev {self._interface}",
                f"addr add {self.address}/{length} dev {self._interface}",
                f"route replace default via {self._next_hop} dev {self._interface} onlink",
            ],
            namespace=self.namespace,
        )
        self._unroute(old)
        self._route()
        self.ledger.refresh_drops()
        return self.address

    @property
    def _upstream(self) -> str:
        return self.ledger.internet if self.parent is None else self.parent.namespace

    @property
    def _next_hop(self) -> str:
        return _ROUTER if self.parent is None else self.parent.inner_address

    @property
    def _prefix_length(self) -> int:
        return 32 if self.parent is None or self.parent.kind in ROUTED_KINDS else 24

    def _allocate(self) -> str:
        if self.parent is not None:
            return self.parent.allocate_inner()
        return self.ledger.address(_GATEWAYS if isinstance(self, Gateway) else _HOSTS)

    def _route(self) -> None:
        """Tell the routers on the way where the address is."""
        if self.parent is None:
            ip_batch([f"route add {self.address}/32 dev {self._port}"], namespace=self._upstream)
        elif self.parent.kind in ROUTED_KINDS:
            gateway = self.parent
            ip_batch([f"route add {self.address}/32 dev lan"], namespace=gateway.namespace)
            hop = f"via {gateway.address} dev {gateway._port} onlink"
            ip_batch([f"route add {self.address}/32 {hop}"], namespace=self.ledger.internet)

    def _unroute(self, address: str) -> None:
        if self.parent is None:
            ip_batch([f"route del {address}/32"], namespace=self._upstream)
        elif self.parent.kind in ROUTED_KINDS:
            ip_batch([f"route del {address}/32"], namespace=self.parent.namespace)
            ip_batch([f"route del {address}/32"], namespace=self.ledger.internet)

    def plug(self, *, address: str | None, mtu: int, shape: LinkShape | None, make: bool) -> None:
        """Connect to the upstream; ``make`` its namespace first."""
        _check_mtu(mtu, shaped=shape is not None)
        self.mtu = mtu
        self.address = address or self._allocate()
        self._port = f"p{self.ledger.serial()}"
        lines = [f"netns add {self.namespace}"] if make else []
        if shape is None:
            lines.append(
                f"link add {self._interface} netns {self.namespace} mtu {mtu} "
                f"type veth peer name {self._port} netns {self._upstream} mtu {mtu}"
            )
        ip_batch(lines)
        link = None
        if shape is not None:
            self._link = link = ShapedLink(
                (self.namespace, self._interface),
                (self._upstream, self._port),
                shape,
                self.ledger.random.getrandbits(32),
            )
            self.ledger.links.append(link)
        if make:
            write_sysctls(self.namespace, self._sysctls())
        ip_batch(
            [
                "link set lo up",
                f"link set {self._interface} mtu {mtu} txqueuelen {_QUEUE} up",
                f"addr add {self.address}/{self._prefix_length} dev {self._interface}",
                f"route add default via {self._next_hop} dev {self._interface} onlink",
                *(self._own_interfaces() if make else []),
            ],
            namespace=self.namespace,
        )
        if self.parent is None:
            upper = [
                f"link set {self._port} mtu {mtu} txqueuelen {_QUEUE} up",
                f"addr add {_ROUTER}/32 dev {self._port}",
            ]
        else:
            upper = [f"link set {self._port} master lan mtu {mtu} txqueuelen {_QUEUE} up"]
        ip_batch(upper, namespace=self._upstream)
        self._route()
        if make:
            self._load_rules()
        if link is not None:
            link.ready()
        wait_running(self.namespace, [self._interface])
        wait_running(self._upstream, [self._port] if self.parent is None else [self._port, "lan"])

    def unplug(self) -> None:
        """Take its link away; the namespace and what runs there stay."""
        self._unroute(self.address)
        if self._link is not None:
            self._link.close()
            self.ledger.links.remove(self._link)
            self._link = None
        else:
            ip_batch([f"link del {self._interface}"], namespace=self.namespace)

    def _own_interfaces(self) -> list[str]:
        return []

    def _load_rules(self) -> None:
        """Hosts have none."""

    def _sysctls(self) -> list[tuple[str, str]]:
        return [IPV6_OFF]


class Host(Machine):
    """A machine for programs; see `KernelInternet.host` and `Gateway.host`."""

    def move(self, parent: Gateway | None, *, shape: LinkShape | None = None) -> str:
        """Plug it in elsewhere: behind another gateway, or (None) on the internet itself.

        The new address is returned; what runs in it goes on and sees the interface vanish and
        come back.
        """
        self.unplug()
        self.parent = parent
        self.plug(address=None, mtu=self.mtu, shape=shape, make=False)
        self.ledger.refresh_drops()
        return self.address


class Gateway(Machine):
    """A router with interfaces ``wan`` and ``lan``; see `KernelInternet.nat` and `Gateway.nat`."""

    _interface = "wan"

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        parent: Gateway | None,
        kind: NatKind,
        lifetime: int,
        hairpin: bool,
    ) -> None:
        super().__init__(ledger, name, parent)
        self.kind: NatKind = kind
        """What it does to packets."""
        self.lifetime = lifetime
        """How many seconds an unused mapping stays."""
        self.hairpin = hairpin
        """Whether hosts behind it reach each other by their public addresses."""
        self._network = ledger.network()
        self._inner = 1
        self._masks = port_masks(ledger.random)
        self._first_port = ledger.random.randrange(20000, 60000)

    @property
    def inner_address(self) -> str:
        """Its address on the side of its hosts."""
        return f"{self._network}.1"

    @property
    def outer(self) -> Gateway | None:
        """The gateway that it is behind itself: the carrier's, of a double NAT."""
        return self.parent

    def host(
        self,
        name: str,
        *,
        delay: float = 0.0,
        loss: float = 0.0,
        rate: float | None = None,
        queue: int = 256 * 1024,
        shape: LinkShape | None = None,
        mtu: int = 1500,
    ) -> Host:
        """Make a host behind this gateway; the arguments are those of `KernelInternet.host`.

        Hosts behind one gateway share its LAN and reach each other by their own addresses.
        """
        host = Host(self.ledger, name, self)
        host.plug(address=None, mtu=mtu, shape=shape_of(delay, loss, rate, queue, shape), make=True)
        self.ledger.hosts.append(host)
        return host

    def nat(
        self,
        name: str,
        *,
        kind: NatKind = "port-preserving",
        lifetime: int = 120,
        hairpin: bool = False,
        shape: LinkShape | None = None,
        mtu: int = 1500,
    ) -> Gateway:
        """Make a gateway behind this one, as at home behind a carrier's NAT."""
        if kind in ROUTED_KINDS or kind == "double" or self.kind in ROUTED_KINDS:
            raise ValueError(f"a {kind} gateway cannot stand behind a {self.kind} one")
        gateway = Gateway(self.ledger, name, self, kind, lifetime, hairpin)
        gateway.plug(address=None, mtu=mtu, shape=shape, make=True)
        return gateway

    def reboot(self) -> None:
        """Forget all mappings and connections; the address stays (else: `change_address`)."""
        self._load_rules()
        if self.kind != "none":
            flush_conntrack(self.namespace)

    def change_address(self, address: str | None = None) -> str:
        """Give it another public address, as a router that dials in anew; mappings are forgotten.

        The new address is returned. It is the next free one if not told.
        """
        super().change_address(address)
        for host in self.ledger.hosts:
            if host.parent is self and self.kind in ROUTED_KINDS:
                hop = f"via {self.address} dev {self._port} onlink"
                ip_batch([f"route replace {host.address}/32 {hop}"], namespace=self.ledger.internet)
        self.reboot()
        return self.address

    def allocate_inner(self) -> str:
        """The next free address for a machine behind it."""
        if self.kind in ROUTED_KINDS:
            return self.ledger.address(_ROUTED)
        self._inner += 1
        if self._inner > 254:
            raise LabError(f"the network behind {self.name} is full")
        return f"{self._network}.{self._inner}"

    def _own_interfaces(self) -> list[str]:
        return [
            "link add lan type bridge mcast_snooping 0",
            f"addr add {self.inner_address}/24 dev lan",
            "link set lan up",
        ]

    def _sysctls(self) -> list[tuple[str, str]]:
        lifetime = str(self.lifetime)
        timeouts = [
            ("net/netfilter/nf_conntrack_udp_timeout", lifetime),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", lifetime),
        ]
        # Frames from host to host on the LAN are not the gateway's to track, and a hairpinned
        # packet must be routed, not turned around inside the bridge.
        bridge = ("net/bridge/bridge-nf-call-iptables", "0")
        return [IPV6_OFF, *FORWARDING, *timeouts, bridge]

    def _load_rules(self) -> None:
        """Load the rules, which also empties the maps in them."""
        if self.kind == "none":
            return
        nft(
            self.namespace,
            ruleset(
                self.kind,
                address=self.address,
                masks=self._masks,
                lifetime=self.lifetime,
                hairpin=self.hairpin,
                first_port=self._first_port,
            ),
        )


def shape_of(delay: float, loss: float, rate: float | None, queue: int, shape: LinkShape | None) -> LinkShape | None:
    """The shape that these arguments of ``host`` mean; None for a plain veth."""
    if not delay and not loss and rate is None:
        return shape
    if shape is not None:
        raise ValueError("give either shape or delay, loss, rate and queue")
    return LinkShape(delay=delay, loss=loss, rate=rate, queue=queue)


def _check_mtu(mtu: int, *, shaped: bool) -> None:
    limit = MAX_SHAPED_MTU if shaped else 65535
    if not 68 <= mtu <= limit:
        raise ValueError(f"an MTU here is 68 to {limit} bytes, not {mtu}")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and what it started in its group; one that has ended is only reaped."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

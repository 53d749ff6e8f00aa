"""A laboratory of real kernel NATs: network namespaces, nftables, and links with delay and loss.

Linux and root only; ask `unavailable_reason`. Everything lives in namespaces of its own, so the
machine's network is neither used nor changed::

    with KernelInternet() as lab:
        relay = lab.host("r1")
        a = lab.nat("na", kind="symmetric").host("a", delay=0.020, loss=0.01)
        b = lab.nat("nb", kind="port-restricted").host("b")
        process = a.popen(["netmesh-trio", "ping", ...])
        lab.block(a, b)

All is ended and removed when the block is left, also by an exception, Ctrl-C or SIGTERM; what a
killed process leaves behind is swept by the next laboratory, or by `sweep_stale`.

::

    host a --- lan [gateway na] wan --- p2 [internet] p1 --- eth0 host r1
    10.1.0.2   10.1.0.1   198.51.100.1  192.0.2.254         192.0.2.1
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from netmesh_trio.testing.kernel_link import LinkShape, LinkStats, ShapedLink
from netmesh_trio.testing.kernel_machines import (
    FORWARDING,
    IPV6_OFF,
    Gateway,
    Host,
    Ledger,
    kill_group,
    shape_of,
)
from netmesh_trio.testing.kernel_nat import INTERNET_RULES, NAT_KINDS, NatKind
from netmesh_trio.testing.kernel_netns import (
    LabError,
    command,
    ip_batch,
    nft,
    own_tag,
    remove_namespaces,
    stale_namespaces,
    write_sysctls,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "NAT_KINDS",
    "Gateway",
    "Host",
    "KernelInternet",
    "LabError",
    "LinkShape",
    "LinkStats",
    "NatKind",
    "ShapedLink",
    "sweep_stale",
    "tcp_seconds",
    "unavailable_reason",
]


def unavailable_reason() -> str | None:
    """Why there can be no laboratory here, in one line; None if there can be."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are a Linux feature"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    probe = f"nmt-probe-{os.getpid()}"
    try:
        ip_batch([f"netns add {probe}"])
    except LabError as error:
        return f"cannot make a network namespace (iproute2 installed?): {_first_line(error)}"
    try:
        nft(probe, "table ip lab {\n chain c {\n type nat hook postrouting priority srcnat\n }\n}\n")
    except LabError as error:
        return f"cannot use nftables in a namespace (nft installed?): {_first_line(error)}"
    finally:
        remove_namespaces([probe])
    return None


def _first_line(error: LabError) -> str:
    return str(error).partition("\n")[0]


def sweep_stale(prefix: str = "nmt") -> list[str]:
    """Remove the laboratories with this ``prefix`` whose process is gone; the namespaces removed.

    What still runs in them is ended.
    """
    stale = stale_namespaces(prefix)
    remove_namespaces(stale)
    return stale


class KernelInternet:
    """An internet of network namespaces, as a context manager; not for several threads at once.

    ``prefix`` begins the names of its namespaces; process id and start follow, so laboratories of
    several processes do not meet and the sweeper knows whose they are. ``seed`` decides which
    packets are lost and which ports the gateways give (not those that the kernel draws for
    ``symmetric``).

    Raises `LabError` where the kernel refuses something.
    """

    def __init__(self, prefix: str = "nmt", *, seed: int = 0) -> None:
        self.prefix = prefix
        self._ledger = Ledger(f"{prefix}-{own_tag()}-{os.urandom(2).hex()}", seed)
        self.namespace: str = self._ledger.internet
        """The name of the namespace in the middle, which routes between the public addresses."""
        self._owner = os.getpid()
        self._replaced_handler = False

    # Life

    def __enter__(self) -> Self:
        sweep_stale(self.prefix)
        atexit.register(self.close)
        self._catch_sigterm()
        try:
            self._ledger.names.append(self.namespace)
            ip_batch([f"netns add {self.namespace}"])
            write_sysctls(self.namespace, [IPV6_OFF, *FORWARDING])
            ip_batch(["link set lo up"], namespace=self.namespace)
            nft(self.namespace, INTERNET_RULES)
        except BaseException:  # also at Ctrl-C: nobody else will remove the namespace
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what runs in the laboratory and remove it; twice is once.

        Ctrl-C and SIGTERM wait until it is done, so that nothing stays behind.
        """
        # A forked child inherits this object and its exit hook, but not the laboratory.
        if os.getpid() != self._owner:
            return
        with _signals_wait():
            ledger = self._ledger
            for process in ledger.processes:
                kill_group(process)
            for link in ledger.links:
                link.close()
            ledger.processes.clear()
            ledger.links.clear()
            try:
                remove_namespaces(ledger.names)
                ledger.names.clear()
            finally:
                self._release_sigterm()
            atexit.unregister(self.close)

    def _catch_sigterm(self) -> None:
        """SIGTERM ends a program without cleaning up: let it raise, unless it is handled."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _exit_on_signal)
            self._replaced_handler = True

    def _release_sigterm(self) -> None:
        if self._replaced_handler and threading.current_thread() is threading.main_thread():
            self._replaced_handler = False
            if signal.getsignal(signal.SIGTERM) is _exit_on_signal:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    # Building

    def host(
        self,
        name: str,
        *,
        address: str | None = None,
        delay: float = 0.0,
        loss: float = 0.0,
        rate: float | None = None,
        queue: int = 256 * 1024,
        shape: LinkShape | None = None,
        mtu: int = 1500,
    ) -> Host:
        """Make a host on a public address (the next free one if not told).

        ``delay`` (seconds), ``loss`` (0 to 1), ``rate`` (bits per second) and ``queue`` (bytes)
        shape its link, in each direction by itself: two hosts with 10 ms each are 40 ms of round
        trip apart. ``shape`` says the same as one value; an empty `LinkShape` makes a link that
        can be shaped later. Without any of them the link is a plain veth.
        """
        host = Host(self._ledger, name, None)
        shape = shape_of(delay, loss, rate, queue, shape)
        host.plug(address=address, mtu=mtu, shape=shape, make=True)
        self._ledger.hosts.append(host)
        return host

    def nat(
        self,
        name: str,
        *,
        kind: NatKind = "port-preserving",
        address: str | None = None,
        lifetime: int = 120,
        hairpin: bool = False,
        shape: LinkShape | None = None,
        mtu: int = 1500,
    ) -> Gateway:
        """Make a gateway, behind which hosts are made by its own `Gateway.host`.

        ``kind`` as in `kernel_nat`; ``double`` makes two, ``<name>-outer`` (port-restricted, at
        the carrier) and the returned one behind it (port-preserving, at home). ``lifetime`` is in
        seconds. ``hairpin`` is for the three kinds that map by rule: full-cone,
        address-restricted and port-restricted.
        """
        if kind == "double":
            outer = self.nat(
                f"{name}-outer",
                kind="port-restricted",
                address=address,
                lifetime=lifetime,
                hairpin=hairpin,
                shape=shape,
                mtu=mtu,
            )
            return outer.nat(name, kind="port-preserving", lifetime=lifetime, mtu=mtu)
        gateway = Gateway(self._ledger, name, None, kind, lifetime, hairpin)
        gateway.plug(address=address, mtu=mtu, shape=shape, make=True)
        return gateway

    # Trouble at run time

    def block(self, first: Host, second: Host, *, both: bool = True) -> None:
        """Drop UDP between the public addresses of two hosts (``both``: also from second to first).

        Raises ``ValueError`` if they share a public address.
        """
        if first.public_address == second.public_address:
            raise ValueError(f"{first.name} and {second.name} share one public address")
        self._ledger.blocked.add((first, second))
        if both:
            self._ledger.blocked.add((second, first))
        self._ledger.refresh_drops()

    def unblock(self, first: Host, second: Host) -> None:
        """Undo `block`, in both directions."""
        self._ledger.blocked -= {(first, second), (second, first)}
        self._ledger.refresh_drops()

    def cut(self, machine: Host | Gateway) -> None:
        """Drop everything to and from the public address of a host or gateway."""
        self._ledger.cut.add(machine)
        self._ledger.refresh_drops()

    def mend(self, machine: Host | Gateway) -> None:
        """Undo `cut`."""
        self._ledger.cut.discard(machine)
        self._ledger.refresh_drops()


def tcp_seconds(sender: Host, receiver: Host, size: int, *, congestion: str = "cubic", timeout: float = 120) -> float:
    """The seconds one TCP connection of the kernel takes for ``size`` bytes.

    That is from the first SYN to the answer that all has been read: the reference for a transfer
    over the same links.

    The receiver must have a public address of its own. Raises `LabError` if the transfer fails or
    takes longer than ``timeout`` seconds.
    """
    program = str(Path(__file__).with_name("kernel_tcp.py"))
    python = [sys.executable, "-I", "-S", program]
    server = receiver.popen([*python, "receive"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        port = server.stdout.readline().decode().strip()
        if not port:
            raise LabError(f"the TCP receiver on {receiver.name} did not start")
        target = [receiver.address, port, str(size), congestion]
        output = command(sender.command([*python, "send", *target]), timeout=timeout)
        received = server.stdout.readline().decode().strip()
    finally:
        server.stdout.close()
        kill_group(server)
        receiver.ledger.processes.remove(server)
    result = json.loads(output)
    if not result["answered"] or received != str(size):
        raise LabError(f"the TCP transfer from {sender.name} to {receiver.name} was incomplete")
    return float(result["seconds"])


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    kept = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            # None: a handler that was not set from Python, and cannot be set back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for caught in waiting:
            signal.raise_signal(caught)

"""The kernel laboratory is what it says: every NAT behaves as named, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from netmesh_trio.testing.kernel_nat import port_masks, ruleset
from netmesh_trio.testing.kernel_netns import existing_namespaces
from netmesh_trio.testing.namespaces import (
    NAT_KINDS,
    Gateway,
    Host,
    KernelInternet,
    LabError,
    LinkShape,
    NatKind,
    sweep_stale,
    tcp_seconds,
)

pytestmark = pytest.mark.kernel

PORT = 4650
ARRIVES = 2.0  # seconds that a packet may take that should arrive
DROPPED = 0.1  # seconds after which a packet on an undelayed path counts as dropped
UDP_SEGMENT = 103  # linux/udp.h
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h

Endpoint = tuple[str, int]


class Sockets(ExitStack):
    """UDP sockets in the namespaces, closed together."""

    def bind(self, host: Host | Gateway, port: int = 0) -> socket.socket:
        made = self.enter_context(host.socket())
        made.bind((host.address, port))
        return made


def endpoint(made: socket.socket) -> Endpoint:
    host, port = made.getsockname()
    return host, port


def seen(sender: socket.socket, receiver: socket.socket, target: Endpoint | None = None) -> Endpoint:
    """Where a packet of ``sender`` comes from, as ``receiver`` sees it."""
    mark = os.urandom(8)
    sender.sendto(mark, target or endpoint(receiver))
    receiver.settimeout(ARRIVES)
    while True:
        data, source = receiver.recvfrom(64)
        if data == mark:
            return source[0], source[1]


def passes(sender: socket.socket, target: Endpoint, receiver: socket.socket) -> bool:
    """Whether a packet that ``sender`` sends to ``target`` reaches ``receiver``."""
    mark = os.urandom(8)
    sender.sendto(mark, target)
    deadline = time.monotonic() + DROPPED
    while (left := deadline - time.monotonic()) > 0:
        receiver.settimeout(left)
        try:
            if receiver.recv(64) == mark:
                return True
        except TimeoutError:
            break
    return False


@attrs.frozen
class Behavior:
    same_mapping: bool  # two destinations see one endpoint
    keeps_port: bool
    admits_address: bool  # from another port of an address that was contacted
    admits_any: bool  # from an address that was not contacted


BEHAVIOR: dict[NatKind, Behavior] = {
    "none": Behavior(True, True, True, True),
    "firewall": Behavior(True, True, False, False),
    "full-cone": Behavior(True, False, True, True),
    "address-restricted": Behavior(True, False, True, False),
    "port-restricted": Behavior(True, False, False, False),
    "port-preserving": Behavior(True, True, False, False),
    "symmetric": Behavior(False, False, False, False),
    "symmetric-sequential": Behavior(False, False, False, False),
    "double": Behavior(True, False, False, False),
}


@pytest.mark.parametrize("kind", NAT_KINDS)
def test_a_nat_behaves_as_named(lab: KernelInternet, kind: NatKind) -> None:
    r1, r2 = lab.host("r1"), lab.host("r2")
    a = lab.nat("na", kind=kind).host("a")
    with Sockets() as sockets:
        first, again = sockets.bind(r1), sockets.bind(r1)
        other = sockets.bind(r2)
        inner = sockets.bind(a, PORT)
        mapped = seen(inner, first)
        assert mapped[0] == a.public_address
        assert passes(first, mapped, inner)
        found = Behavior(
            admits_address=passes(again, mapped, inner),
            admits_any=passes(other, mapped, inner),
            keeps_port=mapped[1] == PORT,
            same_mapping=seen(inner, again) == mapped and seen(inner, other) == mapped,
        )
    assert found == BEHAVIOR[kind]


@pytest.mark.parametrize("kind", NAT_KINDS)
def test_an_early_packet_does_not_spoil_the_mapping(lab: KernelInternet, kind: NatKind) -> None:
    """As when both ends punch: the packet that is dropped must not occupy the port."""
    r1, r2 = lab.host("r1"), lab.host("r2")
    a = lab.nat("na", kind=kind).host("a")
    with Sockets() as sockets:
        server, peer = sockets.bind(r1), sockets.bind(r2)
        inner = sockets.bind(a, PORT)
        mapped = seen(inner, server)
        peer.sendto(b"too early", mapped)
        assert (seen(inner, peer) == mapped) == BEHAVIOR[kind].same_mapping
        assert passes(peer, seen(inner, peer), inner)


def test_addresses_inside_and_outside(lab: KernelInternet) -> None:
    a = lab.nat("na", kind="double").host("a")
    inner = a.parent
    assert inner is not None
    assert inner.outer is not None
    assert a.address.startswith("10.")
    assert inner.address.startswith("10.")
    assert a.public_address == inner.outer.address == "198.51.100.1"
    assert lab.nat("nb", kind="none").host("b").public_address == "203.0.113.1"
    assert lab.host("r", address="192.0.2.77").address == "192.0.2.77"


def test_sequential_ports_follow_each_other(lab: KernelInternet) -> None:
    r1 = lab.host("r1")
    a = lab.nat("na", kind="symmetric-sequential").host("a")
    with Sockets() as sockets:
        inner = sockets.bind(a)
        ports = [seen(inner, sockets.bind(r1))[1] for _ in range(4)]
    assert ports == list(range(ports[0], ports[0] + 4))


def test_a_port_that_nobody_opened_is_closed_on_a_full_cone(lab: KernelInternet) -> None:
    r1 = lab.host("r1")
    gateway = lab.nat("na", kind="full-cone")
    a = gateway.host("a")
    with Sockets() as sockets:
        server, inner = sockets.bind(r1), sockets.bind(a, PORT)
        host, port = seen(inner, server)
        unused = sockets.bind(a, PORT + 1)
        assert not passes(server, (host, port ^ PORT ^ (PORT + 1)), unused)


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted", "port-restricted"])
def test_two_hosts_of_one_port_behind_one_nat(lab: KernelInternet, kind: NatKind) -> None:
    r1 = lab.host("r1")
    gateway = lab.nat("n", kind=kind, hairpin=True)
    a, b = gateway.host("a"), gateway.host("b")
    with Sockets() as sockets:
        server = sockets.bind(r1)
        of_a, of_b = sockets.bind(a, PORT), sockets.bind(b, PORT)
        mapped_a, mapped_b = seen(of_a, server), seen(of_b, server)
        assert mapped_a != mapped_b
        assert passes(server, mapped_a, of_a)
        assert passes(server, mapped_b, of_b)
        # On the LAN by their own addresses, and by the public ones since the gateway hairpins.
        assert seen(of_a, of_b) == endpoint(of_a)
        assert seen(of_a, of_b, mapped_b) == mapped_a
        assert seen(of_b, of_a, mapped_a) == mapped_b


def test_hairpin_is_off_unless_told(lab: KernelInternet) -> None:
    r1 = lab.host("r1")
    gateway = lab.nat("n", kind="full-cone")
    a, b = gateway.host("a"), gateway.host("b")
    with Sockets() as sockets:
        server = sockets.bind(r1)
        of_a, of_b = sockets.bind(a, PORT), sockets.bind(b, PORT)
        seen(of_a, server)
        assert not passes(of_a, seen(of_b, server), of_b)


def test_a_mapping_is_forgotten_after_its_lifetime(lab: KernelInternet) -> None:
    r1, r2 = lab.host("r1"), lab.host("r2")
    a = lab.nat("na", kind="full-cone", lifetime=1).host("a")
    with Sockets() as sockets:
        server, peer, inner = sockets.bind(r1), sockets.bind(r2), sockets.bind(a)
        mapped = seen(inner, server)
        time.sleep(1.5)  # the kernel's own clock; it cannot be mocked
        assert not passes(peer, mapped, inner)


def test_a_reboot_forgets_mappings(lab: KernelInternet) -> None:
    r1, r2 = lab.host("r1"), lab.host("r2")
    cone = lab.nat("na", kind="full-cone")
    symmetric = lab.nat("nb", kind="symmetric")
    with Sockets() as sockets:
        server, peer = sockets.bind(r1), sockets.bind(r2)
        inner = sockets.bind(cone.host("a"))
        mapped = seen(inner, server)
        cone.reboot()
        assert not passes(server, mapped, inner)
        assert not passes(peer, mapped, inner)
        assert seen(inner, server) == mapped
        assert passes(peer, mapped, inner)
        inner = sockets.bind(symmetric.host("b"))
        mapped = seen(inner, server)
        symmetric.reboot()
        assert seen(inner, server) != mapped


@pytest.mark.parametrize("kind", NAT_KINDS)
def test_a_gateway_changes_its_address(lab: KernelInternet, kind: NatKind) -> None:
    r1 = lab.host("r1")
    gateway = lab.nat("na", kind=kind)
    a = gateway.host("a")
    outermost = gateway.outer or gateway
    with Sockets() as sockets:
        server, inner = sockets.bind(r1), sockets.bind(a)
        before = seen(inner, server)
        new = outermost.change_address()
        after = seen(inner, server)
        assert passes(server, after, inner)
    if kind in ("none", "firewall"):
        assert after == before
    else:
        assert after[0] == a.public_address == new != before[0]


def test_a_host_moves(lab: KernelInternet) -> None:
    r1 = lab.host("r1")
    home = lab.nat("home", kind="port-restricted")
    a = home.host("a")
    with Sockets() as sockets:
        server = sockets.bind(r1)
        inner = sockets.enter_context(a.socket())
        inner.bind(("0.0.0.0", PORT))
        assert seen(inner, server)[0] == home.address
        a.move(lab.nat("cafe", kind="none"))
        assert seen(inner, server) == (a.address, PORT)
        a.move(None, shape=LinkShape())
        assert seen(inner, server) == (a.address, PORT)
        a.move(home)
        assert seen(inner, server)[0] == home.address
        address = a.change_address()
        assert a.address == address
        assert seen(inner, server)[0] == home.address


def test_blocking_two_hosts(lab: KernelInternet) -> None:
    r1 = lab.host("r1")
    a, b = lab.host("a"), lab.nat("nb", kind="full-cone").host("b")
    with Sockets() as sockets:
        server, of_a, of_b = sockets.bind(r1), sockets.bind(a), sockets.bind(b)
        mapped = seen(of_b, server)
        assert passes(of_a, mapped, of_b)
        lab.block(a, b)
        assert not passes(of_a, mapped, of_b)
        assert not passes(of_b, endpoint(of_a), of_a)
        assert passes(server, mapped, of_b)
        lab.unblock(b, a)
        assert passes(of_a, mapped, of_b)
        lab.block(a, b, both=False)
        assert not passes(of_a, mapped, of_b)
        assert passes(of_b, endpoint(of_a), of_a)
        lab.unblock(a, b)
        lab.cut(b)
        assert not passes(server, mapped, of_b)
        lab.mend(b)
        assert passes(server, mapped, of_b)


def test_a_block_follows_a_changed_address(lab: KernelInternet) -> None:
    a, b = lab.host("a"), lab.host("b")
    with Sockets() as sockets:
        of_a = sockets.bind(a)
        of_b = sockets.enter_context(b.socket())
        of_b.bind(("0.0.0.0", PORT))
        lab.block(a, b)
        b.change_address()
        assert not passes(of_a, (b.address, PORT), of_b)
        lab.unblock(a, b)
        assert passes(of_a, (b.address, PORT), of_b)


def test_hosts_of_one_address_cannot_be_blocked(lab: KernelInternet) -> None:
    gateway = lab.nat("n")
    with pytest.raises(ValueError, match="share one public address"):
        lab.block(gateway.host("a"), gateway.host("b"))


# Links


def round_trip(client: socket.socket, server: socket.socket) -> float:
    began = time.perf_counter()
    mapped = seen(client, server)
    server.sendto(b"back", mapped)
    client.settimeout(ARRIVES)
    client.recv(64)
    return time.perf_counter() - began


def test_delay(lab: KernelInternet) -> None:
    r1 = lab.host("r1", delay=0.005)
    a = lab.nat("na").host("a", delay=0.015)
    with Sockets() as sockets:
        server, client = sockets.bind(r1), sockets.bind(a)
        assert 0.040 <= statistics.median(round_trip(client, server) for _ in range(9)) < 0.048
        a.link.set(LinkShape())
        assert 0.010 <= statistics.median(round_trip(client, server) for _ in range(9)) < 0.018


def drain(receiver: socket.socket) -> list[tuple[float, bytes]]:
    """What comes until nothing comes any more, and when."""
    receiver.settimeout(ARRIVES / 4)
    got: list[tuple[float, bytes]] = []
    try:
        while True:
            data = receiver.recv(2000)
            got.append((time.perf_counter(), data))
    except TimeoutError:
        return got


def numbers_that_arrive(sender: socket.socket, receiver: socket.socket, count: int) -> list[int]:
    """Send ``count`` numbered packets at once; those that come."""
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    for number in range(count):
        sender.sendto(b"%d" % number, endpoint(receiver))
    return [int(data) for _, data in drain(receiver)]


def lose(seed: int, count: int, loss: float) -> list[int]:
    with KernelInternet(seed=seed) as lab, Sockets() as sockets:
        a, b = lab.host("a", shape=LinkShape()), lab.host("b")
        sender, receiver = sockets.bind(a), sockets.bind(b)
        seen(sender, receiver)  # addresses are resolved: no packet waits and is overtaken
        a.link.set(LinkShape(loss=loss))
        before = a.link.stats()["up"]
        got = numbers_that_arrive(sender, receiver, count)
        up = a.link.stats()["up"]
        assert up.lost == count - len(got)
        assert up.forwarded - before.forwarded >= len(got)
        assert up.bytes > before.bytes
        assert up.queue_drops == up.refused == 0
        return got


def test_loss_is_counted_and_seeded(kernel: None) -> None:
    first = lose(7, 2000, 0.1)
    assert 0.86 < len(first) / 2000 < 0.94
    assert first == sorted(first)
    assert lose(7, 2000, 0.1) == first
    assert lose(8, 2000, 0.1) != first


def test_rate_and_queue(lab: KernelInternet) -> None:
    a, b = lab.host("a", rate=8_000_000, queue=50_000), lab.host("b")
    with Sockets() as sockets:
        sender, receiver = sockets.bind(a), sockets.bind(b)
        seen(sender, receiver)  # what waits for address resolution is bounded too
        for _ in range(100):
            sender.sendto(bytes(1208), endpoint(receiver))  # 1,250 with Ethernet, IP and UDP
        times = [at for at, _ in drain(receiver)]
        # A megabyte per second: the last of the queue comes 50 ms after the first.
        assert 38 <= len(times) < 60
        assert a.link.stats()["up"].queue_drops == 100 - len(times)
        spacing = (times[-1] - times[0]) / (len(times) - 1)
    assert spacing == pytest.approx(0.00125, rel=0.15)


def test_a_link_without_shape_says_so(lab: KernelInternet) -> None:
    with pytest.raises(LabError, match="has no shape"):
        lab.host("a").link.stats()
    with pytest.raises(ValueError, match="either shape or"):
        lab.host("b", delay=0.1, shape=LinkShape())
    with pytest.raises(ValueError, match="loss"):
        LinkShape(loss=2)


@pytest.mark.parametrize("shape", [None, LinkShape()], ids=["veth", "shaped"])
@pytest.mark.parametrize("kind", NAT_KINDS)
def test_segmentation_offload(lab: KernelInternet, kind: NatKind, shape: LinkShape | None) -> None:
    """One send of many datagrams (UDP_SEGMENT) crosses NATs and shaped links, both ways."""
    r1 = lab.host("r1", shape=shape)
    a = lab.nat("na", kind=kind).host("a", shape=shape)
    with Sockets() as sockets:
        server, client = sockets.bind(r1), sockets.bind(a)
        mapped = seen(client, server)
        data = os.urandom(1200 * 40 + 77)
        for sender, target, receiver in (
            (client, endpoint(server), server),
            (server, mapped, client),
        ):
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
            sender.sendto(data, target)
            receiver.settimeout(ARRIVES)
            pieces = [receiver.recv(65535) for _ in range(41)]
            assert [len(piece) for piece in pieces] == [1200] * 40 + [77]
            assert b"".join(pieces) == data


@pytest.mark.parametrize("shape", [None, LinkShape()], ids=["veth", "shaped"])
def test_mtu(lab: KernelInternet, shape: LinkShape | None) -> None:
    r1 = lab.host("r1")
    gateway = lab.nat("na", mtu=1400)
    a = gateway.host("a", shape=shape)
    with Sockets() as sockets:
        server, client = sockets.bind(r1), sockets.bind(a)
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        client.sendto(bytes(1472), endpoint(server))  # lost on the way, and learned from
        deadline = time.monotonic() + ARRIVES
        learned = False
        while not learned and time.monotonic() < deadline:
            try:
                client.sendto(bytes(1472), endpoint(server))
            except OSError as error:
                learned = error.errno == errno.EMSGSIZE
        assert learned
        a.set_mtu(1300)
        with pytest.raises(OSError) as caught:
            client.sendto(bytes(1280), endpoint(server))
        assert caught.value.errno == errno.EMSGSIZE
        seen(client, server)
    with pytest.raises(ValueError, match="MTU"):
        a.set_mtu(10)


def test_the_reference_transfer(lab: KernelInternet) -> None:
    a = lab.nat("na", kind="symmetric").host("a", delay=0.010)
    r1 = lab.host("r1")
    # A round trip to connect, one for the data, and the answer.
    assert 0.040 <= tcp_seconds(a, r1, 1000) < 0.5
    assert 0.060 <= tcp_seconds(a, r1, 2_000_000) < 5


# Building and removing


def names_of(lab: KernelInternet) -> list[str]:
    own = lab.namespace.removesuffix("internet")
    return [name for name in existing_namespaces() if name.startswith(own)]


def test_leaving_removes_everything(kernel: None) -> None:
    with KernelInternet() as lab:
        process = lab.nat("n", kind="double").host("a", delay=0.01).popen(["sleep", "1000"])
        assert len(names_of(lab)) == 4
        assert process.poll() is None
    assert names_of(lab) == []
    assert process.returncode == -signal.SIGKILL
    lab.close()


def test_an_exception_removes_everything(kernel: None) -> None:
    def fail(lab: KernelInternet) -> None:
        with lab:
            lab.host("a")
            raise ZeroDivisionError

    lab = KernelInternet()
    with pytest.raises(LabError, match="not open"):
        lab.host("early")
    with pytest.raises(ZeroDivisionError):
        fail(lab)
    assert names_of(lab) == []


def test_a_stranger_process_in_a_namespace_is_ended(kernel: None) -> None:
    with KernelInternet() as lab:
        process = subprocess.Popen(lab.host("a").command(["sleep", "1000"]))
        # Until it is inside: `ip netns exec` replaces itself.
        while Path(f"/proc/{process.pid}/comm").read_text().strip() != "sleep":
            time.sleep(0.001)
    assert process.wait(2) == -signal.SIGKILL


PROGRAM = """
import sys
from netmesh_trio.testing.namespaces import KernelInternet
with KernelInternet(prefix=sys.argv[1]) as lab:
    host = lab.nat("n").host("a", delay=0.01)
    host.popen(["sleep", "1000"])
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_program_leaves_nothing_for_long(kernel: None, number: signal.Signals) -> None:
    prefix = f"nmt-test{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert sweep_stale(prefix) == []
        process.send_signal(number)
    left = [name for name in existing_namespaces() if name.startswith(prefix)]
    if number is signal.SIGKILL:
        assert len(left) == 3
        assert sweep_stale(prefix) == left
        left = [name for name in existing_namespaces() if name.startswith(prefix)]
    assert left == []


def test_the_root_namespace_is_not_touched(lab: KernelInternet) -> None:
    def state() -> list[bytes]:
        return [
            subprocess.run(["ip", "-o", what], capture_output=True, check=True).stdout for what in ("addr", "route")
        ]

    before = state()
    lab.nat("n", kind="double").host("a", delay=0.01)
    lab.host("r")
    assert state() == before


def test_building_is_quick(kernel: None) -> None:
    began = time.monotonic()
    with KernelInternet() as lab:
        lab.host("r1")
        lab.host("r2")
        lab.nat("na", kind="symmetric").host("a", delay=0.02)
        lab.nat("nb", kind="full-cone").host("b", delay=0.02)
        assert time.monotonic() - began < 1.5


def test_names(lab: KernelInternet) -> None:
    lab.host("a")
    with pytest.raises(ValueError, match="already"):
        lab.host("a")
    with pytest.raises(ValueError, match="letters"):
        lab.host("a/b")


def test_what_cannot_be_built(lab: KernelInternet) -> None:
    with pytest.raises(ValueError, match="cannot stand behind"):
        lab.nat("open", kind="none").nat("inner")
    with pytest.raises(ValueError, match="cannot hairpin"):
        lab.nat("n", kind="symmetric", hairpin=True)
    with pytest.raises(subprocess.CalledProcessError):
        lab.host("h").run(["false"])


def test_masks_differ() -> None:
    masks = port_masks(random.Random(1))
    assert len({PORT ^ mask for mask in masks}) == len(masks) == 8
    text = ruleset(
        "full-cone",
        address="198.51.100.1",
        masks=masks,
        lifetime=120,
        hairpin=False,
        first_port=40000,
    )
    assert text.count("snat to 198.51.100.1") == 8

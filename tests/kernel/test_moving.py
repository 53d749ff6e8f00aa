"""A file on its way while its path comes and goes: direct paths that die, NATs that forget, hosts that move."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from netmesh_trio.testing.namespaces import Gateway, Host, KernelInternet, NatKind
from tests.cli.program import Program
from tests.kernel.mesh import Growth, Mesh, growth, make_file

pytestmark = pytest.mark.kernel

MB = 1_000_000
RATE = 160e6  # bits per second on the sender's link: 20 MB/s
PAUSE = 1.5  # seconds


@attrs.frozen
class Under:
    """A transfer under way."""

    lab: KernelInternet
    a: Host
    b: Host
    na: Gateway
    nb: Gateway
    send: Program
    peer_id: str
    grown: Growth

    def path(self, kind: str, timeout: float = 40) -> dict[str, object]:
        """Wait until the sender's data takes this kind of path."""
        since = time.monotonic()
        found = self.send.wait_for("path", peer_id=self.peer_id, kind=kind)
        print(f"{kind} {time.monotonic() - since:.2f} s later")
        return found

    def more(self, size: int) -> None:
        """Wait until so much more has arrived."""
        self.grown.wait_for(self.grown.size + size)


@contextmanager
def transfer(
    lab: KernelInternet, directory: Path, size: int, kinds: tuple[NatKind, NatKind] = ("port-restricted", "full-cone")
) -> Iterator[Under]:
    """Send a file; when the block ends, wait for it and check it and its longest pause."""
    relays = [lab.host("r1"), lab.host("r2")]
    na, nb = (lab.nat(name, kind=kind) for name, kind in zip(("na", "nb"), kinds, strict=True))
    a, b = na.host("a", rate=RATE), nb.host("b")
    file = make_file(directory / "data.bin", size)
    inbox = directory / "in"
    with Mesh(directory) as mesh, growth(inbox) as grown:
        for relay in relays:
            mesh.relay(relay)
        receive, peer_id = mesh.receiver(b, inbox, "--once")
        time.sleep(1)  # it has found out about its NAT
        send = mesh.sender(a, file, peer_id)
        yield Under(lab, a, b, na, nb, send, peer_id, grown)
        assert send.finish() == receive.finish() == 0, (send.errors, receive.errors)
        assert send.errors == receive.errors == ""
        digests = [hashlib.blake2b(path.read_bytes()).digest() for path in (file, inbox / "data.bin")]
        assert digests[0] == digests[1]
        paths = [(e["kind"], e.get("addr")) for e in send.events if e["event"] == "path" and e["peer_id"] == peer_id]
        print(f"longest pause {grown.longest_pause():.3f} s; {send.last('done')['mb_per_s']:.0f} MB/s; {paths}")
        assert grown.longest_pause() <= PAUSE


def test_relay_direct_relay_direct(lab: KernelInternet, tmp_path: Path) -> None:
    with transfer(lab, tmp_path, 200 * MB) as under:
        under.path("relayed")
        under.path("direct")
        under.more(20 * MB)
        lab.block(under.a, under.b)
        under.path("relayed")
        under.more(20 * MB)
        lab.unblock(under.a, under.b)
        under.path("direct")


def reboot_a(under: Under) -> None:
    under.na.reboot()


def reboot_b(under: Under) -> None:
    under.nb.reboot()


def redial_a(under: Under) -> None:
    under.na.change_address()


def redial_b(under: Under) -> None:
    under.nb.change_address()


def move_a(under: Under) -> None:
    under.a.move(under.lab.nat("nc", kind="port-restricted"), shape=under.a.link.shape)


def move_b(under: Under) -> None:
    under.b.move(under.lab.nat("nc", kind="address-restricted"))


def move_b_out(under: Under) -> None:
    under.b.move(None)


@pytest.mark.parametrize("change", [reboot_a, reboot_b, redial_a, redial_b, move_a, move_b, move_b_out])
def test_goes_on(lab: KernelInternet, tmp_path: Path, change: Callable[[Under], None]) -> None:
    with transfer(lab, tmp_path, 40 * MB, ("port-restricted", "port-restricted")) as under:
        under.path("direct")
        under.more(10 * MB)
        change(under)


@pytest.mark.parametrize("change", [reboot_a, reboot_b, redial_a, redial_b, move_b_out])
def test_goes_on_over_the_relay(lab: KernelInternet, tmp_path: Path, change: Callable[[Under], None]) -> None:
    with transfer(lab, tmp_path, 30 * MB, ("symmetric", "symmetric")) as under:
        under.path("relayed")
        under.more(10 * MB)
        change(under)

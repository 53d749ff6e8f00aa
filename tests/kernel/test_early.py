"""A node that is started before its network is there."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netmesh_trio.testing.namespaces import Host, KernelInternet
from tests.kernel.mesh import PORT, Mesh

pytestmark = pytest.mark.kernel

NAME = "relay.example.org"


@contextmanager
def own_names(host: Host) -> Iterator[Path]:
    """Give a host an /etc/hosts of its own, and a resolver that does not answer; as ip-netns(8) has it."""
    folder = Path("/etc/netns") / host.namespace
    existed = folder.parent.exists()
    folder.mkdir(parents=True)
    try:
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        hosts = folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n")
        yield hosts
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        if not existed:
            folder.parent.rmdir()


@pytest.mark.parametrize("where", ["address", "name"])
def test_it_gets_there_once_the_network_is(lab: KernelInternet, tmp_path: Path, where: str) -> None:
    r, a = lab.host("r"), lab.nat("na", kind="port-restricted").host("a")
    with Mesh(tmp_path) as mesh, own_names(a) as hosts:
        mesh.relay(r)
        (relay,) = mesh.relays
        a.unplug()  # no address, no route: sending fails with ENETUNREACH, and no name resolves
        uri = f"netmesh://{relay}@{r.address if where == 'address' else NAME}:{PORT}"
        node = mesh.run(a, "node", "--bootstrap", uri, "--metrics", "127.0.0.1:0")
        node.wait_for("metrics")  # its socket is open
        deadline = time.monotonic() + 30
        while "no bootstrap node has answered yet" not in node.errors:
            assert node.process.poll() is None, node.errors
            assert time.monotonic() < deadline
            time.sleep(0.05)
        a.plug(address=None, mtu=1500, shape=None, make=False)
        with hosts.open("a") as file:
            file.write(f"{r.address} {NAME}\n")
        plugged = time.monotonic()
        ready = node.wait_for("ready")
        print(f"ready {time.monotonic() - plugged:.1f} s after the network came up")
        assert f"@{a.address}:" in ready["addresses"][0]
        assert relay in ready["addresses"][0]
        node.process.send_signal(signal.SIGTERM)
        assert node.finish() == 0
        assert "Traceback" not in node.errors

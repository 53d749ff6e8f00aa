"""Whether an installation is whole: ``python -I smoke.py VERSION``, with nothing but netmesh_trio installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

import trio

import netmesh_trio


def program(*arguments: str) -> str:
    """What the installed command prints."""
    command = Path(sysconfig.get_path("scripts")) / "netmesh-trio"
    result = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
    return result.stdout


async def talk() -> bytes:
    """A message from one node to another over a relay, by the kernel's network."""
    here = ("127.0.0.1", 0)
    async with netmesh_trio.open_node(netmesh_trio.Identity.generate(), here) as relay:
        others = [netmesh_trio.Identity.generate() for _ in range(2)]
        async with (
            netmesh_trio.open_node(others[0], here, relay.addresses) as alice,
            netmesh_trio.open_node(others[1], here, relay.addresses) as bob,
            bob.listen("smoke") as listener,
        ):
            await bob.wait_connected()
            peer = await alice.connect(bob.peer_id)
            async with await peer.open_stream("smoke") as stream:
                await stream.send_all(b"here I am")
                async with await listener.accept() as accepted:
                    return bytes(await accepted.receive_some())


def main(version: str) -> None:
    """Fail on the first thing that is not there."""
    package = Path(netmesh_trio.__file__).parent
    assert package.is_relative_to(Path(sysconfig.get_path("purelib"))), f"not the installed one: {package}"
    assert netmesh_trio.__version__ == version == importlib.metadata.version("netmesh-trio")
    assert (package / "py.typed").is_file()
    assert {e.value for e in importlib.metadata.entry_points(group="pytest11")} >= {"_netmesh_trio_pytest"}
    assert version in program("--version")
    assert "netmesh-trio" in program("--help")
    assert program("identity").strip()
    assert '"done"' in program("demo", "--size", "1", "--json").splitlines()[-1]
    assert trio.run(talk) == b"here I am"
    sys.stdout.write(f"netmesh_trio {version} is whole, on Python {sys.version.split()[0]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

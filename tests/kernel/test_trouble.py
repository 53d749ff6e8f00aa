"""What goes wrong in earnest, between two NATs: an end that dies or is stopped, and a disk that fills up."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netmesh_trio.testing.namespaces import Host, KernelInternet
from tests.cli.program import Program
from tests.kernel.mesh import Mesh, growth, make_file

pytestmark = pytest.mark.kernel

SIZE = 20_000_000
SLOW = 80e6  # bits per second: two seconds for the file
DEAD = 14.0  # a node that says nothing any more is given up before
BACK = 15.0  # and a receiver then waited for


@pytest.fixture
def ends(lab: KernelInternet) -> tuple[Host, Host]:
    return lab.nat("na", kind="symmetric").host("a", rate=SLOW), lab.nat("nb", kind="symmetric").host("b")


def one_line(program: Program, *expected: str) -> None:
    # that it waits is said while it does, and may be said before
    waits = ("still waiting", "waiting up to", "; waiting")
    lines = [line for line in program.errors.splitlines() if not any(wait in line for wait in waits)]
    assert len(lines) == 1, program.errors
    for text in expected:
        assert text in lines[0]


def parts(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_an_end_that_stops(
    lab: KernelInternet, ends: tuple[Host, Host], tmp_path: Path, who: str, number: signal.Signals
) -> None:
    a, b = ends
    file = make_file(tmp_path / "data.bin", SIZE)
    inbox = tmp_path / "in"
    with Mesh(tmp_path) as mesh:
        mesh.relay(lab.host("r"))
        with growth(inbox) as grown:
            receive, peer_id = mesh.receiver(b, inbox, "--once")
            send = mesh.sender(a, file, peer_id)
            grown.wait_for(SIZE // 10)
            stopped, other = (send, receive) if who == "sender" else (receive, send)
            stopped.process.send_signal(number)
            began = time.monotonic()
            if number is signal.SIGINT:
                assert stopped.finish(5) == 128 + number
                one_line(stopped, "Ctrl-C")
            error = other.wait_for("error")
            print(f"the other end knows after {time.monotonic() - began:.2f} s: {error['message']}")
            limit = 2.0 if number is signal.SIGINT else DEAD if who == "sender" else DEAD + BACK
            assert time.monotonic() - began < limit
            one_line(other, "send again")
        if who == "receiver":
            assert other.finish() == 1
        else:
            other.close()  # goes on waiting for a whole transfer
        # half a file has no name, and the next transfer goes on with it
        assert len(parts(inbox)) == 1
        assert parts(inbox)[0].endswith(".part")
        receive, peer_id = mesh.receiver(b, inbox, "--once")
        send = mesh.sender(a, file, peer_id)
        assert send.finish() == receive.finish() == 0, (send.errors, receive.errors)
        assert send.last("done")["moved"] < SIZE
        assert parts(inbox) == ["data.bin"]
        assert (inbox / "data.bin").read_bytes() == file.read_bytes()


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_disk_that_is_full(lab: KernelInternet, ends: tuple[Host, Host], tmp_path: Path) -> None:
    a, b = ends
    large, fitting = make_file(tmp_path / "large", SIZE), make_file(tmp_path / "fitting", SIZE // 2)
    with small_disk(tmp_path / "in", SIZE * 6 // 10) as inbox, Mesh(tmp_path) as mesh:
        mesh.relay(lab.host("r"))
        receive, peer_id = mesh.receiver(b, inbox, "--once")
        send = mesh.sender(a, large, peer_id)
        assert send.finish() == receive.finish() == 1
        one_line(send, "20.0 MB needed", "at the receiver")
        one_line(receive, "20.0 MB needed")
        assert parts(inbox) == []
        # another program fills it in the meantime
        receive, peer_id = mesh.receiver(b, inbox, "--once")
        with growth(inbox) as grown:
            send = mesh.sender(a, fitting, peer_id)
            grown.wait_for(SIZE // 10)
            make_file(inbox / "other", SIZE // 4)
            assert send.finish() == receive.finish() == 1
        one_line(send, "no space left", "send again")
        one_line(receive, "no space left")
        assert "fitting" not in parts(inbox)
        (inbox / "other").unlink()
        receive, peer_id = mesh.receiver(b, inbox, "--once")
        send = mesh.sender(a, fitting, peer_id)
        assert send.finish() == receive.finish() == 0, (send.errors, receive.errors)
        assert parts(inbox) == ["fitting"]

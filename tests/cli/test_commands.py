"""The commands as people run them: processes that talk over loopback."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from netmesh_trio.identity import Identity, NetworkKey
from tests.cli.program import Program, running

LOOPBACK = ("--bind", "127.0.0.1:0")


def one_line(program: Program, *words: str) -> None:
    """What every failure looks like."""
    errors = program.errors
    assert errors.startswith("netmesh-trio: "), errors
    assert errors.count("\n") == 1, errors
    for word in words:
        assert word in errors


def content(path: Path, size: int) -> str:
    data = os.urandom(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.blake2b(data, digest_size=32).hexdigest()


@pytest.fixture
def relay() -> Iterator[str]:
    """The URI of a running relay."""
    with running("node", *LOOPBACK) as program:
        (uri,) = program.wait_for("ready")["addresses"]
        yield str(uri)
        program.process.send_signal(signal.SIGTERM)
        assert program.finish() == 0, program.errors
        assert "Traceback" not in program.errors


def test_ping(relay: str) -> None:
    with running("ping", relay, *LOOPBACK, "-c", 3, "-i", 0) as ping:
        assert ping.finish() == 0, ping.errors
        pings = [event for event in ping.events if event["event"] == "ping"]
        assert [event["seq"] for event in pings] == [1, 2, 3]
        done = ping.last("done")
        assert done["sent"] == done["received"] == 3
        assert 0 < done["seconds"] < 60
        assert 0 < done["min_ms"] <= done["avg_ms"] <= done["max_ms"]
        path = ping.last("path")
        assert (path["kind"], path["via"]) == ("direct", None)
        assert path["addr"] in relay
        assert ping.errors == ""


def test_ping_over_a_relay(relay: str) -> None:
    with running("node", *LOOPBACK, "--bootstrap", relay, "--no-direct") as far:
        peer_id = far.wait_for("ready")["peer_id"]
        options = ("--bootstrap", relay, "--no-direct", "-c", 2, "-i", 0)
        with running("ping", peer_id, *LOOPBACK, *options) as ping:
            assert ping.finish() == 0, ping.errors
            path = next(e for e in ping.events if e["event"] == "path" and e["peer_id"] == peer_id)
            assert path["kind"] == "relayed"
            assert path["via"] in relay


def test_send_and_receive(relay: str, tmp_path: Path) -> None:
    digest = content(tmp_path / "file.bin", 3_000_000)
    inbox = tmp_path / "in"
    with running("receive", inbox, *LOOPBACK, "--once", "--bootstrap", relay) as receive:
        peer_id = receive.wait_for("ready")["peer_id"]
        sending = ("send", tmp_path / "file.bin", peer_id, *LOOPBACK, "--bootstrap", relay)
        with running(*sending) as send:
            assert send.finish() == 0, send.errors
            done = send.last("done")
            assert (done["hash"], done["bytes"], done["files"]) == (digest, 3_000_000, 1)
            assert done["mb_per_s"] > 0
        assert receive.finish() == 0, receive.errors
        assert receive.last("done")["hash"] == digest
        assert receive.errors == ""
    assert (inbox / "file.bin").read_bytes() == (tmp_path / "file.bin").read_bytes()
    assert os.listdir(inbox) == ["file.bin"]


def test_a_tree_is_sent_again_for_what_is_missing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("a", "b/c", "b/d/e"):
        content(tree / name, 200_000)
    with running("receive", tmp_path / "in", *LOOPBACK) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        for moved in (600_000, 200_000):
            with running("send", tree, uri, *LOOPBACK) as send:
                assert send.finish() == 0, send.errors
                assert (send.last("done")["files"], send.last("done")["moved"]) == (3, moved)
            (tmp_path / "in" / "tree" / "b" / "c").unlink()
        receive.interrupt()
        assert receive.finish() == 130
        one_line(receive, "stopped by Ctrl-C")


def test_a_receiver_that_dies_in_the_middle(tmp_path: Path) -> None:
    digest = content(tmp_path / "big", 150_000_000)
    receiving = ("receive", tmp_path / "in", *LOOPBACK, "--identity", tmp_path / "key")
    with running(*receiving) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "big", uri, *LOOPBACK, "--timeout", 2) as send:
            while not partial_bytes(tmp_path / "in"):
                time.sleep(0.01)
            receive.process.kill()
            assert send.finish() == 1
            assert "waiting up to 2 s for it" in send.errors
            *_, last = send.errors.splitlines()
            assert "went away" in last
            assert "goes on with what has not arrived" in last  # what was sent may be under way
            assert "send again" in last
            assert send.last("error")["kind"] == "peer-gone"
    assert not (tmp_path / "in" / "big").exists()
    kept = partial_bytes(tmp_path / "in")
    with running(*receiving) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "big", uri, *LOOPBACK) as send:
            assert send.finish() == 0, send.errors
            done = send.last("done")
            assert done["hash"] == digest
            assert done["moved"] <= 150_000_000 - kept


def test_a_receiver_that_dies_and_comes_back(tmp_path: Path) -> None:
    """The sender waits for it, and sends what is missing."""
    digest = content(tmp_path / "big", 150_000_000)
    receiving = ["receive", tmp_path / "in", "--identity", tmp_path / "key"]
    with running(*receiving, *LOOPBACK) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        port = uri.rpartition(":")[2]
        with running("send", tmp_path / "big", uri, *LOOPBACK) as send:
            while not partial_bytes(tmp_path / "in"):
                time.sleep(0.01)
            receive.process.kill()
            receive.process.wait()
            kept = partial_bytes(tmp_path / "in")
            with running(*receiving, "--bind", f"127.0.0.1:{port}") as again:
                assert again.wait_for("done")["hash"] == digest
                assert again.last("done")["moved"] <= 150_000_000 - kept
            assert send.finish() == 0, send.errors
            assert send.last("done")["hash"] == digest
            assert kept < send.last("done")["moved"] <= 150_000_000
            one_line(send, "the peer is lost; waiting up to 15 s for it")


def partial_bytes(inbox: Path) -> int:
    return sum(path.stat().st_size for path in inbox.glob(".*.part"))


def test_a_sender_that_is_stopped_in_the_middle(tmp_path: Path) -> None:
    digest = content(tmp_path / "big", 150_000_000)
    with running("receive", tmp_path / "in", *LOOPBACK, "--once") as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "big", uri, *LOOPBACK) as send:
            while not partial_bytes(tmp_path / "in"):
                time.sleep(0.01)
            send.interrupt()
            assert send.finish() == 130
            one_line(send, "stopped by Ctrl-C")
        assert receive.wait_for("error")["kind"] in ("peer-gone", "stream-reset", "session-closed")
        assert not (tmp_path / "in" / "big").exists()
        with running("send", tmp_path / "big", uri, *LOOPBACK) as send:
            assert send.finish() == 0, send.errors
            assert send.last("done")["hash"] == digest
            assert send.last("done")["moved"] < 150_000_000
        assert receive.finish() == 0


def test_a_sender_that_is_killed_and_run_again_at_once(tmp_path: Path) -> None:
    """Nobody has said goodbye, so the receiver waits until it would miss the first one."""
    digest = content(tmp_path / "big", 150_000_000)
    with running("receive", tmp_path / "in", *LOOPBACK) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "big", uri, *LOOPBACK) as send:
            while not partial_bytes(tmp_path / "in"):
                time.sleep(0.01)
            send.process.kill()
        with running("send", tmp_path / "big", uri, *LOOPBACK) as send:
            assert send.finish() == 0, send.errors
            assert send.last("done")["hash"] == digest
            assert "another transfer of the same file" in send.errors
        assert "another transfer is writing 'big'" in receive.errors


def test_an_existing_file(tmp_path: Path) -> None:
    content(tmp_path / "file", 1000)
    content(tmp_path / "in" / "file", 1000)
    mine = (tmp_path / "in" / "file").read_bytes()
    with running("receive", tmp_path / "in", *LOOPBACK, "--once") as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "file", uri, *LOOPBACK) as send:
            assert send.finish() == 1
            one_line(send, "'file'", "--overwrite")
            assert send.last("error")["kind"] == "exists"
        assert receive.finish() == 1
        one_line(receive, "'file'")
    assert (tmp_path / "in" / "file").read_bytes() == mine


def test_a_full_disk(tmp_path: Path) -> None:
    """On a real file system of 2 MB, in a mount namespace of its own."""
    inbox = tmp_path / "in"
    inbox.mkdir()
    mount = f'mount -t tmpfs -o size=2m none "{inbox}" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", mount, "sh")
    if sys.platform != "linux" or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace: Linux, root")
    # The room is checked before, and checked again by the disk itself when two files compete.
    content(tmp_path / "large", 3_000_000)
    content(tmp_path / "one", 1_900_000)
    with running("receive", inbox, *LOOPBACK, prefix=prefix) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "large", uri, *LOOPBACK) as send:
            assert send.finish() == 1
            one_line(send, "MB needed", "left")
            assert send.last("error")["kind"] == "disk-full"
        assert receive.wait_for("error")["kind"] == "disk-full"
        with running("send", tmp_path / "one", uri, *LOOPBACK) as send:
            assert send.finish() == 0


def test_a_service_that_nobody_serves(relay: str, tmp_path: Path) -> None:
    content(tmp_path / "file", 10)
    with running("send", tmp_path / "file", relay, *LOOPBACK) as send:
        assert send.finish() == 1
        one_line(send, "netmesh-trio receive DIR")
        assert send.last("error")["kind"] == "service-not-found"


def test_a_sender_that_is_not_wanted(tmp_path: Path) -> None:
    content(tmp_path / "file", 10)
    other = Identity.generate().peer_id
    with running("receive", tmp_path / "in", *LOOPBACK, "--from", other) as receive:
        (uri,) = receive.wait_for("ready")["addresses"]
        with running("send", tmp_path / "file", uri, *LOOPBACK) as send:
            assert send.finish() == 1
            one_line(send, "does not take files from this peer")
            assert send.last("error")["kind"] == "refused"
            sender = send.last("ready")["peer_id"]
        one_line(receive, f"refused files from {sender}", "--from")


def test_a_port_in_use() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with running("node", "--bind", f"127.0.0.1:{port}") as node:
            assert node.finish() == 1
            one_line(node, f"error: cannot bind 127.0.0.1:{port}")
            assert node.last("error")["kind"] == "bind"


def test_an_address_that_is_not_ours() -> None:
    with running("node", "--bind", "192.0.2.1:0") as node:
        assert node.finish() == 1
        one_line(node, "192.0.2.1")


def test_ping_until_direct(relay: str) -> None:
    """Over the relay first; both are on one machine, so the path becomes direct."""
    bootstrap = ("--bootstrap", relay)
    with running("node", *LOOPBACK, *bootstrap) as node:
        peer_id = node.wait_for("ready")["peer_id"]
        with running("ping", peer_id, *LOOPBACK, *bootstrap, "--until-direct") as ping:
            assert ping.finish() == 0, ping.errors
            pings = [event for event in ping.events if event["event"] == "ping"]
            assert pings[-1]["kind"] == "direct"
            assert pings[-1]["via"] is None
            assert ping.last("done")["direct"] is True
            paths = [event for event in ping.events if event["event"] == "path" and event["peer_id"] == peer_id]
            assert [path["kind"] for path in paths] == ["relayed", "direct"]
            assert paths[0].keys() >= {"peer_id", "kind", "addr", "via", "rtt_ms", "reason"}
            assert paths[0]["via"] in relay
            assert paths[1]["reason"] == "better"
            assert ping.last("punch")["outcome"] == "direct"
            assert ping.errors == ""


def test_the_last_ping_waits_for_the_direct_path(relay: str) -> None:
    bootstrap = ("--bootstrap", relay)
    with running("node", *LOOPBACK, *bootstrap) as node:
        peer_id = node.wait_for("ready")["peer_id"]
        with running("ping", peer_id, *LOOPBACK, *bootstrap, "--until-direct", "-c", 1) as ping:
            assert ping.finish() == 0, ping.errors
            assert (ping.last("done")["sent"], ping.last("done")["direct"]) == (1, True)


def test_ping_that_stays_on_the_relay(relay: str) -> None:
    bootstrap = ("--bootstrap", relay)
    with running("node", *LOOPBACK, *bootstrap, "--no-direct") as node:
        peer_id = node.wait_for("ready")["peer_id"]
        limits = ("--until-direct", "-c", 2, "-i", 0.5)
        with running("ping", peer_id, *LOOPBACK, *bootstrap, *limits) as ping:
            assert ping.finish() == 1
            one_line(ping, "stays on the relay: unsupported", "all 2 pings were answered")
            assert ping.last("error")["kind"] == "unsupported"
            assert (ping.last("punch")["outcome"], ping.last("punch")["kind"]) == ("failed", "unsupported")
            paths = [event for event in ping.events if event["event"] == "path" and event["peer_id"] == peer_id]
            assert [(path["kind"], path["reason"]) for path in paths] == [("relayed", None), ("relayed", "unsupported")]
            assert paths[1]["via"] in relay
            assert {event["kind"] for event in ping.events if event["event"] == "ping"} == {"relayed"}
        with running("ping", peer_id, *LOOPBACK, *bootstrap, "-c", 1) as ping:
            assert ping.finish() == 0, ping.errors
        with running("ping", peer_id, *LOOPBACK, *bootstrap, "--no-direct", "-c", 1) as ping:
            assert ping.finish() == 0, ping.errors
            assert (ping.last("path")["kind"], ping.last("path")["reason"]) == ("relayed", "unsupported")
        with running("ping", peer_id, "--until-direct", "--no-direct") as ping:
            assert ping.finish() == 2


def test_a_peer_that_nobody_knows(relay: str) -> None:
    peer_id = Identity.generate().peer_id
    with running("ping", peer_id, *LOOPBACK, "--bootstrap", relay, "--timeout", 0.9) as ping:
        assert ping.finish() == 1
        assert ping.errors.count("netmesh-trio: error:") == 1
        assert "Traceback" not in ping.errors
        assert ping.last("error")["kind"] == "peer-unreachable"
        assert "check that it runs and has a bootstrap node in common" in ping.errors


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("{id}", "give --bootstrap, or a netmesh:// URI with an address"),
        ("netmesh://{id}@127.0.0.1:9", "check that it runs, its peer id and the network key"),
        ("netmesh://{id}@[::1]:9", "no IPv6 socket that could reach [::1]:9"),
        ("netmesh://{id}@[::1]:9", "give --bind [::]:0"),
    ],
)
def test_what_to_do_about_a_peer_that_cannot_be_reached(target: str, advice: str) -> None:
    with running("ping", target.format(id=Identity.generate().peer_id), *LOOPBACK, "--timeout", 0.9) as ping:
        assert ping.finish() == 1
        assert advice in ping.last("error")["message"]


def test_a_bootstrap_node_of_another_family() -> None:
    uri = f"netmesh://{Identity.generate().peer_id}@[::1]:9"
    with running("ping", uri, *LOOPBACK, "--bootstrap", uri, "--timeout", 0.5) as ping:
        assert ping.finish() == 1
        one_line(ping, "give --bind [::]:0")


def test_no_bootstrap_node_answers() -> None:
    uri = f"netmesh://{Identity.generate().peer_id}@127.0.0.1:9"
    with running("ping", uri, *LOOPBACK, "--bootstrap", uri, "--timeout", 1) as ping:
        assert ping.finish() == 1
        one_line(ping, "127.0.0.1:9")
        assert ping.last("error")["kind"] == "peer-unreachable"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["node"], "ticket netmesh://"),
        (["receive", "in"], "send with: netmesh-trio send PATH 'netmesh://"),
        (["expose", "web", "127.0.0.1:9"], "netmesh-trio forward 127.0.0.1:0 'netmesh://"),
        (["forward", "127.0.0.1:0", "PEER", "web"], "listen on 127.0.0.1:"),
        (["bench", "--serve"], "measure with: netmesh-trio bench 'netmesh://"),
    ],
)
def test_people_get_the_address_before_the_mesh_is_there(command: list[str], words: str, tmp_path: Path) -> None:
    """And are told when it is; programs get ``ready`` then."""
    key = tmp_path / "relay.key"
    relay_id = Identity.load_or_create(key).peer_id
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"netmesh://{relay_id}@127.0.0.1:{port}"
    arguments = [word.replace("PEER", str(relay_id)) for word in command]
    started = [sys.executable, "-m", "netmesh_trio.cli", *arguments, *LOOPBACK, "--bootstrap", uri]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        lines: list[str] = []
        while words not in "".join(lines):
            lines.append(program.stdout.readline())
            assert lines[-1], program.stderr.read()
        assert "connected" not in "".join(lines)
        if command != ["node"]:
            program.kill()
            return
        hint = program.stderr.readline()
        assert f"no bootstrap node has answered yet (tried 127.0.0.1:{port})" in hint
        with running("node", "--bind", f"127.0.0.1:{port}", "--identity", key):
            while "mesh   connected\n" not in lines:
                lines.append(program.stdout.readline())
                assert lines[-1], program.stderr.read()
        program.terminate()
        program.communicate()
        assert program.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_a_key_in_two_processes_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with running("node", *LOOPBACK, "--identity", key) as first:
        first.wait_for("ready")
        assert first.errors == ""
        with running("node", *LOOPBACK, "--identity", key) as second:
            second.wait_for("ready")
            one_line(second, "another process runs with the key", str(key))
        first.process.kill()
        first.process.wait()
    with running("node", *LOOPBACK, "--identity", key) as third:
        third.wait_for("ready")
        assert third.errors == ""


def test_the_only_bootstrap_node_is_this_node(tmp_path: Path) -> None:
    uri = f"netmesh://{Identity.load_or_create(tmp_path / 'key').peer_id}@127.0.0.1:9"
    with running("node", *LOOPBACK, "--identity", tmp_path / "key", "--bootstrap", uri) as node:
        assert node.finish() == 1
        one_line(node, "names this node itself")


def test_an_unknown_bootstrap_host() -> None:
    uri = f"netmesh://{Identity.generate().peer_id}@no-such-host.invalid:4650"
    with running("ping", uri, *LOOPBACK, "--bootstrap", uri, "--timeout", 1) as ping:
        assert ping.finish() == 1
        one_line(ping, "cannot resolve 'no-such-host.invalid'")


def test_an_unknown_host() -> None:
    uri = f"netmesh://{Identity.generate().peer_id}@no-such-host.invalid:4650"
    with running("ping", uri, *LOOPBACK, "--timeout", 5) as ping:
        assert ping.finish() == 1
        assert "no-such-host.invalid" in ping.errors
        assert ping.errors.count("netmesh-trio: error:") == 1
        assert "Traceback" not in ping.errors


def test_another_network_key(tmp_path: Path) -> None:
    NetworkKey.generate().save(tmp_path / "net.key")
    with running("node", *LOOPBACK, "--network-key", tmp_path / "net.key") as node:
        (uri,) = node.wait_for("ready")["addresses"]
        with running("ping", uri, *LOOPBACK, "--timeout", 1) as stranger:
            assert stranger.finish() == 1
            one_line(stranger)
        key = ("--network-key", tmp_path / "net.key")
        with running("ping", uri, *LOOPBACK, *key, "-c", 1) as member:
            assert member.finish() == 0, member.errors


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("command", ["node", "receive", "ping", "send"])
def test_ctrl_c(command: str, delay: float, tmp_path: Path) -> None:
    """When the node is up, and a bit later, when it does something."""
    content(tmp_path / "file", 10)
    peer_id = Identity.generate().peer_id
    arguments: dict[str, tuple[object, ...]] = {
        "node": ("node", *LOOPBACK),
        "receive": ("receive", tmp_path / "in", *LOOPBACK),
        "ping": ("ping", peer_id, *LOOPBACK, "--timeout", 60),
        "send": ("send", tmp_path / "file", peer_id, *LOOPBACK, "--timeout", 60),
    }
    with running(*arguments[command]) as program:
        program.wait_for("ready")
        time.sleep(delay)
        program.interrupt()
        assert program.finish() == 130, program.errors
        assert "Traceback" not in program.errors
        assert program.errors.endswith("netmesh-trio: stopped by Ctrl-C\n")


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6, 1.2])
def test_ctrl_c_in_the_demo(delay: float) -> None:
    with running("demo") as demo:
        demo.wait_for("timeline")
        time.sleep(delay)
        demo.interrupt()
        assert demo.finish() == 130, demo.errors
        one_line(demo, "stopped by Ctrl-C")


@pytest.mark.parametrize(("size", "paths"), [(4, 4), (0, 2)])
def test_demo(size: float, paths: int) -> None:
    """A transfer sees the relay, a direct path, the relay and a direct path again; a tiny file the first two."""
    with running("demo", "--size", size, "--delay", 5) as demo:
        assert demo.finish() == 0, demo.errors
        assert demo.last("done")["bytes"] == size * 1_000_000
        # from one relay to another is no change of kind
        kinds = [kind for kind, _ in groupby(event["kind"] for event in demo.events if event["event"] == "path")]
        assert kinds[:2] == ["relayed", "direct"]
        assert kinds[-1] == "direct"
        assert len(kinds) >= paths
        texts = [event["text"] for event in demo.events if event["event"] == "timeline"]
        assert any("hashes agree" in text for text in texts)
        bob = demo.last("done")["peer_id"]
        nats = [event["nat_type"] for event in demo.events if event["event"] == "nat" and event["peer_id"] == bob]
        assert (nats[0], nats[-1]) == ("symmetric", "cone")
        moved = next(number for number, text in enumerate(texts) if text.startswith("bob moves"))
        assert not any("NAT of the peer symmetric" in text for text in texts[moved:])
        assert any("punch-failed" in text for text in texts)
        assert demo.last("done")["t"] < 20
        assert demo.errors == ""


def test_demo_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    with running("demo", "--file", tmp_path / "nothing") as demo:
        assert demo.finish() == 1
        one_line(demo, "nothing")

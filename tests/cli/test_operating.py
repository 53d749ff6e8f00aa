"""A node in production: settings from files and environment, metrics, service manager, tickets."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from netmesh_trio import Identity, open_node
from netmesh_trio.cli.commands import cli, run
from netmesh_trio.cli.metrics import _COUNTERS, _ELSEWHERE, _GAUGES, CONTENT_TYPE, _fields, render
from netmesh_trio.testing import VirtualInternet
from tests.cli.program import Program, running

ROOT = Path(__file__).parent.parent.parent
LOOPBACK = ("--bind", "127.0.0.1:0")
ID = str(Identity(bytes(32)).peer_id)


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("NETMESH_"):
            monkeypatch.delenv(name)


# -- settings -------------------------------------------------------------------------------------


def test_settings_by_file_environment_and_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line wins over the environment, and that over the file."""
    file = tmp_path / "node.toml"
    file.write_text('identity = "node.key"\nbind = ["127.0.0.1:0", "127.0.0.2:0"]\nrelay = "off"\nno-direct = true\n')
    with running("node", "--config", file) as node:
        ready = node.wait_for("ready")
        assert len(ready["addresses"]) == 2
    # the key lies beside the file
    assert str(Identity.load(tmp_path / "node.key").peer_id) == ready["peer_id"]

    monkeypatch.setenv("NETMESH_CONFIG", str(file))
    monkeypatch.setenv("NETMESH_BIND", "127.0.0.3:0")
    with running("node") as node:
        again = node.wait_for("ready")
        assert again["peer_id"] == ready["peer_id"]
        assert [re.findall(r"@([\d.]+):", uri) for uri in again["addresses"]] == [["127.0.0.3"]]
    with running("node", "--bind", "127.0.0.4:0", "--identity", tmp_path / "other.key") as node:
        other = node.wait_for("ready")
        assert other["peer_id"] != ready["peer_id"]
        assert "@127.0.0.4:" in other["addresses"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bind = [", "is not TOML"),
        ('binds = ["127.0.0.1:0"]', "has the key 'binds'; it may have bind, bootstrap, "),
        ('bind = "127.0.0.1:0"', "has bind = '127.0.0.1:0'; give a list of strings"),
        ("no-direct = 1", "has no-direct = 1; give true or false"),
        ("identity = true", "has identity = True; give a string"),
        ('relay = "maybe"', "'maybe' is not one of"),
        ('bind = ["nowhere"]', "no port"),
        (None, "No such file"),
    ],
)
def test_settings_that_are_wrong(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    if text is not None:
        file.write_text(text)
    assert run(["node", "--config", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_every_option_of_a_node_has_a_name_in_the_environment_or_needs_none() -> None:
    names = {p.name: p.envvar for p in cli.commands["node"].params}
    assert {name for name, variable in names.items() if variable is None} <= {"json", "verbose", "qr"}
    for name, variable in names.items():
        assert variable in (None, f"NETMESH_{str(name).upper()}")


def parse(text: str) -> dict[str, Metric]:
    """As Prometheus does."""
    return {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]


# -- metrics --------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Iterator[tuple[Program, int]]:
    """A node with metrics, and their port."""
    with running("node", *LOOPBACK, "--metrics", "127.0.0.1:0") as program:
        (address,) = program.wait_for("metrics")["addresses"]
        yield program, int(address.rpartition(":")[2])


def test_prometheus_reads_the_metrics(node: tuple[Program, int]) -> None:
    program, port = node
    ready = [event for event in program.events if event["event"] == "ready"]
    peer_id = (ready[0] if ready else program.wait_for("ready"))["peer_id"]
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", "/metrics?x=1")
    answer = client.getresponse()
    text = answer.read().decode()
    assert (answer.status, answer.getheader("Content-Type")) == (200, CONTENT_TYPE)
    families = parse(text)
    (info,) = families["netmesh_node"].samples
    assert info.labels["peer_id"] == peer_id
    assert families["netmesh_sent_bytes"].type == "counter"
    assert families["netmesh_sent_bytes"].unit == "bytes"
    client.request("HEAD", "/metrics")
    answer = client.getresponse()
    assert answer.status == 200
    assert answer.read() == b""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 10000, 431),
    ],
)
def test_other_requests(node: tuple[Program, int], request_: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", node[1]), timeout=10) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_port_for_metrics_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running("node", *LOOPBACK, "--metrics", f"127.0.0.1:{port}") as program:
            assert program.finish() == 1
            assert program.errors.count("\n") == 1
            assert f"cannot listen on 127.0.0.1:{port}: address already in use" in program.errors


async def test_metrics_are_all_counters_and_right(autojump_clock: trio.abc.Clock) -> None:
    net = VirtualInternet()
    hosts = net.host("relay"), net.host("a", behind="port-restricted"), net.host("b", behind="port-restricted")
    async with net, open_node(Identity.generate(), ("0.0.0.0", 4650), network=hosts[0]) as relay:
        relays = relay.addresses
        async with (
            open_node(Identity.generate(), bootstrap=relays, network=hosts[1]) as a,
            open_node(Identity.generate(), bootstrap=relays, network=hosts[2]) as b,
        ):
            await a.wait_connected()
            await b.wait_connected()
            await (await a.connect(b.peer_id)).wait_direct()
            await trio.sleep(1)
            text, stats, traversal = render(a), a.statistics(), a.traversal_stats()
    families = parse(text)
    values = {
        sample.name: sample.value for family in families.values() for sample in family.samples if not sample.labels
    }
    assert values["netmesh_sent_bytes_total"] == stats.bytes_sent > 0
    assert values["netmesh_received_packets_total"] == stats.packets_received > 0
    assert values["netmesh_sessions"] == 2
    assert values["netmesh_upgrades_succeeded_total"] == traversal.upgrades_succeeded
    assert values["netmesh_time_to_direct_seconds_count"] == traversal.time_to_direct.count == 1
    peers = {sample.labels["path"]: sample.value for sample in families["netmesh_peers"].samples}
    assert peers == {"direct": 2, "relayed": 0}
    # every field is told, in words of its own
    fields = {**_fields(stats), **_fields(traversal)}
    assert fields.keys() == _GAUGES.keys() | _COUNTERS.keys() | _ELSEWHERE
    assert len(families) == len(fields) - len(_ELSEWHERE) + 4


# -- the service manager --------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_it_tells_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        # no bootstrap node answers: it is up all the same, and says what it lacks
        with running("node", *LOOPBACK, "--bootstrap", f"netmesh://{ID}@127.0.0.1:1") as program:
            assert manager.recv(1000).startswith(b"READY=1\nSTATUS=open, no bootstrap node")
            program.process.send_signal(signal.SIGTERM)
            assert program.finish() == 0
            assert manager.recv(1000) == b"STOPPING=1"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_sound(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "netmesh-relay.service").read_text(encoding="utf-8")
    unit = tmp_path / "netmesh-relay.service"
    unit.write_text(text.replace("/opt/netmesh/bin/netmesh-trio", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    assert str(unit) not in done.stdout + done.stderr, done.stderr
    assert "Unknown" not in done.stderr


def test_the_files_for_a_relay_fit_together() -> None:
    deploy = ROOT / "deploy"
    unit = (deploy / "netmesh-relay.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
    arguments = command.replace("/etc/netmesh", str(deploy)).split()
    assert arguments[:2] == ["-v", "node"]
    # as the command line reads it, with all that is commented out
    text = (deploy / "relay.toml").read_text(encoding="utf-8")
    assert cli.commands["node"].make_context("node", arguments[2:]).params["bind"]
    for key in re.findall(r"^#? ?([a-z-]+) = ", text, re.MULTILINE):
        assert f"--{key}" in {o for p in cli.commands["node"].params for o in p.opts}
    container = (deploy / "Containerfile").read_text(encoding="utf-8")
    for name in re.findall(r"NETMESH_\w+", container):
        assert name in {p.envvar for p in cli.commands["node"].params}


# -- tickets --------------------------------------------------------------------------------------


def test_the_ticket_works() -> None:
    command = [sys.executable, "-W", "error", "-m", "netmesh_trio.cli"]
    with subprocess.Popen([*command, "node", *LOOPBACK, "--qr"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "ping" not in lines[-1]:
            lines.append(process.stdout.readline())
        (ticket,) = [line.split()[1] for line in lines if line.startswith("ticket ")]
        assert lines[-1].strip() == f"try it from elsewhere: netmesh-trio ping '{ticket}'"
        assert sum(not line.strip(" █▀▄\n") for line in lines) > 20  # the QR code
        assert "\x1b" not in "".join(lines)
        for arguments in (["ping", ticket], ["ping", ticket, "--bootstrap", ticket]):
            assert run([*arguments, *LOOPBACK, "-c", "1"]) == 0
        process.terminate()


def test_a_qr_code_without_its_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    assert run(["node", *LOOPBACK, "--qr"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'netmesh-trio[qr]'" in line

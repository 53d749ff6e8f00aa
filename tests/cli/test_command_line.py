"""The command line without any node: help, usage errors, identities, events, signals."""

from __future__ import annotations

import errno
import inspect
import io
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from netmesh_trio.addresses import Address
from netmesh_trio.cli.commands import cli, run
from netmesh_trio.cli.options import behind_command
from netmesh_trio.cli.output import OutputError, Reporter, human_bytes
from netmesh_trio.cli.runner import CommandError, run_async
from netmesh_trio.cli.transfer import Failure, Outcome
from netmesh_trio.cli.watch import report
from netmesh_trio.events import KeyInUse
from netmesh_trio.identity import Identity, NetworkKey, PeerId

ROOT = Path(__file__).parent.parent.parent
ID = str(Identity(bytes(32)).peer_id)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    overview = capsys.readouterr().out
    for name in cli.commands:
        assert name in overview
        assert run([name, "--help"]) == 0
        assert ("--json" in capsys.readouterr().out) == (name != "repl")
    assert "..." not in overview.partition("Commands:")[2]  # the first lines fit


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], ["No such command", "--help"]),
        (["ping"], ["Missing argument 'PEER'", "ping --help"]),
        (["ping", "xyz"], ["peer id 'xyz'", "56"]),
        (["ping", ID[:-1] + ("a" if ID[-1] != "a" else "b")], ["peer id"]),
        (["ping", ID, "-c", "0"], ["--count"]),
        (["ping", f"netmesh://{ID}@host:port"], ["port"]),
        (["send", "file", f"netmesh://{ID}?vai={ID}"], ["via="]),
        (["send", "file"], ["Missing argument 'PEER'"]),
        (["receive"], ["Missing argument 'DIR'"]),
        (["receive", "dir", "--from", "me"], ["'me'"]),
        (["node", "--bind", "localhost"], ["no port", "HOST:PORT"]),
        (["forward", "2222", ID, "ssh"], ["no host", "HOST:PORT"]),
        (["node", "--bootstrap", f"netmesh://{ID}"], ["no address", "@HOST:PORT"]),
        (["node", "--relay", "maybe"], ["'off', 'members', 'any'"]),
        (["node", "--relay", "members"], ["private mesh", "--network-key"]),
        (["send", "", ID], ["path is empty"]),
        (["receive", ""], ["path is empty"]),
        (["identity", ""], ["path is empty"]),
        (["identity", "--new-network-key", ""], ["path is empty"]),
        (["node", "--identity", ""], ["path is empty"]),
        (["ping", ID, "--timeout", "nan"], ["--timeout", "'nan' is not a number"]),
        (["ping", ID, "-i", "nan"], ["--interval"]),
        (["ping", "http://example.org/"], ["write netmesh://PEER@HOST:PORT"]),
        (["ping", f"{ID}@example.org:4650"], ["write netmesh://PEER@HOST:PORT"]),
        (["node", "--bootstrap", f"{ID}@example.org:4650"], ["write netmesh://PEER@HOST:PORT"]),
        (["node", "--port-mapping=upnp"], ["--port-mapping", "does not take a value"]),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_usage_errors_are_one_line(
    arguments: list[str], words: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments + ["--json"] * as_json) == 2
    output = capsys.readouterr()
    assert output.err.startswith("netmesh-trio: error: ")
    assert output.err.count("\n") == 1
    for word in words:
        assert word in output.err
    if as_json:
        event = json.loads(output.out)
        assert (event["event"], event["kind"]) == ("error", "usage")
        assert event["message"] in output.err
    else:
        assert output.out == ""


def test_common_options_before_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "identity"]) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "identity"
    key = str(tmp_path / "no" / "key")
    for front in (["--identity", key], [f"--identity={key}"], ["-v", "--no-direct", "--identity", key, "-v"]):
        assert run([*front, "ping", ID]) == 1  # it is this key file that cannot be made
        assert key in capsys.readouterr().err
        logging.getLogger("netmesh_trio").handlers.clear()
    logging.getLogger("netmesh_trio").setLevel(logging.NOTSET)
    for wrong in (["--bind", "127.0.0.1:0", "identity"], ["--json"], ["--identity"], ["--count", "3", "ping", ID]):
        assert run(wrong) == 2
        assert "netmesh-trio: error: " in capsys.readouterr().err
    assert behind_command(["--bind", "a:1", "ping", "--json", "b"]) == ["ping", "--bind", "a:1", "--json", "b"]


def test_identity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.key"
    assert run(["identity", str(file)]) == 0
    output = capsys.readouterr()
    peer_id = PeerId.parse(output.out.strip())
    assert "secret" in output.err
    assert Identity.load(file).peer_id == peer_id

    assert run(["identity", str(file), "--json"]) == 0
    output = capsys.readouterr()
    event = json.loads(output.out)
    assert (event["peer_id"], event["created"]) == (str(peer_id), False)
    assert output.err == ""


def test_identity_without_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["identity"]) == 0
    PeerId.parse(capsys.readouterr().out.strip())


def test_a_new_network_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mesh.key"
    assert run(["identity", "--new-network-key", str(file)]) == 0
    output = capsys.readouterr()
    assert output.out == f"{file}\n"
    assert "secret" in output.err
    NetworkKey.load(file)
    assert file.stat().st_mode & 0o777 == 0o600
    # One that is there is kept: the mesh that uses it would fall apart.
    before = file.read_bytes()
    assert run(["identity", "--new-network-key", str(file)]) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert file.read_bytes() == before

    other = tmp_path / "other.key"
    assert run(["identity", str(tmp_path / "my.key"), "--new-network-key", str(other), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["identity", "network_key"]
    assert events[1]["file"] == str(other)


def test_verbose_logs_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("netmesh_trio")
    for arguments in (["-v", "identity"], ["-v", "ping", "xyz", "-v"]):
        try:
            run(arguments)
            logger.info("a session")
            logger.debug("noise")
            assert [handler.level for handler in logger.handlers] == [0]
            logged = capsys.readouterr().err.splitlines()
            assert next(line for line in logged if "netmesh_trio: " in line).endswith("netmesh_trio: a session")
            assert "noise" not in "".join(logged)
        finally:
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("trouble", ["damaged", "readable", "directory", "nowhere"])
def test_identities_that_cannot_be_used(trouble: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    if trouble == "damaged":
        file.write_text("rubbish")
        file.chmod(0o600)
    elif trouble == "readable":
        Identity.generate().save(file)
        file.chmod(0o644)
    elif trouble == "directory":
        file.mkdir()
    else:
        file = tmp_path / "no" / "such" / "key"
    for command in (["identity", str(file)], ["ping", ID, "--identity", str(file)]):
        assert run(command) == 1
        output = capsys.readouterr()
        assert output.err.count("\n") == 1
        assert str(file) in output.err
        assert output.out == ""


def test_a_missing_network_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ping", ID, "--network-key", str(tmp_path / "key")]) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "network key" in output.err


def test_a_source_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", str(tmp_path / "nothing"), ID, "--json"]) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "No such file" in output.err
    assert json.loads(output.out)["kind"] == "source"


def test_a_target_that_is_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert run(["receive", str(tmp_path / "file")]) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "cannot receive into" in output.err
    assert "it is not a directory" in output.err


# -- the reporter ---------------------------------------------------------------------------------


def reporter(as_json: bool) -> tuple[Reporter, io.StringIO, io.StringIO]:
    now = iter([10.0] + [10.5] * 100)
    out, err = io.StringIO(), io.StringIO()
    return Reporter(as_json, stdout=out, stderr=err, clock=lambda: next(now)), out, err


@pytest.mark.parametrize("as_json", [True, False])
def test_a_key_in_use_elsewhere_is_a_note_and_no_event(as_json: bool) -> None:
    told, out, err = reporter(as_json)
    report(told, KeyInUse(addr=Address("203.0.113.7", 4650)))
    assert out.getvalue() == ""
    assert err.getvalue() == (
        "netmesh-trio: another program at 203.0.113.7:4650 runs with the key of this node: others reach now the one "
        "and now the other; give each a key of its own\n"
    )


def test_json_events() -> None:
    report, out, err = reporter(True)
    report.ready("me", ["netmesh://me@1.2.3.4:5"])
    report.path(peer_id="you", kind="relayed", addr=None, via="relay", rtt_ms=1.23456, reason="symmetric")
    report.nat("cone", "1.2.3.4:5")
    report.line("for people")
    report.error("kind", "two\nlines")
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"event": "ready", "t": 0.5, "peer_id": "me", "addresses": ["netmesh://me@1.2.3.4:5"]},
        {
            "event": "path",
            "t": 0.5,
            "peer_id": "you",
            "kind": "relayed",
            "addr": None,
            "via": "relay",
            "rtt_ms": 1.235,
            "reason": "symmetric",
        },
        {"event": "nat", "t": 0.5, "nat_type": "cone", "reflex_addr": "1.2.3.4:5"},
        {"event": "error", "t": 0.5, "kind": "kind", "message": "two lines"},
    ]
    assert err.getvalue() == "netmesh-trio: error: two lines\n"


def test_lines_for_people() -> None:
    report, out, err = reporter(False)
    report.ready("me", ["netmesh://me@1.2.3.4:5"])
    report.path(peer_id="you", kind="direct", addr="1.2.3.4:5", via=None, rtt_ms=1.26, reason=None)
    report.path(peer_id="you", kind="relayed", addr=None, via="relay", rtt_ms=1.26, reason="said above", quiet=True)
    report.nat("cone", "1.2.3.4:5")
    report.event("progress", bytes=3)
    lines = out.getvalue().splitlines()
    assert any("netmesh://me@1.2.3.4:5" in line for line in lines)
    assert "path   to you: direct at 1.2.3.4:5, 1.3 ms" in lines
    assert "nat    cone, seen from outside as 1.2.3.4:5" in lines
    assert len(lines) == 4
    assert err.getvalue() == ""


def test_a_transfer_is_done_or_an_error() -> None:
    outcome = Outcome("dir", True, 2, 3_000_000, 2_000_000, 2.0, "abcd", (), ("dir/link",))
    report, out, err = reporter(True)
    report.transferred("sent", outcome, "you")
    event = json.loads(out.getvalue())
    assert event == {
        "event": "done",
        "t": 0.5,
        "peer_id": "you",
        "name": "dir",
        "files": 2,
        "bytes": 3_000_000,
        "moved": 2_000_000,
        "seconds": 2.0,
        "mb_per_s": 1.0,
        "hash": "abcd",
    }
    assert "dir/link" in err.getvalue()

    failures = tuple(Failure(f"dir/{i}", "exists", f"{i} is there") for i in range(20))
    report, out, err = reporter(True)
    report.transferred("sent", Outcome("dir", True, 2, 3, 2, 1.0, "", failures), "you")
    assert {json.loads(line)["event"] for line in out.getvalue().splitlines()} == {"error"}
    assert len(err.getvalue().splitlines()) == 11
    assert "20 files were not transferred, 2 are" in err.getvalue()

    for good, summary in ((6, "1 file was not transferred, 6 are in place and verified"), (0, None)):
        report, out, err = reporter(False)
        report.transferred("sent", Outcome("dir", True, good, 3, 2, 1.0, "", failures[:1]), "you")
        said = [line.partition("error: ")[2] for line in err.getvalue().splitlines()]
        assert said == ["0 is there", *filter(None, [summary])]


def test_a_receiver_tells_people_from_whom_a_file_came() -> None:
    report, out, _ = reporter(False)
    report.transferred("received", Outcome("file", False, 1, 5, 5, 1.0, "abcd", ()), "you", " from you")
    assert "received 'file' from you: 5 bytes" in out.getvalue()


def test_a_name_that_the_terminal_cannot_show() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Reporter(stdout=out).line("naïve")
    assert raw.getvalue() == b"na\\xefve\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e8, "200.0 MB"), (5e15, "5000.0 TB")],
)
def test_human_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


# -- the runner -----------------------------------------------------------------------------------


def test_exit_codes() -> None:
    report, _, _ = reporter(False)

    async def good() -> bool:
        return True

    async def bad() -> bool:
        return False

    assert run_async(report, good) == 0
    assert run_async(report, bad) == 1


def test_errors_in_nurseries_are_one_line() -> None:
    report, out, err = reporter(True)

    async def fail() -> None:
        raise CommandError("kind", "what happened")

    async def command() -> bool:
        async with trio.open_nursery() as nursery, trio.open_nursery() as inner:
            nursery.start_soon(fail)
            inner.start_soon(fail)
        return True

    assert run_async(report, command) == 1
    assert err.getvalue() == "netmesh-trio: error: what happened\n"
    assert json.loads(out.getvalue())["kind"] == "kind"


def test_full_output_is_told_before_what_broke_over_it() -> None:
    report, _, err = reporter(False)

    async def tell() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OutputError(OSError(errno.ENOSPC, "No space left on device"))

    async def command() -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the peer has gone")

    assert run_async(report, command) == 1
    assert err.getvalue() == "netmesh-trio: error: cannot write output: No space left on device\n"


def test_mistakes_of_ours_are_not_hidden() -> None:
    report, _, _ = reporter(False)

    async def command() -> bool:
        raise ZeroDivisionError

    with pytest.raises(BaseException) as caught:
        run_async(report, command)
    assert "ZeroDivisionError" in repr(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM between processes there")
@pytest.mark.parametrize(("until_stopped", "code"), [(True, 0), (False, 143)])
def test_sigterm(until_stopped: bool, code: int) -> None:
    report, _, err = reporter(False)
    cleaned = False

    async def command() -> bool:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
        finally:
            cleaned = True
        return True

    assert run_async(report, command, until_stopped=until_stopped) == code
    assert cleaned
    assert err.getvalue() == "netmesh-trio: stopped by SIGTERM\n"


def test_ctrl_c_in_nurseries() -> None:
    report, _, err = reporter(False)

    async def command() -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        return True

    assert run_async(report, command) == 130
    assert err.getvalue() == "netmesh-trio: stopped by Ctrl-C\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT between processes there")
def test_the_second_ctrl_c_waits_for_nothing() -> None:
    report, _, err = reporter(False)
    steps: list[str] = []

    async def command() -> bool:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        finally:
            steps.append("leaving")
            with trio.CancelScope(shield=True):
                os.kill(os.getpid(), signal.SIGINT)
                steps.append("still leaving")
                await trio.sleep_forever()
        return True

    before = signal.getsignal(signal.SIGINT)
    assert run_async(report, command) == 130
    assert steps == ["leaving"]
    assert err.getvalue() == "netmesh-trio: stopped by Ctrl-C\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_broken_stream_is_one_line() -> None:
    report, _, err = reporter(False)

    async def command() -> bool:
        raise trio.BrokenResourceError

    assert run_async(report, command) == 1
    assert err.getvalue() == ("netmesh-trio: error: the connection to the peer broke; try again\n")


@pytest.mark.parametrize("module", ["netmesh_trio", "trio", "netmesh_trio.cli.commands", "click"])
def test_ctrl_c_while_importing(module: str) -> None:
    script = f"""
import sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
from _netmesh_trio_script import main
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "netmesh-trio: stopped by Ctrl-C\n"


def test_a_reader_that_goes_away_is_not_a_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "netmesh_trio.cli", "identity"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


def test_the_package_is_the_program() -> None:
    command = [sys.executable, "-m", "netmesh_trio", "identity"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    PeerId.parse(done.stdout.strip())


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


def program(unbuffered: str = "") -> dict[str, str]:
    """The environment of a line of sh."""
    return {**os.environ, "CLI": f"{sys.executable} -m netmesh_trio.cli", "PYTHONUNBUFFERED": unbuffered}


def shell(script: str, unbuffered: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a line of sh; ``$CLI`` is the program."""
    return subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=timeout, env=program(unbuffered)
    )


@FULL
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["identity", "identity --json", "--help", "ping --help", "--version"])
def test_a_full_disk_for_the_output_is_one_line(command: str, unbuffered: str) -> None:
    done = shell(f"$CLI {command} > /dev/full", unbuffered)
    assert (done.returncode, done.stderr) == (
        1,
        "netmesh-trio: error: cannot write output: No space left on device\n",
    )


@FULL
def test_other_errors_are_told_with_a_full_disk_for_the_output() -> None:
    done = shell("$CLI nothing --json > /dev/full")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No such command" in done.stderr


@FULL
@pytest.mark.parametrize("as_json", ["", "--json"])
@pytest.mark.parametrize("errors", ["", "2>&1"])
def test_a_relay_outlives_a_full_disk(
    as_json: str, errors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped once it has told everything, and has said once what it could not write."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        script = f"exec $CLI node --bind 127.0.0.1:0 {as_json} > /dev/full {errors}"
        with subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, text=True, env=program()) as process:
            while manager.recv(1000) != b"STATUS=in the mesh":
                pass
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    full = "netmesh-trio: cannot write output: No space left on device; it goes on without\n"
    assert said == ("" if errors else full + "netmesh-trio: stopped by SIGTERM\n")


def test_errors_are_told_where_the_output_is_full() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    err = io.StringIO()
    report = Reporter(True, stdout=Full(), stderr=err)
    report.error("usage", "one")
    report.event("done", "what comes then is dropped")
    assert err.getvalue() == "netmesh-trio: error: one\n"
    Reporter(True, stdout=Full(), stderr=Full()).error("usage", "nobody can be told of this")


def test_lines_that_cannot_be_written_are_told_once_and_the_next_ones_come() -> None:
    class Disk(io.StringIO):
        full = True

        def flush(self) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")

    disk, err = Disk(), io.StringIO()
    report = Reporter(stdout=disk, stderr=err)
    report.goes_on = True
    for _ in range(2):
        disk.full = True
        report.line("two")
        report.line("three")
        disk.full = False
        report.line("four")
    assert err.getvalue().count("cannot write output") == 2
    disk.full = True
    report.goes_on = False
    with pytest.raises(OutputError, match="No space left"):
        report.line("five")


@pytest.mark.parametrize("command", ["identity", "identity --json", "--help"])
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_closed_output_is_no_trouble(command: str, closed: str) -> None:
    done = shell(f"$CLI {command} {closed}")
    assert (done.returncode, done.stderr) == (0, "")


# -- for people -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cli.commands)
def test_examples_in_the_help_are_command_lines(name: str) -> None:
    text = inspect.getdoc(cli.commands[name].callback) or ""
    assert "\b\n" in text
    examples = [shlex.split(line) for line in text.partition("Examples:")[2].splitlines() if "netmesh-trio" in line]
    assert examples
    for program, command, *arguments in examples:
        assert (program, command) == ("netmesh-trio", name)
        stand_ins = {"PEER": ID, "URI": f"netmesh://{ID}@203.0.113.7:4650"}
        arguments = [stand_ins.get(argument, argument) for argument in arguments]
        arguments = arguments[: arguments.index(">>")] if ">>" in arguments else arguments
        if "--config" in arguments:
            arguments[arguments.index("--config") + 1] = str(ROOT / "deploy" / "relay.toml")
        assert cli.commands[name].make_context(name, arguments).params


def complete(typed: str) -> list[str]:
    """What a shell offers for the last word."""
    words = typed.split(" ")
    environment = {
        **os.environ,
        "_NETMESH_TRIO_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    command = [sys.executable, "-c", "from _netmesh_trio_script import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_shells_complete() -> None:
    assert complete("netmesh-trio re") == ["receive", "repl"]
    assert complete("netmesh-trio ping --un") == ["--until-direct"]
    assert complete("netmesh-trio node --relay m") == ["members"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script(shell: str) -> None:
    environment = {**os.environ, "_NETMESH_TRIO_COMPLETE": f"{shell}_source"}
    command = [sys.executable, "-c", "from _netmesh_trio_script import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert "_NETMESH_TRIO_COMPLETE" in done.stdout


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colors_only_where_they_are_wanted(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    screen, pipe = Screen(), io.StringIO()
    for out in (screen, pipe):
        report = Reporter(stdout=out, stderr=out)
        report.ready("me", [])
        report.error("kind", "what happened")
    assert ("\x1b[" in screen.getvalue()) == (not no_color)
    assert "\x1b[" not in pipe.getvalue()

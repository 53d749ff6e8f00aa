"""``repl``: a prompt with a running node, by pipe and on a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from netmesh_trio.cli.commands import run
from tests.cli.program import running

COMMAND = [sys.executable, "-W", "error", "-m", "netmesh_trio.cli", "repl", "--bind", "127.0.0.1:0"]
TYPED = """
x = node.peer_id
other = await connect(URI)
other
await ping(other)
async def shout(stream):
    await stream.send_all((await stream.receive_some()).upper())

serve("shout", shout)
status()
helpers()
1 / 0
await ask(other, "nothing")
Identity.generate()
serve("shout", shout)
"""


def test_a_session() -> None:
    with running("node", "--bind", "127.0.0.1:0") as node:
        ready = node.wait_for("ready")
        (uri,) = ready["addresses"]
        short = ready["peer_id"][:8]
        done = subprocess.run(
            COMMAND, input=TYPED.replace("URI", repr(uri)), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0
    assert "trio" in done.stderr
    shown = done.stdout.replace(">>> ", "")
    assert f"<Peer {short}, direct at 127.0.0.1:" in shown
    assert re.search(r"'\d+\.\d ms, direct at 127\.0\.0\.1:\d+", shown)
    assert "await ask(peer, service, data)" in shown
    assert "<Identity of " in shown
    assert done.stderr.count("Traceback") == 3
    for error in ("ZeroDivisionError", f"ServiceNotFoundError: peer {short} serves nothing under 'nothing'"):
        assert error in done.stderr
    assert "ServiceInUseError: this node already listens for 'shout'" in done.stderr


def test_what_is_served_is_asked() -> None:
    """One prompt serves, and lives on when its handler fails; another asks."""
    serving = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert serving.stdin is not None
    assert serving.stdout is not None
    try:
        serving.stdin.write(TYPED.partition("status()")[0].partition("other)\n")[2])
        serving.stdin.write("str(node.addresses[0])\n")
        serving.stdin.flush()
        uri = ""
        while "netmesh" not in uri:
            uri = serving.stdout.readline()
        found = re.search(r"netmesh://[^']*", uri)
        assert found is not None
        typed = f"await ask({found[0]!r}, 'shout', b'hello')\nawait ask({found[0]!r}, 'shout')\n"
        asking = subprocess.run(COMMAND, input=typed, capture_output=True, text=True, timeout=60)
        assert "b'HELLO'" in asking.stdout
        serving.stdin.write("1 / 0\n'alive'\n")
        serving.stdin.close()
        assert "'alive'" in serving.stdout.read()
        assert serving.wait(30) == 0
    finally:
        serving.kill()
        serving.wait()
        serving.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_on_a_terminal() -> None:
    """Tab completes, Ctrl-C ends what was typed and not the prompt, SIGTERM ends it at the next line."""
    import pty

    terminal, far = pty.openpty()
    child = subprocess.Popen(
        COMMAND, stdin=far, stdout=far, stderr=far, env={**os.environ, "TERM": "dumb"}, start_new_session=True
    )
    os.close(far)
    shown = ""

    def expect(text: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + 30
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 4096).decode()
        shown = shown.partition(text)[2]

    try:
        expect(">>> ")
        os.write(terminal, b"node.peer_i\t.short\n")
        expect("node.peer_id")
        expect(">>> ")
        os.write(terminal, b"print('as' + 'leep'); await trio.sleep(1000)\n")
        expect("asleep")
        child.send_signal(signal.SIGINT)
        expect("KeyboardInterrupt")
        expect(">>> ")
        os.write(terminal, b"'alive'\n")
        expect("'alive'\r\n")
        child.terminate()
        time.sleep(0.2)  # the signal is there before the line is
        os.write(terminal, b"\n")
        expect("stopped by SIGTERM")
        assert child.wait(30) == 143
    finally:
        child.kill()
        child.wait()
        os.close(terminal)


def test_it_has_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repl", "--json"]) == 2
    assert "--json" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "code"), [("exit()", 0), ("exit(3)", 3), ("raise SystemExit('because')", 1)])
def test_what_exit_was_called_with(typed: str, code: int) -> None:
    done = subprocess.run(COMMAND, input=typed + "\n'not read'\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert ("netmesh-trio: because\n" in done.stderr) == (code == 1)
    assert "not read" not in done.stdout

"""Entering network namespaces from Python, and the little the laboratory needs in there.

A network namespace belongs to a thread, not to a process: a fresh thread calls ``setns(2)``, does
its work and ends, and the rest of the program never leaves the namespace it was in. What that
thread opens (a socket, a tap device) stays in the namespace for as long as it is open, whoever
uses it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NETNS_DIRECTORY = Path("/run/netns")
"""Where iproute2 keeps named namespaces."""

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_IFF_RUNNING = 0x40  # linux/if.h
_NETLINK_NETFILTER = 12  # linux/netlink.h
_NLM_F_REQUEST = 1
_NLM_F_ACK = 4
_IPCTNL_MSG_CT_DELETE = (1 << 8) | 2  # subsystem CTNETLINK, message 2


class LabError(RuntimeError):
    """The kernel or a tool refused something: the message has the command and what it said."""


def in_namespace(name: str, function: Callable[[], T]) -> T:
    """Call ``function`` in a thread that lives in namespace ``name``; pass on how it ends.

    Raises `LabError` if the namespace does not exist or may not be entered.
    """

    def body() -> T:
        _enter(name)
        return function()

    # A pool of one is a thread that hands over value and exception alike, and is gone afterwards.
    with ThreadPoolExecutor(1, f"netns {name}") as thread:
        return thread.submit(body).result()


def _enter(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        handle = os.open(NETNS_DIRECTORY / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"cannot open namespace {name}: {error.strerror}") from error
    try:
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            raise LabError(f"cannot enter namespace {name}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(handle)


def open_socket(name: str, family: int, kind: int) -> socket.socket:
    """A socket of this program that sends and receives in namespace ``name``."""
    return in_namespace(name, lambda: socket.socket(family, kind))


def open_tap(name: str, interface: str) -> int:
    """Make tap device ``interface`` in namespace ``name``; the descriptor carries frames.

    The device goes when the descriptor is closed. Without an offload being asked for, the kernel
    segments and checksums before it hands a frame over, so that a reader never sees a
    super-packet.
    """

    def make() -> int:
        handle = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            request = struct.pack("16sH22x", interface.encode(), _IFF_TAP | _IFF_NO_PI)
            fcntl.ioctl(handle, _TUNSETIFF, request)
        except OSError as error:
            os.close(handle)
            raise LabError(f"cannot make tap {interface} in {name}: {error.strerror}") from error
        return handle

    return in_namespace(name, make)


def write_sysctls(name: str, settings: Iterable[tuple[str, str]]) -> None:
    """Write ``settings`` (paths under /proc/sys and values) as seen in namespace ``name``.

    A setting that this kernel does not have (no IPv6, no bridge filter) needs no writing.
    """

    def write() -> None:
        for path, value in settings:
            try:
                Path("/proc/sys", path).write_text(value)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LabError(f"cannot set {path} to {value} in {name}: {error}") from error

    in_namespace(name, write)


def wait_running(name: str, interfaces: Iterable[str]) -> None:
    """Wait until the kernel has noticed that ``interfaces`` in namespace ``name`` have a carrier.

    It does so a little after both ends are up, on a queue that may be a second behind. What is
    sent before is dropped, and with it the address resolution, which is tried again only after
    another second.
    """

    def poll() -> None:
        deadline = time.monotonic() + 5
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for interface in interfaces:
                request = struct.pack("16s24x", interface.encode())
                while True:
                    answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
                    if struct.unpack_from("16sH", answer)[1] & _IFF_RUNNING:
                        break
                    if time.monotonic() > deadline:
                        raise LabError(f"interface {interface} in {name} does not come up")
                    time.sleep(0.0005)

    in_namespace(name, poll)


def flush_conntrack(name: str) -> None:
    """Forget every connection that namespace ``name`` tracks, as a router does that reboots."""

    def flush() -> None:
        # nlmsghdr, then nfgenmsg with family unspecified: a delete without a tuple means all of
        # them.
        message = struct.pack("=IHHII4x", 20, _IPCTNL_MSG_CT_DELETE, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(5)
            netlink.sendto(message, (0, 0))
            answer = netlink.recv(4096)
        code = -struct.unpack_from("=i", answer, 16)[0]
        # A kernel that has never tracked anything in here has nothing to forget.
        if code not in (0, errno.ENOENT):
            raise LabError(f"cannot flush conntrack of {name}: {os.strerror(code)}")

    in_namespace(name, flush)


def command(arguments: list[str], text: str = "", *, timeout: float = 30) -> str:
    """Run a tool with ``text`` as its input; its output, or `LabError` with its complaint."""
    try:
        done = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(arguments)}: {error}") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(arguments)}: {done.stderr.strip()}\n{text}".rstrip())
    return done.stdout


def ip_batch(lines: Iterable[str], *, namespace: str | None = None) -> None:
    """Run ``ip`` sub-commands, one a line, in one process; in ``namespace`` if given."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        command(["ip", *(["-n", namespace] if namespace else []), "-batch", "-"], text)


def nft(namespace: str, ruleset: str) -> None:
    """Load ``ruleset`` in ``namespace``, all of it or nothing."""
    command(["ip", "netns", "exec", namespace, "nft", "-f", "-"], ruleset)


def process_start(pid: int) -> int | None:
    """When process ``pid`` began, in clock ticks since boot (proc(5)); None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def own_tag() -> str:
    """What marks the namespaces of this process: its id and start, since ids are used again."""
    pid = os.getpid()
    return f"{pid}-{process_start(pid) or 0:x}"


def existing_namespaces() -> list[str]:
    """The names of all named namespaces."""
    try:
        return sorted(entry.name for entry in NETNS_DIRECTORY.iterdir())
    except OSError:
        return []


def stale_namespaces(prefix: str) -> list[str]:
    """Namespaces that a laboratory with this ``prefix`` made and whose process is gone."""
    pattern = re.compile(re.escape(prefix) + r"-(\d+)-([0-9a-f]+)-")
    found: list[str] = []
    for name in existing_namespaces():
        match = pattern.match(name)
        if match and process_start(int(match[1])) != int(match[2], 16):
            found.append(name)
    return found


def processes_inside(names: Iterable[str]) -> list[int]:
    """Ids of the processes whose main thread is in one of the namespaces."""
    inodes: set[int] = set()
    for name in names:
        try:
            inodes.add((NETNS_DIRECTORY / name).stat().st_ino)
        except OSError:
            continue
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            inode = (entry / "ns" / "net").stat().st_ino
        except OSError:
            continue
        if inode in inodes:
            found.append(int(entry.name))
    return found


def remove_namespaces(names: list[str]) -> None:
    """End what still runs in the namespaces and delete them; those already gone are not missed."""
    if not names:
        return
    for pid in processes_inside(names):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    lines = "".join(f"netns del {name}\n" for name in names)
    try:
        command(["ip", "-force", "-batch", "-"], lines)
    except LabError:
        left = set(names) & set(existing_namespaces())
        if left:
            raise

"""Whole transfers between two ends in memory: trees, resumption, refusals, vanishing peers."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from netmesh_trio.cli import files
from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.transfer import (
    Limits,
    Outcome,
    Progress,
    Source,
    Store,
    TransferError,
    receive_files,
    send_files,
)
from netmesh_trio.cli.transfer import messages as m
from netmesh_trio.cli.transfer.storage import partial_name
from netmesh_trio.identity import Identity
from tests.cli.ideal import End, stream_pair

MTIME = 1_700_000_000_123_456_789


def write(path: Path, data: bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(MTIME, MTIME))
    return path


def listing(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }


def parts(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.endswith(".part")]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


class Sides:
    """Both ends of a transfer and what came of it on each."""

    sent: Outcome | TransferError
    received: Outcome | TransferError

    @property
    def good(self) -> tuple[Outcome, Outcome]:
        assert isinstance(self.sent, Outcome), self.sent
        assert isinstance(self.received, Outcome), self.received
        return self.sent, self.received

    @property
    def errors(self) -> tuple[str, str]:
        assert isinstance(self.sent, TransferError), self.sent
        assert isinstance(self.received, TransferError), self.received
        return self.sent.kind, self.received.kind


async def run(
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    limit: int | None = None,
    change: Callable[[bytes], bytes] | None = None,
    chunk: int = 64 * 1024,
    limits: Limits | None = None,
    before_content: Callable[[], object] | None = None,
    hook: Callable[[Progress], None] | None = None,
) -> Sides:
    a, b = stream_pair(limit=limit, change=change, chunk=chunk)
    sides = Sides()
    listed = Source.scan(source)
    if before_content is not None:
        before_content()
    store = Store(target, overwrite=overwrite)

    async def send() -> None:
        try:
            sides.sent = await send_files(a, listed, hook or (lambda _: None))
        except TransferError as error:
            sides.sent = error
        await a.aclose()

    async def receive() -> None:
        try:
            sides.received = await receive_files(b, store, limits=limits or Limits())
        except TransferError as error:
            sides.received = error
        await b.aclose()

    try:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(receive)
    finally:
        store.close()
    return sides


def tree(root: Path) -> Path:
    write(root / "a.txt", b"hello\n")
    write(root / "empty", b"")
    write(root / "bin" / "tool", b"#!/bin/sh\n", 0o755)
    write(root / "deep" / "er" / "big", os.urandom(3_000_000))
    write(root / "name with\nnewline ü", b"odd")
    (root / "nothing here").mkdir()
    return root


@pytest.mark.parametrize("chunk", [7, 1400, 1 << 20])
async def test_one_file(tmp_path: Path, chunk: int) -> None:
    data = os.urandom(1_200_000 if chunk > 100 else 3000)
    path = write(tmp_path / "x" / "file.bin", data)
    sent, received = (await run(path, tmp_path / "to", chunk=chunk)).good
    assert (tmp_path / "to" / "file.bin").read_bytes() == data
    assert listing(tmp_path / "to").keys() == {"file.bin"}
    assert sent.digest == received.digest == hashlib.blake2b(data, digest_size=32).hexdigest()
    assert sent.bytes == sent.moved == received.moved == len(data)
    assert sent.files == received.files == 1
    assert (tmp_path / "to" / "file.bin").stat().st_mtime_ns == MTIME


async def test_tree(tmp_path: Path) -> None:
    source = tree(tmp_path / "tree")
    (source / "link").symlink_to("a.txt")
    os.mkfifo(source / "pipe")
    sent, received = (await run(source, tmp_path / "to")).good
    assert sorted(sent.skipped) == ["tree/link", "tree/pipe"]
    (source / "link").unlink()
    (source / "pipe").unlink()
    assert listing(tmp_path / "to" / "tree") == listing(source)
    assert sent.digest == received.digest
    assert sent.files == 5
    mode = (tmp_path / "to" / "tree" / "bin" / "tool").stat().st_mode
    assert mode & stat.S_IXUSR
    assert not (tmp_path / "to" / "tree" / "a.txt").stat().st_mode & 0o111

    # Once more: everything is there, nothing moves, the hash is the same.
    again, _ = (await run(source, tmp_path / "to")).good
    assert again.moved == 0
    assert again.digest == sent.digest
    assert again.bytes == sent.bytes


async def test_many_small_files(tmp_path: Path) -> None:
    for number in range(700):
        write(tmp_path / "tree" / f"d{number % 7}" / f"{number}", b"x" * number)
    sent, _ = (await run(tmp_path / "tree", tmp_path / "to")).good
    assert listing(tmp_path / "to" / "tree") == listing(tmp_path / "tree")
    assert sent.files == 700


@pytest.mark.parametrize("name", [".", "..", "sub/.."])
async def test_paths_without_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "home" / "sub" / "f", b"1")
    monkeypatch.chdir(tmp_path / "home" / ("sub" if name == ".." else ""))
    await run(Path(name), tmp_path / "to")
    assert (tmp_path / "to" / "home" / "sub" / "f").read_bytes() == b"1"


async def test_progress_adds_up(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = write(tmp_path / "f", bytes(2_500_000))
    await run(path, tmp_path / "to", hook=lambda p: seen.append((p.done, p.files_done)))
    assert seen == sorted(seen)
    assert seen[-1] == (2_500_000, 1)


# -- resumption -----------------------------------------------------------------------------------


async def test_resume_after_a_cut_anywhere(tmp_path: Path) -> None:
    """Cut a tree's transfer at every 997th byte; the next one goes on and gets it all right."""
    source = tmp_path / "tree"
    write(source / "a", os.urandom(5000))
    write(source / "b", b"")
    write(source / "c" / "d", os.urandom(9000))
    whole = (await run(source, tmp_path / "whole", chunk=500)).good[0]
    length = 14_000 + 600
    resumed = 0
    for cut in range(1, length, 997):
        target = tmp_path / f"to{cut}"
        sides = await run(source, target, limit=cut, chunk=500)
        assert sides.errors == ("peer-gone", "peer-gone")
        for path, data in listing(target).items():
            if data is not None and not path.endswith(".part"):
                assert data == (tmp_path / path).read_bytes()  # never half a file in place
        kept = sum(path.stat().st_size for path in parts(target))
        again = (await run(source, target)).good[0]
        assert listing(target) == listing(tmp_path / "whole")
        assert again.digest == whole.digest
        assert again.moved <= whole.moved - kept
        resumed += kept
    assert resumed > 20_000


async def test_a_wrong_prefix_starts_afresh(tmp_path: Path) -> None:
    path = write(tmp_path / "f", os.urandom(100_000))
    target = tmp_path / "to"
    await run(path, target, limit=50_000, chunk=1000)
    (part,) = parts(target)
    with part.open("r+b") as file:
        file.write(b"rotten")
    sent, _ = (await run(path, target)).good
    assert sent.moved == 100_000
    assert listing(target) == {"f": path.read_bytes()}


async def test_a_changed_source_does_not_resume(tmp_path: Path) -> None:
    path = write(tmp_path / "f", os.urandom(100_000))
    await run(path, tmp_path / "to", limit=50_000, chunk=1000)
    path.write_bytes(os.urandom(100_000))
    sent, _ = (await run(path, tmp_path / "to")).good
    assert sent.moved == 100_000
    assert (tmp_path / "to" / "f").read_bytes() == path.read_bytes()


async def test_two_transfers_of_one_file_at_once(tmp_path: Path) -> None:
    """The second to come is told that the first is at it, or finds the file done; never a mix."""
    path = write(tmp_path / "f", os.urandom(3_000_000))
    results: list[Sides] = []

    async def one() -> None:
        results.append(await run(path, tmp_path / "to"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    kinds = [f.kind for sides in results for f in sides.good[0].failures]
    assert len(kinds) <= 1
    assert set(kinds) <= {"busy", "exists"}
    assert (tmp_path / "to" / "f").read_bytes() == path.read_bytes()


# -- refusals -------------------------------------------------------------------------------------


async def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    write(source / "mine", b"new content")
    write(source / "same size", b"abc")
    write(source / "fine", b"fine")
    target = tmp_path / "to"
    write(target / "tree" / "mine", b"old")
    write(target / "tree" / "same size", b"xyz")
    sent, received = (await run(source, target)).good
    assert [f.kind for f in sent.failures] == ["exists", "exists"]
    assert [f.path for f in received.failures] == ["tree/mine", "tree/same size"]
    assert "--overwrite" in sent.failures[0].message
    assert sent.digest == ""
    assert (target / "tree" / "mine").read_bytes() == b"old"
    assert (target / "tree" / "fine").read_bytes() == b"fine"
    assert not parts(target)

    sent, _ = (await run(source, target, overwrite=True)).good
    assert not sent.failures
    assert listing(target / "tree") == listing(source)


async def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "f", os.urandom(2_000_000))
    target = tmp_path / "to"
    done = False

    def appear(progress: Progress) -> None:
        nonlocal done
        if progress.moved and not done:
            done = True
            write(target / "f", b"mine")

    sent, _ = (await run(path, target, hook=appear)).good
    assert [f.kind for f in sent.failures] == ["exists"]
    assert (target / "f").read_bytes() == b"mine"


async def test_a_directory_or_link_in_the_way(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "to"
    (target / "tree" / "dir").mkdir(parents=True)
    (target / "tree" / "sub").symlink_to(outside)
    (target / "tree" / "link").symlink_to(outside / "planted")
    source = tmp_path / "tree"
    write(source / "dir", b"file here, directory there")
    write(source / "sub" / "f", b"through a link")
    write(source / "link", b"through a link")
    sent, _ = (await run(source, target)).good
    assert {f.path: f.kind for f in sent.failures} == {
        "tree/dir": "exists",
        "tree/link": "exists",
        "tree/sub": "bad-path",
        "tree/sub/f": "bad-path",
    }
    # Overwriting replaces a link by the file, and still goes through none.
    sent, _ = (await run(source, target, overwrite=True)).good
    assert {f.path for f in sent.failures} == {"tree/dir", "tree/sub", "tree/sub/f"}
    assert not (target / "tree" / "link").is_symlink()
    assert listing(outside) == {}


async def test_a_link_in_place_of_the_partial_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "f", b"content")
    target = tmp_path / "to"
    target.mkdir()
    victim = write(tmp_path / "victim", b"precious")
    (target / partial_name(Source.scan(path).entries[0])).symlink_to(victim)
    assert (await run(path, target)).errors == ("storage", "storage")
    assert victim.read_bytes() == b"precious"


async def test_corrupt_content_is_not_put_in_place(tmp_path: Path) -> None:
    path = write(tmp_path / "f", b"\x55" * 200_000)
    flipped = False

    def flip(data: bytes) -> bytes:
        nonlocal flipped
        if not flipped and data.count(b"\x55") == len(data) and len(data) > 1000:
            flipped = True
            return data[:500] + b"\x54" + data[501:]
        return data

    sent, received = (await run(path, tmp_path / "to", change=flip)).good
    assert [f.kind for f in sent.failures] == [f.kind for f in received.failures] == ["corrupt"]
    assert listing(tmp_path / "to") == {}


@pytest.mark.parametrize("step", ["write", "fsync", "open"])
async def test_disk_full(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "f", os.urandom(3_000_000))
    target = tmp_path / "to"
    target.mkdir()
    real_write, real_open = os.write, os.open
    written = 0

    def full_write(fd: int, data: bytes) -> int:
        nonlocal written
        if written + len(data) > 1_500_000:
            raise OSError(28, "No space left on device")
        written += len(data)
        return real_write(fd, data)

    def full_fsync(fd: int) -> None:
        raise OSError(28, "No space left on device")

    def full_open(path: str, flags: int, *args: object, **more: object) -> int:
        if flags & os.O_CREAT and str(path).endswith(".part"):
            raise OSError(28, "No space left on device")
        return real_open(path, flags, *args, **more)  # type: ignore[arg-type]

    fake = {"write": full_write, "fsync": full_fsync, "open": full_open}[step]
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fake)
        sides = await run(path, target)
    assert sides.errors == ("disk-full", "disk-full")
    assert "space" in str(sides.sent)
    assert not (target / "f").exists()
    sent, _ = (await run(path, target)).good
    assert sent.moved < 3_000_000 or step == "open"


async def test_too_large_for_the_disk_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "f", bytes(1000))
    monkeypatch.setattr(Store, "free_bytes", lambda self: 10)
    assert (await run(path, tmp_path / "to")).errors == ("disk-full", "disk-full")
    assert listing(tmp_path / "to") == {}


async def test_limits(tmp_path: Path) -> None:
    source = tree(tmp_path / "tree")
    for limits in (Limits(entries=3), Limits(total=1000), Limits(path_bytes=10)):
        assert (await run(source, tmp_path / "to", limits=limits)).errors == ("refused", "refused")
    assert listing(tmp_path / "to") == {}


async def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    write(source / "gone", b"x" * 1000)
    write(source / "grown", b"x" * 1000)
    write(source / "shrunk", b"x" * 1000)
    write(source / "touched", b"x" * 1000)
    write(source / "well", b"x" * 1000)

    def meddle() -> None:
        (source / "gone").unlink()
        (source / "grown").write_bytes(b"y" * 2000)
        (source / "shrunk").write_bytes(b"z")
        os.utime(source / "touched")

    sent, received = (await run(source, tmp_path / "to", before_content=meddle)).good
    expected = {"tree/gone": "source"} | {f"tree/{name}": "changed" for name in ("grown", "shrunk", "touched")}
    assert {f.path: f.kind for f in sent.failures} == expected
    assert {f.path: f.kind for f in received.failures} == expected
    assert listing(tmp_path / "to") == {"tree": None, "tree/well": b"x" * 1000}


def test_sources_that_cannot_be_sent(tmp_path: Path) -> None:
    for path, word in [
        (tmp_path / "missing", "No such file"),
        (Path("/dev/null"), "neither"),
        (tmp_path / ("x" * 300), "too long"),
    ]:
        with pytest.raises(TransferError, match=word) as caught:
            Source.scan(path)
        assert caught.value.kind == "source"
    bad = tmp_path / os.fsdecode(b"bad\xff")
    bad.write_bytes(b"")
    with pytest.raises(TransferError, match="UTF-8"):
        Source.scan(bad)


async def test_what_cannot_be_sent_of_a_tree_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    write(tree / "good", b"1")
    write(tree / "closed" / "file", b"2")
    write(tree / os.fsdecode(b"bad\xff"), b"3")
    scandir = os.scandir

    def scan(path: Path) -> object:
        if path == tree / "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    sent, received = (await run(tree, tmp_path / "in")).good
    assert [(failure.path, failure.kind) for failure in sent.failures] == [
        ("tree/bad\udcff", "source"),
        ("tree/closed", "source"),
    ]
    assert "Permission denied" in sent.failures[1].message
    assert (sent.files, sent.digest) == (1, "")
    assert not received.failures
    assert listing(tmp_path / "in") == {"tree": None, "tree/closed": None, "tree/good": b"1"}


def test_a_tree_whose_root_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(TransferError, match="cannot read .*: Permission denied"):
        Source.scan(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
async def test_private_files_stay_private(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, mode in (("key", 0o600), ("script", 0o700), ("page", 0o644), ("group", 0o640), ("d/x", 0o600)):
        write(tree / name, b"1", mode)
    (tree / "d").chmod(0o700)
    tree.chmod(0o700)
    assert Source.scan(tree).offer.version == 2
    old = os.umask(0o022)
    try:
        sent, received = (await run(tree, tmp_path / "in")).good
    finally:
        os.umask(old)
    assert not sent.failures
    assert not received.failures
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "in").rglob("*")}
    files = {"key": 0o600, "script": 0o700, "page": 0o644, "group": 0o644, "x": 0o600}
    assert found == {**files, "tree": 0o700, "d": 0o700}


async def test_a_tree_without_private_files_is_one_that_older_receivers_take(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write(tree / "page", b"1")
    tree.chmod(0o755)
    assert Source.scan(tree).offer.version == 1


async def test_what_is_left_of_another_version_goes_when_the_file_is_complete(tmp_path: Path) -> None:
    source = write(tmp_path / "file", b"a" * 300_000)
    target = tmp_path / "in"
    await run(source, target, limit=200_000)
    assert len(parts(target)) == 1
    write(target / ".other.0123456789abcdef.part", b"of another file")
    write(source, b"b" * 400_000)
    sent, _ = (await run(source, target)).good
    assert not sent.failures
    assert [path.name for path in parts(target)] == [".other.0123456789abcdef.part"]


# -- hostile or broken peers ----------------------------------------------------------------------


async def talk_to_receiver(target: Path, *frames: bytes) -> TransferError | Outcome:
    """Say these frames to a receiver, and end; what it makes of them."""
    a, b = stream_pair()
    store = Store(target)
    result: list[TransferError | Outcome] = []

    async def receive() -> None:
        try:
            result.append(await receive_files(b, store))
        except TransferError as error:
            result.append(error)
        await b.aclose()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            for frame in frames:
                await a.send_all(frame)
            await a.send_eof()
    store.close()
    return result[0]


def offer(*entries: m.Entry, root: str = "r", is_dir: bool = True) -> list[bytes]:
    total = sum(entry.size for entry in entries)
    return [
        m.encode(m.Offer(root, is_dir, len(entries), total)),
        *(m.encode(batch) for batch in m.entry_batches(entries)),
    ]


F = m.Entry("r/f", size=4)
DIGEST = hashlib.blake2b(b"abcd", digest_size=32).digest()


@pytest.mark.parametrize(
    "frames",
    [
        [b"GET / HTTP/1.1\r\n\r\n"],
        [m.encode(m.Done())],
        offer(m.Entry("r/../../etc/passwd", size=1)),
        offer(m.Entry("/etc/passwd", size=1)),
        offer(m.Entry("..", size=1), root=".."),
        offer(m.Entry("other/f", size=1)),
        offer(F, F),
        offer(F, m.Entry("r/f/g", size=1)),
        offer(F, m.Entry("r/f.x"), m.Entry("r/f/g", size=1)),
        offer(m.Entry("r/f\0g", size=1)),
        [*offer(F), m.encode(m.FileStart(1, 0))],
        [*offer(F), m.encode(m.FileStart(0, 2))],
        [*offer(F), m.data_header(4), b"abcd"],
        [*offer(F), m.encode(m.FileEnd(DIGEST))],
        [*offer(F), m.encode(m.FileStart(0, 0)), m.encode(m.FileStart(0, 0))],
        [*offer(F), m.encode(m.FileStart(0, 0)), m.data_header(5), b"abcde"],
        [*offer(F), m.encode(m.Done())],
        [*offer(F), m.encode(m.FileStart(0, 0)), m.data_header(4), b"abcd", m.encode(m.Done())],
        [*offer(F), m.encode(m.Proof(((0, DIGEST),)))],
        [*offer(F), m.encode(m.Offer("r", True, 1, 1))],
    ],
)
async def test_senders_that_break_the_rules(tmp_path: Path, frames: list[bytes]) -> None:
    result = await talk_to_receiver(tmp_path / "in" / "to", *frames)
    assert isinstance(result, TransferError)
    assert result.kind == "protocol"
    assert all(path.startswith("to") for path in listing(tmp_path / "in"))
    assert not (tmp_path / "in" / "to" / "r" / "f").exists()


async def test_the_same_file_again_is_not_taken_twice(tmp_path: Path) -> None:
    send = [m.encode(m.FileStart(0, 0)), m.data_header(4), b"abcd", m.encode(m.FileEnd(DIGEST))]
    result = await talk_to_receiver(tmp_path, *offer(F), *send, *send)
    assert isinstance(result, TransferError)
    assert result.kind == "protocol"


async def talk_to_sender(source: Path, *frames: bytes) -> TransferError | Outcome:
    """Answer a sender with these frames whatever it says, and end."""
    a, b = stream_pair()
    result: list[TransferError | Outcome] = []

    async def send() -> None:
        try:
            result.append(await send_files(a, Source.scan(source)))
        except TransferError as error:
            result.append(error)
        await a.aclose()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for frame in frames:
                await b.send_all(frame)
            await b.send_eof()
            while await b.receive_some():
                pass
    return result[0]


@pytest.mark.parametrize(
    "answer",
    [
        [m.data_header(3), b"abc"],
        [m.encode(m.Verdict(0, "placed"))],
        [m.encode(m.Verdict(0, "identical"))],
        [m.encode(m.Verdict(7, "exists"))],
        [m.encode(m.Verdict(0, "exists")), m.encode(m.Verdict(0, "exists"))],
        [m.encode(m.Have(((0, 1000),)))],
        [m.encode(m.Have(((5, 1),)))],
        [m.encode(m.Have(((0, 1),))), m.encode(m.Have(((0, 1),)))],
        [m.encode(m.Have(()))],
        [m.encode(m.HaveEnd()), m.encode(m.Start(((0, 2),)))],
        [m.encode(m.StartEnd())],
        [m.encode(m.Result(1, 0))],
        [m.encode(m.Offer("x", False, 1, 1))],
        [b"\xff" * 20],
    ],
)
async def test_receivers_that_break_the_rules(tmp_path: Path, answer: list[bytes]) -> None:
    path = write(tmp_path / "f", b"abcd")
    result = await talk_to_sender(path, *answer)
    assert isinstance(result, TransferError)
    assert result.kind == "protocol"


async def test_a_receiver_that_fails_is_quoted_in_one_clean_line(tmp_path: Path) -> None:
    path = write(tmp_path / "f", b"abcd")
    result = await talk_to_sender(path, m.encode(m.Fail("disk-full", "no\nspace\x1b[31m")))
    assert isinstance(result, TransferError)
    assert (result.kind, str(result), result.remote) == ("disk-full", "no?space?[31m", True)


async def test_a_peer_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "f", b"abcd")
    result = await talk_to_sender(path)
    assert isinstance(result, TransferError)
    assert result.kind == "peer-gone"
    assert "0 of 4 bytes" in str(result)


async def test_a_silent_sender_is_not_waited_for(tmp_path: Path, autojump_clock: object) -> None:
    _quiet, b = stream_pair()
    store = Store(tmp_path)
    with pytest.raises(TransferError) as caught:
        await receive_files(b, store)
    assert caught.value.kind == "protocol"
    store.close()


async def test_cancelled_in_the_middle(tmp_path: Path) -> None:
    """Cancelling leaves no open descriptor, nothing in place, and a partial copy to go on with."""
    path = write(tmp_path / "f", os.urandom(4_000_000))
    target = tmp_path / "to"
    before = open_descriptors()
    with trio.CancelScope() as scope:

        def stop(progress: Progress) -> None:
            if progress.moved > 2_000_000:
                scope.cancel()

        await run(path, target, hook=stop)
    assert scope.cancelled_caught
    assert not (target / "f").exists()
    assert open_descriptors() == before
    sent, _ = (await run(path, target)).good
    assert sent.moved < 4_000_000


async def test_ends_of_a_pair_are_halves(tmp_path: Path) -> None:
    a, b = stream_pair()
    assert isinstance(a, End)
    await a.send_all(b"x")
    await a.send_eof()
    assert await b.receive_some() == b"x"
    assert await b.receive_some() == b""


async def test_who_is_not_wanted_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of so many only: anybody can ask, as often as they like."""
    monkeypatch.setattr(files, "_REFUSED", 2)
    err = io.StringIO()
    wanted, *others = (Identity(bytes((number,)) * 32).peer_id for number in range(4))
    store = Store(tmp_path)
    inbox = files._Inbox(Reporter(stderr=err), store, frozenset({wanted}), False)
    for sender in (others[0], others[0], others[1], others[0], others[2]):
        here, there = stream_pair()
        monkeypatch.setattr(type(there), "peer_id", sender, raising=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.handle, cast(Any, there))
            while await here.receive_some():
                pass
            await here.aclose()
    store.close()
    assert err.getvalue().splitlines() == [
        f"netmesh-trio: refused files from {sender}: it is not among those of --from" for sender in others[:2]
    ]

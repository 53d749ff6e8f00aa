"""Names, folders and partial copies at the receiver."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from netmesh_trio.cli.transfer import Store, TransferError, folders
from netmesh_trio.cli.transfer import messages as m
from netmesh_trio.cli.transfer.storage import check_name, partial_name


@pytest.mark.parametrize("name", ["CON", "con.txt", "aux ", "a.", "a ", "a:b", "a\\b", "a\tb", "LPT1"])
def test_names_that_windows_cannot_have(name: str) -> None:
    check_name(name, windows=False)
    with pytest.raises(TransferError, match="rename") as caught:
        check_name(name, windows=True)
    assert caught.value.kind == "bad-path"


@pytest.mark.parametrize("name", ["a", ".hidden", "console", "com", "ü.txt", "a b"])
def test_names_that_windows_can_have(name: str) -> None:
    check_name(name, windows=True)


def test_partial_names_fit_a_directory_entry() -> None:
    for name in ("x" * 255, "\U0001f600" * 63, "a"):
        partial = partial_name(m.Entry("d/" + name, 1))
        assert len(partial.encode()) <= 255
        assert partial.startswith(".")
        assert partial.endswith(".part")


@pytest.fixture(params=["held", "named"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "to")
    if request.param == "named":
        made._root.close()
        made._root = folders.NamedFolder(tmp_path / "to")
    yield made
    made.close()


ENTRY = m.Entry("sub/dir/f", 3, 1_000_000_000)


def digest(data: bytes) -> bytes:
    state = m.new_hash()
    state.update(data)
    return state.digest()


def test_a_file_comes_in(store: Store) -> None:
    assert store.look(ENTRY) is None
    file = store.begin(ENTRY, 0, None)
    file.write(b"ab")
    file.write(memoryview(b"c"))
    assert store.look(ENTRY) is not None
    file.finish(digest(b"abc"))
    assert (store.directory / ENTRY.path).read_bytes() == b"abc"
    assert os.listdir(store.directory / "sub" / "dir") == ["f"]
    prefix = store.look(ENTRY)
    assert prefix is not None
    assert prefix.complete


def test_goes_on_from_a_partial_copy(store: Store) -> None:
    file = store.begin(ENTRY, 0, None)
    file.write(b"ab")
    file.close()
    prefix = store.look(ENTRY)
    assert prefix is not None
    assert (prefix.length, prefix.complete) == (2, False)
    store.hash_prefix(ENTRY, prefix)
    assert prefix.state is not None
    assert prefix.state.digest() == digest(b"ab")
    file = store.begin(ENTRY, 2, prefix)
    file.write(b"c")
    file.finish(digest(b"abc"))
    assert (store.directory / ENTRY.path).read_bytes() == b"abc"


def test_an_unwritten_partial_copy_is_removed(store: Store) -> None:
    store.begin(ENTRY, 0, None).close()
    assert os.listdir(store.directory / "sub" / "dir") == []


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out" / "dir").mkdir(parents=True)
    (store.directory / "sub").symlink_to(tmp_path / "out")
    for attempt in (
        lambda: store.look(ENTRY),
        lambda: store.begin(ENTRY, 0, None),
        lambda: store.make_directory(m.Entry("sub/new", is_dir=True)),
    ):
        with pytest.raises(TransferError) as caught:
            attempt()
        assert caught.value.kind == "bad-path"
    assert os.listdir(tmp_path / "out" / "dir") == []


def test_a_file_in_place_of_a_directory(store: Store) -> None:
    (store.directory / "sub").write_bytes(b"")
    with pytest.raises(TransferError) as caught:
        store.begin(ENTRY, 0, None)
    assert caught.value.kind == "bad-path"


def test_only_one_writes_a_partial_copy(store: Store) -> None:
    file = store.begin(ENTRY, 0, None)
    file.write(b"ab")
    with pytest.raises(TransferError) as caught:
        store.begin(ENTRY, 0, None)
    assert caught.value.kind == "busy"
    file.write(b"c")
    file.finish(digest(b"abc"))


PRIVATE = m.Entry(ENTRY.path, ENTRY.size, ENTRY.mtime_ns, private=True)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_the_partial_copy_of_a_private_file_is_private(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning, not only once it is ours."""
    monkeypatch.delattr(os, "fchmod")
    file = store.begin(PRIVATE, 0, None)
    (partial,) = (store.directory / "sub" / "dir").iterdir()
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    file.close()


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_private_directory_is_private(store: Store) -> None:
    store.make_directory(m.Entry("sub", is_dir=True, private=True))
    assert stat.S_IMODE((store.directory / "sub").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_partial_copy_that_was_begun_before_the_file_was_private(store: Store) -> None:
    old = store.begin(ENTRY, 0, None)
    old.write(b"ab")
    old.close()
    (partial,) = (store.directory / "sub" / "dir").iterdir()
    partial.chmod(0o644)
    file = store.begin(PRIVATE, 0, None)
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    file.close()


@pytest.mark.parametrize("received", [b"", b"ab"])
def test_waits_for_a_transfer_whose_sender_is_not_missed_yet(store: Store, received: bytes) -> None:
    first = store.begin(ENTRY, 0, None)
    first.write(received)
    asked: list[str] = []

    def again(path: str, seconds: float) -> bool:
        asked.append(path)
        if len(asked) == 3:
            first.close()  # what it received stays; without any, the partial copy is removed
        return True

    store.again = again
    second = store.begin(ENTRY, 0, None)
    assert asked[:3] == [ENTRY.path] * 3
    second.write(b"abc")
    second.finish(digest(b"abc"))
    assert not [path for path in store.directory.rglob("*") if path.name.endswith(".part")]


@pytest.mark.skipif(os.name != "posix", reason="no locks of files here")
def test_a_version_that_another_transfer_writes_is_left_alone(store: Store) -> None:
    other = store.begin(m.Entry(ENTRY.path, 4, 2_000_000_000), 0, None)
    other.write(b"ab")
    file = store.begin(ENTRY, 0, None)
    file.write(b"abc")
    file.finish(digest(b"abc"))
    assert len(os.listdir(store.directory / "sub" / "dir")) == 2
    other.close()


def test_a_file_that_is_only_named_like_a_partial_copy_stays(store: Store) -> None:
    mine = store.directory / "sub" / "dir" / ".f.mine.part"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"precious")
    file = store.begin(ENTRY, 0, None)
    file.write(b"abc")
    file.finish(digest(b"abc"))
    assert mine.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="no locks of files here")
def test_goes_on_with_the_partial_copy_that_has_the_name_now(store: Store) -> None:
    """The one that it waited for was removed, and a third transfer has begun and broken off meanwhile."""
    first = store.begin(ENTRY, 0, None)

    def again(path: str, seconds: float) -> bool:
        first.close()
        third = store.begin(ENTRY, 0, None)
        third.write(b"x")
        third.close()
        return True

    store.again = again
    second = store.begin(ENTRY, 0, None)
    second.write(b"abc")
    second.finish(digest(b"abc"))
    assert (store.directory / ENTRY.path).read_bytes() == b"abc"


def test_more_than_announced(store: Store) -> None:
    file = store.begin(ENTRY, 0, None)
    with pytest.raises(TransferError) as caught:
        file.write(b"abcd")
    assert caught.value.kind == "protocol"
    file.close()


@pytest.mark.parametrize("taken", [False, True])
def test_without_hard_links(store: Store, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*args: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    file = store.begin(ENTRY, 0, None)
    file.write(b"abc")
    if taken:
        (store.directory / ENTRY.path).write_bytes(b"mine")
        with pytest.raises(TransferError) as caught:
            file.finish(digest(b"abc"))
        assert caught.value.kind == "exists"
        assert (store.directory / ENTRY.path).read_bytes() == b"mine"
    else:
        file.finish(digest(b"abc"))
        assert (store.directory / ENTRY.path).read_bytes() == b"abc"


def test_the_directory_is_made_and_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = Store(tmp_path / "link" / "new")
    store.make_directory(m.Entry("x/y", is_dir=True))
    assert (tmp_path / "real" / "new" / "x" / "y").is_dir()
    store.close()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="exists"):
        Store(tmp_path / "file")

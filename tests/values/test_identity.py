"""Identities, peer ids, network keys and their files."""

from __future__ import annotations

import errno
import os
import pickle
import string
import subprocess
import sys
from pathlib import Path

import nacl.bindings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.errors import AddressError, IdentityError
from netmesh_trio.identity import Identity, NetworkKey, PeerId

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes and pipes are POSIX's")

# RFC 8032 section 7.1, tests 1 to 3: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]
SEED = bytes.fromhex(RFC_8032[0][0])
ALPHABET = string.ascii_lowercase + "234567"
KEYS = st.binary(min_size=32, max_size=32)
SOME_IDS = [PeerId(bytes(32)), PeerId(b"\xff" * 32), Identity(SEED).peer_id]


PINNED_TEXT = "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkenebhfy"
PINNED_IDENTITY = b"netmesh-trio-identity-1 tvq3dhpp7vngbouejl2jf3bmyrcetrljpmzgsglqhowaghfop5qckqdq\n"
PINNED_KEY = b"netmesh-trio-network-key-1 tvq3dhpp7vngbouejl2jf3bmyrcetrljpmzgsglqhowaghfop5qcvuuf\n"


# Peer ids


@given(KEYS)
def test_peer_id_round_trip(raw: bytes) -> None:
    peer_id = PeerId(raw)
    text = str(peer_id)
    assert len(text) == 56
    assert set(text) <= set(ALPHABET)
    assert PeerId.parse(text) == peer_id
    assert bytes(PeerId.parse(text)) == raw
    assert text.startswith(peer_id.short)
    assert len(peer_id.short) == 8


def test_peer_id_text_is_fixed_for_ever() -> None:
    # Ids are on paper and in configuration files: the format must never change.
    assert str(Identity(SEED).peer_id) == PINNED_TEXT


@pytest.mark.parametrize("peer_id", SOME_IDS, ids=lambda peer_id: peer_id.short)
def test_every_single_substitution_is_caught(peer_id: PeerId) -> None:
    text = str(peer_id)
    tried = 0
    for position in range(len(text)):
        for character in string.printable:
            if character == text[position]:
                continue
            tried += 1
            with pytest.raises(AddressError):
                PeerId.parse(text[:position] + character + text[position + 1 :])
    assert tried == 56 * 99


@pytest.mark.parametrize("peer_id", SOME_IDS, ids=lambda peer_id: peer_id.short)
def test_every_swap_of_neighbors_is_caught(peer_id: PeerId) -> None:
    text = str(peer_id)
    for i in range(len(text) - 1):
        if text[i] != text[i + 1]:
            with pytest.raises(AddressError, match="mistyped or two are swapped"):
                PeerId.parse(text[:i] + text[i + 1] + text[i] + text[i + 2 :])


@given(KEYS, st.integers(0, 52), st.text(ALPHABET, min_size=4, max_size=4))
def test_every_four_wrong_characters_in_a_row_are_caught(raw: bytes, at: int, wrong: str) -> None:
    # 20 bits in a row: within the 24 that the CRC finds without exception.
    text = str(PeerId(raw))
    mistyped = text[:at] + wrong + text[at + 4 :]
    if mistyped == text:
        assert PeerId.parse(mistyped) == PeerId(raw)
    else:
        with pytest.raises(AddressError):
            PeerId.parse(mistyped)


@pytest.mark.parametrize("position", range(56))
def test_a_lost_or_doubled_character_is_caught(position: int) -> None:
    text = str(SOME_IDS[2])
    with pytest.raises(AddressError, match="55 characters instead of 56: some are missing"):
        PeerId.parse(text[:position] + text[position + 1 :])
    with pytest.raises(AddressError, match="57 characters instead of 56: there are too many"):
        PeerId.parse(text[:position] + text[position] + text[position:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "0" + text[1:], "'0' at position 1, .* did you mean 'o'"),
        (lambda text: text[:4] + "1" + text[5:], "'1' at position 5, .* did you mean 'l'"),
        (str.upper, "write it in lower case"),
        (lambda text: text + " ", "take the space out"),
        (lambda text: text + "\n", "take the space out"),
        (lambda text: "é" + text[1:], "only a-z and 2-7 occur: copy it again"),
        (lambda text: "", "0 characters instead of 56"),
        (lambda text: text * 1000, "56000 characters instead of 56"),
        (lambda text: bytes(PeerId.parse(text)).hex(), r"hexadecimal: PeerId\(bytes.fromhex\(...\)\)"),
        (lambda text: "0" * 63, "did you mean 'o'"),
    ],
)
def test_peer_id_error_says_how_to_mend(change, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AddressError, match=message) as caught:
        PeerId.parse(change(str(SOME_IDS[2])))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_parsing_any_text_is_total(text: str) -> None:
    with pytest.raises(AddressError):
        PeerId.parse(text)


@given(KEYS, KEYS)
def test_peer_ids_are_ordered_by_their_bytes(a: bytes, b: bytes) -> None:
    assert (PeerId(a) < PeerId(b)) == (a < b)
    assert (PeerId(a) >= PeerId(b)) == (a >= b)
    assert (PeerId(a) == PeerId(b)) == (a == b)
    assert (hash(PeerId(a)) == hash(PeerId(b))) == (a == b)


def test_a_peer_id_is_not_its_bytes() -> None:
    raw: object = bytes(32)
    assert PeerId(bytes(32)) != raw
    with pytest.raises(TypeError):
        sorted([PeerId(bytes(32)), raw])  # type: ignore[type-var]


def test_a_peer_id_is_frozen_and_pickles() -> None:
    peer_id = Identity(SEED).peer_id
    with pytest.raises(AttributeError):
        peer_id.raw = bytes(32)  # type: ignore[misc]
    assert str(peer_id) == str(peer_id)
    assert pickle.loads(pickle.dumps(peer_id)) == peer_id
    assert repr(peer_id) == f"<PeerId {str(peer_id)[:8]}>"


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33)])
def test_a_peer_id_of_another_length_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PeerId(raw)


@pytest.mark.parametrize("raw", ["x" * 32, bytearray(32), 32, None])
def test_a_peer_id_of_another_type_is_refused(raw: object) -> None:
    with pytest.raises(TypeError, match="bytes"):
        PeerId(raw)  # type: ignore[arg-type]


# Keys


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    identity = Identity(bytes.fromhex(secret))
    assert bytes(identity.peer_id).hex() == public
    assert identity.sign(bytes.fromhex(message)).hex() == signature
    assert identity.peer_id.verify(bytes.fromhex(message), bytes.fromhex(signature))


def test_verify_is_false_for_all_else() -> None:
    identity, other = Identity.generate(), Identity.generate()
    signature = identity.sign(b"message")
    assert identity.peer_id.verify(b"message", signature)
    assert not identity.peer_id.verify(b"Message", signature)
    assert not other.peer_id.verify(b"message", signature)
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not identity.peer_id.verify(b"message", bytes(flipped))


@given(KEYS, st.binary(max_size=40), st.binary(max_size=70))
def test_verify_is_total(raw: bytes, message: bytes, signature: bytes) -> None:
    assert not PeerId(raw).verify(message, signature)
    assert not PeerId(raw).verify(message, signature.ljust(64, b"\0")[:64])


@given(KEYS)
def test_x25519_keys_belong_together(seed: bytes) -> None:
    identity = Identity(seed)
    assert len(identity.x25519_private) == 32
    assert nacl.bindings.crypto_scalarmult_base(identity.x25519_private) == identity.peer_id.x25519


@given(KEYS)
def test_x25519_of_any_bytes_is_a_key_or_an_address_error(raw: bytes) -> None:
    try:
        key = PeerId(raw).x25519
    except AddressError as error:
        assert "not a usable Ed25519 key" in str(error)
    else:
        assert len(key) == 32


@pytest.mark.parametrize("raw", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_x25519_refuses_points_of_small_order_and_what_is_no_point(raw: bytes) -> None:
    with pytest.raises(AddressError, match="not a usable Ed25519 key"):
        _ = PeerId(raw).x25519


def test_secrets_stay_out_of_repr_and_str() -> None:
    for secret in (Identity(SEED), NetworkKey(SEED)):
        for shown in (repr(secret), str(secret), f"{secret}"):
            assert SEED.hex() not in shown
            assert repr(SEED) not in shown
    assert repr(Identity(SEED)) == f"<Identity of {Identity(SEED).peer_id.short}>"


def test_equality_is_by_secret_and_kind() -> None:
    assert Identity(SEED) == Identity(SEED) != Identity(bytes(32))
    assert len({Identity(SEED), Identity(SEED)}) == 1
    assert NetworkKey(SEED) == NetworkKey(SEED) != NetworkKey(bytes(32))
    assert Identity(SEED) != NetworkKey(SEED)
    assert Identity(SEED).seed == bytes(NetworkKey(SEED)) == SEED
    assert Identity.generate() != Identity.generate()
    assert NetworkKey.generate() != NetworkKey.generate()


@pytest.mark.parametrize("kind", [Identity, NetworkKey])
def test_secrets_of_another_length_or_type_are_refused(kind: type[Identity | NetworkKey]) -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        kind(bytes(31))
    with pytest.raises(TypeError, match="bytes, not str"):
        kind("x" * 32)  # type: ignore[arg-type]


# Files

BOTH = pytest.mark.parametrize("kind", [Identity, NetworkKey])
Kind = type[Identity] | type[NetworkKey]


@BOTH
def test_files_round_trip(kind: Kind, tmp_path: Path) -> None:
    secret = kind.generate()
    path = tmp_path / "secret"
    secret.save(path)
    assert kind.load(path) == secret
    assert kind.load(str(path)) == secret
    assert os.listdir(tmp_path) == ["secret"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


@posix_only
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Identity.generate().save(tmp_path / "secret")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_the_file_format_is_fixed_for_ever(tmp_path: Path) -> None:
    Identity(SEED).save(tmp_path / "identity")
    NetworkKey(SEED).save(tmp_path / "key")
    assert (tmp_path / "identity").read_bytes() == PINNED_IDENTITY
    assert (tmp_path / "key").read_bytes() == PINNED_KEY


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_line_endings_of_editors_are_fine(tmp_path: Path, ending: bytes) -> None:
    path = tmp_path / "identity"
    Identity(SEED).save(path)
    path.write_bytes(path.read_bytes().rstrip() + ending)
    assert Identity.load(path) == Identity(SEED)


@BOTH
def test_saving_keeps_what_is_there(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    first, second = kind.generate(), kind.generate()
    first.save(path)
    with pytest.raises(IdentityError, match="exists already and is kept: choose another name"):
        second.save(path)
    assert kind.load(path) == first
    second.save(path, overwrite=True)
    assert kind.load(path) == second
    assert os.listdir(tmp_path) == ["secret"]


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity"
    Identity.generate().save(path)
    path.chmod(mode)
    for load in (Identity.load, Identity.load_or_create):
        with pytest.raises(IdentityError, match=rf"by others \(mode {mode:04o}\).* run: chmod 600 "):
            load(path)


@posix_only
def test_no_file_but_a_key_is_to_be_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "not a key"
    path.write_bytes(b"root:x:0:0:root:/root:/bin/bash\n")
    path.chmod(0o644)
    for load in (Identity.load, Identity.load_or_create, NetworkKey.load):
        with pytest.raises(IdentityError, match="does not begin with") as caught:
            load(path)
        assert "chmod" not in str(caught.value)
    path = tmp_path / "a key"
    NetworkKey.generate().save(path)
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600 '.*/a key'; else .* netmesh-trio identity --new-network-key"):
        NetworkKey.load(path)


@posix_only
@pytest.mark.parametrize("content", [bytes(range(32)), bytes(range(32)).hex().encode(), b"AB" * 32 + b"\n"])
def test_network_keys_of_other_programs(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert bytes(NetworkKey.load(path)) == (content if len(content) == 32 else bytes.fromhex(content.decode()))
    with pytest.raises(IdentityError, match="does not begin with"):
        Identity.load(path)


@pytest.mark.parametrize("content", [b"0" * 32, b"correct horse battery staple!!!\n", b"0" * 63, b"0" * 65, b"g" * 64])
def test_what_is_no_random_key_is_no_network_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="does not begin with"):
        NetworkKey.load(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_closed_to_others_is_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity"
    identity = Identity.load_or_create(path)
    path.chmod(mode)
    assert Identity.load(path) == identity


@BOTH
def test_every_damaged_byte_is_found(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    kind(SEED).save(path)
    sound = path.read_bytes()
    for position in range(len(sound) - 1):
        damaged = bytearray(sound)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(IdentityError, match=r"(damaged|does not begin with).*: restore it") as caught:
            kind.load(path)
        assert sound.split()[1].decode() not in str(caught.value)
    for length in range(len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(IdentityError, match="restore it from a copy"):
            kind.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: restore it from a copy, or make a new one"),
        (b"hello\n", "does not begin with 'netmesh-trio-identity-1'"),
        (b"\xff\xfe", "does not begin with"),
        (b"netmesh-trio-identity-1 " + b"a" * 100_000, "does not begin with"),
        (b"netmesh-trio-identity-1  ", "is damaged"),
        (b"netmesh-trio-identity-2 aaaa", "does not begin with 'netmesh-trio-identity-1'"),
        (b"netmesh-trio-network-key-1 aaaa", "is in fact a file with a network key: name another"),
    ],
)
def test_bad_content_says_how_to_mend(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "identity"
    path.touch(0o600)
    path.write_bytes(content)
    for load in (Identity.load, Identity.load_or_create):
        with pytest.raises(IdentityError, match=message) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_the_other_kind_is_named(tmp_path: Path) -> None:
    Identity(SEED).save(tmp_path / "x")
    with pytest.raises(IdentityError, match="is in fact a file with an identity"):
        NetworkKey.load(tmp_path / "x")


def test_one_kind_is_no_other_in_disguise(tmp_path: Path) -> None:
    Identity(SEED).save(tmp_path / "x")
    text = (tmp_path / "x").read_text().split()[1]
    # Nobody pastes a secret where a peer id belongs and gets away with it.
    with pytest.raises(AddressError, match="fails its check"):
        PeerId.parse(text)


@BOTH
def test_a_missing_file(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="does not exist: check the name, or make a new one"):
        kind.load(tmp_path / "none")


@BOTH
def test_a_missing_directory(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match=r"there is no directory .*none', make it first"):
        kind.generate().save(tmp_path / "none" / "secret")


@BOTH
def test_a_directory(kind: Kind, tmp_path: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(IdentityError, match="is a directory: name a file in it"):
            kind.generate().save(tmp_path, overwrite=overwrite)
    with pytest.raises(IdentityError, match="is a directory: name a file in it"):
        kind.load(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["nul\0byte", "x" * 5000])
def test_impossible_names(path: str) -> None:
    with pytest.raises(IdentityError, match="cannot be read"):
        Identity.load(path)
    with pytest.raises(IdentityError, match="cannot be written"):
        Identity.generate().save(path)


@posix_only
def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(IdentityError, match="is not a regular file"):
        Identity.load(tmp_path / "pipe")


def test_a_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By a stand-in, because root may read everything.
    def refuse(*_args: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(IdentityError, match="cannot be read by this user: run as its owner"):
        Identity.load(tmp_path / "identity")
    with pytest.raises(IdentityError, match="cannot be written: Permission denied"):
        Identity.generate().save(tmp_path / "identity")


@pytest.mark.parametrize("failing", ["write", "fsync", "link"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(IdentityError, match="cannot be written: No space left on device"):
        Identity.generate().save(tmp_path / "identity")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_failed_overwrite_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "identity"
    Identity(SEED).save(path)

    def interrupt(*_args: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, interrupt)
        with pytest.raises(KeyboardInterrupt):
            Identity.generate().save(path, overwrite=True)
    assert Identity.load(path) == Identity(SEED)
    assert os.listdir(tmp_path) == ["identity"]


@BOTH
def test_a_file_system_without_hard_links(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "secret"
    kind(SEED).save(path)
    assert kind.load(path) == kind(SEED)
    with pytest.raises(IdentityError, match="exists already"):
        kind.generate().save(path)
    assert os.listdir(tmp_path) == ["secret"]


def test_load_or_create(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    identity = Identity.load_or_create(path)
    assert Identity.load_or_create(path) == Identity.load(path) == identity


def test_load_or_create_takes_what_a_faster_one_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "identity"
    link = os.link

    def overtaken(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        Identity(SEED).save(path)
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert Identity.load_or_create(path) == Identity(SEED)
    assert os.listdir(tmp_path) == ["identity"]


@posix_only
def test_load_or_create_at_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "identity").symlink_to(tmp_path / "none")
    with pytest.raises(IdentityError, match="exists already"):
        Identity.load_or_create(tmp_path / "identity")


def test_processes_that_race_agree(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    code = (
        "import sys; from netmesh_trio.identity import Identity; sys.stdin.readline();"
        "print(Identity.load_or_create(sys.argv[1]).peer_id)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = {process.communicate(timeout=30)[0] for process in processes}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert answers == {f"{Identity.load(path).peer_id}\n"}
    assert os.listdir(tmp_path) == ["identity"]

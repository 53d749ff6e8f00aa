"""Who a node is: Ed25519 identities, printable peer ids, network keys, and the files of these.

All three are 32 bytes and are written down in the same way: the 32 bytes and a 3-byte check, in
lower-case base32 (RFC 4648, ``a-z2-7``), which makes 56 characters with nothing to pad.  The check
is the CRC-24 of RFC 9580 section 6.1, run over a label for the kind of value and then over the
value.  A CRC and not a hash, because it finds *every* error burst of up to 24 bits, thus every
mistyped character and every two swapped neighbors, and not just nearly all.

A file holds one line: ``netmesh-trio-identity-1`` or ``netmesh-trio-network-key-1``, a space, and
those 56 characters.  It is made with mode 0600, appears whole or not at all, and is refused when
group or others could read it.  The calls that touch files block for as long as the disk takes.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import re
import secrets
import shlex
import stat
import string
from base64 import b32decode, b32encode
from functools import cached_property, lru_cache
from typing import Final

import attrs
import nacl.bindings
import nacl.exceptions
from nacl.signing import SigningKey, VerifyKey

from netmesh_trio.errors import AddressError, IdentityError

__all__ = ["KEY_SIZE", "SIGNATURE_SIZE", "Identity", "NetworkKey", "PeerId"]

KEY_SIZE: Final = 32
"""Bytes in a peer id, in the seed of an identity, and in a network key."""

SIGNATURE_SIZE: Final = 64
"""Bytes in an Ed25519 signature."""

_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_LOOKALIKES: Final = {"0": "o", "1": "l", "8": "b", "9": "g"}
_TEXT_SIZE: Final = 56
_FILE_LIMIT: Final = 256  # bytes; a sound file has 84 at most


def _crc_step(crc: int) -> int:
    for _ in range(8):
        crc <<= 1
        if crc & 0x1000000:
            crc ^= 0x1864CFB
    return crc


#: What each value of a byte adds to the check.
_CRC_STEPS: Final = tuple(_crc_step(byte << 16) for byte in range(256))


def _check(kind: bytes, value: bytes) -> bytes:
    """CRC-24 (RFC 9580 section 6.1) of kind and value, 3 bytes big-endian."""
    crc = 0xB704CE
    for byte in kind + value:
        crc = (crc << 8 & 0xFFFFFF) ^ _CRC_STEPS[crc >> 16 ^ byte]
    return crc.to_bytes(3, "big")


def _encode(kind: bytes, value: bytes) -> str:
    return b32encode(value + _check(kind, value)).decode("ascii").lower()


class _TextError(ValueError):
    """Why 56 characters are not what they should be; the caller adds where they stood."""


def _decode(kind: bytes, text: str) -> bytes:
    for position, character in enumerate(text, 1):
        if character in _ALPHABET:
            continue
        if character in _LOOKALIKES:
            hint = f"did you mean {_LOOKALIKES[character]!r}?"
        elif character.isascii() and character.isupper():
            hint = "write it in lower case"
        elif character.isspace():
            hint = "take the space out"
        else:
            hint = "copy it again"
        raise _TextError(f"has {character!r} at position {position}, where only a-z and 2-7 occur: {hint}")
    if len(text) != _TEXT_SIZE:
        problem = "some are missing" if len(text) < _TEXT_SIZE else "there are too many"
        raise _TextError(f"has {len(text)} characters instead of {_TEXT_SIZE}: {problem}, copy it again")
    raw = b32decode(text.upper())
    value, check = raw[:KEY_SIZE], raw[KEY_SIZE:]
    if check != _check(kind, value):
        raise _TextError("fails its check: a character is mistyped or two are swapped, copy it again")
    return value


# a node meets the same few peers again and again
_to_x25519 = lru_cache(maxsize=1024)(nacl.bindings.crypto_sign_ed25519_pk_to_curve25519)


def _quote(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _is_hex_key(text: str) -> bool:
    return len(text) == 2 * KEY_SIZE and all(character in string.hexdigits for character in text)


def _require_key(value: object, what: str) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"{what} is made of bytes, not {type(value).__name__}")
    if len(value) != KEY_SIZE:
        raise ValueError(f"{what} is made of {KEY_SIZE} bytes, not {len(value)}")


def _validate_raw(_instance: object, _attribute: attrs.Attribute[bytes], value: bytes) -> None:
    _require_key(value, "peer id")


@attrs.frozen(slots=False, order=True, repr=False)
class PeerId:
    """The public Ed25519 key of a node, which is its name.

    Hashable, and ordered by its 32 bytes.  ``bytes(peer_id)`` gives those bytes, ``str(peer_id)``
    the 56 characters that :meth:`parse` reads.  That the bytes are a point on the curve is not
    checked here but where it matters: :attr:`x25519` raises and :meth:`verify` is false if they
    are not.

    :raises TypeError: if ``raw`` is not :class:`bytes`.
    :raises ValueError: if it is not 32 bytes long.
    """

    raw: bytes = attrs.field(validator=_validate_raw)

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """The peer id that ``text`` spells, in the one spelling that :func:`str` gives.

        :raises AddressError: if there is a typing error.  Every single wrong character and every
            two swapped neighbors are found; of all else, all but one in 16 million.
        """
        try:
            return cls(_decode(b"peer", text))
        except _TextError as error:
            why = "is in hexadecimal: PeerId(bytes.fromhex(...)) takes that" if _is_hex_key(text) else str(error)
            raise AddressError(f"peer id {_quote(text)} {why}") from None

    @cached_property
    def _text(self) -> str:
        return _encode(b"peer", self.raw)

    @property
    def short(self) -> str:
        """The first 8 of the 56 characters: for people and logs, never to tell peers apart."""
        return self._text[:8]

    @property
    def x25519(self) -> bytes:
        """The X25519 public key (32 bytes) that belongs to the same secret.

        :raises AddressError: if the peer id is not a point on the curve, or one of small order.
        """
        try:
            return _to_x25519(self.raw)
        except nacl.exceptions.RuntimeError:
            raise AddressError(f"peer id {self} is not a usable Ed25519 key: nobody can hold its secret") from None

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this peer's Ed25519 signature of ``message``; total."""
        if len(signature) != SIGNATURE_SIZE:
            return False
        try:
            VerifyKey(self.raw).verify(message, signature)
        except nacl.exceptions.BadSignatureError:
            return False
        return True

    def __bytes__(self) -> bytes:
        return self.raw

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<PeerId {self.short}>"


class _Secret:
    """32 secret bytes with a kind, a file format, and a repr that does not show them."""

    _kind: bytes
    _header: str
    _what: str
    _article: str
    _make: str  # how people get one
    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        _require_key(secret, self._what)
        self._secret = secret

    def _line(self) -> bytes:
        return f"{self._header} {_encode(self._kind, self._secret)}\n".encode("ascii")

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the file at ``path``: mode 0600, whole or not at all, on disk when this returns.

        :param overwrite: replace a file that is there.
        :raises IdentityError: if there is one and it should stay, or if it cannot be written.
        """
        where = f"{self._what} file {os.fspath(path)!r}"
        try:
            _write_file(os.fspath(path), self._line(), overwrite=overwrite)
        except FileExistsError:
            raise IdentityError(
                f"{where} exists already and is kept: choose another name, or remove it first"
            ) from None
        except FileNotFoundError:
            parent = os.path.dirname(os.fspath(path)) or "."
            raise IdentityError(f"{where} cannot be written: there is no directory {parent!r}, make it first") from None
        except IsADirectoryError:
            raise IdentityError(f"{where} is a directory: name a file in it") from None
        except (OSError, ValueError) as error:
            raise IdentityError(f"{where} cannot be written: {_reason(error)}") from None

    @classmethod
    def _read(cls, path: str | os.PathLike[str]) -> bytes | None:
        """The secret in the file, or None if there is no file."""
        name = os.fspath(path)
        where = f"{cls._what} file {name!r}"
        try:
            mode, data = _read_file(name)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise IdentityError(f"{where} is a directory: name a file in it") from None
        except PermissionError:
            raise IdentityError(
                f"{where} cannot be read by this user: run as its owner, or choose another file"
            ) from None
        except (OSError, ValueError) as error:
            raise IdentityError(f"{where} cannot be read: {_reason(error)}") from None
        if not stat.S_ISREG(mode):
            raise IdentityError(f"{where} is not a regular file: name one that is")
        # First of all it must be a key: nobody is to be told to change the mode of a file that is something else.
        secret = cls._parse(where, data)
        # Elsewhere than on POSIX the mode says nothing about who may read.
        if os.name == "posix" and mode & 0o077:
            raise IdentityError(
                f"{where} can be read or changed by others (mode {mode & 0o777:04o}): if it was"
                f" never exposed, run: chmod 600 {shlex.quote(name)}; else {cls._make}"
            )
        return secret

    @classmethod
    def _parse(cls, where: str, data: bytes) -> bytes:
        mend = f"restore it from a copy, or {cls._make}"
        if not data:
            raise IdentityError(f"{where} is empty: {mend}")
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            text = ""
        # One line, one space, one line ending or none: what save() writes and editors make of it.
        line = text.removesuffix("\n").removesuffix("\r")
        header, _, secret = line.partition(" ")
        for other in (Identity, NetworkKey):
            if other is not cls and header == other._header:
                raise IdentityError(f"{where} is in fact a file with {other._article} {other._what}: name another")
        if header != cls._header or len(data) > _FILE_LIMIT:
            raise IdentityError(f"{where} does not begin with {cls._header!r}: {mend}")
        try:
            return _decode(cls._kind, secret)
        except _TextError:
            # Without the reason: it quotes characters of a secret.
            raise IdentityError(f"{where} is damaged: {mend}") from None

    @classmethod
    def _missing(cls, path: str | os.PathLike[str]) -> IdentityError:
        return IdentityError(f"{cls._what} file {os.fspath(path)!r} does not exist: check the name, or {cls._make}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash((self._kind, self._secret))


class Identity(_Secret):
    """The secret of a node: an Ed25519 key, of which the public half is the peer id.

    :param seed: the 32 secret bytes of RFC 8032.  Mostly one calls :meth:`generate`, :meth:`load` or
        :meth:`load_or_create` instead.
    """

    _kind = b"identity"
    _header = "netmesh-trio-identity-1"
    _what = "identity"
    _article = "an"
    _make = "make a new one with: netmesh-trio identity FILE"
    __slots__ = ("_key", "_peer_id")

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self._key = SigningKey(seed)
        self._peer_id = PeerId(bytes(self._key.verify_key))

    @classmethod
    def generate(cls) -> Identity:
        """A new identity, from the operating system's randomness."""
        return cls(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Identity:
        """The identity in the file at ``path``.

        :raises IdentityError: if it is missing, unreadable, damaged, or readable by others.
        """
        seed = cls._read(path)
        if seed is None:
            raise cls._missing(path)
        return cls(seed)

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> Identity:
        """The identity in the file at ``path``, made now if there is no such file.

        Of several processes that call this at once, one makes the file and all return what it made.

        :raises IdentityError: as :meth:`load` and :meth:`save`.  A damaged file is never replaced.
        """
        seed = cls._read(path)
        if seed is not None:
            return cls(seed)
        identity = cls.generate()
        try:
            identity.save(path)
        except IdentityError:
            # Another was faster; or something is in the way, as a link that leads nowhere.
            seed = cls._read(path)
            if seed is None:
                raise
            return cls(seed)
        return identity

    @property
    def peer_id(self) -> PeerId:
        """The public half."""
        return self._peer_id

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes of RFC 8032."""
        return self._secret

    @property
    def x25519_private(self) -> bytes:
        """The X25519 private key (32 bytes) whose public key is ``peer_id.x25519``."""
        return bytes(self._key.to_curve25519_private_key())

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature (64 bytes) of ``message``."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"<Identity of {self._peer_id.short}>"


class NetworkKey(_Secret):
    """The shared secret of a private mesh: who does not have it is dropped at the first packet.

    A file of its own holds a line as :meth:`save` writes it, the 32 bytes alone, or their 64 hexadecimal digits, as
    other programs make keys.

    ``bytes(network_key)`` gives the 32 bytes.  A public mesh has none, which on the wire is 32
    zeros.
    """

    _kind = b"network-key"
    _header = "netmesh-trio-network-key-1"
    _what = "network key"
    _article = "a"
    _make = "make a new one for every node of the mesh with: netmesh-trio identity --new-network-key FILE"
    __slots__ = ()

    @classmethod
    def generate(cls) -> NetworkKey:
        """A new key, from the operating system's randomness."""
        return cls(secrets.token_bytes(KEY_SIZE))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NetworkKey:
        """The key in the file at ``path``.

        :raises IdentityError: if it is missing, unreadable, damaged, or readable by others.
        """
        secret = cls._read(path)
        if secret is None:
            raise cls._missing(path)
        return cls(secret)

    @classmethod
    def _parse(cls, where: str, data: bytes) -> bytes:
        # 32 printable characters are no random key but a text that was cut, or a password.
        if len(data) == KEY_SIZE and not (data.isascii() and data.decode("ascii").strip().isprintable()):
            return data
        if re.fullmatch(rb"[0-9a-fA-F]{64}\r?\n?", data):
            return bytes.fromhex(data.decode("ascii"))
        return super()._parse(where, data)

    def __bytes__(self) -> bytes:
        return self._secret

    def __repr__(self) -> str:
        return "<NetworkKey>"


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read_file(path: str) -> tuple[int, bytes]:
    """The mode of an open file and, if it is a regular one, its first bytes, limit plus one."""
    # Not blocking, for otherwise a named pipe would hang us here.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        # Of the open file, so that nobody swaps it between the question and the reading.
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            return mode, b""
        return mode, os.read(descriptor, _FILE_LIMIT + 1)
    finally:
        os.close(descriptor)


def _write_file(path: str, data: bytes, *, overwrite: bool) -> None:
    """Put a file in place in one step, after its bytes are on disk.

    :raises FileExistsError: if it is there and ``overwrite`` is false.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            if os.name == "posix":
                os.fchmod(descriptor, 0o600)  # whatever the umask says
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if overwrite:
            os.replace(temporary, path)
        else:
            _move_without_overwriting(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    if os.name == "posix":
        # So that the name outlives a power cut, too.
        descriptor = os.open(directory or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move_without_overwriting(source: str, target: str) -> None:
    try:
        # rename() would replace the target; link() refuses to, in one step.
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links (FAT): hold the name, then fill it.  Who reads in between
        # finds an empty file and is told so.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.replace(source, target)

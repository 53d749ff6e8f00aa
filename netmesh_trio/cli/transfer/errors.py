"""Why a transfer, or one file of it, did not happen."""

from __future__ import annotations

from netmesh_trio.errors import NetmeshError

__all__ = ["TransferError"]


class TransferError(NetmeshError):
    """A file transfer failed; ``kind`` says how, ``str()`` says it to people in one line.

    Kinds: ``refused`` (policy of the receiver), ``exists`` (another file has that name),
    ``bad-path`` (a name that must not or cannot be used there), ``disk-full``, ``storage`` (any
    other trouble with the disk), ``source`` (the sender's file cannot be read), ``changed`` (it
    changed while being read), ``corrupt`` (hashes disagree), ``busy`` (somebody else writes the
    same file), ``peer-gone`` (the other side vanished; a later run resumes), ``protocol`` (the
    other side does not speak this protocol).

    ``remote`` is true when the other side found it and told us, ``lost`` when the other side vanished without a word,
    so that it may be back soon.
    """

    def __init__(self, kind: str, message: str, *, remote: bool = False, lost: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.remote = remote
        self.lost = lost

"""What a transfer says about itself while it runs, and when it is over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.errors import NetmeshError, SessionClosedError

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = [
    "drain",
    "Failure",
    "Outcome",
    "Progress",
    "ProgressHook",
    "gone",
    "leaves",
    "lone_error",
    "no_progress",
]


@attrs.define
class Progress:
    """Running numbers of one transfer; updated in place."""

    root: str = ""
    files: int = 0
    """Files in the manifest, without directories."""
    files_done: int = 0
    total: int = 0
    """Bytes in the manifest."""
    done: int = 0
    """Bytes that need no more work: moved now, or found at the receiver."""
    moved: int = 0
    """Bytes of content that this transfer carried."""


ProgressHook = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """The hook that does nothing."""


@attrs.frozen
class Failure:
    """A file that is not in place, and why."""

    path: str
    kind: str
    message: str


@attrs.frozen
class Outcome:
    """What came of a transfer.  It did what it says only if ``failures`` is empty."""

    root: str
    is_dir: bool
    files: int
    """Files in place and verified, without directories."""
    bytes: int
    """Their bytes."""
    moved: int
    """Bytes of content that went over the wire: less than ``bytes`` after a resumption."""
    seconds: float
    digest: str
    """Hex BLAKE2b-256: of a single file what ``b2sum -l 256`` prints, else the tree's.  Empty
    after failures.
    """
    failures: tuple[Failure, ...]
    skipped: tuple[str, ...] = ()
    """Sender only: links and special files that were left out."""

    @property
    def mb_per_s(self) -> float:
        """Megabytes (10**6 bytes) of content carried per second."""
        return self.moved / 1e6 / self.seconds if self.seconds > 0 else 0.0


def gone(error: BaseException | None, progress: Progress) -> NetmeshError:
    """What a broken stream means here.  A session error that says more than "gone" is kept as it
    is.
    """
    if isinstance(error, NetmeshError) and not isinstance(error, SessionClosedError):
        return error
    how = f" ({error})" if isinstance(error, SessionClosedError) else ""
    return TransferError(
        "peer-gone",
        f"the peer went away{how} after {progress.done:,} of {progress.total:,} bytes; "
        "send again and it goes on with what has not arrived",
        lost=isinstance(error, SessionClosedError) and error.reason in ("timeout", "restarted"),
    )


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, however deep; the error itself if it is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


@contextmanager
def lone_error() -> Iterator[None]:
    """Unwrap what a nursery raises when all of it are our own errors: the first one alone says
    what happened.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        found = list(leaves(group))
        if len(found) == 1 or all(isinstance(error, NetmeshError) for error in found):
            raise found[0] from None
        raise


async def drain(stream: trio.abc.ReceiveStream, seconds: float) -> None:
    """Read and forget until the other side ends the stream, so that our last words are not lost in
    a reset.
    """
    with trio.move_on_after(seconds):
        try:
            while await stream.receive_some(1 << 20):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

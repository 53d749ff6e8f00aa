"""``netmesh-trio send`` and ``receive``: files and trees from one peer to another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from netmesh_trio.cli.options import FilePath, NodeOptions, from_option, node_options, parse_peer, timeout_option
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    import trio

    from netmesh_trio import Node, Stream
    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.cli.transfer import Outcome, Progress, Source, Store
    from netmesh_trio.cli.transfer.outcome import ProgressHook
    from netmesh_trio.identity import PeerId

__all__ = ["FILES_SERVICE", "receive", "send"]

FILES_SERVICE = "netmesh.files"
_AT_ONCE = 8
_REFUSED = 100  # peers that are told of
_LOOK_AGAIN = 0.25
_HINT_AFTER = 3.0
_MISSED_AFTER = 4.0
#: Seconds that a peer which did not say goodbye may stay away in the middle of a transfer.
_LOST_FOR = 15.0


@click.command()
@click.argument("path", type=FilePath())
@click.argument("peer", callback=parse_peer)
@timeout_option(30.0, "Seconds to wait for the peer to be reachable.")
@node_options
@click.pass_obj
def send(reporter: Reporter, path: Path, peer: PeerId | MeshUri, timeout: float, node: NodeOptions) -> int:
    """Send a file or a directory to a peer.

    PEER, a peer id or netmesh:// URI, runs "netmesh-trio receive".
    Done means that every file is in place there with the right hash.  When the peer is lost in
    the middle, it is waited for a little.  After an interruption the same command goes on where it stopped.
    Symbolic links and special files are left out, and named.

    \b
    Examples:
        netmesh-trio send holiday.mp4 PEER --bootstrap URI
        netmesh-trio send photos/ PEER --bootstrap URI --identity me.key
    """
    from netmesh_trio.cli.runner import run_async

    return run_async(reporter, lambda: _send(reporter, path, peer, timeout, node))


async def _send(reporter: Reporter, path: Path, target: PeerId | MeshUri, timeout: float, options: NodeOptions) -> bool:
    import trio

    from netmesh_trio.cli.runner import CommandError
    from netmesh_trio.cli.session import peer_id_of, running_node
    from netmesh_trio.cli.transfer import Source
    from netmesh_trio.errors import ServiceNotFoundError

    source = await trio.to_thread.run_sync(Source.scan, path)
    peer_id = peer_id_of(target)
    async with running_node(options, reporter, timeout=timeout, brief=True) as node:
        sending = _Sending(node, reporter, path, target, timeout, options)
        try:
            outcome = await sending.run(source)
        except ServiceNotFoundError as error:
            raise CommandError(
                error.kind,
                f"peer {peer_id.short} takes no files now: run netmesh-trio receive DIR there",
            ) from None
    reporter.transferred("sent", outcome, str(peer_id))
    return not outcome.failures


@attrs.define
class _Sending:
    """A transfer, begun anew when the peer was lost in the middle and comes back: it goes on with what is missing.  One
    that was stopped is not waited for."""

    node: Node
    reporter: Reporter
    path: Path
    target: PeerId | MeshUri
    timeout: float
    options: NodeOptions
    moved: int = 0
    """Bytes of content that the present attempt has carried so far."""

    async def run(self, source: Source) -> Outcome:
        """Send it.  TransferError ``peer-gone`` when the peer does not come back in time."""
        import trio

        from netmesh_trio.cli.session import open_stream
        from netmesh_trio.cli.transfer import Source, TransferError
        from netmesh_trio.errors import PeerUnreachableError, ServiceNotFoundError

        start = trio.current_time()
        before = 0
        gone: TransferError | None = None
        until = start
        while True:
            try:
                left = self.timeout if gone is None else until - trio.current_time()
                stream = await open_stream(self.node, self.target, FILES_SERVICE, left, self.options, self.reporter)
            except (PeerUnreachableError, ServiceNotFoundError) as error:
                if gone is None:
                    raise
                if isinstance(error, ServiceNotFoundError) and trio.current_time() + _LOOK_AGAIN < until:
                    await trio.sleep(_LOOK_AGAIN)  # it has just started again
                    continue
                raise gone from None
            try:
                outcome = await self._attempt(stream, source)
            except TransferError as error:
                if not error.lost or not self.moved:
                    raise
                gone = error
                before += self.moved
                patience = min(self.timeout, _LOST_FOR)
                until = trio.current_time() + patience
                self.reporter.note(f"the peer is lost; waiting up to {patience:g} s for it, to go on then")
                source = await trio.to_thread.run_sync(Source.scan, self.path)
                continue
            # what was under way when the peer went away has been sent twice
            moved = min(before + outcome.moved, outcome.bytes)
            return attrs.evolve(outcome, moved=moved, seconds=trio.current_time() - start)

    async def _attempt(self, stream: Stream, source: Source) -> Outcome:
        from netmesh_trio.cli.progress import show_progress
        from netmesh_trio.cli.transfer import send_files

        self.moved = 0
        async with stream:
            with show_progress(self.reporter, "sending") as hook:

                def note(progress: Progress) -> None:
                    self.moved = progress.moved
                    hook(progress)

                return await _patiently(self.reporter, note, lambda moved: send_files(stream, source, moved))


async def _patiently(
    reporter: Reporter, hook: ProgressHook, transfer: Callable[[ProgressHook], Awaitable[Outcome]]
) -> Outcome:
    """Do a transfer, and tell people once when nothing moves."""
    import trio

    from netmesh_trio.cli.transfer.outcome import lone_error

    last = trio.current_time()

    def moved(progress: Progress) -> None:
        nonlocal last
        last = trio.current_time()
        hook(progress)

    async def look() -> None:
        while trio.current_time() < last + _HINT_AFTER:  # noqa: ASYNC110 - looks at most once in 3 s
            await trio.sleep_until(last + _HINT_AFTER)
        reporter.note(
            f"nothing has moved for {_HINT_AFTER:g} s, still waiting: the receiver may be checking what it has, "
            "waiting for the end of another transfer of the same file, or gone"
        )

    with lone_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            outcome = await transfer(moved)
            nursery.cancel_scope.cancel()
    return outcome


@click.command()
@click.argument("directory", metavar="DIR", type=FilePath())
@click.option("--once", is_flag=True, help="Stop after the first transfer that came to its end.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist with other content.")
@from_option("senders", "Take files from this peer only; repeat for more. [default: from anybody in the mesh]")
@node_options
@click.pass_obj
def receive(
    reporter: Reporter,
    directory: Path,
    once: bool,
    overwrite: bool,
    senders: tuple[PeerId | MeshUri, ...],
    node: NodeOptions,
) -> int:
    """Take the files that others send into DIR.

    It runs until it is stopped.
    Prints the address to give to "netmesh-trio send".  A file gets its name when it is whole and
    its hash is right; until then it is hidden, and a later transfer goes on with it.

    \b
    Examples:
        netmesh-trio receive inbox --bootstrap URI
        netmesh-trio receive inbox --once --from PEER --bootstrap URI
    """
    from netmesh_trio.cli.runner import run_async
    from netmesh_trio.cli.session import peer_id_of

    allowed = frozenset(peer_id_of(sender) for sender in senders)
    return run_async(
        reporter,
        lambda: _receive(reporter, directory, once, overwrite, allowed, node),
        until_stopped=not once,
    )


async def _receive(
    reporter: Reporter,
    directory: Path,
    once: bool,
    overwrite: bool,
    allowed: frozenset[PeerId],
    options: NodeOptions,
) -> bool:
    import trio

    from netmesh_trio.cli.runner import CommandError
    from netmesh_trio.cli.session import running_node, serve
    from netmesh_trio.cli.transfer import Store

    def announce(node: Node) -> None:
        reporter.line(f"       send with: netmesh-trio send PATH '{node.addresses[0]}'")

    try:
        store = await trio.to_thread.run_sync(
            lambda: Store(directory, overwrite=overwrite, again=_Patience(reporter).again)
        )
    except OSError as error:
        raise CommandError("storage", f"cannot receive into {str(directory)!r}: {_no_directory(error)}") from None
    try:
        async with running_node(options, reporter, announce=announce) as node:
            inbox = _Inbox(reporter, store, allowed, once)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, node, FILES_SERVICE, inbox.handle)
                await inbox.finished.wait()
                nursery.cancel_scope.cancel()
            return inbox.good
    finally:
        store.close()


def _no_directory(error: OSError) -> str:
    # making one over a file says "File exists", which is no help
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "it is not a directory"
    return str(error.strerror or error)


class _Patience:
    """Waits for a file that another transfer writes: its sender may have been killed, and is not missed yet."""

    def __init__(self, reporter: Reporter) -> None:
        from netmesh_trio import NodeConfig

        self._reporter = reporter
        self._limit = NodeConfig().dead_peer_timeout + _MISSED_AFTER

    def again(self, path: str, seconds: float) -> bool:
        """In a thread of a transfer, see :class:`Store`."""
        import trio

        if seconds > self._limit:
            return False
        if seconds < _LOOK_AGAIN:
            trio.from_thread.run_sync(
                self._reporter.note,
                f"another transfer is writing {path!r}; waiting for its end up to {self._limit:g} s",
            )
        trio.from_thread.run(trio.sleep, _LOOK_AGAIN)
        return True


class _Inbox:
    """Handles the streams of senders."""

    def __init__(self, reporter: Reporter, store: Store, allowed: frozenset[PeerId], once: bool) -> None:
        import trio

        self._reporter = reporter
        self._store = store
        self._allowed = allowed
        self._once = once
        self._running = 0
        self._refused: set[PeerId] = set()
        self.finished = trio.Event()
        self.good = False

    async def handle(self, stream: Stream) -> None:
        """One transfer."""
        from netmesh_trio.cli.transfer import TransferError
        from netmesh_trio.errors import NetmeshError

        sender = stream.peer_id
        if self._allowed and sender not in self._allowed:
            if sender not in self._refused and len(self._refused) < _REFUSED:
                self._refused.add(sender)
                self._reporter.note(f"refused files from {sender}: it is not among those of --from")
            await self._refuse(stream, "the receiver does not take files from this peer")
            return
        if self._running >= _AT_ONCE:
            await self._refuse(stream, f"{_AT_ONCE} transfers are running; send again later")
            return
        self._running += 1
        try:
            good = await self._transfer(stream)
        except NetmeshError as error:
            self._reporter.error(error.kind, f"from {sender.short}: {error}")
            gone = not isinstance(error, TransferError) or error.kind == "peer-gone"
            if not gone:
                self._end(False)
        else:
            self._end(good)
        finally:
            self._running -= 1

    def _end(self, good: bool) -> None:
        if self._once and not self.finished.is_set():
            self.good = good
            self.finished.set()

    async def _transfer(self, stream: Stream) -> bool:
        from netmesh_trio.cli.progress import show_progress
        from netmesh_trio.cli.transfer import receive_files

        async with stream:
            if self._running == 1:
                with show_progress(self._reporter, "receiving") as hook:
                    outcome = await receive_files(stream, self._store, hook)
            else:
                outcome = await receive_files(stream, self._store)
        self._reporter.transferred("received", outcome, str(stream.peer_id), f" from {stream.peer_id.short}")
        return not outcome.failures

    async def _refuse(self, stream: trio.abc.HalfCloseableStream, why: str) -> None:
        import trio

        from netmesh_trio.cli.transfer.messages import Fail, encode
        from netmesh_trio.cli.transfer.outcome import drain

        with trio.move_on_after(10):
            async with stream:
                try:
                    await stream.send_all(encode(Fail("refused", why)))
                    await stream.send_eof()
                except trio.BrokenResourceError:
                    return
                await drain(stream, 5)

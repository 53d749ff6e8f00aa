"""Both ends of the streams with which ``netmesh-trio bench`` measures.

Who measures opens a stream of :data:`BENCH_SERVICE` and says, in a byte, what it is to be:

* ``u``: it sends until the end of the stream, and the other end answers how many bytes, in 8, big-endian;
* ``d`` and 4 bytes, big-endian: the other end sends for so many milliseconds, at most :data:`LONGEST`, and ends;
* ``e``: the other end sends back what comes.

The serving end resets what is anything else, lasts too long, comes from a peer that it does not serve, or is one stream
too many.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from netmesh_trio import Peer, Stream
from netmesh_trio.cli.runner import CommandError
from netmesh_trio.cli.transfer.outcome import lone_error
from netmesh_trio.errors import ServiceNotFoundError, StreamResetError
from netmesh_trio.identity import PeerId

__all__ = ["BENCH_SERVICE", "LONGEST", "Bulk", "Served", "Server", "Trips", "download", "round_trips", "upload"]

BENCH_SERVICE = "netmesh.bench"

LONGEST: Final = 60.0
"""Seconds that one measurement may take."""
MESSAGE: Final = 100
"""Bytes of a message whose round trip is measured."""

_AT_ONCE = 64
_SLACK = 15.0
_WRITE = 1 << 17  # on a slow line, a longer one would be the whole measurement
_READ = 1 << 18
_SOME = 10  # round trips before those that count
_milliseconds = struct.Struct("!I")
_total = struct.Struct("!Q")

_CODE_BAD: Final = 1
_CODE_NOT_ALLOWED: Final = 2
_CODE_BUSY: Final = 3
_CODE_LATE: Final = 4
_WHY = {
    _CODE_BAD: ("protocol", "the peer does not understand this command: update the older of the two"),
    _CODE_NOT_ALLOWED: ("not-allowed", "the peer does not serve this one: have it add --from, or leave that out"),
    _CODE_BUSY: ("busy", "the peer measures with others now; try again later"),
    _CODE_LATE: ("timeout", f"the peer ends what lasts longer than {LONGEST:g} s: give fewer --seconds"),
}


# the serving end


@attrs.frozen(kw_only=True)
class Served:
    """What one bulk stream carried."""

    peer_id: PeerId
    #: ``"upload"`` or ``"download"``, as the measuring end sees it.
    direction: str
    bytes: int
    seconds: float


@attrs.define
class Server:
    """Answers those who measure: all, or the ``allowed`` only."""

    allowed: frozenset[PeerId]
    tell: Callable[[Served], None]
    _running: int = 0

    async def handle(self, stream: Stream) -> None:
        """One stream."""
        if self.allowed and stream.peer_id not in self.allowed:
            stream.reset(_CODE_NOT_ALLOWED)
            return
        if self._running >= _AT_ONCE:
            stream.reset(_CODE_BUSY)
            return
        self._running += 1
        try:
            with trio.move_on_after(LONGEST + _SLACK) as limit:
                if not await self._answer(stream):
                    stream.reset(_CODE_BAD)
            if limit.cancelled_caught:
                stream.reset(_CODE_LATE)
        except (trio.BrokenResourceError, trio.ClosedResourceError, CommandError):
            stream.reset(_CODE_BAD)  # the measuring end has gone, or ended in the middle of what it asks
        finally:
            self._running -= 1

    async def _answer(self, stream: Stream) -> bool:
        """Do what is asked; False if that is nothing that there is."""
        start = trio.current_time()
        kind = await stream.receive_some(1)
        if kind == b"e":
            while data := await stream.receive_some(_READ):
                await stream.send_all(data)
        elif kind == b"u":
            total = 0
            while data := await stream.receive_some(_READ):
                total += len(data)
            await stream.send_all(_total.pack(total))
            self._tell(stream, "upload", total, start)
        elif kind == b"d":
            (milliseconds,) = _milliseconds.unpack(await _exactly(stream, _milliseconds.size))
            if milliseconds > LONGEST * 1000:
                return False
            self._tell(stream, "download", await _fill(stream, start + milliseconds / 1000), start)
        else:
            return False
        await stream.aclose()  # what was sent still arrives
        return True

    def _tell(self, stream: Stream, direction: str, total: int, start: float) -> None:
        seconds = trio.current_time() - start
        self.tell(Served(peer_id=stream.peer_id, direction=direction, bytes=total, seconds=seconds))


async def _fill(stream: Stream, ends: float) -> int:
    """Send until then; the number of bytes."""
    data = os.urandom(_WRITE)
    total = 0
    while trio.current_time() < ends:
        await stream.send_all(data)
        total += len(data)
    return total


async def _exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        if not more:
            raise CommandError("protocol", "the peer ended the stream before it had answered")
        data += more
    return data


# the measuring end


@attrs.frozen
class Trips:
    """Round trips, seconds each."""

    times: Sequence[float]

    def percentile(self, share: float) -> float:
        """The seconds that this share of them, 0 to 1, do not exceed."""
        ordered = sorted(self.times)
        return ordered[max(math.ceil(len(ordered) * share), 1) - 1]


@attrs.frozen
class Bulk:
    """What came through in bulk, and the round trips beside it."""

    bytes: int
    seconds: float
    trips: Trips


async def _open(peer: Peer, request: bytes) -> Stream:
    try:
        stream = await peer.open_stream(BENCH_SERVICE)
    except ServiceNotFoundError as error:
        raise CommandError(
            error.kind, f"peer {peer.peer_id.short} measures with nobody now: run netmesh-trio bench --serve there"
        ) from None
    await stream.send_all(request)
    return stream


async def _bounded(limit: float, measure: Callable[[], Awaitable[None]]) -> None:
    """Run a part of a measurement; what a peer does to end it is told in words."""
    try:
        with trio.fail_after(limit), lone_error():
            await measure()
    except trio.TooSlowError:
        raise CommandError("timeout", f"the peer did not answer within {limit:g} s") from None
    except StreamResetError as error:
        if error.code in _WHY:
            raise CommandError(*_WHY[error.code]) from None
        raise


async def round_trips(peer: Peer, seconds: float, count: int, patience: float) -> Trips:
    """Send small messages back and forth, one after the other: so many, or as many as the time allows.

    CommandError when one takes longer than ``patience`` seconds, and when the peer refuses.
    """
    times: list[float] = []

    async def measure() -> None:
        async with await _open(peer, b"e") as stream:
            message = os.urandom(MESSAGE)
            for _ in range(_SOME):
                await _trip(stream, message)
            ends = trio.current_time() + seconds
            while len(times) < count and (trio.current_time() < ends or not times):
                times.append(await _trip(stream, message))

    await _bounded(seconds + patience, measure)
    return Trips(times)


async def _trip(stream: Stream, message: bytes) -> float:
    start = trio.current_time()
    await stream.send_all(message)
    if await _exactly(stream, len(message)) != message:
        raise CommandError("protocol", "what came back is not what was sent")
    return trio.current_time() - start


async def upload(peer: Peer, seconds: float, streams: int, patience: float) -> Bulk:
    """Send for so many seconds; what counts is what the peer had, and the time until it said so.

    CommandError as :func:`round_trips`.
    """

    async def one() -> int:
        async with await _open(peer, b"u") as stream:
            await _fill(stream, trio.current_time() + seconds)
            await stream.send_eof()
            (total,) = _total.unpack(await _exactly(stream, _total.size))
            return int(total)

    return await _bulk(peer, seconds, streams, patience, one)


async def download(peer: Peer, seconds: float, streams: int, patience: float) -> Bulk:
    """Have the peer send for so many seconds, and count.  CommandError as :func:`round_trips`."""

    async def one() -> int:
        total = 0
        async with await _open(peer, b"d" + _milliseconds.pack(round(seconds * 1000))) as stream:
            while data := await stream.receive_some(_READ):
                total += len(data)
        return total

    return await _bulk(peer, seconds, streams, patience, one)


async def _bulk(peer: Peer, seconds: float, streams: int, patience: float, one: Callable[[], Awaitable[int]]) -> Bulk:
    """Run ``one`` so many times at once, with round trips beside them."""
    total, elapsed = 0, 0.0
    times: list[float] = []

    async def count() -> None:
        nonlocal total
        came = await one()  # not "+= await": the others finish meanwhile
        total += came

    async def measure() -> None:
        nonlocal elapsed
        async with await _open(peer, b"e") as echo, trio.open_nursery() as beside:
            message = os.urandom(MESSAGE)
            await _trip(echo, message)

            async def trips() -> None:
                while True:
                    times.append(await _trip(echo, message))

            start = trio.current_time()
            beside.start_soon(trips)
            async with trio.open_nursery() as nursery:
                for _ in range(streams):
                    nursery.start_soon(count)
            elapsed = trio.current_time() - start
            beside.cancel_scope.cancel()

    await _bounded(seconds + patience, measure)
    return Bulk(total, elapsed, Trips(times or [elapsed]))

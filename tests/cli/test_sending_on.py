"""A transfer whose receiver is lost in the middle."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio.cli import session
from netmesh_trio.cli.files import _Sending
from netmesh_trio.cli.transfer import Outcome, Source, TransferError
from netmesh_trio.errors import PeerUnreachableError, ServiceNotFoundError

LOST = TransferError("peer-gone", "the peer went away", lost=True)
STOPPED = TransferError("peer-gone", "the peer went away")
DONE = Outcome("f", False, 1, 100, 60, 1.0, "ab", ())
NO_SERVICE = ServiceNotFoundError("it takes no files", "netmesh.files")
NOBODY = PeerUnreachableError("nobody answers")


class Script(_Sending):
    """What opening a stream and each attempt come to, in turn; an attempt carries 70 bytes, or none."""

    carries = 70

    async def _attempt(self, stream: Any, source: Source) -> Outcome:
        self.moved = self.carries
        if isinstance(stream, Exception):
            raise stream
        return stream  # type: ignore[no-any-return]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_bytes(bytes(100))
    return path


async def play(
    monkeypatch: pytest.MonkeyPatch, file: Path, *turns: Any, carries: int = 70
) -> tuple[Outcome, list[str]]:
    """Each turn is what opening the stream raises, or, in a list, what the attempt on it comes to."""
    script = iter(turns)
    notes: list[str] = []

    async def open_stream(*_: object) -> Any:
        await trio.sleep(1)
        turn = next(script, NOBODY)
        if isinstance(turn, list):
            return turn[0]
        raise turn

    monkeypatch.setattr(session, "open_stream", open_stream)
    nothing: Any = None
    reporter: Any = SimpleNamespace(note=notes.append)
    sending = Script(nothing, reporter, file, nothing, 30.0, nothing)
    sending.carries = carries
    return await sending.run(Source.scan(file)), notes


async def test_it_goes_on_when_the_receiver_is_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """Also if that does not take files in the first moment.  Bytes that were lost on the way are not counted twice."""
    outcome, notes = await play(monkeypatch, file, [LOST], NO_SERVICE, NO_SERVICE, [LOST], [DONE])
    assert (outcome.moved, outcome.bytes) == (100, 100)
    assert outcome.seconds == pytest.approx(5.5)
    assert len(notes) == 2


@pytest.mark.parametrize("turn", [NOBODY, NO_SERVICE])
async def test_it_ends_with_what_happened_when_the_receiver_stays_away(
    turn: Exception, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    start = trio.current_time()
    with pytest.raises(TransferError) as caught:
        await play(monkeypatch, file, [LOST], *(turn,) * 100)
    assert caught.value is LOST
    assert trio.current_time() - start < 18


@pytest.mark.parametrize(("error", "carries"), [(STOPPED, 70), (LOST, 0)])
async def test_who_was_stopped_or_took_nothing_is_not_waited_for(
    error: Exception, carries: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    start = trio.current_time()
    with pytest.raises(TransferError):
        await play(monkeypatch, file, [error], [DONE], carries=carries)
    assert trio.current_time() - start == pytest.approx(1)


@pytest.mark.parametrize("turn", [NOBODY, NO_SERVICE])
async def test_a_receiver_that_never_was_there_is_told_at_once(
    turn: Exception, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    with pytest.raises(type(turn)):
        await play(monkeypatch, file, turn, [DONE])

"""What a session does when a relay that carries several of its circuits falls silent."""

from __future__ import annotations

from netmesh_trio.identity import PeerId
from netmesh_trio.session.events import PathActive
from tests.session.pair import KEY_A, KEY_B, Pair, Wire

DEAD, ALIVE = PeerId(b"d" * 32), PeerId(b"a" * 32)
FIRST, SECOND, OTHER = b"circuit1", b"circuit2", b"circuit3"


def test_another_circuit_over_the_same_relay_is_no_way_out() -> None:
    pair = Pair()
    for side, direct in zip(pair.sides, (KEY_A, KEY_B), strict=True):
        for circuit, via in ((FIRST, DEAD), (SECOND, DEAD), (OTHER, ALIVE)):
            side.validate(side.add_path(circuit, via, pair.now), pair.now)
        side.remove_path(side.paths[direct], pair.now)
        assert side.path is side.paths[FIRST]
    assert pair.transfer(b"all is well") == b"all is well"
    pair.events[0].clear()
    for circuit in (FIRST, SECOND):
        pair.wires[circuit] = Wire(down=True)
    assert pair.transfer(bytes(100_000)) == bytes(100_000)
    taken = [event.path.key for event in pair.events[0] if isinstance(event, PathActive)]
    assert taken == [OTHER]

from __future__ import annotations

from netmesh_trio import traversal
from netmesh_trio.testing.behavior import Dependence as Simulated


def test_subprotocols() -> None:
    assert (traversal.SUBPROTOCOL_REFLEX, traversal.SUBPROTOCOL_RENDEZVOUS) == (0x0D00, 0x0D01)


def test_all_names_are_there_and_documented() -> None:
    for name in traversal.__all__:
        value = getattr(traversal, name)
        assert isinstance(value, int) or value.__doc__, name


def test_the_virtual_internet_speaks_of_nats_in_the_same_words() -> None:
    assert {d.name: d.value for d in Simulated} == {d.name: d.value for d in traversal.Dependence}

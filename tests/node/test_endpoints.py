from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio import PeerId
from netmesh_trio.node.endpoints import Endpoints

RELAYS = [PeerId(bytes((n,)) * 32) for n in range(3)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from(["set", "pop", "del"]))))
def test_as_a_dictionary_and_by_relay(steps: list[tuple[int, int, str]]) -> None:
    endpoints = Endpoints()
    model: dict[bytes, PeerId] = {}
    for number, relay, what in steps:
        circuit = bytes((number,)) * 8
        if what == "set":
            endpoints[circuit] = model[circuit] = RELAYS[relay]
        elif what == "pop":
            assert endpoints.pop(circuit, None) == model.pop(circuit, None)
        elif circuit in model:
            del endpoints[circuit], model[circuit]
        else:
            with pytest.raises(KeyError):
                del endpoints[circuit]
        assert dict(endpoints) == model
        assert len(endpoints) == len(model)
        assert (circuit in endpoints) == (circuit in model)
        assert endpoints.get(circuit) == endpoints.find(circuit) == model.get(circuit)
        for peer_id in RELAYS:
            assert endpoints.over(peer_id) == {c for c, r in model.items() if r == peer_id}
            assert endpoints.count_over(peer_id) == len(endpoints.over(peer_id))
    assert set(endpoints._over) == set(model.values())

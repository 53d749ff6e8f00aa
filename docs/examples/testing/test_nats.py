import pytest
import trio

from netmesh_trio.testing import KINDS, Mesh


@pytest.mark.mesh(alice="symmetric", bob="none", delay=0.1, loss=0.02)
async def test_one_pair(mesh: Mesh) -> None:
    peer = await mesh.connect()
    with trio.fail_after(60):
        await peer.wait_direct()


@pytest.mark.parametrize("mesh", [("symmetric", kind) for kind in KINDS], indirect=True)
async def test_symmetric_and_each_other_kind(mesh: Mesh) -> None:
    peer = await mesh.connect()
    assert peer.path is not None  # there always is one: the relay carries

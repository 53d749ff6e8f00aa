import pytest
import trio
from chat import Inbox, say

from netmesh_trio import PathKind
from netmesh_trio.testing import Mesh


@pytest.mark.mesh(alice="symmetric", bob="symmetric")
async def test_a_line_arrives_behind_symmetric_nats(mesh: Mesh) -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        await nursery.start(inbox.run, mesh.bob)
        await say(mesh.alice, mesh.bob.peer_id, "hello")
        nursery.cancel_scope.cancel()
    assert inbox.lines == ["hello"]
    [peer] = [p for p in mesh.alice.peers() if p.peer_id == mesh.bob.peer_id]
    assert peer.path is not None
    assert peer.path.kind is PathKind.RELAYED  # these two NATs leave no other way; the chat does not mind


@pytest.mark.parametrize("mesh", [("none", "symmetric"), ("port-restricted", "double")], indirect=True)
async def test_ten_minutes_with_a_bad_line(mesh: Mesh) -> None:
    inbox = Inbox()
    mesh.host(mesh.alice).link.loss = 0.05
    async with trio.open_nursery() as nursery:
        await nursery.start(inbox.run, mesh.bob)
        for number in range(60):
            await say(mesh.alice, mesh.bob.peer_id, f"line {number}")
            await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert inbox.lines == [f"line {number}" for number in range(60)]


async def test_the_line_is_cut_for_a_while(mesh: Mesh) -> None:
    inbox = Inbox()
    link = mesh.host(mesh.bob).link
    async with trio.open_nursery() as nursery:
        await nursery.start(inbox.run, mesh.bob)
        link.down = True
        nursery.start_soon(say, mesh.alice, mesh.bob.peer_id, "are you there?")
        await trio.sleep(30)
        assert inbox.lines == []
        link.down = False
        with trio.fail_after(30):
            await inbox.first_line.wait()
        nursery.cancel_scope.cancel()


async def test_a_third_one(mesh: Mesh) -> None:
    inbox = Inbox()
    async with mesh.node("carol", behind="full-cone") as carol, trio.open_nursery() as nursery:
        await nursery.start(inbox.run, carol)
        await say(mesh.alice, carol.peer_id, "from alice")
        await say(mesh.bob, carol.peer_id, "from bob")
        nursery.cancel_scope.cancel()
    assert inbox.lines == ["from alice", "from bob"]

"""Which nodes keep the whole map."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.identity import PeerId
from netmesh_trio.routing import (
    HUB_EFFORT,
    MAX_RELAYS,
    PREFIX_HUB,
    TAG_RELAY_CAPABLE,
    Announcement,
    Effort,
    MeshGraph,
    choose_listed,
    hub_rank,
    is_hub_needed,
)

Edges = Iterable[tuple[int, int]]


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def said(number: int, relays: Iterable[int] = (), hub: int | None = None, relay: bool = True) -> Announcement:
    tags = (*((TAG_RELAY_CAPABLE,) if relay else ()), *(() if hub is None else (f"{PREFIX_HUB}{hub}",)))
    return Announcement(peer_id=peer(number), sequence=1, tags=tags, relays=tuple(map(peer, relays)))


def needed(neighbors: Iterable[int], *announced: Announcement, rank: int = 2, me: int = 1) -> bool:
    return is_hub_needed(peer(me), rank, [peer(n) for n in neighbors], MeshGraph(announced))


@pytest.mark.parametrize(
    ("text", "rank"),
    [("hub:0", 0), ("hub:7", 7), ("hub:63", 63), ("hub:64", None), ("hub:07", None), ("hub:", None), ("hub", None)],
)
def test_the_tag(text: str, rank: int | None) -> None:
    announcement = Announcement(peer_id=peer(1), sequence=1, tags=("nat:open", *([text] if text != "hub:" else [])))
    assert announcement.hub_rank == rank


def test_the_first_tag_counts() -> None:
    assert Announcement(peer_id=peer(1), sequence=1, tags=("hub:3", "hub:9")).hub_rank == 3


def test_few_neighbors_or_all_of_each_other() -> None:
    assert not needed([])
    assert not needed([2])
    assert not needed([2, 3], said(2, [1, 3]), said(3, [1, 2]))
    assert needed([2, 3], said(2, [1]), said(3, [1]))
    # one of them has not been heard: it may lead anywhere
    assert needed([2, 3], said(2, [1, 3]))
    # what only one of two says of both does not count
    assert needed([2, 3], said(2, [1, 3]), said(3, [1]))
    # unless the other has no room for it
    full = range(100, 100 + MAX_RELAYS)
    assert not needed([2, 3], said(2, [1, 3]), said(3, full))
    assert needed([2, 3], said(2, full), said(3, full))


def test_a_hub_of_higher_rank_takes_the_place() -> None:
    leaves = said(2, [1, 9]), said(3, [1, 9])
    # a hub need not name its leaves
    assert not needed([2, 3, 9], *leaves, said(9, [], hub=5))
    assert needed([2, 3, 9], *leaves, said(9, [], hub=1))
    assert needed([2, 3, 9], *leaves, said(9, [], hub=5, relay=False))
    # of the same rank, the greater peer id
    assert not needed([2, 3, 9], *leaves, said(9, [], hub=2))
    assert needed([2, 3, 9], *leaves, said(9, [], hub=2), me=10)
    # it does not reach all of ours
    assert needed([2, 3, 9], said(2, [1, 9]), said(3, [1]), said(9, [], hub=5))


def test_several_hubs_take_it_only_if_they_are_connected() -> None:
    leaves = said(2, [1, 8]), said(3, [1, 9])
    assert needed([2, 3], *leaves, said(8, [], hub=5), said(9, [], hub=5))
    assert not needed([2, 3], *leaves, said(8, [9], hub=5), said(9, [8], hub=5))
    assert needed([2, 3], *leaves, said(8, [9], hub=5), said(9, [], hub=5))
    assert not needed([2, 3], *leaves, said(8, [7], hub=5), said(9, [7], hub=5), said(7, [8, 9], hub=4))


def test_many_neighbors_make_a_hub_whatever_others_say() -> None:
    leaves = range(100, 133)
    announced = [said(n, [1, 9]) for n in leaves]
    assert needed(leaves, *announced, said(9, [], hub=60))
    assert not needed(leaves[:32], *announced, said(9, [], hub=60))


def test_the_rank_clings() -> None:
    assert [hub_rank(n, None) for n in (0, 1, 2, 3, 4, 1000)] == [0, 1, 2, 2, 3, 10]
    assert [hub_rank(n, 3) for n in (2, 3, 7, 8, 11)] == [2, 3, 3, 3, 3]
    assert [hub_rank(n, 3) for n in (12, 16)] == [4, 5]
    changes = 0
    rank: int | None = None
    for number in range(1, 1001):
        changes += hub_rank(number, rank) != rank
        rank = hub_rank(number, rank)
    assert changes == 10


def test_who_is_named() -> None:
    graph = MeshGraph([said(5, hub=3), said(6)])
    few = [peer(n) for n in (2, 5, 6)]
    assert choose_listed(few, False, graph, ()) == (peer(5), peer(2), peer(6))
    assert set(choose_listed(few, True, graph, ())) == set(few)
    many = [peer(n) for n in range(2, 40)]
    assert choose_listed(many, True, graph, ()) == (peer(5),)
    named = choose_listed(many, False, graph, [peer(39)])
    assert len(named) == MAX_RELAYS
    assert named[:2] == (peer(5), peer(39))


# what it costs


def test_invented_hubs_are_not_all_looked_at() -> None:
    invented = range(1000, 3000)
    crowd = [said(n, [(n - 1000 + k) % 2000 + 1000 for k in range(1, 17)], hub=63) for n in invented]
    leaves = said(2, [1, 9]), said(3, [1, 9])
    # nobody around leads there
    effort = Effort(HUB_EFFORT)
    graph = MeshGraph([*crowd, *leaves, said(9, [], hub=5)])
    assert not is_hub_needed(peer(1), 2, [peer(2), peer(3), peer(9)], graph, effort)
    assert effort.edges > HUB_EFFORT - 300
    # neighbors are in league with them: we look as far as it goes, and then take ourselves to be needed
    effort = Effort(HUB_EFFORT)
    others = [said(n + 5000, [r + 5000 for r in range(n - 8, n + 9) if r != n], hub=63) for n in range(100, 1000)]
    league = said(2, [1, *invented[:15]], hub=62), said(3, [1, *(5500 + n for n in range(15))], hub=62)
    graph = MeshGraph([*crowd, *others, *league])
    assert is_hub_needed(peer(1), 2, [peer(2), peer(3)], graph, effort)
    assert effort.edges < 300


def test_whether_all_neighbors_know_each_other_takes_effort() -> None:
    around = range(2, 18)
    graph = MeshGraph([said(n, [m for m in around if m != n]) for n in around])
    neighbors = list(map(peer, around))
    assert not is_hub_needed(peer(1), 2, neighbors, graph, Effort(128))
    assert is_hub_needed(peer(1), 2, neighbors, graph, Effort(127))


def test_what_it_takes_to_find_hubs() -> None:
    """The hubs found, and something for the smaller of what is around and of all the hubs."""
    hubs = [said(number, hub=5) for number in range(100, 200)]
    named = [said(2 + n, range(100 + 15 * n, 115 + 15 * n)) for n in range(6)]
    graph = MeshGraph([*hubs, *named, said(50, range(300, 316)), *(said(n, [51]) for n in range(400, 464))])
    for asked, found, cost in ((2, 15, 16), (50, 0, 2), (51, 0, 5), (99, 0, 1)):
        effort = Effort(cost)
        around = graph.hubs_next_to(peer(asked), effort)
        assert around is not None
        assert (len(around), effort.edges) == (found, 0)
        assert graph.hubs_next_to(peer(asked), Effort(cost - 1)) is None


def slow_is_hub_needed(me: PeerId, rank: int, neighbors: list[PeerId], graph: MeshGraph) -> bool:
    """As it is written in the protocol."""
    live = graph.live
    if len(neighbors) < 2:
        return False
    if all(a in live and b in live and adjacent(live[a], live[b]) for a in neighbors for b in neighbors if a != b):
        return False
    above = {h for h, r in graph.hubs.items() if h != me and (r, h.raw) > (rank, me.raw) and graph.is_relay(h)}
    while above:
        island = {above.pop()}
        while more := {h for h in above if any(adjacent(live[h], live[other]) for other in island)}:
            island |= more
            above -= more
        reached = {n for n in neighbors if n in live and any(adjacent(live[n], live[h]) for h in island)}
        if island | reached >= set(neighbors):
            return False
    return True


def adjacent(a: Announcement, b: Announcement) -> bool:
    def names(one: Announcement, other: Announcement) -> bool:
        return other.peer_id in one.relays

    def need_not(one: Announcement, other: Announcement) -> bool:
        return len(one.relays) == MAX_RELAYS or (one.hub_rank is not None and other.hub_rank is None)

    return (names(a, b) and (names(b, a) or need_not(b, a))) or (names(b, a) and need_not(a, b))


@given(st.randoms(use_true_random=False), st.integers(2, 9), st.floats(0.1, 0.9))
def test_against_the_rule_as_it_is_written(chance: random.Random, nodes: int, density: float) -> None:
    announced = []
    full = range(100, 100 + MAX_RELAYS)
    for number in range(2, nodes + 1):
        named = [n for n in range(1, nodes + 1) if n != number and chance.random() < density]
        if chance.random() < 0.2:
            named = [*named, *full][:MAX_RELAYS]
        hub = chance.choice((None, 1, 2, 3, 5))
        if chance.random() < 0.9:
            announced.append(said(number, named, hub, relay=chance.random() < 0.8))
    graph = MeshGraph(announced)
    neighbors = [peer(n) for n in range(2, nodes + 1) if chance.random() < 0.6]
    assert is_hub_needed(peer(1), 2, neighbors, graph) == slow_is_hub_needed(peer(1), 2, neighbors, graph)


def test_a_neighbor_that_is_no_relay_says_itself_which_hub_it_has() -> None:
    """A hub need not name those who are none, and the map has no edges of who is no relay."""
    graph = MeshGraph([said(2, [9], relay=False), said(3, [9], relay=False), said(9, [], hub=5)])
    assert not is_hub_needed(peer(1), 2, [peer(2), peer(3)], graph)


# the rule, applied by every node until nothing changes


def settle(nodes: int, edges: Edges, order: random.Random) -> dict[int, int]:
    """The hubs that come of it, with their ranks: each node knows what its neighbors and hubs announce."""
    neighbors: dict[int, set[int]] = {n: set() for n in range(1, nodes + 1)}
    for a, b in edges:
        neighbors[a].add(b)
        neighbors[b].add(a)
    hubs: dict[int, int] = {}
    listed: dict[int, tuple[PeerId, ...]] = dict.fromkeys(neighbors, ())
    for _ in range(20):
        before = dict(hubs), dict(listed)
        for number in order.sample(sorted(neighbors), nodes):
            known = [
                Announcement(peer_id=peer(n), sequence=1, tags=tags(hubs.get(n)), relays=listed[n])
                for n in neighbors
                if n != number and (n in neighbors[number] or n in hubs)
            ]
            graph = MeshGraph(known)
            mine = [peer(n) for n in neighbors[number]]
            rank = hub_rank(len(mine), hubs.get(number))
            if is_hub_needed(peer(number), rank, mine, graph):
                hubs[number] = rank
            else:
                hubs.pop(number, None)
            listed[number] = choose_listed(mine, number in hubs, graph, listed[number])
        if (hubs, listed) == before:
            return hubs
    raise AssertionError("it does not settle")


def tags(rank: int | None) -> tuple[str, ...]:
    return (TAG_RELAY_CAPABLE,) if rank is None else (TAG_RELAY_CAPABLE, f"{PREFIX_HUB}{rank}")


def components(nodes: Iterable[int], neighbors: Mapping[int, set[int]]) -> list[set[int]]:
    left, found = set(nodes), []
    while left:
        reached = {left.pop()}
        frontier = list(reached)
        while frontier:
            new = (neighbors[frontier.pop()] & left) - reached
            reached |= new
            frontier += new
        left -= reached
        found.append(reached)
    return found


@given(st.integers(2, 14), st.randoms(use_true_random=False), st.floats(0.0, 1.0))
def test_hubs_reach_everybody(nodes: int, order: random.Random, density: float) -> None:
    """In every part of the mesh: all are hubs, or next to one, or neighbors of all others; hubs hang together."""
    pairs = [(a, b) for a in range(1, nodes + 1) for b in range(a + 1, nodes + 1)]
    edges = [pair for pair in pairs if order.random() < density**2]
    neighbors: dict[int, set[int]] = {n: set() for n in range(1, nodes + 1)}
    for a, b in edges:
        neighbors[a].add(b)
        neighbors[b].add(a)
    hubs = settle(nodes, edges, order)
    for part in components(neighbors, neighbors):
        inside = part & set(hubs)
        if not inside:
            assert all(neighbors[n] == part - {n} for n in part)
            continue
        assert all(n in inside or neighbors[n] & inside for n in part)
        assert len(components(inside, neighbors)) == 1


def test_a_star_has_one_hub_and_a_ring_of_relays_only_relays() -> None:
    order = random.Random(1)
    assert set(settle(40, [(1, n) for n in range(2, 41)], order)) == {1}
    # ten relays in a ring, and thirty leaves with two of them each, not always next to each other
    ring = [(n, n % 10 + 1) for n in range(1, 11)]
    leaves = [(n, relay) for n in range(11, 41) for relay in order.sample(range(1, 11), 2)]
    hubs = settle(40, [*ring, *leaves], order)
    assert set(hubs) <= set(range(1, 11))
    assert len(hubs) >= 8

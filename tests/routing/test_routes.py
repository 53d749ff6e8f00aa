from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from netmesh_trio.identity import PeerId
from netmesh_trio.routing import (
    TAG_RELAY_CAPABLE,
    Announcement,
    Effort,
    MeshGraph,
    RouteFinder,
    find_next_hops,
    withdrawal,
)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


NAMES = {name: peer(number) for number, name in enumerate("me t r1 r2 r3 r4 r5 x".split())}
BY_ID = {peer_id: name for name, peer_id in NAMES.items()}
ME, T = NAMES["me"], NAMES["t"]


def graph_of(**relays: str) -> MeshGraph:
    """``r1="r2 t"``: r1 announces these; names that begin with r are relay-capable."""
    return MeshGraph(
        Announcement(
            peer_id=NAMES[origin],
            sequence=1,
            tags=(TAG_RELAY_CAPABLE,) if origin.startswith("r") else (),
            relays=tuple(NAMES[name] for name in named.split()),
        )
        for origin, named in relays.items()
    )


def hops(
    graph: MeshGraph,
    neighbors: dict[str, float | None],
    *,
    exclude: str = "",
    hints: str = "",
    max_hops: int = 8,
    limit: int = 8,
) -> str:
    found = find_next_hops(
        T,
        {NAMES[name]: rtt for name, rtt in neighbors.items()},
        graph,
        self_id=ME,
        exclude=[NAMES[name] for name in exclude.split()],
        hints=[NAMES[name] for name in hints.split()],
        max_hops=max_hops,
        limit=limit,
    )
    return " ".join(BY_ID[peer_id] for peer_id in found)


CHAIN = graph_of(t="r3", r3="r2", r2="r1", r1="")
STAR = graph_of(t="r1 r2 r3", r1="", r2="", r3="")


def test_the_target_itself_comes_first() -> None:
    assert hops(STAR, {"r1": 0.001, "t": 0.2}) == "t r1"
    assert hops(graph_of(), {"t": None}) == "t"
    assert hops(STAR, {"r1": 0.001, "t": 0.2}, exclude="t") == "r1"


def test_shared_relays_by_round_trip_time() -> None:
    assert hops(STAR, {"r1": 0.03, "r2": 0.01, "r3": None}) == "r2 r1 r3"
    assert hops(STAR, {"r2": 0.01, "r1": 0.01}) == "r1 r2"
    assert hops(STAR, {"r1": 0.03, "r2": 0.01}, exclude="r2") == "r1"
    assert hops(STAR, {"r1": 0.03, "r2": 0.01, "r3": 1.0}, limit=2) == "r2 r1"


def test_a_longer_way_comes_after_a_shorter_whatever_the_time() -> None:
    graph = graph_of(t="r3", r3="r2", r2="")
    assert hops(graph, {"r2": 0.001, "r3": 0.9}) == "r3 r2"


def test_chains_and_their_length() -> None:
    assert hops(CHAIN, {"r1": 0.1}) == "r1"
    assert hops(CHAIN, {"r1": 0.1}, max_hops=4) == "r1"
    assert hops(CHAIN, {"r1": 0.1}, max_hops=3) == ""
    assert hops(CHAIN, {"r1": 0.1}, exclude="r2") == ""
    assert hops(CHAIN, {"r1": 0.1, "t": 0.1}, max_hops=1) == "t"
    assert hops(CHAIN, {"t": 0.1}, max_hops=0) == ""


def test_one_end_announces_an_edge_between_relays() -> None:
    assert hops(graph_of(t="r2", r2="", r1="r2"), {"r1": 0.1}) == "r1"
    assert hops(graph_of(t="r2", r2="r1", r1=""), {"r1": 0.1}) == "r1"
    assert hops(graph_of(t="r2", r2="r1"), {"r1": 0.1}) == ""  # r1 itself says nothing


def test_nobody_else_says_where_the_target_is() -> None:
    assert hops(graph_of(t="", r1="t"), {"r1": 0.1}) == ""
    assert hops(graph_of(r1="t"), {"r1": 0.1}) == ""


def test_only_relays_are_passed_through() -> None:
    assert hops(graph_of(t="x", x=""), {"x": 0.1}) == ""
    assert hops(graph_of(t="r1", r1="x", x="r2", r2="x"), {"r2": 0.1}) == ""


def test_never_through_ourselves() -> None:
    graph = MeshGraph(
        [
            *graph_of(t="r1", r1="me", r2="me").live.values(),
            Announcement(peer_id=ME, sequence=1, tags=(TAG_RELAY_CAPABLE,)),
        ]
    )
    assert hops(graph, {"r2": 0.1}) == ""


def test_hints_need_no_announcement() -> None:
    assert hops(graph_of(), {"x": 0.1}, hints="x") == "x"
    assert hops(graph_of(r1="r2", r2=""), {"r1": 0.1}, hints="r2") == "r1"
    assert hops(graph_of(r1="x"), {"r1": 0.1}, hints="x") == "r1"
    assert hops(STAR, {"r1": 0.1, "x": 0.1}, hints="x r1") == "r1 x"
    assert hops(graph_of(), {"x": 0.1}, hints="x me t", exclude="x") == ""


def next_to(graph: MeshGraph, name: str) -> set[str]:
    return {BY_ID[PeerId(raw)] for raw in graph.relays_next_to([NAMES[name].raw])}


def test_graph_updates() -> None:
    graph = graph_of(t="r1", r1="r2", r2="r1 r3")
    assert next_to(graph, "r1") == {"r2"}
    assert next_to(graph, "r3") == {"r2"}
    assert next_to(graph, "t") == set()
    graph.update(Announcement(peer_id=NAMES["r2"], sequence=2, tags=("relay-capable",), relays=()))
    assert next_to(graph, "r1") == {"r2"}  # r1 still says so
    assert next_to(graph, "r3") == set()
    graph.update(Announcement(peer_id=NAMES["r2"], sequence=3, relays=(NAMES["r1"],)))
    assert not graph.is_relay(NAMES["r2"])
    assert next_to(graph, "r1") == set()
    graph.update(withdrawal(NAMES["r1"], 2))
    assert set(graph.live) == {T, NAMES["r2"]}
    graph.remove(T)
    graph.remove(T)
    graph.remove(NAMES["r2"])
    assert not graph.live
    assert not graph._edges
    assert not graph._named


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sets(st.integers(0, 4)))))
def test_a_changed_graph_equals_a_new_one(
    changes: list[tuple[int, bool, set[int]]],
) -> None:
    graph = MeshGraph()
    for sequence, (number, capable, named) in enumerate(changes):
        if number in named:  # stands for a removal
            graph.remove(peer(number))
            continue
        graph.update(
            Announcement(
                peer_id=peer(number),
                sequence=sequence,
                tags=(TAG_RELAY_CAPABLE,) if capable else (),
                relays=tuple(map(peer, named)),
            )
        )
    fresh = MeshGraph(graph.live.values())
    assert graph._edges == fresh._edges
    assert graph._relays == fresh._relays


# What a search may cost.

INVENTED = range(1000, 1400)


def crowd(*more: Announcement) -> MeshGraph:
    """Four hundred relays that all know each other, or say so."""
    return MeshGraph(
        [
            *(
                Announcement(
                    peer_id=peer(n), sequence=1, tags=(TAG_RELAY_CAPABLE,), relays=(*map(peer, range(n + 1, n + 17)),)
                )
                for n in INVENTED
            ),
            *more,
        ]
    )


def test_a_search_looks_at_so_many_edges_and_no_more() -> None:
    graph = crowd()
    effort = Effort(3000)
    target = peer(INVENTED[200])
    assert find_next_hops(target, {NAMES["x"]: 0.1}, graph, self_id=ME, effort=effort) == []
    assert 0 <= effort.edges < 3000
    whole = Effort(1 << 20)
    assert find_next_hops(target, {peer(INVENTED[140]): 0.1}, graph, self_id=ME, effort=whole) != []
    assert find_next_hops(target, {peer(INVENTED[140]): 0.1}, graph, self_id=ME, effort=Effort(100)) == []


def test_ways_of_three_legs_are_found_whatever_is_left() -> None:
    graph = graph_of(t="r2", r2="r1", r1="")
    neighbors = {NAMES["r1"]: 0.1, NAMES["x"]: 0.01}
    effort = Effort(0)
    assert find_next_hops(T, neighbors, graph, self_id=ME, effort=effort) == [NAMES["r1"]]
    assert find_next_hops(T, {NAMES["r1"]: 0.1, NAMES["r2"]: 0.2}, graph, self_id=ME, effort=effort) == [
        NAMES["r2"],
        NAMES["r1"],
    ]
    chain = graph_of(t="r3", r3="r2", r2="r1", r1="")
    assert find_next_hops(T, {NAMES["r1"]: 0.1, NAMES["r2"]: 0.2}, chain, self_id=ME, effort=effort) == [NAMES["r2"]]
    assert find_next_hops(T, neighbors, graph, self_id=ME, max_hops=2, effort=effort) == []
    longer = graph_of(t="r3", r3="r2", r2="r1", r1="")
    assert find_next_hops(T, neighbors, longer, self_id=ME, effort=effort) == []
    assert find_next_hops(T, neighbors, longer, self_id=ME, effort=Effort(2)) == [NAMES["r1"]]


def test_all_searches_together_have_a_share_of_the_time() -> None:
    graph = crowd(*graph_of(t="r3", r3="r2", r2="r1", r1="").live.values())
    finder = RouteFinder(graph, ME)
    neighbors = {NAMES["r1"]: 0.1}

    def use_up(now: float) -> int:
        looked = 0
        while finder.next_hops(T, neighbors, now) and looked < 10_000:
            assert finder.next_hops(peer(INVENTED[200]), neighbors, now) == []
            looked += 1
        return looked

    looked = use_up(0.0)
    assert 10 < looked < 10_000  # what others have sought has used it up
    assert finder.next_hops(NAMES["r3"], neighbors, 0.0) == [NAMES["r1"]]  # three legs
    assert finder.next_hops(T, neighbors, 1.0) == [NAMES["r1"]]
    use_up(1.0)
    assert 0 < use_up(1.1) < looked / 2


def test_one_search_takes_a_part_of_that() -> None:
    chance = random.Random(1)
    relays = [peer(number) for number in range(1000, 4000)]
    graph = MeshGraph(
        Announcement(peer_id=relay, sequence=1, tags=(TAG_RELAY_CAPABLE,), relays=tuple(chance.sample(relays[:at], 16)))
        for at, relay in enumerate(relays)
        if at >= 16
    )
    finder = RouteFinder(graph, ME)
    before = finder._edges.available(0.0)
    assert finder.next_hops(relays[-1], {NAMES["x"]: 0.1}, 0.0) == []
    assert 1 << 10 < before - finder._edges.available(0.0) <= 1 << 16 < sum(map(len, graph._edges.values()))


# Raced against all simple paths, one by one.

SIZE = 6
NUMBERS = st.integers(1, SIZE - 1)
ANNOUNCED = st.tuples(st.booleans(), st.booleans(), st.sets(st.integers(0, SIZE - 1)))


def slow_next_hops(
    live: dict[int, tuple[bool, set[int]]],
    rtts: dict[int, float | None],
    exclude: set[int],
    hints: set[int],
    max_hops: int,
) -> list[int]:
    """Node 0 asks for node 1: every order of every set of relays between them is tried."""
    relays = {number for number, (capable, _) in live.items() if capable}

    def edge(one: int, other: int) -> bool:
        if other == 1:
            return one in hints or (one in relays and 1 in live and one in live[1][1])
        if one not in relays | hints or other not in relays | hints:
            return False
        return any(first in relays and second in live[first][1] for first, second in ((one, other), (other, one))) and (
            one in relays
        )

    best: dict[int, int] = {}
    if 1 in rtts and 1 not in exclude and max_hops >= 1:
        best[1] = 1
    usable = [number for number in range(2, SIZE) if number not in exclude]
    for count in range(1, SIZE - 1):
        for path in itertools.permutations(usable, count):
            legs = count + 1
            if path[0] not in rtts or legs > max_hops:
                continue
            if all(edge(one, other) for one, other in zip(path, (*path[1:], 1), strict=True)):
                best[path[0]] = min(legs, best.get(path[0], legs))

    def rank(number: int) -> tuple[int, float, int]:
        rtt = rtts[number]
        return best[number], float("inf") if rtt is None else rtt, number

    return sorted(best, key=rank)


@given(
    named=st.lists(ANNOUNCED, min_size=SIZE, max_size=SIZE),
    rtts=st.dictionaries(NUMBERS, st.none() | st.sampled_from([0.1, 0.2])),
    exclude=st.sets(NUMBERS, max_size=2),
    hints=st.sets(st.integers(0, SIZE - 1), max_size=1),
    max_hops=st.integers(0, SIZE),
    limit=st.integers(1, SIZE),
)
def test_against_every_path(
    named: list[tuple[bool, bool, set[int]]],
    rtts: dict[int, float | None],
    exclude: set[int],
    hints: set[int],
    max_hops: int,
    limit: int,
) -> None:
    live = {number: (capable, relays - {number}) for number, (alive, capable, relays) in enumerate(named) if alive}
    graph = MeshGraph(
        Announcement(
            peer_id=peer(number),
            sequence=1,
            tags=(TAG_RELAY_CAPABLE,) if capable else (),
            relays=tuple(map(peer, sorted(relays))),
        )
        for number, (capable, relays) in live.items()
    )
    found = find_next_hops(
        peer(1),
        {peer(number): rtt for number, rtt in rtts.items()},
        graph,
        self_id=peer(0),
        exclude=set(map(peer, exclude)),
        hints=set(map(peer, hints)),
        max_hops=max_hops,
        limit=limit,
    )
    expected = slow_next_hops(live, rtts, exclude, hints, max_hops)
    assert found == [peer(number) for number in expected][:limit]

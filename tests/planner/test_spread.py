"""Which clusters may be used: the reference's regions, and an exact choice for any field."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.planner.regions import Region, select_regions
from federation.planner.spread import Candidate, Infeasible, Selection, Spread, ensure_groups, ineligible, select
from federation.planner.spread_exact import Problem, solve

FIELDS = ("region", "zone", "cluster")


def make_candidate(name: str, available: int = 10, score: int = 0, **groups: str) -> Candidate:
    return Candidate(name=name, available=available, groups=groups, score=score)


def selected(*candidates: Candidate, by: tuple[Spread, ...], need: int | None) -> Selection:
    selection = select(candidates, by, need)
    assert isinstance(selection, Selection), selection
    return selection


def refused(*candidates: Candidate, by: tuple[Spread, ...], need: int | None) -> Infeasible:
    refusal = select(candidates, by, need)
    assert isinstance(refusal, Infeasible), refusal
    return refusal


def test_the_regions_of_the_best_score_win():
    regions = [Region("R1", 1, 60), Region("R2", 1, 50), Region("R3", 1, 40), Region("R4", 3, 30), Region("R5", 3, 20)]

    chosen = select_regions(regions, min_regions=1, max_regions=3, min_clusters=6)

    assert chosen == ["R1", "R4", "R5"]


def test_a_beginning_of_the_best_combination_is_preferred_to_all_of_it():
    regions = [Region("R1", 1, 80), Region("R2", 4, 40), Region("R3", 1, 30), Region("R4", 3, 30), Region("R5", 3, 20)]

    chosen = select_regions(regions, min_regions=2, max_regions=6, min_clusters=5)

    assert chosen == ["R1", "R2"]


def test_of_two_combinations_with_one_score_the_one_with_more_clusters_wins():
    regions = [Region("R4", 1, 60), Region("R3", 3, 50), Region("R1", 3, 40), Region("R2", 4, 30)]

    chosen = select_regions(regions, min_regions=1, max_regions=2, min_clusters=5)

    assert chosen == ["R3", "R1"]


@pytest.mark.parametrize(("least", "clusters"), [(3, 1), (1, 4)])
def test_too_few_regions_or_clusters_are_no_choice(least: int, clusters: int):
    assert select_regions([Region("R1", 1, 80), Region("R2", 2, 30)], least, 3, clusters) is None


def test_a_search_over_too_many_regions_is_refused_rather_than_endless():
    regions = [Region(f"R{at:02}", 1, at) for at in range(40)]

    with pytest.raises(ValueError, match="more than 100000 combinations of 40 regions"):
        select_regions(regions, min_regions=10, max_regions=20, min_clusters=10)


def _all_regions(regions: list[Region], least: int, most: int, clusters: int) -> list[str] | None:
    """The rule without its search: every set that is enough while the set without its last region is not."""
    ordered = sorted(regions, key=lambda r: (r.clusters, -r.score, r.name))
    found = []
    for size in range(least, min(most, len(ordered)) + 1):
        for path in combinations(range(len(ordered)), size):
            inner = path[:-1]
            enough = sum(ordered[at].clusters for at in path) >= clusters
            extended = any(
                len(inner[:cut]) >= least and sum(ordered[at].clusters for at in inner[:cut]) >= clusters
                for cut in range(size)
            )
            if enough and not extended:
                found.append(path)
    best = None
    ranked = sorted(found, key=lambda p: (-sum(ordered[a].score for a in p), -sum(ordered[a].clusters for a in p), p))
    for path in ranked:
        names = [r.name for r in sorted((ordered[a] for a in path), key=lambda r: (-r.score, r.name))]
        if best is None or (len(names) < len(best) and best[: len(names)] == names):
            best = names
    return best


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 9),
)
def test_the_search_for_regions_finds_what_all_combinations_hold(shapes, least, most, clusters):
    regions = [Region(f"R{at}", count, score) for at, (count, score) in enumerate(shapes)]

    assert select_regions(regions, least, most, clusters) == _all_regions(regions, least, most, clusters)


def test_without_constraints_every_cluster_with_room_may_be_used():
    selection = selected(make_candidate("a", 1), make_candidate("b", 0), make_candidate("c", 9), by=(), need=4)

    assert selection.clusters == ("c", "a")


def test_the_best_clusters_are_kept_and_only_the_last_gives_way_to_a_roomier_one():
    candidates = (
        make_candidate("a", 1, score=100),
        make_candidate("b", 2, score=50),
        make_candidate("c", 3),
        make_candidate("d", 8),
    )

    selection = selected(*candidates, by=(Spread(by="cluster", max_groups=2),), need=9)

    assert selection.clusters == ("a", "d")


def test_the_roomiest_clusters_are_found_where_only_they_are_enough():
    candidates = (
        make_candidate("a", 5, score=9),
        make_candidate("b", 5, score=9),
        make_candidate("c", 7),
        make_candidate("d", 8),
    )

    selection = selected(*candidates, by=(Spread(by="cluster", max_groups=2),), need=15)

    assert set(selection.clusters) == {"c", "d"}


def test_any_label_can_be_spread_by():
    candidates = (
        make_candidate("a", 5, rack="r1"),
        make_candidate("b", 5, rack="r1"),
        make_candidate("c", 5, rack="r2"),
    )

    selection = selected(*candidates, by=(Spread(by="rack", min_groups=2),), need=3)

    assert selection.seeds == ("a", "c")


def test_a_cluster_without_the_label_is_left_out_with_its_reason():
    spreads = (Spread(by="region"), Spread(by="zone"))

    assert ineligible(make_candidate("a", zone="z1"), spreads, 1) == "no region to spread by"
    assert ineligible(make_candidate("b", 0, zone="z1", region="r1"), spreads, 1) == "no room for a replica"
    assert ineligible(make_candidate("c", 0, zone="z1", region="r1"), spreads, None) is None


@pytest.mark.parametrize(
    ("spread", "need", "reason"),
    [
        (Spread(by="region", min_groups=3), 9, "region: 2 groups can be used, at least 3 are asked for"),
        (Spread(by="region", min_groups=2, max_groups=1), 9, "region: 1 groups can be used, at least 2 are asked for"),
        (Spread(by="region", min_groups=2), 1, "region: 1 replicas cannot be in 2 groups"),
        (Spread(by="region", max_groups=1), 9, "region: 9 replicas are asked for, the 1 roomiest take 8"),
    ],
)
def test_a_refusal_says_which_constraint_and_how_far_off(spread: Spread, need: int, reason: str):
    candidates = (
        make_candidate("a", 4, region="r1"),
        make_candidate("b", 4, region="r1"),
        make_candidate("c", 3, region="r2"),
    )

    assert refused(*candidates, by=(spread,), need=need) == Infeasible(reason=reason)


def test_constraints_that_only_fail_together_are_proven_to():
    candidates = (
        make_candidate("a", 4, region="r1"),
        *(make_candidate(name, room, region="r2") for name, room in (("b", 3), ("c", 3), ("d", 2))),
    )
    spreads = (Spread(by="region", max_groups=1), Spread(by="cluster", max_groups=2))

    refusal = refused(*candidates, by=spreads, need=7)

    assert refusal == Infeasible(reason="no choice of clusters satisfies region and cluster together")


def test_where_the_roomiest_of_each_order_fails_the_combinations_are_gone_through():
    rooms = {"a": (9, "r1", "x"), "b": (1, "r2", "x"), "c": (8, "r1", "y"), "d": (5, "r2", "z"), "e": (5, "r3", "z")}
    candidates = [make_candidate(name, room, region=r, zone=z) for name, (room, r, z) in rooms.items()]
    spreads = (Spread(by="region", max_groups=2), Spread(by="zone", max_groups=1))

    selection = selected(*candidates, by=spreads, need=10)

    assert set(selection.clusters) in ({"a", "b"}, {"d", "e"})
    assert refused(*candidates, by=spreads, need=11).proven


def test_as_few_replicas_as_groups_go_where_each_brings_a_new_group_of_both_fields():
    places = {"a": ("r1", "x"), "b": ("r1", "y"), "c": ("r2", "x"), "d": ("r3", "z")}
    candidates = [make_candidate(name, region=region, zone=zone) for name, (region, zone) in places.items()]
    spreads = (Spread(by="region", min_groups=3), Spread(by="zone", min_groups=3))

    selection = selected(*candidates, by=spreads, need=3)

    assert sorted(selection.seeds) == ["b", "c", "d"]


def test_a_large_pool_with_crossing_fields_is_answered_at_once():
    candidates = [
        make_candidate(
            f"c{at:03}", at * 37 % 50, region=f"r{at % 10}", zone=f"z{at * 13 % 30}", provider=f"p{at * 7 % 3}"
        )
        for at in range(600)
    ]
    spreads = (Spread(by="region", max_groups=3), Spread(by="zone", max_groups=8), Spread(by="provider", max_groups=2))

    refusal = refused(*candidates, by=spreads, need=3_900)

    assert refusal.proven


def test_a_field_named_twice_holds_both_times():
    candidates = tuple(make_candidate(f"c{at}", region=f"r{at}") for at in range(5))
    spreads = (Spread(by="region", min_groups=2), Spread(by="region", max_groups=3))

    selection = selected(*candidates, by=spreads, need=4)

    assert len(selection.clusters) == 3
    assert len(selection.seeds) == 2


def _holds(chosen, spreads, need) -> bool:
    counts = [len({c.group(s.by) for c in chosen}) for s in spreads]
    inside = all(
        n >= s.min_groups and (s.max_groups is None or n <= s.max_groups) for n, s in zip(counts, spreads, strict=True)
    )
    return bool(chosen) and inside and (need is None or sum(c.available for c in chosen) >= need)


def _minima_hold(chosen, spreads) -> bool:
    return all(len({c.group(s.by) for c in chosen}) >= s.min_groups for s in spreads)


def _feasible(candidates, spreads, need) -> bool:
    able = [c for c in candidates if need is None or c.available > 0]
    return any(
        _holds(chosen, spreads, need)
        and (need is None or any(_minima_hold(few, spreads) for few in _subsets(chosen, min(need, len(chosen)))))
        for chosen in _subsets(able, len(able))
    )


def _subsets(items, most: int):
    return (subset for size in range(most + 1) for subset in combinations(items, size))


@st.composite
def instances(draw):
    candidates = [
        Candidate(
            name=f"c{at}",
            available=draw(st.integers(0, 5)),
            groups={"region": draw(st.sampled_from("rst")), "zone": draw(st.sampled_from("xyz"))},
            score=draw(st.sampled_from((0, 100))),
        )
        for at in range(draw(st.integers(1, 6)))
    ]
    spreads = []
    for by in draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3, unique=True)):
        least = draw(st.integers(0, 3))
        most = draw(st.one_of(st.none(), st.integers(max(1, least), 4)))
        spreads.append(Spread(by=by, min_groups=least, max_groups=most))
    return candidates, tuple(spreads), draw(st.one_of(st.none(), st.integers(1, 14)))


@settings(max_examples=300, deadline=None)
@given(instances())
def test_a_choice_is_found_exactly_where_one_exists(instance):
    candidates, spreads, need = instance

    found = select(candidates, spreads, need)

    assert isinstance(found, Selection) == _feasible(candidates, spreads, need)
    if isinstance(found, Selection):
        assert _holds(found.candidates, spreads, need)
        assert _minima_hold([c for c in candidates if c.name in found.seeds], [s for s in spreads if s.min_groups > 1])
        assert need is None or len(found.seeds) <= need
        assert select(reversed(candidates), spreads, need) == found


@settings(max_examples=150, deadline=None)
@given(instances())
def test_the_solver_alone_is_exact_too(instance):
    candidates, spreads, need = instance
    able = [c for c in candidates if need is None or c.available > 0]
    problem = Problem(
        rooms=tuple(c.available for c in able),
        scores=tuple(c.score for c in able),
        groups=tuple(tuple(c.group(s.by) or "" for c in able) for s in spreads),
        bounds=tuple((s.min_groups, s.max_groups) for s in spreads),
        need=need,
    )

    solution = solve(problem) if able else None

    feasible = any(s.min_groups for s in spreads) or need is not None
    if feasible and solution is not None:
        assert bool(solution.chosen) == _feasible(candidates, spreads, need)
        assert solution.proven


@settings(max_examples=300, deadline=None)
@given(instances(), st.data())
def test_every_minimum_holds_after_dividing(instance, data):
    candidates, spreads, need = instance
    found = select(candidates, spreads, need)
    if need is None or isinstance(found, Infeasible):
        return
    left, counts = need, {}
    for candidate in data.draw(st.permutations(found.candidates)):
        counts[candidate.name] = min(left, candidate.available)
        left -= counts[candidate.name]

    ensured = ensure_groups(counts, found, previous={})

    assert _minima_hold([c for c in candidates if ensured.get(c.name)], spreads)
    assert sum(ensured.values()) == need
    assert all(ensured[c.name] <= c.available for c in candidates if c.name in ensured)


def test_a_division_that_already_reaches_the_minima_is_left_alone():
    candidates = (make_candidate("a", region="r1"), make_candidate("b", region="r2"), make_candidate("c", region="r3"))
    selection = selected(*candidates, by=(Spread(by="region", min_groups=2),), need=4)

    assert ensure_groups({"b": 3, "c": 1}, selection, previous={}) == {"b": 3, "c": 1}


def test_a_replica_not_yet_running_moves_before_one_that_runs():
    candidates = (make_candidate("a", region="r1"), make_candidate("b", region="r1"), make_candidate("c", region="r2"))
    selection = selected(*candidates, by=(Spread(by="region", min_groups=2),), need=5)

    ensured = ensure_groups({"a": 3, "b": 2}, selection, previous={"a": 3, "b": 1})

    assert ensured == {"a": 3, "b": 1, "c": 1}

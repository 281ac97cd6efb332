"""The image of the pool: its estimate against a plain count, and what changes in it against a new image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from federation.domain.cluster import ClusterPhase, Node, Unbound
from federation.domain.events import Taint
from federation.domain.placement import Placement
from federation.domain.resources import parse_needed
from federation.domain.workload import Component, Toleration
from federation.planner.estimate import Shape, estimates_of
from federation.planner.pool import Pool
from tests.builders import Site, cpu, holding, make_cluster, make_node, make_placement, make_pool

GPU = "nvidia.com/gpu"
SHAPES = (
    Component(replicas=1, requests={"cpu": "1"}),
    Component(replicas=1, requests={"cpu": "500m", "memory": "3Gi"}),
    Component(replicas=1, requests={"cpu": "1", GPU: "2"}),
    Component(replicas=1, requests={}),
    Component(replicas=1, requests={"cpu": "1"}, node_selector={"disk": "ssd"}),
    Component(replicas=1, requests={"cpu": "1"}, node_selector={"kubernetes.io/hostname": "n-1"}),
    Component(replicas=1, requests={"cpu": "1"}, tolerations=(Toleration(key="dedicated", operator="Exists"),)),
    Component(replicas=1, requests={"example.com/rare": "1"}),
)


def shape_of(pool: Pool, component: Component) -> Shape:
    """The shape, up to date; rows for rare resources are made before the pool is settled, as a cycle does."""
    shape = estimates_of(pool).shape(component)
    pool.settle()
    estimates_of(pool).refresh(shape)
    return shape


def fits(pool: Pool, component: Component) -> dict[str, int]:
    shape = shape_of(pool, component)
    ids = np.array([pool.members[name].id for name in sorted(pool.members)], np.intp)
    return dict(zip(sorted(pool.members), estimates_of(pool).fits(shape, ids).tolist(), strict=True))


def free(pool: Pool, cluster: str) -> dict[str, dict[str, int]]:
    """What is free on each node of *cluster*, without zeros."""
    pool.settle()
    member = pool.members[cluster]
    return {
        name: {
            r: int(pool.table.free[row, member.start + at])
            for r, row in pool.table.rows.items()
            if pool.table.free[row, member.start + at]
        }
        for at, name in enumerate(member.names)
    }


def test_an_estimate_counts_whole_pods_node_by_node():
    pool = make_pool(make_cluster("east", nodes=[make_node("a", cores=3), make_node("b", cores=3)]))

    assert fits(pool, Component(replicas=1, requests={"cpu": "2"})) == {"east": 2}


def test_one_node_without_pod_slots_does_not_end_the_count():
    full = make_node("a", cores=8, amounts={"pods": 0})
    pool = make_pool(make_cluster("east", nodes=[full, make_node("b", cores=8)]))

    assert fits(pool, Component(replicas=1, requests={"cpu": "1"})) == {"east": 8}


def test_a_node_that_names_no_pod_slots_has_110():
    node = Node(name="a", allocatable={"cpu": 1_000_000})
    pool = make_pool(make_cluster("east", nodes=[node]))

    assert fits(pool, Component(replicas=1, requests={"cpu": "1"})) == {"east": 110}


def test_nodes_out_of_use_offer_nothing():
    pool = make_pool(make_cluster("east", nodes=[make_node("a"), make_node("b", usable=False)]))

    assert fits(pool, Component(replicas=1, requests={"cpu": "1"})) == {"east": 4}


def test_a_debt_of_one_node_lessens_what_the_cluster_may_take():
    overdrawn = make_node("a", cores=4, requested=6)
    pool = make_pool(make_cluster("east", nodes=[overdrawn, make_node("b", cores=4)]))

    assert fits(pool, Component(replicas=1, requests={"cpu": "1"})) == {"east": 2}


def test_held_replicas_are_not_free():
    held = make_placement("east", replicas=3, bound=0, holds={"east-000": 3})
    pool = make_pool(make_cluster("east", cores=4, nodes=2), placements=[held])

    assert fits(pool, Component(replicas=1, requests={"cpu": "2"})) == {"east": 2}


def test_a_hold_whose_node_is_gone_is_laid_on_another():
    held = make_placement("east", replicas=3, bound=0, holds={"lost": 3})
    pool = make_pool(make_cluster("east", cores=4, nodes=2), placements=[held])

    assert free(pool, "east")["east-000"]["cpu"] == 1000


def test_unbound_pods_of_others_are_laid_the_biggest_first():
    site = make_cluster("east", nodes=[make_node("a", cores=4), make_node("b", cores=3)])
    waiting = (Unbound(cpu(1), 4), Unbound(cpu(3), 1))
    pool = make_pool(Site(replace(site.cluster, unbound=waiting), site.nodes))

    assert free(pool, "east")["b"].get("cpu", 0) == free(pool, "east")["a"].get("cpu", 0) == 0


def test_the_growth_of_bound_pods_is_kept_on_their_nodes():
    site = make_cluster("east", nodes=[make_node("a", bound={"p-web-east": {"1": 2}}, requested=2), make_node("b")])
    here = make_placement("east", replicas=2)
    rolling = here.asking(replace(here.asks[0], version=2, revision="2", requests=cpu(1.5)))
    pool = make_pool(site, placements=[rolling])

    assert free(pool, "east")["a"]["cpu"] == 1000


def test_an_ended_and_released_placement_gives_its_room_back():
    held = make_placement("east", replicas=3, bound=0, holds={"east-000": 3})
    pool = make_pool(make_cluster("east", cores=4, nodes=1), placements=[held])

    pool.put_placements([replace(held, ended=True, released=True, asks=(), holds={})])

    assert free(pool, "east")["east-000"]["cpu"] == 4000


def test_a_cluster_that_left_offers_nothing_until_it_is_back():
    site = make_cluster("east")
    pool = make_pool(site)
    pool.put_cluster(replace(site.cluster, phase=ClusterPhase.LEFT), silent=False)

    gone = fits(pool, SHAPES[0])
    pool.put_cluster(site.cluster, silent=False)
    pool.put_nodes("east", site.nodes)

    assert (gone, fits(pool, SHAPES[0])) == ({"east": 0}, {"east": 16})


def test_a_resource_is_known_once_a_node_offers_it():
    pool = make_pool(make_cluster("east", nodes=[make_node("a")]))
    before = fits(pool, SHAPES[7])

    pool.put_nodes("east", [make_node("a", amounts={"example.com/rare": 3})])
    site = make_cluster("east", nodes=[make_node("a", amounts={"example.com/rare": 3})])
    pool.put_cluster(site.cluster, silent=False)

    assert (before, fits(pool, SHAPES[7])) == ({"east": 0}, {"east": 3})


def test_a_cluster_that_outgrows_its_block_is_counted_once():
    pool = make_pool(make_cluster("east", cores=4, nodes=1))
    before = fits(pool, SHAPES[0])

    grown = make_cluster("east", cores=4, nodes=9)
    pool.put_nodes("east", grown.nodes)
    pool.put_cluster(grown.cluster, silent=False)

    assert (before, fits(pool, SHAPES[0])) == ({"east": 4}, {"east": 36})


def test_a_kind_of_node_that_comes_in_place_of_another_is_judged_anew():
    plain, fast = make_node("a"), make_node("a", labels={"disk": "ssd"})
    pool = make_pool(make_cluster("east", nodes=[plain]))
    seen = [fits(pool, SHAPES[4])["east"]]

    for node in (make_node("a", labels={"disk": "hdd"}), fast, plain):
        pool.put_nodes("east", [node])
        seen.append(fits(pool, SHAPES[4])["east"])

    assert seen == [0, 0, 4, 0]


def test_holes_are_closed_once_most_of_the_columns_are_holes():
    sites = [make_cluster(f"c{index:02}", cores=index % 3 + 1, nodes=200) for index in range(30)]
    pool = make_pool(*sites)
    held = make_placement("c29", replicas=2, bound=0, holds={"c29-007": 2})
    pool.put_placements([held])
    before, rows = fits(pool, SHAPES[0]), free(pool, "c29")
    for index in range(28):
        pool.drop_cluster(f"c{index:02}")

    pool.settle()

    assert pool.table.end == 400
    assert fits(pool, SHAPES[0]) == {name: before[name] for name in ("c28", "c29")}
    assert free(pool, "c29") == rows


# --- properties ------------------------------------------------------------------------------------------------------

NAMES = ("n-0", "n-1", "n-2", "n-3", "n-4", "n-5")
nodes = st.builds(
    lambda name, cores, used, gpus, rare, ssd, tainted, usable, gone, bound: make_node(
        name,
        cores=cores,
        requested=used,
        gpus=gpus,
        amounts={"example.com/rare": rare} if rare else {},
        labels={"disk": "ssd"} if ssd else {},
        taints=(Taint(key="dedicated", value="x"),) if tainted else (),
        usable=usable,
        gone=gone,
        bound={"p-web-east": {"1": bound}} if bound else {},
    ),
    st.sampled_from(NAMES),
    st.integers(0, 8),
    st.integers(0, 9),
    st.integers(0, 4),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([False, False, False, True]),
    st.integers(0, 2),
)


def placements_in(cluster: str) -> st.SearchStrategy[Placement]:
    return st.builds(
        _placement,
        st.just(cluster),
        st.sampled_from(("web", "api")),
        st.integers(0, 4),
        st.integers(0, 2),
        st.dictionaries(st.sampled_from((*NAMES, "", "gone")), st.integers(1, 2), max_size=2),
        st.booleans(),
        st.booleans(),
    )


def _placement(
    cluster: str, workload: str, replicas: int, bound: int, holds: Mapping[str, int], rolling: bool, released: bool
) -> Placement:
    placement = make_placement(
        cluster, workload=workload, replicas=max(replicas, bound), bound=bound, holds=dict(holds)
    )
    if rolling:
        placement = placement.asking(replace(placement.asks[0], version=2, requests=cpu(2)))
    return replace(placement, released=released)


@dataclass
class Rows:
    """What SQL would hold: the last row of everything."""

    nodes: dict[str, dict[str, Node]] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    unbound: dict[str, tuple[Unbound, ...]] = field(default_factory=dict)

    def site(self, cluster: str) -> Site:
        rows = [node for node in self.nodes.get(cluster, {}).values() if not node.gone]
        site = make_cluster(cluster, nodes=rows, unbound=self.unbound.get(cluster, ()))
        return Site(holding(site.cluster, list(self.placements.values())), rows)

    def fresh(self) -> Pool:
        pool = Pool()
        for cluster in sorted(self.nodes, reverse=True):
            site = self.site(cluster)
            pool.put_cluster(holding(site.cluster, list(self.placements.values())), silent=False)
            pool.put_nodes(cluster, list(reversed(site.nodes)))
        pool.put_placements(list(self.placements.values()))
        return pool


clusters = st.sampled_from(("east", "west"))
steps = st.one_of(
    st.tuples(st.just("nodes"), clusters, st.lists(nodes, max_size=4)),
    clusters.flatmap(
        lambda name: st.tuples(st.just("placements"), st.just(name), st.lists(placements_in(name), max_size=2))
    ),
    st.tuples(
        st.just("unbound"),
        clusters,
        st.lists(
            st.builds(lambda cores, count: Unbound(cpu(cores), count), st.integers(1, 3), st.integers(1, 3)), max_size=2
        ),
    ),
    st.tuples(st.just("ask"), clusters, st.just([])),
)


def apply(rows: Rows, pool: Pool, step: tuple[str, str, Sequence[object]]) -> None:
    what, cluster, values = step
    if what == "nodes":
        rows.nodes.setdefault(cluster, {}).update({node.name: node for node in values})
        pool.put_nodes(cluster, values)
    elif what == "placements":
        rows.nodes.setdefault(cluster, {})
        rows.placements.update({placement.id: placement for placement in values})
        pool.put_placements(values)
    elif what == "unbound":
        rows.nodes.setdefault(cluster, {})
        rows.unbound[cluster] = tuple(values)
    else:
        for component in SHAPES:
            shape_of(pool, component)
    if cluster in rows.nodes:
        pool.put_cluster(holding(rows.site(cluster).cluster, list(rows.placements.values())), silent=False)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=12))
def test_an_image_kept_current_equals_a_new_one(history):
    rows, pool = Rows(), Pool()

    for step in history:
        apply(rows, pool, step)

    fresh = rows.fresh()
    assert [fits(pool, shape) for shape in SHAPES] == [fits(fresh, shape) for shape in SHAPES]
    for cluster in rows.nodes:
        assert free(pool, cluster) == free(fresh, cluster)


@settings(max_examples=200, deadline=None)
@given(st.lists(nodes, max_size=6, unique_by=lambda node: node.name), st.sampled_from(SHAPES))
def test_an_estimate_equals_a_plain_count(rows, component):
    site = make_cluster("east", nodes=rows)
    pool = make_pool(site)

    assert fits(pool, component)["east"] == plain_count(site, component)


def plain_count(site: Site, component: Component) -> int:
    """The estimate as a loop over nodes, then held against the sums."""
    request = {**parse_needed(component.requests), "pods": 1}
    count = 0
    for node in site.nodes:
        tolerated = not node.taints or bool(component.tolerations)
        selected = all(node.labels.get(key) == value for key, value in component.node_selector.items())
        if node.gone or not node.usable or not tolerated or not selected:
            continue
        left = {name: node.allocatable.get(name, 0) - node.requested.get(name, 0) for name in request}
        count += max(0, min(left[name] // amount for name, amount in request.items()))
    known, used = site.cluster.known, site.cluster.used
    sums = [(known.get(name, 0) - used.get(name, 0)) // amount for name, amount in request.items() if name != "pods"]
    return max(0, min([count, *sums]))

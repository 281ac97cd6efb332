"""Committing plans: guarded, held against what is known, dropped alone, and recorded so that they can be made again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from adapters.sql.schema import migrate
from adapters.sql.store import open_store
from federation.domain.cluster import Cluster
from federation.domain.events import Taint
from federation.domain.manifest import deployment_for
from federation.domain.placement import AskKind
from federation.domain.records import Cycle
from federation.domain.workload import PlacementRules, Strategy, Workload, WorkloadKind, WorkloadPhase, WorkloadStep
from federation.planner.plan import PLACED, PLANNER, WAITING, Allotment, Outcome, Plan
from federation.services.committing import Basis, Done, commit
from tests.services.hub import START, Agent, Hub, hub, replace_store
from tests.testbed.postgres import Postgres


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub(tmp_path) as started:
        yield started


async def joined(here: Hub, *names: str, cores: int = 8) -> list[Agent]:
    """Clusters of one node each."""
    agents = [here.agent(name) for name in names]
    for agent in agents:
        agent.join(agent.node(cores=cores))
    await here.fold()
    return agents


def outcome(workload: Workload, *allotments: Allotment, status: str = PLACED) -> Outcome:
    return Outcome(workload=workload.id, version=workload.version, status=status, allotments=allotments)


def plan(*outcomes: Outcome) -> Plan:
    return Plan(outcomes=outcomes, explanations=(), raised={}, seed=1)


async def basis(here: Hub, *names: str) -> Basis:
    """What a plan made now would rest on."""
    clusters = [await here.cluster(name) for name in names]
    cycle = Cycle(id=here.ids.new(), at_ms=START, seed=1, planner=PLANNER, offsets={}, revisions={})
    return Basis(cycle, {each.name: (each.definition, each.decisions) for each in clusters})


async def committed(here: Hub, made: Plan, on: Basis) -> Done:
    async with here.store.transaction() as tx:
        return await commit(tx, made, on, here.ids)


async def edit(here: Hub, name: str, **fields: object) -> None:
    """Another's commit to a cluster."""
    async with here.store.transaction() as tx:
        before = (await tx.lock_clusters([name]))[name]
        await tx.save_clusters([replace(before, revision=before.revision + 1, **fields)])


def excess(cluster: Cluster) -> dict[str, int]:
    return cluster.excess()


# --- 2.2 guards ------------------------------------------------------------------------------------------------------


async def test_a_plan_that_still_holds_writes_claims_holds_orders_and_its_decision_together(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=3)
    done = await committed(here, plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east"))

    placement, (row,) = await here.placement(), await here.waiting()
    assert [decision.placed for decision in done.decided] == [{"east": 3}]
    assert (placement.claim, placement.holds) == (3, {"n-0": 3})
    assert (row.placement, row.version, row.number, row.doc["replicas"]) == (placement.id, 1, 0, 3)
    assert (await here.cluster()).held == {"cpu": 3000}
    assert ((await here.workload()).phase, (await here.workload()).decided) == (WorkloadPhase.PLACED, 1)


async def test_2_2_a_change_of_the_workload_drops_its_decision(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=3)
    made, on = plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east")
    await here.change(web, replicas=5)
    done = await committed(here, made, on)

    assert done.dropped == {web.id: "the workload is at version 2, planned was 1"}
    assert await here.placements() == []
    assert (await here.workload()).queued


@pytest.mark.parametrize("change", ["cordon", "labels", "taints"])
async def test_2_2_a_change_of_what_may_be_chosen_drops_the_decision(here: Hub, change: str):
    (east,) = await joined(here, "east")
    web = await here.create(replicas=3)
    made, on = plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east")
    if change == "cordon":
        before = await here.cluster()
        await edit(here, "east", cordoned=True, definition=before.definition + 1)
    else:
        fields = {"labels": {"zone": "b"}} if change == "labels" else {"taints": (Taint(key="down"),)}
        east.tell(east.beat(**fields))
        await here.fold()
    done = await committed(here, made, on)

    assert done.dropped == {web.id: "east was changed or decided upon meanwhile"}
    assert (await here.cluster()).held == {}


async def test_2_2_news_of_amounts_alone_drop_nothing(here: Hub):
    (east,) = await joined(here, "east")
    web = await here.create(replicas=3)
    made, on = plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east")
    east.tell(east.node(used=2), east.beat(done=0))
    await here.fold()
    done = await committed(here, made, on)

    assert done.dropped == {}


async def test_2_2_a_mismatch_drops_only_the_decisions_concerned(here: Hub):
    (_, west) = await joined(here, "east", "west")
    web, api, job = [await here.create(name, replicas=2) for name in ("web", "api", "job")]
    made = plan(
        outcome(web, Allotment("east", 2, {"n-0": 2})),
        outcome(api, Allotment("west", 2, {"n-0": 2})),
        outcome(job, Allotment("east", 2, {"n-0": 2})),
    )
    on = await basis(here, "east", "west")
    west.tell(west.beat(labels={"zone": "b"}))
    await here.fold()
    done = await committed(here, made, on)

    assert set(done.dropped) == {api.id}
    assert {decision.workload for decision in done.decided} == {web.id, job.id}
    assert (await here.cluster("east")).held == {"cpu": 4000}


async def test_2_2_a_decision_by_another_scheduler_in_between_drops_what_raises_a_claim_there(here: Hub):
    await joined(here, "east")
    web, api = await here.create("web", replicas=3), await here.create("api", replicas=3)
    on = await basis(here, "east")
    await committed(here, plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), on)
    late = await committed(here, plan(outcome(api, Allotment("east", 3, {"n-0": 3}))), on)

    assert "decided upon meanwhile" in late.dropped[api.id]
    assert len(await here.placements()) == 1


async def test_2_2_what_only_lowers_a_claim_needs_no_guard(here: Hub):
    await joined(here, "east")
    web, api = await here.create("web", replicas=4), await here.create("api", replicas=1)
    await committed(here, plan(outcome(web, Allotment("east", 4, {"n-0": 4}))), await basis(here, "east"))
    await here.change(web, replicas=1)
    on = await basis(here, "east")
    await committed(here, plan(outcome(api, Allotment("east", 1, {"n-0": 1}))), on)
    lower = await committed(here, plan(outcome(await here.workload("web"), Allotment("east", 1))), on)

    assert lower.dropped == {}


async def test_a_cluster_that_became_stale_meanwhile_takes_nothing(here: Hub):
    (east,) = await joined(here, "east")
    web = await here.create(replicas=1)
    made, on = plan(outcome(web, Allotment("east", 1, {"n-0": 1}))), await basis(here, "east")
    east.epoch = 7
    east.tell(east.beat())
    await here.fold()
    done = await committed(here, made, on)

    assert "was not opened" in done.dropped[web.id]


async def test_an_ended_placement_that_still_claims_does_not_hinder_a_decision_elsewhere(here: Hub):
    await joined(here, "east", "west")
    web = await here.create(replicas=2)
    await committed(here, plan(outcome(web, Allotment("east", 2, {"n-0": 2}))), await basis(here, "east"))
    await here.dispatch()
    moved = outcome(web, Allotment("east", 0), Allotment("west", 2, {"n-0": 2}))
    await committed(here, plan(moved), await basis(here, "east", "west"))
    again = await committed(here, plan(outcome(web, Allotment("west", 2))), await basis(here, "west"))

    assert again.dropped == {}
    assert (await here.placement("east")).claim == 2


async def test_a_placement_that_the_plan_did_not_know_drops_the_decision(here: Hub):
    await joined(here, "east", "west")
    web = await here.create(replicas=2)
    on = await basis(here, "east", "west")
    await committed(here, plan(outcome(web, Allotment("east", 2, {"n-0": 2}))), on)
    other = await committed(here, plan(outcome(web, Allotment("west", 2, {"n-0": 2}))), on)

    assert other.dropped == {web.id: "east took a placement meanwhile"}
    assert await here.placements("west") == []


async def test_a_workload_that_has_ended_meanwhile_is_not_placed_again(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=1)
    on = await basis(here, "east")
    async with here.store.transaction() as tx:
        await tx.save_workloads([replace(web.after(WorkloadStep.PLACE).after(WorkloadStep.COMPLETE), decided=1)])
    done = await committed(here, plan(outcome(web, Allotment("east", 1, {"n-0": 1}))), on)

    assert done.dropped == {web.id: "the workload has completed"}


async def test_what_woke_a_workload_after_the_cycle_began_is_not_forgotten(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=1)
    on = await basis(here, "east")
    async with here.store.transaction() as tx:
        await tx.save_workloads([replace(web, wake="a node went", changed_ms=START + 1)])
    await committed(here, plan(outcome(web, Allotment("east", 1, {"n-0": 1}))), on)

    assert (await here.workload()).wake == "a node went"


# --- 2.3 amounts -----------------------------------------------------------------------------------------------------


async def test_2_3_a_commit_that_raises_a_claim_leaves_no_excess(here: Hub):
    await joined(here, "east", cores=4)
    web, api = await here.create("web", replicas=3), await here.create("api", replicas=2)
    made = plan(outcome(web, Allotment("east", 3, {"n-0": 3})), outcome(api, Allotment("east", 2, {"n-0": 2})))
    done = await committed(here, made, await basis(here, "east"))

    assert done.dropped == {api.id: "east has too little cpu left"}
    assert (await here.cluster()).held == {"cpu": 3000}
    assert not excess(await here.cluster())


async def test_2_3_what_the_world_took_meanwhile_is_seen_on_the_locked_rows(here: Hub):
    (east,) = await joined(here, "east", cores=4)
    web = await here.create(replicas=3)
    made, on = plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east")
    east.tell(east.node(cores=4, used=2))
    await here.fold()
    done = await committed(here, made, on)

    assert done.dropped == {web.id: "east has too little cpu left"}


async def test_2_3_pod_slots_are_counted_as_any_other_resource(here: Hub):
    east = here.agent()
    few = replace(east.node(cores=64), allocatable={"cpu": "64", "pods": "5"}, requested={"pods": "3"})
    east.join(few)
    await here.fold()
    web = await here.create(replicas=3, requests={"cpu": "10m"})
    done = await committed(here, plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east"))

    assert done.dropped == {web.id: "east has too little pods left"}


async def test_2_3_a_debt_that_the_world_made_blocks_only_what_would_raise_a_claim_in_it(here: Hub):
    (east,) = await joined(here, "east", cores=8)
    web, api = await here.create("web", replicas=4), await here.create("api", replicas=2)
    first = plan(outcome(web, Allotment("east", 4, {"n-0": 4})), outcome(api, Allotment("east", 2, {"n-0": 2})))
    await committed(here, first, await basis(here, "east"))
    east.tell(east.node(cores=4))
    await here.fold()
    debt = excess(await here.cluster())
    await here.change(web, replicas=3)
    await here.change(api, replicas=3)
    both = plan(
        outcome(await here.workload("web"), Allotment("east", 3)),
        outcome(await here.workload("api"), Allotment("east", 3, {"n-0": 1})),
    )
    done = await committed(here, both, await basis(here, "east"))

    assert debt == {"cpu": 2000}
    assert set(done.dropped) == {api.id}


async def test_2_3_a_pod_that_shows_twice_does_not_hide_that_a_claim_rises(here: Hub):
    (east,) = await joined(here, "east", cores=2)
    p, q = await here.create("p", replicas=1), await here.create("q", replicas=1)
    both = plan(outcome(p, Allotment("east", 1, {"n-0": 1})), outcome(q, Allotment("east", 1, {"n-0": 1})))
    await committed(here, both, await basis(here, "east"))
    names = {each.workload: each.id for each in await here.placements()}
    twice = {names[p.id]: 2, names[q.id]: 1}
    east.tell(east.node(cores=2, used=3, **twice))
    await here.fold()
    await here.change(p, replicas=2)
    raised = plan(outcome(await here.workload("p"), Allotment("east", 2)))
    done = await committed(here, raised, await basis(here, "east"))

    assert done.dropped == {p.id: "east has too little cpu left"}


async def test_2_3_a_rollout_to_a_larger_size_is_held_against_what_its_bound_pods_may_grow_to(here: Hub):
    (east,) = await joined(here, "east", cores=4)
    web = await here.create(replicas=3)
    await committed(here, plan(outcome(web, Allotment("east", 3, {"n-0": 3}))), await basis(here, "east"))
    await here.dispatch()
    name = (await here.placement()).id
    east.tell(east.node(cores=4, used=3, **{name: 3}), east.seen(name, version=1, observed=True, desired=3, live=3))
    await here.fold()
    await here.change(web, replicas=3, component={"requests": {"cpu": "2"}}, revision="2")
    done = await committed(here, plan(outcome(await here.workload(), Allotment("east", 3))), await basis(here, "east"))

    assert done.dropped == {web.id: "east has too little cpu left"}


async def test_2_4_a_commit_moves_the_revision_of_the_clusters_that_it_touches(here: Hub):
    await joined(here, "east", "west")
    web = await here.create(replicas=1)
    before = {name: await here.cluster(name) for name in ("east", "west")}
    made = plan(outcome(web, Allotment("east", 1, {"n-0": 1})))
    await committed(here, made, await basis(here, "east", "west"))
    after = {name: await here.cluster(name) for name in ("east", "west")}

    assert after["east"].revision == before["east"].revision + 1
    assert after["east"].decisions == before["east"].decisions + 1
    assert after["west"] == before["west"]


async def test_2_6_what_does_not_fit_is_an_answer_and_no_conflict_for_ever(here: Hub):
    await joined(here, "east", cores=4)
    await here.create(replicas=30, rules=PlacementRules(strategy=Strategy.STATIC))
    first = await here.cycle()
    second = await here.cycle()

    workload = await here.workload()
    assert workload.phase is WorkloadPhase.WAITING
    assert any("wants 30, fits 4" in reason for reason in workload.reasons)
    assert (first.dropped, second.dropped, here.scheduler.conflicts) == ({}, {}, 0)


async def test_a_shrunk_share_takes_back_orders_that_were_never_sent(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=4)
    await committed(here, plan(outcome(web, Allotment("east", 4, {"n-0": 4}))), await basis(here, "east"))
    await here.change(web, replicas=1)
    fewer = plan(outcome(await here.workload(), Allotment("east", 1)))
    await committed(here, fewer, await basis(here, "east"))

    (row,) = await here.waiting()
    assert (row.version, row.doc["replicas"]) == (2, 1)
    assert ((await here.placement()).claim, (await here.cluster()).held) == (1, {"cpu": 1000})


async def test_an_end_before_anything_was_sent_gives_its_hold_back_at_once(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=4)
    await committed(here, plan(outcome(web, Allotment("east", 4, {"n-0": 4}))), await basis(here, "east"))
    await here.delete(web)
    ended = plan(outcome(await here.workload(), Allotment("east", 0)))
    await committed(here, ended, await basis(here, "east"))

    assert await here.waiting() == []
    assert ((await here.placement()).released, (await here.cluster()).held) == (True, {})


async def test_an_end_after_sending_keeps_the_claim_and_counts_nothing_twice(here: Hub):
    (east,) = await joined(here, "east")
    web = await here.create(replicas=4)
    await committed(here, plan(outcome(web, Allotment("east", 4, {"n-0": 4}))), await basis(here, "east"))
    await here.dispatch()
    name = (await here.placement()).id
    east.tell(east.node(used=4, **{name: 4}), east.seen(name, version=1, observed=True, desired=4, live=4, done=1))
    await here.fold()
    await here.delete(web)
    await committed(here, plan(outcome(await here.workload(), Allotment("east", 0))), await basis(here, "east"))

    placement, cluster = await here.placement(), await here.cluster()
    assert (placement.ended, placement.claim, placement.asks[-1].kind) == (True, 4, AskKind.GONE)
    assert (cluster.used["cpu"], cluster.held) == (4000, {})


async def test_3_6_completions_are_divided_once_pro_rata_and_only_what_is_left_of_an_ended_share_again(here: Hub):
    await joined(here, "east", "west", "north")
    job = await here.create(
        "job", replicas=4, kind=WorkloadKind.JOB, api="batch/v1/Job", completions=10, manifest=_job()
    )
    split = outcome(job, Allotment("east", 3, {"n-0": 3}), Allotment("west", 1, {"n-0": 1}))
    await committed(here, plan(split), await basis(here, "east", "west"))
    await here.dispatch()
    shares = {name: (await here.placement(name)).completions for name in ("east", "west")}
    async with here.store.transaction() as tx:
        (east,) = await tx.placements_in("east")
        told = replace(east, seen=replace(east.seen, succeeded=2))
        await tx.save_placements([(told, 99)])
    moved = outcome(job, Allotment("east", 0), Allotment("west", 1), Allotment("north", 3, {"n-0": 3}))
    await committed(here, plan(moved), await basis(here, "east", "west", "north"))

    assert shares == {"east": 8, "west": 2}
    assert ((await here.placement("west")).completions, (await here.placement("north")).completions) == (2, 6)


async def test_3_6_a_share_smaller_than_the_parallelism_lessens_what_is_held(here: Hub):
    await joined(here, "east")
    job = await here.create(
        "job", replicas=5, kind=WorkloadKind.JOB, api="batch/v1/Job", completions=2, manifest=_job()
    )
    await committed(here, plan(outcome(job, Allotment("east", 5, {"n-0": 5}))), await basis(here, "east"))

    placement = await here.placement()
    assert (placement.held, sum(placement.holds.values())) == (2, 2)
    assert (await here.cluster()).held == {"cpu": 2000}


async def test_a_waiting_outcome_leaves_what_runs_and_says_why(here: Hub):
    await joined(here, "east")
    web = await here.create(replicas=99)
    short = replace(outcome(web, status=WAITING), reasons=("east wants 99, fits 8",))
    await committed(here, plan(short), await basis(here, "east"))

    workload = await here.workload()
    assert (workload.phase, workload.reasons, workload.queued) == (
        WorkloadPhase.WAITING,
        ("east wants 99, fits 8",),
        False,
    )


# --- many at once ----------------------------------------------------------------------------------------------------


async def raced(processes: list[Hub], racers: int) -> None:
    """*racers* workloads of one pod each, decided by all processes at the same time until nobody decides anything."""
    await asyncio.gather(*(processes[index % len(processes)].create(f"racer-{index}") for index in range(racers)))
    for _ in range(6):
        await asyncio.gather(*(process.cycle() for process in processes))


async def test_a_hundred_racers_on_the_last_unit_oversell_nothing(here: Hub):
    await joined(here, "east", cores=1)
    await raced([here, here.twin("b"), here.twin("c"), here.twin("d")], 100)

    cluster = await here.cluster()
    async with here.store.reader() as reader:
        counts = await reader.counts()
    assert (cluster.held["cpu"], excess(cluster)) == (1000, {})
    assert [each.claim for each in await here.placements()] == [1]
    assert (counts["workloads.placed"], counts["workloads.waiting"]) == (1, 99)


async def test_a_hundred_racers_on_postgresql_with_connections_of_their_own_oversell_nothing(
    postgres: Postgres, tmp_path: Path
):
    url = postgres.create_database("racers")
    await migrate(url)
    async with hub(tmp_path) as base:
        stores = [await open_store(url, pool_size=4) for _ in range(4)]
        processes = [replace_store(base.twin(f"{index}-"), store) for index, store in enumerate(stores)]
        await joined(processes[0], "east", "west", cores=2)
        await raced(processes, 100)
        clusters = [await processes[0].cluster(name) for name in ("east", "west")]
        placements = [len(await processes[0].placements(name)) for name in ("east", "west")]
        for store in stores:
            await store.close()

    assert [cluster.held["cpu"] for cluster in clusters] == [2000, 2000]
    assert placements == [2, 2]


def _job() -> dict[str, object]:
    template = deployment_for("job", "pause", 1, {"cpu": "1"})["spec"]["template"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job"},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "template": {"spec": {**template["spec"], "restartPolicy": "Never"}},
        },
    }

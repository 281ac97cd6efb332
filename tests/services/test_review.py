"""What the world's news mean for workloads: withdrawals at the deadline, refusals, losses, ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federation.domain.events import ActionFinished, Autoscaler, NodeGone, Shortage
from federation.domain.manifest import deployment_for
from federation.domain.placement import AskKind
from federation.domain.workload import WorkloadKind, WorkloadPhase
from federation.services.review import AVOID_MS, review
from tests.services.hub import DEADLINE_SECONDS, Agent, Hub, hub


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub(tmp_path) as started:
        yield started


async def placed(here: Hub, replicas: int = 4, **fields: object) -> Agent:
    """A workload sent to east, the one cluster there is."""
    east = here.agent()
    east.join(east.node(cores=16))
    await here.fold()
    await here.create(replicas=replicas, **fields)
    await here.decide()
    return east


async def west_joins(here: Hub) -> Agent:
    west = here.agent("west")
    west.join(west.node(cores=16))
    await here.fold()
    return west


async def observed(here: Hub, agent: Agent, *, bound: int, live: int | None = None, **fields: object) -> None:
    """What the member shows of the one placement there."""
    placement = await here.placement(agent.cluster)
    wanted = placement.asks[-1].replicas
    told = {
        "version": placement.version,
        "observed": True,
        "desired": wanted,
        "done": placement.asks[-1].order,
        **fields,
    }
    agent.tell(agent.node(cores=16, used=bound, **{placement.id: bound}))
    agent.tell(agent.seen(placement.id, live=wanted if live is None else live, bound=bound, **told))
    await here.fold()


async def later(here: Hub, *agents: Agent, seconds: float = DEADLINE_SECONDS + 1) -> None:
    """Time goes by, and the agents are heard."""
    here.clock.advance(seconds)
    for agent in agents:
        done = (await here.cluster(agent.cluster)).done
        agent.tell(agent.beat(done))
    await here.fold()


# --- 3.5 the deadline ------------------------------------------------------------------------------------------------


async def test_3_5_what_is_not_bound_by_the_deadline_is_withdrawn_to_what_is_and_the_rest_planned_again(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=1, unschedulable=Shortage(count=3, reason="0/1 nodes: insufficient cpu"))
    west = await west_joins(here)
    await later(here, east, west)
    orders = await here.decide()

    floor = next(order for order in orders if order["floorAtBound"])
    workload = await here.workload()
    assert (floor["replicas"], floor["version"], floor["order"]) == (1, 2, 2)
    assert (await here.placement("west")).wanted == 3
    assert workload.avoid["east"] == here.clock.now_ms() + AVOID_MS
    assert workload.phase is WorkloadPhase.PLACED


async def test_3_5_it_tells_why_in_the_members_own_words(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=1, unschedulable=Shortage(count=3, reason="0/1 nodes: insufficient cpu"))
    await later(here, east)
    await here.decide()
    async with here.store.reader() as reader:
        workload = await here.workload()
        found = await reader.decision(workload.decision)

    assert workload.phase is WorkloadPhase.DEGRADED
    assert found is not None
    words = "did not run 3 of 4 replicas: 0/1 nodes: insufficient cpu"
    assert [verdict.reason.endswith(words) for verdict in found[0].own] == [True]
    assert any(reason.startswith("east: failed this workload") and words in reason for reason in workload.reasons)


async def test_3_5_the_withdrawal_itself_gives_no_capacity_back(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=1)
    await later(here, east)
    await here.decide()
    withdrawn = (await here.placement(), await here.cluster())
    await observed(here, east, bound=1, live=1, desired=1)

    assert (withdrawn[0].claim, withdrawn[1].held) == (4, {"cpu": 3000})
    assert ((await here.placement()).claim, (await here.cluster()).held) == (1, {})


async def test_3_5_nothing_is_withdrawn_before_the_deadline(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=1)
    await later(here, east, seconds=DEADLINE_SECONDS - 1)

    assert await here.decide() == []


async def test_3_5_the_deadline_runs_from_the_later_of_dispatch_and_the_last_rise_of_held(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=4)
    await later(here, east, seconds=2 * DEADLINE_SECONDS)
    await observed(here, east, bound=3, live=4)
    early = await here.decide()
    await later(here, east, seconds=DEADLINE_SECONDS - 1)
    still = await here.decide()
    await later(here, east, seconds=2)
    late = await here.decide()

    assert (early, still) == ([], [])
    assert [order["floorAtBound"] for order in late] == [True]


async def test_3_5_an_order_that_was_not_sent_yet_is_not_late(here: Hub):
    east = await placed(here, replicas=2)
    await observed(here, east, bound=2)
    await later(here, east, seconds=10 * DEADLINE_SECONDS)
    await here.change(await here.workload(), replicas=6)
    await here.cycle()
    await later(here, east, seconds=2 * DEADLINE_SECONDS)
    await here.cycle()

    placement = await here.placement()
    assert (placement.held, placement.asks[-1].kind, placement.asks[-1].order) == (4, AskKind.WANTED, 0)


async def test_3_5_nothing_is_withdrawn_in_a_cluster_that_is_silent(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=1)
    await later(here)
    silent = await here.decide()
    await later(here, east, seconds=0)
    heard = await here.decide()
    await later(here, east)
    late = await here.decide()

    assert (silent, heard) == ([], [])
    assert [order["floorAtBound"] for order in late] == [True]


async def test_3_5_nothing_is_withdrawn_in_a_cluster_that_is_stale(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=1)
    stranger = here.agent(epoch=5)
    await later(here, east, stranger)

    assert (await here.cluster()).stale
    assert await here.decide() == []


async def test_3_5_a_hub_that_lags_withdraws_nothing_on_old_news(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=1)
    here.clock.advance(DEADLINE_SECONDS + 1)
    east.tell(east.beat(1))
    placement = await here.placement()
    east.tell(east.node(cores=16, used=4, **{placement.id: 4}), east.seen(placement.id, live=4, version=1, done=1))
    await here.fold()

    assert await here.decide() == []


async def test_3_5_never_below_what_was_bound_when_the_agent_reads_it_even_when_nothing_was(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=0)
    west = await west_joins(here)
    await later(here, east, west)
    (floor,) = [order for order in await here.decide() if order["floorAtBound"]]
    await here.decide()
    between = await here.placement()
    await observed(here, east, bound=2, live=2, desired=2)
    await later(here, east, west, seconds=1)
    await here.decide()
    await here.decide()

    assert floor["replicas"] == 0
    assert (between.ended, between.claim) == (False, 4)
    assert not (await here.placement()).ended
    assert (await here.placement()).wanted + (await here.placement("west")).wanted == 4


async def test_3_5_a_floor_that_left_nothing_is_ended(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=0)
    await later(here, east)
    await here.decide()
    await observed(here, east, bound=0, live=0, desired=0)
    (order,) = await here.decide()
    placement = await here.placement()
    await observed(here, east, bound=0, live=0, version=0, observed=False, gone=True)

    assert ("replicas" not in order, placement.ended, placement.claim) == (True, True, 0)
    assert (await here.placement()).released


async def test_3_5_a_floor_is_not_repeated_before_it_is_known_what_it_left(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=2)
    await later(here, east)
    first = await here.decide()
    await observed(here, east, bound=1, live=4, version=1, done=1, desired=4)
    await later(here, east)
    second = await here.decide()

    assert (len(first), second) == (1, [])


async def test_3_5_an_object_that_never_came_is_ended_and_not_left_as_a_floor(here: Hub):
    east = await placed(here)
    await later(here, east)
    (order,) = await here.decide()

    assert "replicas" not in order
    assert (await here.placement()).ended


@pytest.mark.parametrize(("bound", "ends"), [(2, False), (0, True)])
async def test_3_5_statefulsets_are_withdrawn_whole_or_not_at_all(here: Hub, bound: int, ends: bool):
    manifest = {**deployment_for("web", "pause", 4, {"cpu": "1"}), "kind": "StatefulSet"}
    kind = {"kind": WorkloadKind.STATEFUL_SET, "api": "apps/v1/StatefulSet", "single": True, "manifest": manifest}
    east = await placed(here, replicas=4, **kind)
    await observed(here, east, bound=bound)
    await later(here, east)
    orders = await here.decide()

    assert [("replicas" in order) for order in orders] == ([False] if ends else [])
    assert (await here.placement()).ended is ends


async def test_3_7_what_an_autoscaler_sizes_has_no_deadline(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=1, autoscaler=Autoscaler(min_replicas=1, max_replicas=4))
    await later(here, east)

    assert await here.decide() == []


async def test_3_3_a_rollout_that_stalls_is_not_withdrawn_and_not_repeated(here: Hub):
    east = await placed(here, replicas=4, surge=1)
    await observed(here, east, bound=4, updated=4)
    manifest = deployment_for("web", "pause:2", 4, {"cpu": "1"})
    await here.change(await here.workload(), replicas=4, revision="2", manifest=manifest)
    rollout = await here.decide()
    await observed(here, east, bound=4, live=5, updated=0, condition="ProgressDeadlineExceeded")
    await later(here, east)

    assert [order["revision"] for order in rollout] == ["2"]
    assert (await here.placement()).held == 1
    assert await here.decide() == []


# --- refusals --------------------------------------------------------------------------------------------------------


async def refused(here: Hub, east: Agent, order: int, version: int) -> None:
    placement = await here.placement()
    reason = "denied by admission"
    east.tell(
        ActionFinished(
            cluster="east",
            order=order,
            placement=placement.id,
            generation=1,
            version=version,
            outcome="refused",
            reason=reason,
        ),
        east.seen(placement.id, done=order, gone=True, refused=Shortage(count=4, reason=reason)),
    )
    await here.fold()


async def test_a_refused_object_is_withdrawn_at_once_and_planned_elsewhere(here: Hub):
    east = await placed(here)
    await refused(here, east, order=1, version=1)
    await west_joins(here)
    orders = await here.decide()

    assert (await here.placement("east")).ended
    assert (await here.placement("west")).wanted == 4
    assert [order["replicas"] for order in orders if "replicas" in order] == [4]
    assert (await here.workload()).avoid.keys() == {"east"}


async def test_a_refusal_of_an_earlier_order_is_no_answer_to_one_that_was_not_tried_yet(here: Hub):
    east = await placed(here)
    await here.change(await here.workload(), replicas=2)
    await here.decide()
    await refused(here, east, order=1, version=2)
    orders = await here.decide()

    assert orders == []
    assert not (await here.placement()).ended


async def test_pods_that_are_refused_beside_others_that_run_wait_for_the_deadline(here: Hub):
    east = await placed(here)
    await observed(here, east, bound=3, live=3, refused=Shortage(count=1, reason="exceeded quota"))
    at_once = await here.decide()
    await later(here, east)
    orders = await here.decide()

    assert at_once == []
    assert [order["replicas"] for order in orders] == [3]


# --- losses and ends -------------------------------------------------------------------------------------------------


async def test_a_node_that_goes_moves_nothing_by_itself_until_the_deadline(here: Hub):
    east = await placed(here, replicas=2)
    await observed(here, east, bound=2)
    east.tell(NodeGone(cluster="east", node="n-0"))
    await here.fold()
    orders = await here.decide()

    placement, cluster = await here.placement(), await here.cluster()
    assert orders == []
    assert (placement.claim, placement.held, cluster.excess()) == (2, 2, {"cpu": 2000})


async def test_what_a_floor_left_beyond_the_plan_is_planned_with_again(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=1)
    west = await west_joins(here)
    await later(here, east, west)
    await here.decide()
    await observed(here, east, bound=3, live=3, desired=3)
    await here.decide()
    await here.decide()

    assert (await here.placement("east")).wanted + (await here.placement("west")).wanted == 4


async def test_3_6_a_job_is_complete_once_all_of_its_parts_are(here: Hub):
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}},
    }
    fields = {"kind": WorkloadKind.JOB, "api": "batch/v1/Job", "completions": 2, "manifest": manifest}
    east = await placed(here, replicas=2, **fields)
    await observed(here, east, bound=0, live=0, succeeded=2, condition="Complete")
    await here.decide()
    first = (await here.workload()).phase
    await observed(here, east, bound=0, live=0, version=0, observed=False, gone=True)
    await later(here, east)
    orders = await here.decide()

    assert first is WorkloadPhase.COMPLETED
    assert (orders, (await here.workload()).phase) == ([], WorkloadPhase.COMPLETED)
    assert (await here.cluster()).held == {}


async def test_a_deleted_workload_goes_when_the_last_claim_was_given_back(here: Hub):
    east = await placed(here, replicas=2)
    await observed(here, east, bound=2)
    await here.delete(await here.workload())
    await here.decide()
    await here.decide()
    deleting = (await here.workload()).phase
    await observed(here, east, bound=0, live=0, version=0, observed=False, gone=True)
    await here.decide()

    async with here.store.reader() as reader:
        assert await reader.workload("web", None) is None
    assert deleting is WorkloadPhase.DELETING
    assert (await here.placement()).released


async def test_a_hold_that_was_filled_between_the_look_and_the_lock_is_not_withdrawn(here: Hub):
    east = await placed(here, replicas=4)
    await observed(here, east, bound=1)
    await later(here, east)
    async with here.store.reader() as reader:
        await here.scheduler.image.refresh(reader)
    here.scheduler.image.take_touched()
    await observed(here, east, bound=4)
    await review(here.scheduler.image, here.store, here.clock, DEADLINE_SECONDS)

    assert await here.waiting() == []

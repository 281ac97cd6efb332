"""What people read: phases, reasons, ages and sums that say how it stands, in the reader's scope."""

from typing import Any

import pytest
from msgspec.structs import replace

from federation.domain.cluster import Cluster, ClusterPhase, Reception
from federation.domain.errors import NotFound
from federation.domain.placement import Ask, AskKind, Placement, Seen
from federation.domain.records import Decision, Explanation, Parked, Verdict
from federation.domain.workload import Component, Workload, WorkloadKind, WorkloadPhase, WorkloadSpec
from federation.services.queries import find_decision
from federation.services.showing import (
    Census,
    Moment,
    cluster_view,
    explanation_view,
    parked_view,
    placement_view,
    pool_view,
    workload_view,
)

NOW = 1_700_000_000_000
SPEC = WorkloadSpec(name="web", team="shop", components=(Component(replicas=4),))


def make_placement(cluster: str = "east", **changes: Any) -> Placement:
    base = Placement(
        id=f"p-{cluster}", workload="w", team="shop", cluster=cluster, version=1, asks=(Ask(1, 4, AskKind.WANTED, 1),)
    )
    return replace(base, **changes)


def make_workload(**changes: Any) -> Workload:
    return replace(Workload(id="w", spec=SPEC, phase=WorkloadPhase.PLACED, decided=1), **changes)


def make_cluster(name: str = "east", **changes: Any) -> Cluster:
    base = Cluster(
        name=name, phase=ClusterPhase.READY, observed_ms=NOW - 2_000, source="s/0", reception=Reception(unsound="")
    )
    return replace(base, **changes)


def at(now_ms: int = NOW, caught_up_ms: int = NOW) -> Moment:
    return Moment(now_ms=now_ms, caught_up_ms={"s/0": caught_up_ms}, silent_after_seconds=30)


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({}, "ordered"),
        ({"bound": 1}, "running"),
        ({"bound": 4}, "running"),
        ({"bound": 2, "seen": Seen(refused=2)}, "refused"),
        ({"bound": 2, "ended": True, "seen": Seen(refused=2)}, "ending"),
        ({"asks": (Ask(1, 0, AskKind.WANTED, 1),)}, "running"),
    ],
)
def test_a_placement_has_the_phase_that_its_member_shows(changes: dict[str, Any], phase: str):
    view = workload_view(make_workload(), [make_placement(**changes)])

    assert [placement.phase for placement in view.placements] == [phase]


def test_what_members_refuse_degrades_a_placed_workload_and_says_why():
    placements = [
        make_placement("west", seen=Seen(refused=1, refused_reason="quota")),
        make_placement("east", seen=Seen(unschedulable=2)),
    ]

    view = workload_view(make_workload(reasons=("stored",)), placements)

    assert view.phase == "degraded"
    assert view.reasons == ("stored", "east: 2 unschedulable", "west: 1 refused: quota")


@pytest.mark.parametrize("phase", [WorkloadPhase.DELETING, WorkloadPhase.COMPLETED, WorkloadPhase.WAITING])
def test_other_phases_stay_as_they_are(phase: WorkloadPhase):
    view = workload_view(make_workload(phase=phase), [make_placement(seen=Seen(refused=1))])

    assert view.phase == phase


def test_troubles_of_what_ends_are_over():
    view = workload_view(make_workload(), [make_placement(ended=True, seen=Seen(refused=1))])

    assert (view.phase, view.reasons) == ("placed", ())


def test_what_is_released_is_no_longer_shown():
    assert workload_view(make_workload(), [make_placement(released=True)]).placements == ()


def test_only_the_caller_that_deploys_is_told_labels():
    ours = replace(SPEC, kind=WorkloadKind.DEPLOYMENT)

    told = workload_view(make_workload(), [make_placement()]).placements[0].pod_labels
    untold = workload_view(make_workload(spec=ours), [make_placement()]).placements[0].pod_labels

    assert (told, untold) == ({"federation.io/placement": "p-east"}, {})


def test_age_is_counted_from_the_last_observation():
    heard, unheard = make_cluster(), make_cluster(observed_ms=0)

    assert cluster_view(heard, Census(), at()).age_seconds == 2.0
    assert cluster_view(unheard, Census(), at()).age_seconds is None
    assert cluster_view(heard, Census(), at(now_ms=NOW - 60_000)).age_seconds == 0.0


def test_silence_counts_only_while_the_log_is_read_to_its_end():
    lagging, reading = at(NOW + 90_000, NOW), at(NOW + 90_000, NOW + 90_000)

    assert cluster_view(make_cluster(), Census(), lagging).silent is False
    assert cluster_view(make_cluster(), Census(), reading).silent is True


def test_a_cluster_that_has_left_is_listed_and_not_summed():
    left = make_cluster("west", phase=ClusterPhase.LEFT, known={"cpu": 1_000})

    pool = pool_view([make_cluster(known={"cpu": 2_000}), left], at())

    assert pool.resources["cpu"].known == "2"
    assert [(brief.name, brief.usable) for brief in pool.clusters] == [("east", True), ("west", False)]


def test_a_decisions_own_verdict_stands_before_the_shared_one():
    decision = make_decision(own=(Verdict(cluster="east", verdict="chosen", wanted=4),))
    explanation = Explanation(
        id="e",
        cycle="c",
        at_ms=NOW,
        verdicts=(Verdict(cluster="west", verdict="refused"), Verdict(cluster="east", verdict="feasible")),
    )

    view = explanation_view(decision, explanation)

    assert [(verdict.cluster, verdict.verdict) for verdict in view.clusters] == [
        ("east", "chosen"),
        ("west", "refused"),
    ]


def test_a_parked_record_is_cut_and_escaped():
    parked = Parked(source="s/0", offset=1, at_ms=NOW, reason="r", key="k", headers=(), value=b"\n" + b"x" * 99)

    assert parked_view(parked, limit=4).value == "\\nxxx"


class OneDecision:
    """A store that holds one decision, and no workload any more."""

    def __init__(self) -> None:
        self.found = make_decision(), Explanation(id="e", cycle="c", at_ms=NOW, verdicts=())

    def reader(self) -> "OneDecision":
        return self

    async def __aenter__(self) -> "OneDecision":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def decision(self, decision_id: str) -> tuple[Decision, Explanation] | None:
        return self.found if decision_id == "d" else None


async def test_a_decision_is_its_teams_own_also_when_the_workload_is_gone():
    store: Any = OneDecision()

    for team in ("shop", None):
        assert (await find_decision(store, "d", team))[0].id == "d"
    for decision_id, team in (("d", "other"), ("x", "shop")):
        with pytest.raises(NotFound):
            await find_decision(store, decision_id, team)


def make_decision(**changes: Any) -> Decision:
    base = Decision(
        id="d",
        workload="w",
        cycle="c",
        explanation="e",
        at_ms=NOW,
        version=1,
        total=4,
        spec=SPEC,
        outcome="placed",
        placed={"east": 4},
        previous={},
    )
    return replace(base, **changes)


def test_a_job_that_has_come_to_its_end_says_so_in_each_cluster():
    done = Placement(
        id="p1", workload="w1", team="shop", cluster="east", completions=3, seen=Seen(condition="Complete")
    )
    failed = Placement(
        id="p2", workload="w1", team="shop", cluster="west", completions=3, seen=Seen(condition="Failed")
    )

    shown = [placement_view(each, WorkloadKind.JOB).phase for each in (done, failed)]

    assert shown == ["completed", "failed"]

"""Lifecycles are tables: every pair is tried, and what a table lacks raises."""

from itertools import product

import pytest

from federation.domain.cluster import Cluster, ClusterPhase, ClusterStep
from federation.domain.errors import IllegalTransition
from federation.domain.workload import Component, Workload, WorkloadPhase, WorkloadSpec, WorkloadStep

P, S = WorkloadPhase, WorkloadStep
WORKLOAD = {
    P.PENDING: {S.PLACE: P.PLACED, S.FIND_NO_ROOM: P.WAITING, S.CHANGE: P.PENDING, S.DELETE: P.DELETING},
    P.WAITING: {S.PLACE: P.PLACED, S.FIND_NO_ROOM: P.WAITING, S.CHANGE: P.PENDING, S.DELETE: P.DELETING},
    P.PLACED: {
        S.PLACE: P.PLACED,
        S.FIND_NO_ROOM: P.DEGRADED,
        S.CHANGE: P.PLACED,
        S.LOSE: P.DEGRADED,
        S.COMPLETE: P.COMPLETED,
        S.FAIL: P.FAILED,
        S.DELETE: P.DELETING,
    },
    P.DEGRADED: {
        S.PLACE: P.PLACED,
        S.FIND_NO_ROOM: P.DEGRADED,
        S.CHANGE: P.DEGRADED,
        S.LOSE: P.DEGRADED,
        S.COMPLETE: P.COMPLETED,
        S.FAIL: P.FAILED,
        S.DELETE: P.DELETING,
    },
    P.COMPLETED: {S.DELETE: P.DELETING},
    P.FAILED: {S.DELETE: P.DELETING},
    P.DELETING: {S.DELETE: P.DELETING},
}
CLUSTER = {
    ClusterPhase.JOINING: {ClusterStep.TELL_ALL: ClusterPhase.READY, ClusterStep.LEAVE: ClusterPhase.LEFT},
    ClusterPhase.READY: {ClusterStep.LEAVE: ClusterPhase.LEFT},
    ClusterPhase.LEFT: {ClusterStep.RETURN: ClusterPhase.JOINING},
}


def workload(phase: WorkloadPhase) -> Workload:
    spec = WorkloadSpec(name="web", components=(Component(replicas=1),))
    return Workload(id="w", spec=spec, phase=phase)


@pytest.mark.parametrize(("phase", "step"), list(product(WorkloadPhase, WorkloadStep)))
def test_a_workload_takes_the_steps_of_its_table_and_no_others(phase: WorkloadPhase, step: WorkloadStep):
    expected = WORKLOAD[phase].get(step)

    if expected is None:
        with pytest.raises(IllegalTransition, match=f"workload w: {step} while {phase}"):
            workload(phase).after(step)
    else:
        assert workload(phase).after(step).phase is expected


@pytest.mark.parametrize(("phase", "step"), list(product(ClusterPhase, ClusterStep)))
def test_a_cluster_takes_the_steps_of_its_table_and_no_others(phase: ClusterPhase, step: ClusterStep):
    expected = CLUSTER[phase].get(step)
    cluster = Cluster(name="east", phase=phase, definition=4)

    if expected is None:
        with pytest.raises(IllegalTransition, match=f"cluster east: {step} while {phase}"):
            cluster.after(step)
    else:
        after = cluster.after(step)
        assert (after.phase, after.definition) == (expected, 5)


def test_every_phase_of_a_workload_can_be_left_for_deletion():
    assert all(workload(phase).after(WorkloadStep.DELETE).phase is P.DELETING for phase in WorkloadPhase)

"""How the controllers of the simulated member behave: rollouts within their bounds, refusals, Jobs that end."""

from collections import Counter

import pytest

from adapters.memory.kubelet import end_pod
from federation.domain.errors import Invalid
from tests.contract.cluster_builders import WEB, apply, live, make_cluster, make_object, ready, run

# --- Deployments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("surge", "unavailable", "most", "least"), [("25%", "25%", 10, 6), (1, 0, 9, 8), (0, 1, 8, 7), ("100%", 0, 16, 8)]
)
def test_a_rollout_keeps_between_its_bounds(surge: int | str, unavailable: int | str, most: int, least: int) -> None:
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=8, strategy=rolling))
    run(cluster, 5)

    apply(cluster, make_object("Deployment", "2", replicas=8, strategy=rolling))
    counts = []
    for _ in range(1000):
        run(cluster, 0.01)
        counts.append((len(live(cluster)), len(ready(cluster))))

    assert max(count for count, _ in counts) == most
    assert min(count for _, count in counts) >= least
    assert Counter(pod.revision for pod in cluster.pods.values()) == {"2": 8}


def test_a_rollout_that_is_scaled_down_in_the_middle_goes_to_its_end() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=12))
    run(cluster, 5)

    apply(cluster, make_object("Deployment", "2", replicas=12))
    run(cluster, 0.5)
    apply(cluster, make_object("Deployment", "2", replicas=4))
    run(cluster, 0.15)
    at_once = len(live(cluster))
    run(cluster, 10)

    assert at_once <= 5
    assert Counter(pod.revision for pod in cluster.pods.values()) == {"2": 4}


def test_recreate_never_runs_two_revisions_together() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=4, strategy={"type": "Recreate"}))
    run(cluster, 5)

    apply(cluster, make_object("Deployment", "2", replicas=4, strategy={"type": "Recreate"}))
    together = []
    for _ in range(500):
        run(cluster, 0.01)
        together.append(len({pod.revision for pod in cluster.pods.values()}))

    assert max(together) == 1
    assert Counter(pod.revision for pod in ready(cluster)) == {"2": 4}


def test_a_rollout_that_fits_nowhere_is_called_stalled_and_leaves_the_old_pods() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=4, progressDeadlineSeconds=30))
    run(cluster, 5)
    wanted = make_object("Deployment", "2", replicas=4, progressDeadlineSeconds=30)
    wanted["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "99"}

    apply(cluster, wanted)
    run(cluster, 10)
    found = cluster.find(WEB)
    assert found is not None
    early = found.condition
    run(cluster, 60)

    assert (early, found.condition) == ("Progressing", "ProgressDeadlineExceeded")
    assert Counter(pod.revision for pod in ready(cluster)) == {"1": 3}


def test_what_a_quota_refuses_is_missing_and_said() -> None:
    cluster = make_cluster()
    cluster.quotas["default"] = 3

    apply(cluster, make_object("Deployment", replicas=5))
    run(cluster, 5)
    found = cluster.find(WEB)
    assert found is not None
    refused = cluster.seen(found)
    cluster.quotas["default"] = 10
    run(cluster, 5)

    assert "exceeded quota" in refused.refusal
    assert refused.observed
    assert (len(ready(cluster)), cluster.seen(found).refusal) == (5, "")


def test_the_pods_that_go_first_are_those_without_a_node() -> None:
    cluster = make_cluster(nodes=1)
    apply(cluster, make_object("Deployment", replicas=12))
    run(cluster, 5)
    bound = {pod.uid for pod in cluster.pods.values() if pod.node}

    apply(cluster, make_object("Deployment", replicas=8))
    run(cluster, 5)

    assert set(cluster.pods) == bound


def test_another_manager_of_the_replicas_is_obeyed_and_seen() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Deployment", replicas=2))

    cluster.scale(WEB, 5)
    run(cluster, 5)

    found = cluster.find(WEB)
    assert found is not None
    assert (len(ready(cluster)), cluster.seen(found).replicas, cluster.seen(found).owned_replicas) == (5, 5, False)


# --- Jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_that_fails_too_often_ends_as_failed_without_pods() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=2, completions=9, backoffLimit=2))

    for _ in range(4):
        run(cluster, 1)
        for pod in live(cluster)[:1]:
            end_pod(cluster, pod, "Failed")
    run(cluster, 5)

    found = cluster.objects[uid]
    assert (found.condition, found.failed, len(live(cluster))) == ("Failed", 3, 0)


def test_a_job_pod_that_is_deleted_counts_as_failed_and_is_replaced() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=1, completions=1))
    run(cluster, 1)

    cluster.delete_pod(live(cluster)[0])
    run(cluster, 10)

    found = cluster.objects[uid]
    assert (found.condition, found.succeeded, found.failed) == ("Complete", 1, 1)


def test_a_suspended_job_has_no_pods_and_goes_on_when_resumed() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=2, completions=4))
    run(cluster, 1)

    apply(cluster, make_object("Job", parallelism=2, completions=4, suspend=True))
    run(cluster, 20)
    suspended = (cluster.objects[uid].condition, len(cluster.pods))
    apply(cluster, make_object("Job", parallelism=2, completions=4))
    run(cluster, 20)

    assert suspended == ("Suspended", 0)
    assert (cluster.objects[uid].condition, cluster.objects[uid].succeeded) == ("Complete", 4)
    assert cluster.objects[uid].failed == 0


def test_a_finished_job_goes_after_its_time_to_live() -> None:
    cluster = make_cluster()
    uid = apply(cluster, make_object("Job", parallelism=2, completions=2, ttlSecondsAfterFinished=60))

    run(cluster, 30)
    condition = cluster.objects[uid].condition
    run(cluster, 60)

    assert condition == "Complete"
    assert (cluster.objects, cluster.pods) == ({}, {})


def test_the_template_of_a_job_cannot_be_changed() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("Job", parallelism=1, completions=1))

    with pytest.raises(Invalid, match="immutable"):
        apply(cluster, make_object("Job", "2", parallelism=1, completions=1))


# --- StatefulSets --------------------------------------------------------------------------------------------------------


def test_an_ordinal_comes_only_once_those_before_it_are_ready() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("StatefulSet", replicas=3))

    for _ in range(500):
        run(cluster, 0.01)
        by_name = {pod.name: pod.ready for pod in cluster.pods.values()}
        assert "web-1" not in by_name or by_name["web-0"]
        assert "web-2" not in by_name or by_name["web-1"]

    assert len(ready(cluster)) == 3


def test_a_stateful_set_is_updated_one_by_one_from_the_last() -> None:
    cluster = make_cluster()
    apply(cluster, make_object("StatefulSet", replicas=3))
    run(cluster, 5)

    apply(cluster, make_object("StatefulSet", "2", replicas=3))
    seen = []
    for _ in range(500):
        run(cluster, 0.01)
        assert len(ready(cluster)) >= 2
        seen.append("".join(sorted(pod.revision for pod in cluster.pods.values() if pod.name == "web-0")))

    assert {pod.revision for pod in ready(cluster)} == {"2"}
    assert seen.index("2") > 100


def test_ordinals_begin_where_they_are_told_to() -> None:
    cluster = make_cluster()

    apply(cluster, make_object("StatefulSet", replicas=2, ordinals={"start": 5}, podManagementPolicy="Parallel"))
    run(cluster, 0.3)

    assert sorted(pod.name for pod in cluster.pods.values()) == ["web-5", "web-6"]

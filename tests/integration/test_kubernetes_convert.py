"""What is read of Kubernetes objects: what counts as observed, what is refused, and what a large cluster costs."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.kubernetes.board import KEEPERS, SCALERS, SOURCES, Board
from adapters.kubernetes.convert import keeper_of, node_of, placed_of, pod_of, scaler_of, whole
from adapters.kubernetes.kinds import DEPLOYMENT, JOB, STATEFUL_SET
from adapters.kubernetes.objects import (
    Controller,
    HorizontalPodAutoscaler,
    ManagedController,
    Node,
    Pod,
    Read,
    ReplicaSet,
)
from adapters.kubernetes.watch import ADDED, DELETED, MODIFIED, Batch
from federation.domain.events import Taint
from federation.domain.member import (
    Change,
    Listed,
    MemberNode,
    MemberObject,
    MemberPod,
    ObjectChanged,
    ObjectDeleted,
    ObjectKey,
    Relisted,
)

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST_BYTES = 400 * 2**20


def parsed(kind: Any, doc: Mapping[str, Any]) -> Any:
    return msgspec.json.decode(json.dumps(doc), type=kind)


def make_pod(name: str = "web-1", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": "5"}
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    spec = {"nodeName": "n1", "containers": [{"name": "main", "image": "example/web:1", "resources": resources}]}
    return {
        "metadata": {**metadata, **parts.get("metadata", {})},
        "spec": {**spec, **parts.get("spec", {})},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **parts.get("status", {})},
    }


def make_object(replicas: int = 3, seen: int = 2, name: str = "web", **spec: Any) -> dict[str, Any]:
    """A Deployment at generation 2, in revision 1 of its controller."""
    labels = {"federation.io/placement": "p1", "federation.io/revision": "r1", "federation.io/team": "shop"}
    annotations = {"federation.io/version": "7", "federation.io/generation": "3", REVISION: "1"}
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": "9", "generation": 2}
    return {
        "metadata": {**metadata, "labels": labels, "annotations": annotations},
        "spec": {"replicas": replicas, **spec},
        "status": {"observedGeneration": seen},
    }


def make_set(replicas: int = 3, seen: int = 4, owner: str = "uid-web", **options: Any) -> dict[str, Any]:
    """A ReplicaSet at generation 4."""
    name = options.get("name", "web-1")
    annotations = {REVISION: options.get("revision", "1"), DESIRED: options.get("desired", "3")}
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "resourceVersion": "8", "generation": 4}
    owners = [{"uid": owner, "controller": True, "kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}]
    return {
        "metadata": {**metadata, "annotations": annotations, "ownerReferences": owners},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": seen, "conditions": options.get("conditions", [])},
    }


def make_scaler(most: int = 9, target: str = "web", **spec: Any) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    metadata = {"name": "web", "namespace": "shop", "uid": "uid-scaler", "resourceVersion": "3"}
    return {"metadata": metadata, "spec": {"scaleTargetRef": reference, "maxReplicas": most, **spec}}


def read_pod(**parts: Any) -> MemberPod:
    return pod_of(parsed(Pod, make_pod(**parts)))


def read_object(doc: Mapping[str, Any], *sets: Mapping[str, Any], api: str = DEPLOYMENT) -> MemberObject:
    keepers = [keeper_of(parsed(ReplicaSet, each)) for each in sets]
    return whole(placed_of(api, parsed(Controller, doc)), keepers, None)


# --- pods and nodes ------------------------------------------------------------------------------------------------------


def test_a_pod_is_read_with_what_it_takes_and_whose_it_is() -> None:
    labels = {"app": "web", "federation.io/placement": "p1", "federation.io/revision": "r1"}

    pod = read_pod(metadata={"labels": labels})

    assert pod == MemberPod(
        uid="uid-web-1",
        namespace="shop",
        name="web-1",
        node="n1",
        phase="Running",
        ready=True,
        requests={"cpu": 500, "memory": 2**30},
        placement="p1",
        revision="r1",
    )


def test_a_pod_takes_the_most_that_it_ever_takes_at_once() -> None:
    spec = {
        "containers": [{"resources": {"limits": {"cpu": "1"}}}, {"resources": {"requests": {"cpu": "500m"}}}, {}],
        "initContainers": [
            {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            {"resources": {"requests": {"cpu": "4", "memory": "1Gi"}}},
        ],
        "overhead": {"cpu": "50m"},
    }

    assert read_pod(spec=spec).requests == {"cpu": 4150, "memory": 2**30}


def test_the_pods_own_resources_stand_in_place_of_its_containers() -> None:
    assert read_pod(spec={"resources": {"requests": {"cpu": "3"}}}).requests == {"cpu": 3000, "memory": 2**30}


def test_a_pod_that_its_scheduler_has_given_up_on_says_why() -> None:
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no cpu" * 99}

    pod = read_pod(spec={"nodeName": None}, status={"phase": "Pending", "conditions": [why]})

    assert (pod.node, pod.ready, pod.phase) == ("", False, "Pending")
    assert pod.unschedulable.startswith("0/3 nodes: no cpu")
    assert len(pod.unschedulable) <= 512


def test_a_pod_behind_a_gate_is_not_one_that_was_given_up() -> None:
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "waits"}

    assert read_pod(spec={"nodeName": None}, status={"conditions": [gated]}).unschedulable == ""


def test_a_pod_being_deleted_is_terminating() -> None:
    assert read_pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}).terminating


@pytest.mark.parametrize("parts", [{"spec": None}, {"status": None}, {"spec": None, "status": None}])
def test_a_pod_without_its_parts_is_read_all_the_same(parts: dict[str, None]) -> None:
    pod = pod_of(parsed(Pod, make_pod() | parts))

    assert pod.uid == "uid-web-1"


@pytest.mark.parametrize("amount", ["nonsense", "-1", "9e99", "1e1000000"])
def test_a_pod_whose_requests_make_no_sense_takes_nothing(amount: str) -> None:
    assert read_pod(spec={"containers": [{"resources": {"requests": {"cpu": amount}}}]}).requests == {}


def test_pods_of_one_template_share_what_they_take() -> None:
    assert read_pod(name="web-1").requests is read_pod(name="web-2").requests


def test_a_node_is_read_with_what_it_offers() -> None:
    doc = {
        "metadata": {"name": "n1", "resourceVersion": "1", "labels": {"zone": "a"}},
        "spec": {"unschedulable": True, "taints": [{"key": "gpu", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "63770m", "memory": "255Gi"},
            "capacity": {"cpu": "64"},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
            "images": [{"names": ["a"], "sizeBytes": 1}],
        },
    }

    assert node_of(parsed(Node, doc)) == MemberNode(
        name="n1",
        allocatable={"cpu": "63770m", "memory": "255Gi"},
        labels={"zone": "a"},
        taints=(Taint(key="gpu", value="", effect="NoSchedule"),),
        unschedulable=True,
        ready=True,
    )


def test_a_node_without_a_status_offers_nothing_and_is_not_ready() -> None:
    node = node_of(parsed(Node, {"metadata": {"name": "n1"}}))

    assert (node.allocatable, node.ready) == ({}, False)


@pytest.mark.parametrize("status", ["Unknown", "False"])
def test_a_node_whose_kubelet_is_silent_is_not_ready(status: str) -> None:
    doc = {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": status}]}}

    assert not node_of(parsed(Node, doc)).ready


# --- what counts as observed ---------------------------------------------------------------------------------------------


def test_a_deployment_is_observed_once_its_controller_and_its_replica_sets_are() -> None:
    found = read_object(make_object(), make_set())

    assert found.observed
    assert (found.placement, found.revision, found.team) == ("p1", "r1", "shop")
    assert (found.version, found.generation, found.replicas) == (7, 3, 3)


@pytest.mark.parametrize(
    ("doc", "sets", "why"),
    [
        (make_object(seen=1), [make_set()], "its controller has not seen it"),
        (make_object(), [], "no ReplicaSet is known yet"),
        (make_object(), [make_set(seen=3)], "the ReplicaSet's controller has not seen its size"),
        (make_object(replicas=1), [make_set(replicas=3, desired="3")], "the ReplicaSet as known is of the time before"),
        (make_object(), [make_set(revision="0")], "the newest ReplicaSet is not known yet"),
        (make_object(), [make_set(), make_set(name="old", revision="0", seen=3, replicas=1)], "an older one lags"),
    ],
)
def test_a_deployment_is_not_observed(doc: dict[str, Any], sets: list[dict[str, Any]], why: str) -> None:
    assert not read_object(doc, *sets).observed, why


def test_an_older_replica_set_without_pods_need_not_follow_the_size() -> None:
    old = make_set(name="old", revision="0", replicas=0, desired="8")

    assert read_object(make_object(), make_set(), old).observed


def test_a_stateful_set_is_observed_by_its_own_controller() -> None:
    assert read_object(make_object(), api=STATEFUL_SET).observed
    assert not read_object(make_object(seen=1), api=STATEFUL_SET).observed


@pytest.mark.parametrize(
    ("spec", "status", "observed"),
    [
        ({"parallelism": 3, "completions": 5}, {}, False),
        ({"parallelism": 3, "completions": 5}, {"startTime": "t", "active": 3}, True),
        ({"parallelism": 1, "completions": 5}, {"startTime": "t", "active": 3}, False),
        ({"parallelism": 3, "completions": 5}, {"startTime": "t", "active": 3, "succeeded": 3}, False),
        ({"parallelism": 3, "completions": 5}, {"startTime": "t", "active": 2, "succeeded": 3}, True),
        ({"parallelism": 3}, {"conditions": [{"type": "Complete", "status": "True"}]}, True),
    ],
)
def test_a_job_is_observed_once_no_more_run_than_it_wants(
    spec: dict[str, Any], status: dict[str, Any], observed: bool
) -> None:
    doc = make_object() | {"spec": spec, "status": status}

    assert read_object(doc, api=JOB).observed is observed


@pytest.mark.parametrize(
    ("spec", "replicas"),
    [
        ({}, 1),
        ({"parallelism": 4}, 4),
        ({"parallelism": 4, "completions": 2}, 2),
        ({"parallelism": 0}, 0),
        ({"parallelism": 4, "suspend": True}, 0),
    ],
)
def test_a_job_wants_so_many_pods_at_once(spec: dict[str, Any], replicas: int) -> None:
    assert read_object(make_object() | {"spec": spec}, api=JOB).replicas == replicas


@pytest.mark.parametrize(
    ("status", "condition"),
    [
        ({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, "Available"),
        ({"replicas": 4, "updatedReplicas": 3, "availableReplicas": 4}, "Progressing"),
        ({}, "Progressing"),
        ({"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]}, "ProgressDeadlineExceeded"),
    ],
)
def test_a_deployment_says_how_far_it_is(status: dict[str, Any], condition: str) -> None:
    assert read_object(make_object() | {"status": status}).condition == condition


@pytest.mark.parametrize(
    ("spec", "conditions", "condition"),
    [
        ({}, [], ""),
        ({"suspend": True}, [{"type": "Suspended", "status": "True"}], "Suspended"),
        ({}, [{"type": "Complete", "status": "True"}], "Complete"),
        ({}, [{"type": "FailureTarget", "status": "True"}, {"type": "Failed", "status": "True"}], "Failed"),
    ],
)
def test_a_job_says_how_it_ended(spec: dict[str, Any], conditions: list[dict[str, str]], condition: str) -> None:
    doc = make_object() | {"spec": spec, "status": {"conditions": conditions}}

    assert read_object(doc, api=JOB).condition == condition


def test_what_a_replica_set_was_refused_is_told_of_its_deployment() -> None:
    words = 'pods "web-1-x" is forbidden: exceeded quota'
    refused = make_set(conditions=[{"type": "ReplicaFailure", "status": "True", "message": words}])

    assert read_object(make_object(), refused).refusal == words


def test_another_manager_that_owns_the_replicas_is_seen() -> None:
    def owned(*managers: tuple[str, Any]) -> bool:
        fields = [{"manager": name, "operation": "Update", "fieldsV1": fields} for name, fields in managers]
        doc = make_object()
        doc["metadata"]["managedFields"] = fields
        read = parsed(ManagedController, doc)
        return placed_of(DEPLOYMENT, read, read.metadata.managed_fields).object.owned_replicas

    ours: tuple[str, Any] = ("federation", {"f:spec": {"f:replicas": {}, "f:template": {}}})
    scaler: tuple[str, Any] = ("kube-controller-manager", {"f:spec": {"f:replicas": {}}})
    status: tuple[str, Any] = ("kube-controller-manager", {"f:status": {"f:replicas": {}}})
    deeper: tuple[str, Any] = ("another", {"f:spec": {"f:template": {"f:replicas": {}}}})
    assert owned(ours)
    assert owned(ours, status, deeper)
    assert not owned(ours, scaler)
    assert not owned(scaler)


@pytest.mark.parametrize("number", ["-1", "1e3", "٣", "9" * 30, "", "x"])
def test_a_mark_that_is_no_number_counts_as_none(number: str) -> None:
    doc = make_object()
    doc["metadata"]["annotations"]["federation.io/version"] = number

    assert read_object(doc).version == 0


def test_an_autoscaler_is_read_with_its_bounds() -> None:
    scaler = scaler_of(parsed(HorizontalPodAutoscaler, make_scaler(9)))

    assert scaler is not None
    assert (scaler.target, scaler.bounds) == (ObjectKey(DEPLOYMENT, "shop", "web"), (1, 9))


# --- the board -----------------------------------------------------------------------------------------------------------


def told(kind: str, doc: Mapping[str, Any], read: Any) -> Batch[Read]:
    return Batch(told=[(kind, parsed(read, doc))])


def listing(*docs: Mapping[str, Any], read: Any = Controller) -> Batch[Read]:
    return Batch(begins=True, complete=True, told=[(ADDED, parsed(read, doc)) for doc in docs])


def opened(*sources: tuple[str, Batch[Read]]) -> tuple[Board, list[Change]]:
    """A board on which every source has listed, those not named nothing; and what the last one brought about."""
    board, given = Board(), dict(sources)
    changes: list[Change] = []
    for source in SOURCES:
        assert changes == []
        changes = board.fold(source, given.get(source, listing()))
    return board, changes


def test_nothing_is_told_before_every_source_has_listed() -> None:
    _, changes = opened((DEPLOYMENT, listing(make_object())), (KEEPERS, listing(make_set(), read=ReplicaSet)))

    assert [type(each) for each in changes] == [Relisted, ObjectChanged, Listed]
    assert isinstance(changes[1], ObjectChanged)
    assert changes[1].object.observed


def test_a_replica_set_that_catches_up_changes_its_deployment() -> None:
    lagging = listing(make_set(seen=3), read=ReplicaSet)
    board, _ = opened((DEPLOYMENT, listing(make_object())), (KEEPERS, lagging))

    changes = board.fold(KEEPERS, told(MODIFIED, make_set(seen=4), ReplicaSet))

    assert [each.object.observed for each in changes if isinstance(each, ObjectChanged)] == [True]


def test_what_changes_nothing_that_is_read_is_not_told() -> None:
    board, _ = opened((DEPLOYMENT, listing(make_object())), (KEEPERS, listing(make_set(), read=ReplicaSet)))

    assert board.fold(KEEPERS, told(MODIFIED, make_set(), ReplicaSet)) == []


def test_a_replica_set_that_comes_before_its_deployment_waits_for_it() -> None:
    board, _ = opened()

    first = board.fold(KEEPERS, told(ADDED, make_set(), ReplicaSet))
    second = board.fold(DEPLOYMENT, told(ADDED, make_object(), Controller))

    assert first == []
    assert [each.object.observed for each in second if isinstance(each, ObjectChanged)] == [True]


def test_an_autoscaler_that_comes_moves_and_goes_changes_its_targets() -> None:
    objects = listing(make_object(), make_object(name="api"))
    board, _ = opened((DEPLOYMENT, objects))

    came = board.fold(SCALERS, told(ADDED, make_scaler(), HorizontalPodAutoscaler))
    moved = board.fold(SCALERS, told(MODIFIED, make_scaler(target="api"), HorizontalPodAutoscaler))
    went = board.fold(SCALERS, told(DELETED, make_scaler(target="api"), HorizontalPodAutoscaler))

    assert [bounds(changes) for changes in (came, moved, went)] == [
        {"web": (1, 9)},
        {"web": None, "api": (1, 9)},
        {"api": None},
    ]


def bounds(changes: list[Change]) -> dict[str, tuple[int, int] | None]:
    return {each.object.key.name: each.object.autoscaler for each in changes if isinstance(each, ObjectChanged)}


def test_what_a_later_listing_does_not_tell_is_deleted() -> None:
    board, _ = opened((DEPLOYMENT, listing(make_object(), make_object(name="api"))))

    assert board.fold(DEPLOYMENT, listing(make_object())) == [ObjectDeleted("uid-api")]


def test_a_listing_that_breaks_off_deletes_nothing() -> None:
    board, _ = opened((DEPLOYMENT, listing(make_object(), make_object(name="api"))))

    broken = board.fold(DEPLOYMENT, Batch(begins=True, told=[(ADDED, parsed(Controller, make_object()))]))
    again = board.fold(DEPLOYMENT, listing(make_object(), make_object(name="api")))

    assert (broken, again) == ([], [])


def test_an_object_that_goes_and_comes_is_another() -> None:
    board, _ = opened((DEPLOYMENT, listing(make_object())))
    another = make_object()
    another["metadata"]["uid"] = "uid-second"

    gone = board.fold(DEPLOYMENT, told(DELETED, make_object(), Controller))
    come = board.fold(DEPLOYMENT, told(ADDED, another, Controller))

    assert gone == [ObjectDeleted("uid-web")]
    assert [each.object.uid for each in come if isinstance(each, ObjectChanged)] == ["uid-second"]


# --- a large cluster -----------------------------------------------------------------------------------------------------


def pod_events(count: int) -> Iterator[bytes]:
    """Pods as a server tells them, some 4 kB each: 200 templates, 2,000 placements, 5,000 nodes."""
    padding = {"annotations": {"padding": "x" * 2000}, "managedFields": [{"manager": "m", "fieldsV1": {"f:a": {}}}]}
    labels = {"app": "app-%(app)d", "federation.io/placement": "01JD%(app)022d"}
    resources = {"requests": {"cpu": "%(cpu)dm", "memory": "1Gi"}}
    spec = {
        "nodeName": "node-%(node)05d.example.internal",
        "containers": [{"name": "main", "image": "example/web:1", "resources": resources}] * 2,
        "volumes": [{"name": "token-%(pod)d", "projected": {"sources": [{"path": "y" * 500}]}}],
    }
    doc = make_pod("app-%(app)d-7d4b9c-%(pod)06d", metadata={**padding, "labels": labels}, spec=spec)
    doc["metadata"]["uid"] = "00000000-0000-4000-8000-%(pod)012d"
    template = json.dumps(doc)
    for pod in range(count):
        yield (template % {"pod": pod, "app": pod % 2000, "node": pod % 5000, "cpu": 100 + pod % 200}).encode()


def node_events(count: int) -> Iterator[bytes]:
    """Nodes with 20 labels and the images that kubelets list."""
    status = {
        "allocatable": {"cpu": "63770m", "memory": "263921052Ki", "pods": "110", "ephemeral-storage": "100Gi"},
        "conditions": [{"type": "Ready", "status": "True"}],
        "images": [{"names": [f"example/image-{n}"], "sizeBytes": 1} for n in range(50)],
    }
    labels = {f"label.example.io/number-{n}": "value-%(kind)d" for n in range(20)}
    template = json.dumps(
        {"metadata": {"name": "node-%(node)05d.example.internal", "labels": labels}, "status": status}
    )
    for node in range(count):
        yield (template % {"node": node, "kind": node % 7}).encode()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_hundred_thousand_pods_and_five_thousand_nodes_stay_within_their_memory() -> None:
    pods, nodes = msgspec.json.Decoder(Pod), msgspec.json.Decoder(Node)
    before, spent = resident_bytes(), 0.0
    known: dict[str, MemberPod | MemberNode] = {}

    for raw in node_events(5_000):
        node = node_of(nodes.decode(raw))
        known[node.name] = node
    for raw in pod_events(100_000):
        begun = time.perf_counter()
        pod = pod_of(pods.decode(raw))
        spent += time.perf_counter() - begun
        known[pod.uid] = pod

    grown = resident_bytes() - before
    print(f"{grown / 2**20:.0f} MiB, {spent / 100_000 * 1e6:.1f} µs a pod")
    assert len(known) == 105_000
    assert grown < MOST_BYTES

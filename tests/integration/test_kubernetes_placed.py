"""What is read of placed objects: what counts as observed, what is refused, and how several watches make one object."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from adapters.kubernetes.board import KEEPERS, SCALERS, SOURCES, Board
from adapters.kubernetes.kinds import DEPLOYMENT, JOB, STATEFUL_SET
from adapters.kubernetes.objects import (
    Controller,
    HorizontalPodAutoscaler,
    ManagedController,
    Read,
    ReplicaSet,
)
from adapters.kubernetes.placed import keeper_of, placed_of, scaler_of, whole
from adapters.kubernetes.watch import ADDED, DELETED, MODIFIED, Batch
from federation.domain.member import (
    Change,
    Listed,
    MemberObject,
    ObjectChanged,
    ObjectDeleted,
    ObjectKey,
    Relisted,
)

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"


def parsed(kind: Any, doc: Mapping[str, Any]) -> Any:
    return msgspec.json.decode(json.dumps(doc), type=kind)


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


def read_object(doc: Mapping[str, Any], *sets: Mapping[str, Any], api: str = DEPLOYMENT) -> MemberObject:
    keepers = [keeper_of(parsed(ReplicaSet, each)) for each in sets]
    return whole(placed_of(api, parsed(Controller, doc)), keepers, None)


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

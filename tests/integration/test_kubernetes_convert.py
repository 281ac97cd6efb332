"""What is read of nodes and pods, and what a large cluster costs."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.kubernetes.convert import node_of, pod_of
from adapters.kubernetes.objects import (
    Node,
    Pod,
)
from federation.domain.events import Taint
from federation.domain.member import (
    MemberNode,
    MemberPod,
)

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


def read_pod(**parts: Any) -> MemberPod:
    return pod_of(parsed(Pod, make_pod(**parts)))


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

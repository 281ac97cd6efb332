"""What the hub reads from manifests, against values counted by Kubernetes' own rules."""

from copy import deepcopy
from datetime import date
from typing import Any

import pytest

from federation.domain.errors import Invalid
from federation.domain.manifest import deployment_for, from_manifest, pod_requests, read_documents, surge_of
from federation.domain.workload import Toleration, WorkloadKind


def asks(**requests: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests}}


def sidecar(**requests: Any) -> dict[str, Any]:
    return {**asks(**requests), "restartPolicy": "Always"}


def make_manifest(kind: str = "Deployment", pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [asks(cpu="1")], **(pod or {})}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def make_job(pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    job = make_manifest("Job", {"restartPolicy": "Never", **(pod or {})}, **spec)
    del job["spec"]["selector"]
    return job


PODS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "one container": ({"containers": [asks(cpu="500m", memory="1Gi")]}, {"cpu": 500, "memory": 2**30}),
    "no containers": ({}, {}),
    "nulls are absent": ({"containers": [{"name": "c", "resources": None}], "initContainers": None}, {}),
    "containers add up": (
        {"containers": [asks(cpu="1"), asks(cpu="250m", memory="1Mi")]},
        {"cpu": 1250, "memory": 2**20},
    ),
    "bare numbers": ({"containers": [asks(cpu=2, memory=1048576), asks(cpu=0.5)]}, {"cpu": 2500, "memory": 2**20}),
    "finer than a milli rounds up": ({"containers": [asks(cpu="100u")]}, {"cpu": 1}),
    "limits stand in for requests": ({"containers": [{"resources": {"limits": {"cpu": "2"}}}]}, {"cpu": 2000}),
    "a request goes before its limit": (
        {"containers": [{"resources": {"limits": {"cpu": "2", "memory": "1Ki"}, "requests": {"cpu": "0"}}}]},
        {"memory": 1024},
    ),
    "a large init container": ({"containers": [asks(cpu="1")], "initContainers": [asks(cpu="3")]}, {"cpu": 3000}),
    "a small init container": ({"containers": [asks(cpu="4")], "initContainers": [asks(cpu="3")]}, {"cpu": 4000}),
    "init containers run one by one": (
        {"containers": [asks(cpu="1")], "initContainers": [asks(cpu="2"), asks(memory="1Ki"), asks(cpu="3")]},
        {"cpu": 3000, "memory": 1024},
    ),
    "a sidecar adds to the containers": (
        {"containers": [asks(cpu="1")], "initContainers": [sidecar(cpu="500m")]},
        {"cpu": 1500},
    ),
    "a sidecar adds to the init containers after it": (
        {"containers": [asks(cpu="1")], "initContainers": [sidecar(cpu="500m"), asks(cpu="3")]},
        {"cpu": 3500},
    ),
    "a sidecar does not add to the init containers before it": (
        {"containers": [asks(cpu="1")], "initContainers": [asks(cpu="3"), sidecar(cpu="500m")]},
        {"cpu": 3000},
    ),
    "sidecars between init containers": (
        {
            "containers": [asks(cpu="1")],
            "initContainers": [sidecar(cpu="1"), asks(cpu="2"), sidecar(cpu="2"), asks(cpu="2"), sidecar(cpu="3")],
        },
        {"cpu": 7000},
    ),
    "overhead": (
        {"containers": [asks(cpu="1")], "overhead": {"cpu": "250m", "memory": "120Mi"}},
        {"cpu": 1250, "memory": 120 * 2**20},
    ),
    "the pod's own requests win": (
        {"containers": [asks(cpu="1", memory="1Gi")], "resources": {"requests": {"cpu": "4"}}},
        {"cpu": 4000, "memory": 2**30},
    ),
    "the pod's own limit counts where no container asks": (
        {"containers": [asks(cpu="1")], "resources": {"limits": {"cpu": "4", "memory": "1Ki"}}},
        {"cpu": 1000, "memory": 1024},
    ),
    "overhead comes on top of the pod's own": (
        {"containers": [], "resources": {"requests": {"cpu": "4"}}, "overhead": {"cpu": "1"}},
        {"cpu": 5000},
    ),
    "devices stay with containers": (
        {
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": 2}}}],
            "resources": {"requests": {"nvidia.com/gpu": "8", "hugepages-2Mi": "4Mi"}},
        },
        {"nvidia.com/gpu": 2, "hugepages-2Mi": 4 * 2**20},
    ),
}


@pytest.mark.parametrize("case", PODS)
def test_a_pod_takes_what_kubernetes_counts(case: str):
    pod, expected = PODS[case]

    assert pod_requests(pod) == expected


def test_a_deployment_is_read_whole():
    manifest = make_manifest(
        replicas=3,
        pod={"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    )
    manifest["metadata"]["namespace"] = "shop"

    facts = from_manifest(manifest)

    assert (facts.kind, facts.api, facts.name, facts.namespace) == (
        WorkloadKind.DEPLOYMENT,
        "apps/v1/Deployment",
        "web",
        "shop",
    )
    assert (facts.replicas, facts.requests, facts.surge, facts.completions, facts.single) == (
        3,
        {"cpu": "1"},
        1,
        None,
        False,
    )
    assert facts.node_selector == {"disk": "ssd"}
    assert facts.tolerations == (Toleration(key="gpu", operator="Exists"),)
    assert facts.notes == ()


def test_reading_leaves_the_manifest_as_it_was():
    manifest = make_manifest()
    manifest["metadata"]["uid"] = "u"
    before = deepcopy(manifest)

    from_manifest(manifest)

    assert manifest == before


def test_what_a_server_wrote_is_left_out_and_the_rest_is_kept():
    manifest = make_manifest(minReadySeconds=5, paused=None)
    manifest["metadata"] |= {
        "namespace": "shop",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": None,
        "managedFields": [{}],
        "labels": {"team": "shop", "federation.io/placement": "01JF"},
        "annotations": {"deployment.kubernetes.io/revision": "4"},
    }
    manifest["spec"]["template"]["metadata"] |= {"creationTimestamp": None}
    manifest["spec"]["template"]["metadata"]["labels"] |= {"federation.io/revision": "3"}
    manifest["status"] = {"replicas": 3}

    facts = from_manifest(manifest)

    expected = make_manifest(minReadySeconds=5)
    expected["metadata"]["labels"] = {"team": "shop"}
    assert facts.manifest == expected


def test_a_job_read_from_a_server_loses_what_ties_it_to_the_old_one():
    job = make_job(selector={"matchLabels": {"controller-uid": "u"}})
    job["spec"]["template"]["metadata"]["labels"] |= {"controller-uid": "u", "batch.kubernetes.io/job-name": "web"}

    facts = from_manifest(job)

    assert facts.manifest == make_job()


def test_a_job_that_selects_by_hand_keeps_its_selector():
    job = make_job(manualSelector=True, selector={"matchLabels": {"app": "web"}})

    facts = from_manifest(job)

    assert facts.manifest == job


def test_the_revision_follows_the_template_and_nothing_else():
    first = from_manifest(make_manifest(replicas=1)).revision
    scaled = make_manifest(replicas=9)
    scaled["spec"]["template"] = dict(reversed(scaled["spec"]["template"].items()))
    scaled["metadata"]["labels"] = {"x": "y"}

    assert from_manifest(scaled).revision == first
    assert from_manifest(make_manifest(pod={"hostNetwork": True})).revision != first
    assert len(first) == 10


@pytest.mark.parametrize(
    ("strategy", "surge"),
    [
        (None, 3),
        ({"type": "RollingUpdate"}, 3),
        ({"rollingUpdate": {"maxUnavailable": 1}}, 3),
        ({"rollingUpdate": {"maxSurge": 0}}, 0),
        ({"rollingUpdate": {"maxSurge": 4}}, 4),
        ({"rollingUpdate": {"maxSurge": "11%"}}, 2),
        ({"rollingUpdate": {"maxSurge": "150%"}}, 15),
        ({"type": "Recreate"}, 0),
    ],
)
def test_a_rollout_may_add_what_its_strategy_says(strategy: dict[str, Any] | None, surge: int):
    facts = from_manifest(make_manifest(replicas=10, strategy=strategy))

    assert facts.surge == surge


def test_each_part_of_a_divided_deployment_rounds_its_surge_up_alone():
    manifest = from_manifest(make_manifest(replicas=10)).manifest

    assert [surge_of(manifest, part) for part in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_a_stateful_set_stays_in_one_cluster_and_never_surges():
    facts = from_manifest(make_manifest("StatefulSet", replicas=3))

    assert (facts.replicas, facts.surge, facts.single) == (3, 0, True)


@pytest.mark.parametrize(
    ("spec", "replicas", "completions", "single"),
    [
        ({}, 1, 1, False),
        ({"completions": 5}, 1, 5, False),
        ({"completions": 5, "parallelism": 3}, 3, 5, False),
        ({"completions": 2, "parallelism": 3}, 2, 2, False),
        ({"completions": 2, "parallelism": 0}, 0, 2, False),
        ({"completions": 4, "parallelism": 2, "completionMode": "Indexed"}, 2, 4, True),
        ({"parallelism": 3}, 3, 3, True),
    ],
)
def test_a_job_runs_no_more_pods_than_it_has_left_to_complete(
    spec: dict[str, Any], replicas: int, completions: int, single: bool
):
    facts = from_manifest(make_job(**spec))

    assert (facts.replicas, facts.completions, facts.single, facts.surge) == (replicas, completions, single, 0)


def affinity(*expressions: dict[str, Any], **term: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": list(expressions), **term}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def test_required_affinity_for_one_value_narrows_the_node_selector():
    expression = {"key": "zone", "operator": "In", "values": ["a"]}

    facts = from_manifest(make_manifest(pod={"nodeSelector": {"disk": "ssd"}, "affinity": affinity(expression)}))

    assert facts.node_selector == {"disk": "ssd", "zone": "a"}
    assert facts.notes == ()


@pytest.mark.parametrize(
    "required",
    [
        affinity({"key": "zone", "operator": "In", "values": ["a", "b"]}),
        affinity({"key": "gpu", "operator": "Exists"}),
        affinity({"key": "gpu", "operator": "DoesNotExist"}),
        affinity(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["n-1"]}]),
    ],
)
def test_required_affinity_that_a_selector_cannot_say_is_told(required: dict[str, Any]):
    facts = from_manifest(make_manifest(pod={"affinity": required}))

    assert facts.node_selector == {}
    assert facts.notes == ("required node affinity is only partly counted in the estimate",)


def test_alternatives_of_required_affinity_narrow_nothing():
    first = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [first, first]}}

    facts = from_manifest(make_manifest(pod={"affinity": {"nodeAffinity": required}}))

    assert facts.node_selector == {}
    assert facts.notes == ("required node affinity is not counted in the estimate",)


def test_what_else_narrows_the_nodes_is_told():
    pod = {
        "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "resourceClaims": [{"name": "gpu"}],
        "runtimeClassName": "kata",
    }

    facts = from_manifest(make_manifest(pod=pod))

    assert facts.notes == (
        "required pod affinity is not counted in the estimate",
        "topology spread is not counted in the estimate",
        "host ports are not counted in the estimate",
        "resource claims are not counted in the estimate",
        "the overhead of the runtime class is not counted in the estimate",
    )


def test_preferences_need_no_note():
    pod = {
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}},
        "topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}],
        "runtimeClassName": "kata",
        "overhead": {"cpu": "10m"},
    }

    assert from_manifest(make_manifest(pod=pod)).notes == ()


def nested(levels: int) -> dict[str, Any]:
    return {"deeper": nested(levels - 1)} if levels else {}


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "kind is missing", "/kind"),
    "no version": ({"kind": "Job"}, "apiVersion is missing", "/apiVersion"),
    "another kind": (
        {"apiVersion": "apps/v1", "kind": "DaemonSet"},
        "apps/v1 DaemonSet is not taken; apps/v1 Deployment, apps/v1 StatefulSet and batch/v1 Job are",
        "/kind",
    ),
    "no metadata": ({"apiVersion": "apps/v1", "kind": "Deployment"}, "metadata is missing", "/metadata"),
    "no template": (make_manifest(template=None), "spec.template is missing", "/spec/template"),
    "a list for a spec": ({**make_manifest(), "spec": []}, "spec is not an object", "/spec"),
    "no name": ({**make_manifest(), "metadata": {}}, "metadata.name is missing", "/metadata/name"),
    "a dotted name": (
        {**make_manifest(), "metadata": {"name": "a.b"}},
        "metadata.name is not a DNS label: 'a.b'",
        "/metadata/name",
    ),
    "replicas in words": (make_manifest(replicas="3"), "Expected `int | null`, got `str`", "/spec/replicas"),
    "replicas below zero": (make_manifest(replicas=-1), "Expected `int` >= 0", "/spec/replicas"),
    "replicas beyond all bounds": (make_manifest(replicas=10**9), "Expected `int` <= 100000", "/spec/replicas"),
    "no containers": (
        make_manifest(pod={"containers": []}),
        "a pod needs a container",
        "/spec/template/spec/containers",
    ),
    "no selector": (make_manifest(selector=None), "spec.selector is missing", "/spec/selector"),
    "a selector that misses": (
        make_manifest(selector={"matchLabels": {"app": "api"}}),
        "the template's labels lack app=api",
        "/spec/template/metadata/labels",
    ),
    "a node by name": (
        make_manifest(pod={"nodeName": "n-1"}),
        "a pod that names its node cannot be placed",
        "/spec/template/spec/nodeName",
    ),
    "an amount that is none": (
        make_manifest(pod={"containers": [asks(cpu="lots")]}),
        "cpu: not a quantity: 'lots'",
        "/spec/template/spec/containers/0/resources/requests",
    ),
    "an amount of a wrong type": (
        make_manifest(pod={"initContainers": [asks(cpu=[1])]}),
        "Expected `int | float | str`, got `array`",
        "/spec/template/spec/initContainers/0/resources/requests",
    ),
    "an overhead below zero": (
        make_manifest(pod={"overhead": {"cpu": "-1"}}),
        "cpu: '-1' is negative",
        "/spec/template/spec/overhead",
    ),
    "an unknown operator": (
        make_manifest(pod={"tolerations": [{"operator": "Near"}]}),
        "operator is neither Equal nor Exists: 'Near'",
        "/spec/template/spec/tolerations/0/operator",
    ),
    "two zones at once": (
        make_manifest(
            pod={
                "nodeSelector": {"zone": "b"},
                "affinity": affinity({"key": "zone", "operator": "In", "values": ["a"]}),
            }
        ),
        "no node can have two values of zone: 'b' and 'a'",
        "/spec/template/spec/affinity/nodeAffinity",
    ),
    "a surge in words": (
        make_manifest(strategy={"rollingUpdate": {"maxSurge": "some"}}),
        "maxSurge is neither a number nor a percentage: 'some'",
        "/spec/strategy/rollingUpdate/maxSurge",
    ),
    "a surge below zero": (
        make_manifest(strategy={"rollingUpdate": {"maxSurge": -1}}),
        "maxSurge is not between 0 and 100000 pods: -1",
        "/spec/strategy/rollingUpdate/maxSurge",
    ),
    "a surge beyond all bounds": (
        make_manifest(replicas=100, strategy={"rollingUpdate": {"maxSurge": "999999%"}}),
        "maxSurge is not between 0 and 100000 pods: 999999",
        "/spec/strategy/rollingUpdate/maxSurge",
    ),
    "a toleration beyond all bounds": (
        make_manifest(pod={"tolerations": [{"key": "k" * 400, "operator": "Exists"}]}),
        "Expected `str` of length <= 317",
        "/spec/template/spec/tolerations/0/key",
    ),
    "a label of nodes beyond all bounds": (
        make_manifest(pod={"nodeSelector": {"disk": "s" * 300}}),
        "Expected `str` of length <= 256",
        "/spec/template/spec/nodeSelector",
    ),
    "a suspended Job": (
        make_job(suspend=True),
        "a suspended Job has no pods to place; set spec.suspend to false",
        "/spec/suspend",
    ),
    "a Job that restarts for ever": (
        make_job(pod={"restartPolicy": "Always"}),
        "a Job's pods need restartPolicy Never or OnFailure",
        "/spec/template/spec/restartPolicy",
    ),
    "not JSON": (
        make_manifest(minReadySeconds=date(2026, 1, 1)),
        "the manifest cannot be written as JSON: Object of type date is not JSON serializable",
        "",
    ),
    "too deep": (make_manifest(deep=nested(70)), "the manifest is nested deeper than 64 levels", ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_manifest_that_cannot_be_placed_is_refused_with_the_field_to_blame(case: str):
    manifest, message, pointer = WRONG[case]

    with pytest.raises(Invalid) as refused:
        from_manifest(manifest)

    assert (str(refused.value), refused.value.pointer) == (message, pointer)


def test_flags_make_a_deployment_that_reads_back_as_asked():
    manifest = deployment_for("web", "pause", 4, {"cpu": "500m", "nvidia.com/gpu": "2"}, {"nodeSelector": {"a": "b"}})

    facts = from_manifest(manifest)

    assert (facts.name, facts.replicas, facts.requests) == ("web", 4, {"cpu": "500m", "nvidia.com/gpu": "2"})
    assert facts.node_selector == {"a": "b"}
    assert facts.manifest == manifest
    assert manifest["spec"]["template"]["spec"]["containers"] == [
        {
            "name": "web",
            "image": "pause",
            "resources": {"requests": {"cpu": "500m", "nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}},
        }
    ]


def test_a_file_gives_its_one_workload_and_skips_empty_documents():
    manifest = make_manifest()

    assert read_documents([None, manifest, None]) == manifest


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "the file holds no manifest"),
        (["web"], "not a Kubernetes object: 'web'"),
        (
            [make_manifest(), {"kind": "Service", "metadata": {"name": "web"}}],
            "the file holds 2 objects (Deployment/web, Service/web); one Deployment, StatefulSet or Job is taken",
        ),
        (
            [{"apiVersion": "v1", "kind": "Service"}],
            "v1 Service is not taken; apps/v1 Deployment, apps/v1 StatefulSet and batch/v1 Job are",
        ),
    ],
)
def test_a_file_that_is_not_one_workload_is_refused(documents: list[object], message: str):
    with pytest.raises(Invalid) as refused:
        read_documents(documents)

    assert str(refused.value) == message

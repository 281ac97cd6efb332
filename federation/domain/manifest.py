"""Kubernetes manifests, read as they stand: what a pod asks for, and what the hub must know of its controller.

Only the fields that placing needs are read and checked; the rest of a manifest passes through untouched. Like
Kubernetes, a null is taken for an absent field.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from federation.domain.errors import Invalid
from federation.domain.pods import (
    POD_SPEC,
    PodSpec,
    Read,
    Strings,
    converted,
    left_out_of,
    requests_of,
    selector_of,
    tolerations_of,
)
from federation.domain.pods import pod_requests as pod_requests
from federation.domain.quantities import shown
from federation.domain.resources import format_amounts
from federation.domain.workload import DNS_LABEL, Component, Toleration, WorkloadKind

Manifest = Mapping[str, Any]

KINDS: Final = {
    ("apps/v1", "Deployment"): WorkloadKind.DEPLOYMENT,
    ("apps/v1", "StatefulSet"): WorkloadKind.STATEFUL_SET,
    ("batch/v1", "Job"): WorkloadKind.JOB,
}
OUR_PREFIX: Final = "federation.io/"
_DEFAULT_SURGE: Final = "25%"
_PERCENT: Final = re.compile(r"([0-9]{1,9})%")
_MOST_REPLICAS: Final = 100_000
_MOST_LEVELS: Final = 64
_SERVER_FIELDS: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_SERVER_ANNOTATIONS: Final = ("deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration")
_JOB_LABELS: Final = (
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
)

# --- the fields that are read -------------------------------------------------------------------------------------------

_Count = Annotated[int, Meta(ge=0, le=_MOST_REPLICAS)] | None


class _Metadata(Read, frozen=True, kw_only=True):
    name: str | None = None
    namespace: str | None = None
    labels: Strings = None
    annotations: Strings = None


class _Template(Read, frozen=True, kw_only=True):
    metadata: _Metadata | None = None
    spec: PodSpec


class _Selector(Read, frozen=True, kw_only=True):
    match_labels: Strings = None


class _RollingUpdate(Read, frozen=True, kw_only=True):
    max_surge: str | int | None = None


class _Update(Read, frozen=True, kw_only=True):
    type: str | None = None
    rolling_update: _RollingUpdate | None = None


class _Controller(Read, frozen=True, kw_only=True):
    template: _Template
    replicas: _Count = None
    selector: _Selector | None = None
    strategy: _Update | None = None
    parallelism: _Count = None
    completions: _Count = None
    completion_mode: str | None = None
    suspend: bool | None = None
    manual_selector: bool | None = None


class _Object(Read, frozen=True, kw_only=True):
    metadata: _Metadata
    spec: _Controller


# --- what is known of it ---------------------------------------------------------------------------------------------


class ManifestFacts(Struct, frozen=True, kw_only=True):
    """What placing needs of a manifest, and the manifest without what a server wrote into it.

    *requests* are those of one pod. *surge* is for all replicas in one cluster; `surge_of` gives it for a part.
    *revision* changes with the pod template and only with it. *notes* say what the estimate leaves out.
    """

    kind: WorkloadKind
    api: str
    name: str
    namespace: str
    replicas: int
    requests: dict[str, str]
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    revision: str
    surge: int
    completions: int | None
    single: bool
    notes: tuple[str, ...]
    manifest: dict[str, Any]


def from_manifest(manifest: Manifest) -> ManifestFacts:
    """What the hub must know of a Deployment, StatefulSet or Job; Invalid names the field that is wrong."""
    kind = _kind(manifest)
    clean = _cleaned(manifest, kind)
    _canonical(clean)
    read = converted(clean, _Object)
    pod = read.spec.template.spec
    _check(read, kind)
    selector, notes = selector_of(pod)
    replicas, completions = _replicas(read.spec, kind)
    shape = _shape(pod, selector, replicas)
    return ManifestFacts(
        kind=kind,
        api=f"{manifest['apiVersion']}/{kind}",
        name=read.metadata.name or "",
        namespace=_namespace(manifest),
        replicas=replicas,
        requests=shape.requests,
        node_selector=shape.node_selector,
        tolerations=shape.tolerations,
        revision=_revision(clean),
        surge=_surge(read.spec, kind, replicas),
        completions=completions,
        single=kind is WorkloadKind.STATEFUL_SET or _is_whole_job(read.spec, kind),
        notes=(*notes, *left_out_of(pod)),
        manifest=clean,
    )


def surge_of(manifest: Manifest, replicas: int) -> int:
    """How many pods a rollout may add where *replicas* of a manifest stand; a percentage is rounded up."""
    return _surge(converted(manifest, _Object).spec, _kind(manifest), replicas)


def deployment_for(
    name: str, image: str, replicas: int, requests: Mapping[str, str], pod: Manifest | None = None
) -> dict[str, Any]:
    """A plain Deployment of one container; *pod* adds fields to the pod's spec, such as nodeSelector."""
    extended = {resource: amount for resource, amount in requests.items() if "/" in resource}
    resources = {"requests": dict(requests), **({"limits": extended} if extended else {})}
    container = {"name": name, "image": image, **({"resources": resources} if requests else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **(pod or {})}},
        },
    }


def read_documents(documents: Iterable[object]) -> dict[str, Any]:
    """The one workload among the documents of a file; empty documents do not count."""
    found = [document for document in documents if document is not None]
    if not found:
        raise Invalid("the file holds no manifest")
    for document in found:
        if not isinstance(document, dict):
            raise Invalid(f"not a Kubernetes object: {shown(str(document))}")
    names = ", ".join(f"{d.get('kind')}/{_name_of(d)}" for d in found if isinstance(d, dict))
    if len(found) > 1:
        raise Invalid(f"the file holds {len(found)} objects ({names}); one Deployment, StatefulSet or Job is taken")
    manifest: dict[str, Any] = found[0]  # type: ignore[assignment]
    _kind(manifest)
    return manifest


def _shape(pod: PodSpec, selector: dict[str, str], replicas: int) -> Component:
    """The pod's shape, within the bounds that the core keeps: what is stored must be readable again."""
    shape = Component(
        replicas=replicas,
        requests=format_amounts(requests_of(pod, POD_SPEC)),
        node_selector=selector,
        tolerations=tolerations_of(pod),
    )
    try:
        return converted(msgspec.to_builtins(shape), Component)
    except Invalid as error:
        raise Invalid(str(error), f"{POD_SPEC}{error.pointer}") from error


# --- replicas, completions, surge ------------------------------------------------------------------------------------


def _replicas(spec: _Controller, kind: WorkloadKind) -> tuple[int, int | None]:
    if kind is not WorkloadKind.JOB:
        return 1 if spec.replicas is None else spec.replicas, None
    parallelism = 1 if spec.parallelism is None else spec.parallelism
    if spec.completions is not None:
        return min(parallelism, spec.completions), spec.completions
    # A work queue: no pod follows one that succeeded, so that each of the parallel pods completes once.
    return parallelism, parallelism


def _is_whole_job(spec: _Controller, kind: WorkloadKind) -> bool:
    """Whether a Job means something else when it is split: by its indexes, or as a work queue that one success ends."""
    work_queue = spec.completions is None and (spec.parallelism or 1) > 1
    return kind is WorkloadKind.JOB and (spec.completion_mode == "Indexed" or work_queue)


def _surge(spec: _Controller, kind: WorkloadKind, replicas: int) -> int:
    if kind is not WorkloadKind.DEPLOYMENT or (spec.strategy is not None and spec.strategy.type == "Recreate"):
        return 0
    rolling = spec.strategy.rolling_update if spec.strategy is not None else None
    given = _DEFAULT_SURGE if rolling is None or rolling.max_surge is None else rolling.max_surge
    pointer = "/spec/strategy/rollingUpdate/maxSurge"
    if isinstance(given, str):
        found = _PERCENT.fullmatch(given)
        if found is None:
            raise Invalid(f"maxSurge is neither a number nor a percentage: {shown(given)}", pointer)
        given = -(-int(found[1]) * replicas // 100)
    if not 0 <= given <= _MOST_REPLICAS:
        raise Invalid(f"maxSurge is not between 0 and {_MOST_REPLICAS} pods: {given}", pointer)
    return given


# --- checks ----------------------------------------------------------------------------------------------------------


def _kind(manifest: Manifest) -> WorkloadKind:
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    if not isinstance(kind, str) or not kind:
        raise Invalid("kind is missing", "/kind")
    if not isinstance(version, str) or not version:
        raise Invalid("apiVersion is missing", "/apiVersion")
    if (version, kind) not in KINDS:
        taken = "apps/v1 Deployment, apps/v1 StatefulSet and batch/v1 Job"
        raise Invalid(f"{version} {kind} is not taken; {taken} are", "/kind")
    return KINDS[version, kind]


def _check(read: _Object, kind: WorkloadKind) -> None:
    if not read.metadata.name:
        raise Invalid("metadata.name is missing", "/metadata/name")
    if re.fullmatch(DNS_LABEL, read.metadata.name) is None:
        raise Invalid(f"metadata.name is not a DNS label: {shown(read.metadata.name)}", "/metadata/name")
    if not read.spec.template.spec.containers:
        raise Invalid("a pod needs a container", f"{POD_SPEC}/containers")
    if read.spec.template.spec.node_name:
        raise Invalid("a pod that names its node cannot be placed", f"{POD_SPEC}/nodeName")
    if kind is WorkloadKind.JOB:
        _check_job(read.spec)
    else:
        _check_selector(read.spec)


def _check_job(spec: _Controller) -> None:
    if spec.suspend:
        raise Invalid("a suspended Job has no pods to place; set spec.suspend to false", "/spec/suspend")
    if spec.template.spec.restart_policy not in ("Never", "OnFailure"):
        raise Invalid("a Job's pods need restartPolicy Never or OnFailure", f"{POD_SPEC}/restartPolicy")


def _check_selector(spec: _Controller) -> None:
    if spec.selector is None:
        raise Invalid("spec.selector is missing", "/spec/selector")
    metadata = spec.template.metadata
    labels = metadata.labels or {} if metadata is not None else {}
    for key, value in (spec.selector.match_labels or {}).items():
        if labels.get(key) != value:
            raise Invalid(f"the template's labels lack {key}={value}", "/spec/template/metadata/labels")


# --- the manifest that is kept ---------------------------------------------------------------------------------------


def _cleaned(manifest: Manifest, kind: WorkloadKind) -> dict[str, Any]:
    """The manifest without nulls, status and what a server or this program wrote into it."""
    clean: dict[str, Any] = _without_nulls({key: value for key, value in manifest.items() if key != "status"})
    _clean_metadata(clean, "/metadata")
    spec = _mapping(clean, "spec", "")
    template = _mapping(spec, "template", "/spec")
    if "metadata" in template:
        _clean_metadata(template, "/spec/template/metadata")
    if kind is WorkloadKind.JOB and not spec.get("manualSelector"):
        # The server makes these from the uid of the Job that it was; a new Job gets its own.
        spec.pop("selector", None)
        _drop(template.get("metadata"), "labels", lambda key: key in _JOB_LABELS)
    return clean


def _clean_metadata(parent: dict[str, Any], pointer: str) -> None:
    metadata = _mapping(parent, "metadata", pointer.removesuffix("/metadata"))
    for field in _SERVER_FIELDS:
        metadata.pop(field, None)
    _drop(metadata, "labels", lambda key: key.startswith(OUR_PREFIX))
    _drop(metadata, "annotations", lambda key: key.startswith(OUR_PREFIX) or key in _SERVER_ANNOTATIONS)


def _drop(parent: Any, field: str, unwanted: Callable[[str], bool]) -> None:
    values = parent.get(field) if isinstance(parent, dict) else None
    if isinstance(values, dict):
        kept = {key: value for key, value in values.items() if not (isinstance(key, str) and unwanted(key))}
        if kept:
            parent[field] = kept
        else:
            del parent[field]


def _without_nulls(value: Any, depth: int = 0) -> Any:
    if depth > _MOST_LEVELS:
        raise Invalid(f"the manifest is nested deeper than {_MOST_LEVELS} levels")
    if isinstance(value, Mapping):
        return {key: _without_nulls(item, depth + 1) for key, item in value.items() if item is not None}
    return [_without_nulls(item, depth + 1) for item in value] if isinstance(value, list) else value


def _mapping(parent: Manifest, field: str, pointer: str) -> dict[str, Any]:
    value = parent.get(field)
    if not isinstance(value, dict):
        problem = "missing" if value is None else "not an object"
        raise Invalid(f"{f'{pointer}/{field}'.strip('/').replace('/', '.')} is {problem}", f"{pointer}/{field}")
    return value


def _revision(clean: Manifest) -> str:
    return hashlib.sha256(_canonical(clean["spec"]["template"])).hexdigest()[:10]


def _canonical(value: object) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise Invalid(f"the manifest cannot be written as JSON: {error}") from error


def _namespace(manifest: Manifest) -> str:
    namespace = manifest["metadata"].get("namespace") or ""
    if not isinstance(namespace, str):
        raise Invalid("metadata.namespace is not a string", "/metadata/namespace")
    return namespace


def _name_of(document: Manifest) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "?")) if isinstance(metadata, dict) else "?"

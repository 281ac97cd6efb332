"""Placed objects as the values of `federation.domain.member`, and when their spec counts as observed."""

from sys import intern
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from adapters.kubernetes.kinds import DEPLOYMENT, JOB, STATEFUL_SET
from adapters.kubernetes.objects import (
    NOTHING,
    Controller,
    ControllerMeta,
    ControllerSpec,
    ControllerStatus,
    HorizontalPodAutoscaler,
    ManagedFields,
    ReplicaSet,
    condition,
)
from federation.domain.errors import Invalid
from federation.domain.member import (
    FIELD_MANAGER,
    GENERATION_ANNOTATION,
    PLACEMENT_LABEL,
    REVISION_LABEL,
    TEAM_LABEL,
    VERSION_ANNOTATION,
    WORKLOAD_ANNOTATION,
    MemberObject,
    ObjectKey,
)
from federation.domain.pods import requests_of
from federation.domain.resources import format_amounts

_REVISION: Final = "deployment.kubernetes.io/revision"
_DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
_MOST_MESSAGE: Final = 512
_MOST_DIGITS: Final = 15
_log = structlog.get_logger(__name__)


class Placed(Struct, frozen=True, kw_only=True):
    """An object as it stands, and what its ReplicaSets must show before its spec counts as observed.

    *revision* is the Deployment controller's own, not the placement's.
    """

    object: MemberObject
    revision: str = ""
    paused: bool = False


class Keeper(Struct, frozen=True, kw_only=True):
    """A ReplicaSet, as far as its Deployment needs it."""

    uid: str
    owner: str
    namespace: str
    placement: str = ""
    replicas: int = 0
    desired: str = ""
    revision: str = ""
    observed: bool = False
    refusal: str = ""


class Scaler(Struct, frozen=True, kw_only=True):
    """An autoscaler: its target and bounds."""

    uid: str
    target: ObjectKey
    bounds: tuple[int, int]


def placed_of(api: str, read: Controller, managers: list[ManagedFields] | None = None) -> Placed:
    """An object with its marks; *observed* says only what its own controller has seen.

    Without the *managers* of its fields (watches leave them out, they are long) spec.replicas is taken for ours.
    """
    meta, spec, status = read.metadata, read.spec or ControllerSpec(), read.status or ControllerStatus()
    labels, annotations = meta.labels or {}, meta.annotations or {}
    found = MemberObject(
        key=ObjectKey(intern(api), intern(meta.namespace), meta.name),
        uid=meta.uid,
        resource_version=meta.resource_version,
        placement=intern(labels.get(PLACEMENT_LABEL, "")),
        workload=intern(annotations.get(WORKLOAD_ANNOTATION, "")),
        team=intern(labels.get(TEAM_LABEL, "")),
        version=_whole(annotations.get(VERSION_ANNOTATION)),
        generation=_whole(annotations.get(GENERATION_ANNOTATION)),
        revision=intern(labels.get(REVISION_LABEL, "")),
        replicas=_replicas(api, spec),
        observed=_seen(api, meta, spec, status),
        terminating=meta.deletion_timestamp is not None,
        succeeded=max(0, status.succeeded or 0) if api == JOB else 0,
        failed=max(0, status.failed or 0) if api == JOB else 0,
        condition=_condition(api, spec, status),
        refusal=_refusal(status),
        requests=_template_requests(spec),
        owned_replicas=not _scaled_by_another(managers),
    )
    return Placed(object=found, revision=annotations.get(_REVISION, ""), paused=bool(spec.paused))


def _replicas(api: str, spec: ControllerSpec) -> int:
    """How many pods it wants to have at once."""
    if api == JOB:
        parallelism = 1 if spec.parallelism is None else spec.parallelism
        most = parallelism if spec.completions is None else min(parallelism, spec.completions)
        return 0 if spec.suspend else max(0, most)
    if api in (DEPLOYMENT, STATEFUL_SET):
        return max(0, 1 if spec.replicas is None else spec.replicas)
    return 0


def _seen(api: str, meta: ControllerMeta, spec: ControllerSpec, status: ControllerStatus) -> bool:
    """Whether the object's own controller has seen this spec."""
    if api in (DEPLOYMENT, STATEFUL_SET):
        return (status.observed_generation or 0) >= meta.generation > 0
    return _job_seen(spec, status) if api == JOB else True


def _job_seen(spec: ControllerSpec, status: ControllerStatus) -> bool:
    """A Job tells no observed generation: its controller has begun, and no more run than may still run."""
    if _ended(status):
        return True
    left = _replicas(JOB, spec)
    if spec.completions is not None:
        left = min(left, max(0, spec.completions - (status.succeeded or 0)))
    begun = status.start_time is not None or bool(spec.suspend and status.conditions)
    return begun and (status.active or 0) <= left


def _ended(status: ControllerStatus) -> str:
    for kind in ("Complete", "Failed"):
        found = condition(status.conditions, kind)
        if found is not None and found.status == "True":
            return kind
    return ""


def _condition(api: str, spec: ControllerSpec, status: ControllerStatus) -> str:
    if api == JOB:
        return _ended(status) or ("Suspended" if spec.suspend else "")
    if api not in (DEPLOYMENT, STATEFUL_SET):
        return ""
    wanted = _replicas(api, spec)
    if wanted == (status.replicas or 0) == (status.updated_replicas or 0) == (status.available_replicas or 0):
        return "Available"
    progressing = condition(status.conditions, "Progressing")
    late = progressing is not None and progressing.reason == "ProgressDeadlineExceeded"
    return "ProgressDeadlineExceeded" if late else "Progressing"


def _refusal(status: ControllerStatus) -> str:
    found = condition(status.conditions, "ReplicaFailure")
    return (found.message or found.reason or "")[:_MOST_MESSAGE] if found is not None and found.status == "True" else ""


def _template_requests(spec: ControllerSpec) -> dict[str, str]:
    pod = spec.template.spec if spec.template is not None else None
    if pod is None:
        return {}
    try:
        return format_amounts(requests_of(pod, ""))
    except Invalid as error:
        _log.warning("the requests of a template cannot be read", error=str(error)[:200])
        return {}


def _scaled_by_another(managers: list[ManagedFields] | None) -> bool:
    """Whether a manager that is not ours owns spec.replicas."""
    for each in managers or ():
        spec = (each.fields_v1 or {}).get("f:spec", NOTHING)
        if each.manager != FIELD_MANAGER and b'"f:replicas"' in bytes(spec) and _owns_replicas(bytes(spec)):
            return True
    return False


def _owns_replicas(spec: bytes) -> bool:
    try:
        fields = msgspec.json.decode(spec, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return "f:replicas" in fields


def keeper_of(read: ReplicaSet) -> Keeper:
    """A ReplicaSet."""
    meta, status, annotations = read.metadata, read.status or ControllerStatus(), read.metadata.annotations or {}
    owner = next((each.uid for each in meta.owner_references or () if each.controller), "")
    return Keeper(
        uid=meta.uid,
        owner=owner,
        namespace=meta.namespace,
        placement=(meta.labels or {}).get(PLACEMENT_LABEL, ""),
        replicas=(read.spec.replicas if read.spec is not None else None) or 0,
        desired=annotations.get(_DESIRED, ""),
        revision=annotations.get(_REVISION, ""),
        observed=(status.observed_generation or 0) >= meta.generation > 0,
        refusal=_refusal(status),
    )


def scaler_of(read: HorizontalPodAutoscaler) -> Scaler | None:
    """An autoscaler that has a target."""
    spec = read.spec
    target = spec.scale_target_ref if spec is not None else None
    if spec is None or target is None:
        return None
    key = ObjectKey(f"{target.api_version or 'apps/v1'}/{target.kind}", read.metadata.namespace, target.name)
    least = 1 if spec.min_replicas is None else max(0, spec.min_replicas)
    return Scaler(uid=read.metadata.uid, target=key, bounds=(least, max(0, spec.max_replicas)))


def whole(placed: Placed, keepers: list[Keeper], bounds: tuple[int, int] | None) -> MemberObject:
    """The object together with its ReplicaSets and its autoscaler."""
    found = placed.object
    if found.key.api != DEPLOYMENT:
        return found if found.autoscaler == bounds else msgspec.structs.replace(found, autoscaler=bounds)
    return msgspec.structs.replace(
        found,
        observed=found.observed and _kept(placed, keepers),
        refusal=next((each.refusal for each in keepers if each.refusal), found.refusal),
        autoscaler=bounds,
    )


def _kept(placed: Placed, keepers: list[Keeper]) -> bool:
    """Whether the ReplicaSets that are known follow the Deployment as it is, and their controller has seen them.

    A cache of ReplicaSets may lag behind that of Deployments. So the newest must be the one that the Deployment
    controller says it is, and those with pods must bear the Deployment's present size, which that controller writes
    on each when it scales them.
    """
    if not keepers:
        return placed.paused
    newest = any(each.revision == placed.revision for each in keepers)
    desired = str(placed.object.replicas)
    return newest and all(each.observed and (not each.replicas or each.desired in ("", desired)) for each in keepers)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0

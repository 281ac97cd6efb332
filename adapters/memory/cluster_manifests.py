"""Reads manifests as an API server does: what it refuses is `Invalid`, what it takes becomes templates and numbers."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.memory.cluster_state import DEPLOYMENT, JOB, STATEFUL_SET, PodShape, SimObject, Template, Tolerance
from federation.domain.errors import Invalid
from federation.domain.manifest import pod_requests
from federation.domain.member import PLACEMENT_LABEL, REVISION_LABEL, ObjectKey

RUN_SECONDS_ANNOTATION = "simulated.federation.io/run-seconds"
_CONTROLLED = (DEPLOYMENT, STATEFUL_SET, JOB)


def object_key(manifest: Mapping[str, Any]) -> ObjectKey:
    """Where the object of *manifest* stands; raises Invalid where it does not say."""
    metadata = manifest.get("metadata") or {}
    parts = (
        manifest.get("apiVersion"),
        manifest.get("kind"),
        metadata.get("name"),
        metadata.get("namespace", "default"),
    )
    version, kind, name, namespace = (part if isinstance(part, str) else "" for part in parts)
    if not (version and kind and name and namespace):
        raise Invalid("apiVersion, kind and metadata.name are required")
    return ObjectKey(f"{version}/{kind}", namespace, name)


def check(key: ObjectKey, manifest: Mapping[str, Any], before: SimObject | None) -> None:
    """Raises Invalid where an API server would."""
    if key.api not in _CONTROLLED:
        return
    spec = manifest.get("spec") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    if key.api != JOB and not selector:
        raise Invalid(f"{key.name}: spec.selector: Required value", "/spec/selector")
    if any(labels.get(name) != value for name, value in selector.items()):
        raise Invalid(f"{key.name}: `selector` does not match template `labels`", "/spec/template/metadata/labels")
    _check_numbers(key, spec)
    read_template(manifest)
    if before is not None:
        _check_immutable(key, spec, before.spec)


def _check_numbers(key: ObjectKey, spec: Mapping[str, Any]) -> None:
    for name in ("replicas", "parallelism", "completions"):
        value = spec.get(name)
        if value is not None and (not isinstance(value, int) or value < 0):
            raise Invalid(f"{key.name}: spec.{name}: must be a whole number of at least 0", f"/spec/{name}")


def _check_immutable(key: ObjectKey, spec: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    fixed = ("template", "completions", "completionMode") if key.api == JOB else ("selector",)
    for name in fixed:
        if spec.get(name) != before.get(name):
            raise Invalid(f"{key.name}: spec.{name}: field is immutable", f"/spec/{name}")


def read_template(manifest: Mapping[str, Any]) -> Template:
    """The pod template of a Deployment, StatefulSet or Job."""
    template = (manifest.get("spec") or {}).get("template") or {}
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    if not spec.get("containers"):
        raise Invalid("spec.template.spec.containers: Required value", "/spec/template/spec/containers")
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    digest = hashlib.blake2b(msgspec.json.encode(template, order="sorted"), digest_size=5).hexdigest()
    return Template(
        digest=digest,
        shape=_read_shape(spec, annotations),
        placement=labels.get(PLACEMENT_LABEL, ""),
        revision=labels.get(REVISION_LABEL, ""),
    )


def _read_shape(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> PodShape:
    try:
        seconds = float(annotations.get(RUN_SECONDS_ANNOTATION, -1))
        return PodShape(
            requests=pod_requests(spec),
            node_selector=spec.get("nodeSelector") or {},
            tolerations=tuple(_read_toleration(each) for each in spec.get("tolerations") or ()),
            priority=int(spec.get("priority", 0)),
            run_ms=int(seconds * 1000) if seconds >= 0 else -1,
        )
    except (msgspec.ValidationError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"spec.template.spec: {error}", "/spec/template/spec") from error


def _read_toleration(doc: Mapping[str, Any]) -> Tolerance:
    return msgspec.convert({name: value for name, value in doc.items() if value is not None}, Tolerance)


def rollout_room(spec: Mapping[str, Any], replicas: int) -> tuple[int, int]:
    """(most above, most below) of the replicas in a rolling update, rounded as Kubernetes does."""
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value.removesuffix("%"))
    return -(-percent * replicas // 100) if up else percent * replicas // 100

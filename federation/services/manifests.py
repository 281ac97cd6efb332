"""The object that an order asks for, ready to be applied: the caller's manifest with the hub's marks on it.

Placement and revision stand on the pods, the team too (it never changes). Version and generation stay off the
template, or each scale would restart every pod (protocol 4.4).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from federation.domain.errors import Invalid
from federation.domain.events import PlacementWanted
from federation.domain.member import (
    GENERATION_ANNOTATION,
    PLACEMENT_LABEL,
    REVISION_LABEL,
    SYSTEM_NAMESPACE,
    TEAM_LABEL,
    VERSION_ANNOTATION,
    WORKLOAD_ANNOTATION,
    ObjectKey,
)

SYSTEM_NAMESPACES: Final = frozenset({"kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE})
_JOB: Final = "batch/v1/Job"
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KEPT: Final = ("labels", "annotations", "finalizers")


def key_of(order: PlacementWanted) -> ObjectKey:
    """Where the object stands. Raises Invalid on a name that is none: it becomes part of a path."""
    version, kind = order.manifest.get("apiVersion"), order.manifest.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        raise Invalid("the manifest lacks apiVersion or kind")
    if _LABEL.fullmatch(order.namespace) is None:
        raise Invalid("the namespace is not a DNS label")
    if _NAME.fullmatch(order.name) is None or ".." in order.name:
        raise Invalid("the name is not a DNS name")
    return ObjectKey(f"{version}/{kind}", order.namespace, order.name)


def check_allowed(key: ObjectKey, kinds: frozenset[str], namespaces: frozenset[str] | None) -> None:
    """Raises Invalid unless the operator's allow-list has the kind and the namespace (protocol 4.6)."""
    if key.api not in kinds:
        raise Invalid(f"kind {key.api} is not allowed in this cluster")
    if key.namespace in SYSTEM_NAMESPACES or (namespaces is not None and key.namespace not in namespaces):
        raise Invalid(f"namespace {key.namespace} is not allowed in this cluster")


def manifest_for(order: PlacementWanted, key: ObjectKey, replicas: int | None) -> dict[str, Any]:
    """What to apply; *replicas* None leaves the number to whoever owns it."""
    metadata, spec = _mapping(order.manifest, "metadata"), dict(_mapping(order.manifest, "spec"))
    on_pods = {PLACEMENT_LABEL: order.placement, REVISION_LABEL: order.revision}
    marks = {VERSION_ANNOTATION: str(order.version), GENERATION_ANNOTATION: str(order.generation)}
    template = dict(_mapping(spec, "template"))
    template["metadata"] = _with(_mapping(template, "metadata"), "labels", on_pods)
    spec["template"] = template
    spec.pop("replicas", None)
    if replicas is not None:
        spec["parallelism" if key.api == _JOB else "replicas"] = replicas
    kept = {name: metadata[name] for name in _KEPT if metadata.get(name)}
    kept = _with(
        _with(kept, "labels", {**on_pods, TEAM_LABEL: order.team}),
        "annotations",
        {**marks, WORKLOAD_ANNOTATION: order.workload},
    )
    return {
        "apiVersion": order.manifest["apiVersion"],
        "kind": order.manifest["kind"],
        "metadata": {**kept, "name": key.name, "namespace": key.namespace},
        "spec": spec,
    }


def _mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Invalid(f"the manifest's {name} is not an object")
    return found


def _with(parent: Mapping[str, Any], name: str, entries: Mapping[str, str]) -> dict[str, Any]:
    return {**parent, name: {**_mapping(parent, name), **entries}}

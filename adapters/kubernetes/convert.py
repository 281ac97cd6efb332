"""Nodes and pods as the values of `federation.domain.member`.

Pods are many (100,000 in a large cluster): those of one template share one dict of requests, and strings that repeat
are kept once.
"""

from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Final

import msgspec
import structlog

from adapters.kubernetes.objects import (
    ContainerPart,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodLabels,
    PodSpecPart,
    PodStatus,
    condition,
)
from federation.domain.errors import Invalid
from federation.domain.events import Taint
from federation.domain.member import (
    MemberNode,
    MemberPod,
)
from federation.domain.pods import PodSpec, requests_of

_MOST_MESSAGE: Final = 512
_SHAPE: Final = msgspec.json.Decoder(PodSpec)
_log = structlog.get_logger(__name__)


def node_of(read: Node) -> MemberNode:
    """A node; one without a status offers nothing and is not ready."""
    spec, status = read.spec or NodeSpec(), read.status or NodeStatus()
    ready = condition(status.conditions, "Ready")
    return MemberNode(
        name=intern(read.metadata.name),
        allocatable=_interned(status.allocatable or {}),
        labels=_interned(read.metadata.labels or {}),
        taints=tuple(Taint(key=each.key, value=each.value or "", effect=each.effect) for each in spec.taints or ()),
        unschedulable=bool(spec.unschedulable),
        ready=ready is not None and ready.status == "True",
    )


def pod_of(read: Pod) -> MemberPod:
    """A pod, with what it takes of its node."""
    meta, spec, status = read.metadata, read.spec or PodSpecPart(), read.status or PodStatus()
    labels = meta.labels or PodLabels()
    ready = condition(status.conditions, "Ready")
    return MemberPod(
        uid=meta.uid,
        namespace=intern(meta.namespace),
        name=meta.name,
        node=intern(spec.node_name or ""),
        phase=intern(status.phase or "Pending"),
        ready=ready is not None and ready.status == "True",
        terminating=meta.deletion_timestamp is not None,
        unschedulable=_unschedulable(spec, status),
        requests=_requests(_shape(spec)),
        placement=intern(labels.placement),
        revision=intern(labels.revision),
    )


def _unschedulable(spec: PodSpecPart, status: PodStatus) -> str:
    scheduled = condition(status.conditions, "PodScheduled")
    if spec.node_name or scheduled is None or scheduled.status != "False" or scheduled.reason != "Unschedulable":
        return ""
    return intern((scheduled.message or "Unschedulable")[:_MOST_MESSAGE])


def _shape(spec: PodSpecPart) -> bytes:
    """The bytes that decide the requests, as the JSON of a pod's spec."""
    parts = [b'{"containers":[', _shapes(spec.containers), b'],"initContainers":[', _shapes(spec.init_containers)]
    return b"".join([*parts, b'],"resources":', bytes(spec.resources), b',"overhead":', bytes(spec.overhead), b"}"])


def _shapes(containers: list[ContainerPart] | None) -> bytes:
    return b",".join(
        b'{"resources":%b,"restartPolicy":"%b"}'
        % (bytes(each.resources), b"Always" if each.restart_policy == "Always" else b"")
        for each in containers or ()
    )


@lru_cache(maxsize=16_384)
def _requests(shape: bytes) -> dict[str, int]:
    """What such pods take; all of one shape share the answer."""
    try:
        return {intern(name): value for name, value in requests_of(_SHAPE.decode(shape), "").items()}
    except (Invalid, msgspec.DecodeError, RecursionError) as error:
        # No node can hold such a pod, and one that is bound somewhere would have been read by its kubelet.
        _log.warning("the requests of a pod cannot be read", error=str(error)[:200])
        return {}


def _interned(texts: Mapping[str, str]) -> dict[str, str]:
    return {intern(name): intern(value) for name, value in texts.items()}

"""What a pod asks for, read from its spec as Kubernetes reads it: requests, node selector, tolerations.

Only the fields that placing needs are read and checked. Like Kubernetes, a null is taken for an absent field.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from federation.domain.errors import Invalid
from federation.domain.quantities import shown
from federation.domain.resources import InvalidAmounts, add, largest, parse_needed
from federation.domain.workload import Toleration

T = TypeVar("T")
POD_SPEC: Final = "/spec/template/spec"
_POD_LEVEL: Final = re.compile(r"cpu|memory|hugepages-.+")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([^\]]*)\]")

# --- the fields that are read -------------------------------------------------------------------------------------------

_Amount = str | int | float
_Amounts = dict[str, _Amount] | None
Strings = dict[str, str] | None


class Read(Struct, frozen=True, rename="camel", kw_only=True):
    """Part of a manifest; fields that are not named here are let through."""


class _Resources(Read, frozen=True, kw_only=True):
    requests: _Amounts = None
    limits: _Amounts = None

    def asked(self) -> dict[str, str]:
        """Requests, which default to the limits."""
        return {name: str(amount) for name, amount in {**(self.limits or {}), **(self.requests or {})}.items()}


class _Port(Read, frozen=True, kw_only=True):
    host_port: int | None = None


class _Container(Read, frozen=True, kw_only=True):
    name: str = ""
    restart_policy: str | None = None
    resources: _Resources | None = None
    ports: list[_Port] | None = None


class _Expression(Read, frozen=True, kw_only=True):
    key: str
    operator: str
    values: list[str] | None = None


class _Term(Read, frozen=True, kw_only=True):
    match_expressions: list[_Expression] | None = None
    match_fields: list[_Expression] | None = None


class _NodeSelector(Read, frozen=True, kw_only=True):
    node_selector_terms: list[_Term] | None = None


class _NodeAffinity(Read, frozen=True, kw_only=True):
    required: _NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class _PodAffinity(Read, frozen=True, kw_only=True):
    required: list[Any] | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class _Affinity(Read, frozen=True, kw_only=True):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity | None = None
    pod_anti_affinity: _PodAffinity | None = None


class _TopologySpread(Read, frozen=True, kw_only=True):
    when_unsatisfiable: str | None = None


class _Toleration(Read, frozen=True, kw_only=True):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None

    def known(self) -> Toleration:
        # A negative time means "at once", as zero does.
        seconds = None if self.toleration_seconds is None else max(0, self.toleration_seconds)
        return Toleration(
            key=self.key or "",
            operator=self.operator or "Equal",
            value=self.value or "",
            effect=self.effect or "",
            toleration_seconds=seconds,
        )


class PodSpec(Read, frozen=True, kw_only=True):
    """The parts of a pod's spec that decide where it may go and what it takes there."""

    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    resources: _Resources | None = None
    overhead: _Amounts = None
    node_selector: Strings = None
    node_name: str | None = None
    tolerations: list[_Toleration] | None = None
    affinity: _Affinity | None = None
    topology_spread_constraints: list[_TopologySpread] | None = None
    resource_claims: list[Any] | None = None
    runtime_class_name: str | None = None
    restart_policy: str | None = None


# --- requests --------------------------------------------------------------------------------------------------------


def pod_requests(pod_spec: Mapping[str, Any]) -> dict[str, int]:
    """What one pod takes of a node, in base units, as kube-scheduler counts it."""
    return requests_of(converted(pod_spec, PodSpec), "")


def requests_of(pod: PodSpec, pointer: str) -> dict[str, int]:
    """The larger of what runs together and what starts; the pod's own resources in its place; and the overhead."""
    total, named = _of_containers(pod, pointer)
    if pod.resources is not None:
        total = {**total, **_pod_level(pod.resources, named, f"{pointer}/resources")}
    overhead = {name: str(amount) for name, amount in (pod.overhead or {}).items()}
    return add(total, _amounts(overhead, f"{pointer}/overhead"))


def _of_containers(pod: PodSpec, pointer: str) -> tuple[dict[str, int], set[str]]:
    """The most that the pod's containers take at any time, and the resources that any of them names."""
    running: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    starting: dict[str, int] = {}
    named: set[str] = set()
    for place, container in _numbered(pod.containers, f"{pointer}/containers"):
        running = add(running, _asked(container.resources, place, named))
    for place, container in _numbered(pod.init_containers, f"{pointer}/initContainers"):
        asked = add(sidecars, _asked(container.resources, place, named))
        starting = largest(starting, asked)
        if container.restart_policy == "Always":
            sidecars = asked
    return largest(add(running, sidecars), starting), named


def _pod_level(resources: _Resources, named: set[str], pointer: str) -> dict[str, int]:
    """What the pod's own resources put in place of its containers' sum: a limit only where no container asks."""
    given, limits = resources.requests or {}, resources.limits or {}
    texts = {**{name: text for name, text in limits.items() if name not in named}, **given}
    amounts = _amounts({name: str(text) for name, text in texts.items()}, f"{pointer}/requests")
    return {name: amounts.get(name, 0) for name in texts if _POD_LEVEL.fullmatch(name)}


def _asked(resources: _Resources | None, pointer: str, named: set[str]) -> dict[str, int]:
    if resources is None:
        return {}
    texts = resources.asked()
    named.update(texts)
    return _amounts(texts, f"{pointer}/resources/requests")


def _amounts(texts: Mapping[str, str], pointer: str) -> dict[str, int]:
    try:
        return parse_needed(texts)
    except InvalidAmounts as error:
        raise Invalid(str(error), pointer) from error


def _numbered(containers: list[_Container] | None, pointer: str) -> Iterable[tuple[str, _Container]]:
    return ((f"{pointer}/{index}", container) for index, container in enumerate(containers or ()))


# --- where the pods may go -------------------------------------------------------------------------------------------


def selector_of(pod: PodSpec) -> tuple[dict[str, str], tuple[str, ...]]:
    """The node selector with what it can express of the required node affinity, and a note where that is not all."""
    selector, left_out = dict(pod.node_selector or {}), False
    affinity = pod.affinity.node_affinity if pod.affinity is not None else None
    terms = affinity.required.node_selector_terms or [] if affinity is not None and affinity.required else []
    if len(terms) > 1:
        return selector, ("required node affinity is not counted in the estimate",)
    for term in terms:
        left_out = bool(term.match_fields)
        for expression in term.match_expressions or ():
            if expression.operator != "In" or len(expression.values or ()) != 1:
                left_out = True
                continue
            _narrow(selector, expression.key, (expression.values or [""])[0])
    return selector, ("required node affinity is only partly counted in the estimate",) if left_out else ()


def _narrow(selector: dict[str, str], key: str, value: str) -> None:
    if selector.setdefault(key, value) != value:
        wanted = f"{shown(selector[key])} and {shown(value)}"
        raise Invalid(f"no node can have two values of {key}: {wanted}", f"{POD_SPEC}/affinity/nodeAffinity")


def tolerations_of(pod: PodSpec) -> tuple[Toleration, ...]:
    known = []
    for index, toleration in enumerate(pod.tolerations or ()):
        if toleration.operator not in (None, "", "Equal", "Exists"):
            where = f"{POD_SPEC}/tolerations/{index}/operator"
            raise Invalid(f"operator is neither Equal nor Exists: {shown(toleration.operator)}", where)
        known.append(toleration.known())
    return tuple(known)


def _has_claims(pod: PodSpec) -> bool:
    return bool(pod.resource_claims)


def _has_host_ports(pod: PodSpec) -> bool:
    return any(port.host_port for container in pod.containers or () for port in container.ports or ())


def _has_pod_affinity(pod: PodSpec) -> bool:
    affinity = pod.affinity
    parts = (affinity.pod_affinity, affinity.pod_anti_affinity) if affinity is not None else ()
    return any(part is not None and part.required for part in parts)


def _has_spread(pod: PodSpec) -> bool:
    return any(spread.when_unsatisfiable != "ScheduleAnyway" for spread in pod.topology_spread_constraints or ())


def _has_unknown_overhead(pod: PodSpec) -> bool:
    return bool(pod.runtime_class_name) and pod.overhead is None


_LEFT_OUT: Final[tuple[tuple[str, Callable[[PodSpec], bool]], ...]] = (
    ("required pod affinity is", _has_pod_affinity),
    ("topology spread is", _has_spread),
    ("host ports are", _has_host_ports),
    ("resource claims are", _has_claims),
    ("the overhead of the runtime class is", _has_unknown_overhead),
)


def left_out_of(pod: PodSpec) -> tuple[str, ...]:
    """What narrows the choice of nodes and is not estimated, in words."""
    return tuple(f"{what} not counted in the estimate" for what, present in _LEFT_OUT if present(pod))


# --- reading ---------------------------------------------------------------------------------------------------------


def converted(value: Mapping[str, Any], kind: type[T]) -> T:
    """*value* as the fields of *kind*; Invalid points at what is not as it must be."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        steps: Sequence[tuple[str, str]] = _STEP.findall(path.rstrip("`"))
        raise Invalid(message, "".join(f"/{name or index}" for name, index in steps if index != "...")) from error

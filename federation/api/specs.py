"""What callers write of a workload, and what the core makes of it; and back, so that it can be patched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from federation.domain.errors import Invalid
from federation.domain.events import Labels, Quantities
from federation.domain.manifest import ManifestFacts, from_manifest
from federation.domain.resources import InvalidAmounts, parse_needed
from federation.domain.workload import (
    Component,
    DnsLabel,
    PlacementRules,
    Replicas,
    Spec,
    Toleration,
    WorkloadKind,
    WorkloadSpec,
)

MAX_MANIFEST_BYTES: Final = 2**18
_MOST_TOGETHER: Final = 2**62
_NO_RULES: Final = PlacementRules()


class WorkloadBody(Spec, frozen=True, kw_only=True, omit_defaults=True):
    """A workload as callers write it: one pod shape in the top-level fields, or *components*, or a *manifest*.

    A manifest brings name, requests, nodeSelector and tolerations; *replicas* beside it counts instead of its own.
    """

    name: DnsLabel | None = None
    team: DnsLabel | None = None
    priority: Annotated[int, Meta(ge=-1_000_000_000, le=1_000_000_000)] = 0
    replicas: Replicas | None = None
    requests: Quantities | None = None
    node_selector: Labels | None = None
    tolerations: Annotated[tuple[Toleration, ...], Meta(max_length=64)] | None = None
    components: Annotated[tuple[Component, ...], Meta(min_length=1, max_length=64)] | None = None
    manifest: dict[str, Any] | None = None
    placement: PlacementRules = _NO_RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A body as the core takes it, and what the estimate will leave out."""

    spec: WorkloadSpec
    notes: tuple[str, ...] = ()


def read_spec(body: WorkloadBody, *, team: str, name: str | None = None) -> Reading:
    """The spec that *body* asks for; *team* and *name* where it names none."""
    reading = _of_manifest(body, team) if body.manifest is not None else _of_shapes(body)
    named = body.name or name or reading.spec.name
    if not named:
        raise Invalid("name is missing", "/name")
    spec = msgspec.structs.replace(reading.spec, name=named, team=body.team or team)
    _check_spread(spec.rules)
    _check_amounts(spec)
    return Reading(spec=spec, notes=reading.notes)


def written(spec: WorkloadSpec) -> WorkloadBody:
    """The body that would ask for *spec*."""
    common: dict[str, Any] = {"name": spec.name, "team": spec.team, "priority": spec.priority, "placement": spec.rules}
    if spec.manifest is not None:
        return WorkloadBody(**common, manifest=spec.manifest)
    if len(spec.components) > 1 or spec.components[0].name != "main":
        return WorkloadBody(**common, components=spec.components)
    only = spec.components[0]
    return WorkloadBody(
        **common,
        replicas=only.replicas,
        requests=only.requests,
        node_selector=only.node_selector,
        tolerations=only.tolerations,
    )


def _of_shapes(body: WorkloadBody) -> Reading:
    if body.components is not None:
        _refuse(body, ("replicas", "requests", "node_selector", "tolerations"), "components say it")
        names = [component.name for component in body.components]
        if len(set(names)) < len(names):
            raise Invalid("two components bear one name", "/components")
        if len(names) > 1:
            raise Invalid("a workload of several pod shapes cannot be placed yet: send one component", "/components")
        components = body.components
    else:
        only = Component(
            replicas=1 if body.replicas is None else body.replicas,
            requests=body.requests or {},
            node_selector=body.node_selector or {},
            tolerations=body.tolerations or (),
        )
        components = (only,)
    return Reading(spec=WorkloadSpec(name="", priority=body.priority, components=components, rules=body.placement))


def _of_manifest(body: WorkloadBody, team: str) -> Reading:
    _refuse(body, ("components",), "the manifest says it")
    manifest = body.manifest or {}
    if len(msgspec.json.encode(manifest)) > MAX_MANIFEST_BYTES:
        raise Invalid(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes", "/manifest")
    facts = _facts(manifest if body.replicas is None else _scaled(manifest, body.replicas))
    _check_contradictions(body, facts, team)
    only = Component(
        replicas=facts.replicas,
        requests=facts.requests,
        node_selector=facts.node_selector,
        tolerations=facts.tolerations,
    )
    spec = WorkloadSpec(
        name=facts.name,
        priority=body.priority,
        components=(only,),
        rules=body.placement,
        kind=facts.kind,
        api=facts.api,
        manifest=facts.manifest,
        revision=facts.revision,
        surge=facts.surge,
        completions=facts.completions,
        single=facts.single,
    )
    return Reading(spec=spec, notes=facts.notes)


def _facts(manifest: Mapping[str, Any]) -> ManifestFacts:
    try:
        return from_manifest(manifest)
    except Invalid as error:
        raise Invalid(str(error), f"/manifest{error.pointer}") from error


def _scaled(manifest: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """*manifest* with so many replicas in it, so that every count that follows from them is right."""
    spec = manifest.get("spec")
    field = "parallelism" if manifest.get("kind") == WorkloadKind.JOB else "replicas"
    return {**manifest, "spec": {**spec, field: replicas}} if isinstance(spec, dict) else dict(manifest)


def _check_contradictions(body: WorkloadBody, facts: ManifestFacts, team: str) -> None:
    if body.name is not None and body.name != facts.name:
        raise Invalid(f"name is {body.name}, but the manifest's is {facts.name}", "/name")
    if facts.namespace not in ("", "default", body.team or team):
        raise Invalid("pods run in the namespace of their team; leave it out", "/manifest/metadata/namespace")
    if body.requests is not None and _amounts(body.requests, "/requests") != parse_needed(facts.requests):
        raise Invalid("requests differ from the manifest's", "/requests")
    if body.node_selector is not None and body.node_selector != facts.node_selector:
        raise Invalid("nodeSelector differs from the manifest's", "/nodeSelector")
    if body.tolerations is not None and body.tolerations != facts.tolerations:
        raise Invalid("tolerations differ from the manifest's", "/tolerations")


def _refuse(body: WorkloadBody, fields: tuple[str, ...], why: str) -> None:
    names = dict(zip(WorkloadBody.__struct_fields__, WorkloadBody.__struct_encode_fields__, strict=True))
    for field in fields:
        if getattr(body, field) is not None:
            raise Invalid(f"{names[field]} must be left out: {why}", f"/{names[field]}")


def _check_spread(rules: PlacementRules) -> None:
    for place, constraint in enumerate(rules.spread):
        if constraint.max_groups is not None and constraint.max_groups < constraint.min_groups:
            raise Invalid("maxGroups is less than minGroups", f"/placement/spread/{place}/maxGroups")
    fields = [constraint.by for constraint in rules.spread]
    if len(set(fields)) < len(fields):
        raise Invalid("two constraints spread by one field", "/placement/spread")


def _check_amounts(spec: WorkloadSpec) -> None:
    """Readable, and such that no sum over the workload, its surge included, leaves 64 bits."""
    totals: dict[str, int] = {}
    for place, component in enumerate(spec.components):
        pointer = "/requests" if len(spec.components) == 1 else f"/components/{place}/requests"
        for name, amount in _amounts(component.requests, pointer).items():
            totals[name] = totals.get(name, 0) + amount * (component.replicas + spec.surge)
            if totals[name] > _MOST_TOGETHER:
                raise Invalid(f"all replicas together ask for too much {name}", pointer)


def _amounts(requests: Mapping[str, str], pointer: str) -> dict[str, int]:
    try:
        return parse_needed(requests)
    except InvalidAmounts as error:
        raise Invalid(str(error), pointer) from error

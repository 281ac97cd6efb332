"""What `place` and `plan` ask for: their flags, and the body that they make of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from federation.cli import complete
from federation.cli.failures import Failed
from federation.cli.kinds import GPU
from federation.cli.options import Scope

if TYPE_CHECKING:
    from federation.domain.manifest import ManifestFacts

DEFAULT_IMAGE: Final = "pause"
_PODS: Final = "Pods"
_PLACES: Final = "Where they may go"
Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods(Scope):
    """What is to run."""

    file: Annotated[
        str,
        typer.Option(
            "--file", "-f", metavar="FILE", help="A Deployment, StatefulSet or Job as it stands; - reads from stdin."
        ),
    ] = ""
    replicas: Annotated[
        int | None, typer.Option(min=0, max=100_000, help="How many pods. Default: the file's, else 1.")
    ] = None
    cpu: Annotated[str, typer.Option(metavar="AMOUNT", help="CPU of one pod: 500m, 2.", rich_help_panel=_PODS)] = ""
    memory: Annotated[str, typer.Option(metavar="AMOUNT", help="Memory of one pod: 1Gi.", rich_help_panel=_PODS)] = ""
    gpu: Annotated[str, typer.Option(metavar="COUNT", help=f"{GPU} of one pod.", rich_help_panel=_PODS)] = ""
    image: Annotated[
        str,
        typer.Option(
            metavar="IMAGE", help=f"Image of the Deployment made; {DEFAULT_IMAGE} by default.", rich_help_panel=_PODS
        ),
    ] = ""
    no_manifest: Annotated[
        bool,
        typer.Option(
            "--no-manifest", help="Only decide: you deploy the pods, with the labels shown.", rich_help_panel=_PODS
        ),
    ] = False
    priority: Annotated[int, typer.Option(help="More goes first.")] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where it may run, and how it is divided."""

    strategy: Annotated[
        str,
        typer.Option(metavar="NAME", help="dynamic, aggregated, static or duplicated.", rich_help_panel=_PLACES),
    ] = "dynamic"
    spread: Annotated[
        list[str],
        typer.Option(
            metavar="BY[:MIN[:MAX]]",
            help="Over how many clusters, regions, zones or providers: region:2:3. Repeatable.",
            rich_help_panel=_PLACES,
        ),
    ] = field(default_factory=list)
    cluster: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="Only this cluster. Repeatable.",
            autocompletion=complete.clusters,
            rich_help_panel=_PLACES,
        ),
    ] = field(default_factory=list)
    weight: Annotated[
        list[str],
        typer.Option(metavar="CLUSTER=N", help="With --strategy static. Repeatable.", rich_help_panel=_PLACES),
    ] = field(default_factory=list)
    partial: Annotated[
        str,
        typer.Option(
            metavar="HOW", help="What if not all fit: never, allow, or the least number.", rich_help_panel=_PLACES
        ),
    ] = "never"
    node_selector: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Label of the nodes. Repeatable.", rich_help_panel=_PLACES)
    ] = field(default_factory=list)
    toleration: Annotated[
        list[str],
        typer.Option(
            metavar="KEY[=VALUE][:EFFECT]",
            help="Taint that the pods bear; * for all. Repeatable.",
            rich_help_panel=_PLACES,
        ),
    ] = field(default_factory=list)


def body_of(name: str, pods: Pods, places: Places) -> Body:
    """The workload that the flags describe, as the API takes it."""
    made = _from_file(name, pods, places) if pods.file else _from_flags(name, pods, places)
    team = {"team": pods.team} if pods.team else {}
    return {**made, **team, "priority": pods.priority, "placement": _rules(places)}


def _from_flags(name: str, pods: Pods, places: Places) -> Body:
    if not name:
        raise typer.BadParameter("give a NAME, or a manifest with -f")
    given = (("cpu", pods.cpu), ("memory", pods.memory), (GPU, pods.gpu))
    requests = {resource: quantity for resource, quantity in given if quantity}
    replicas = 1 if pods.replicas is None else pods.replicas
    selector, tolerations = _pairs(places.node_selector, "--node-selector"), _tolerations(places.toleration)
    if pods.no_manifest:
        manifest = None
        if pods.image:
            raise typer.BadParameter("--image and --no-manifest exclude each other")
    else:
        from federation.domain.manifest import deployment_for

        fields = (("nodeSelector", selector), ("tolerations", tolerations))
        extra = {key: value for key, value in fields if value}
        manifest = deployment_for(name, pods.image or DEFAULT_IMAGE, replicas, requests, extra)
        _facts(manifest)
    shape = {"replicas": replicas, "requests": requests, "nodeSelector": selector, "tolerations": tolerations}
    return {"name": name, **shape, "manifest": manifest}


def _from_file(name: str, pods: Pods, places: Places) -> Body:
    from federation.cli.files import read_manifest

    _check_alone(pods, places)
    manifest = read_manifest(pods.file)
    facts = _facts(manifest)
    if name and name != facts.name:
        raise typer.BadParameter(f"the file's {facts.kind} is named {facts.name}, not {name}")
    if pods.replicas is not None:
        field_name = "parallelism" if str(facts.kind) == "Job" else "replicas"
        manifest = {**manifest, "spec": {**manifest["spec"], field_name: pods.replicas}}
        facts = _facts(manifest)
    # The server refuses a foreign namespace; it must not be dropped here without a word.
    metadata = {**facts.manifest["metadata"], **({"namespace": facts.namespace} if facts.namespace else {})}
    return {"name": facts.name, "manifest": {**facts.manifest, "metadata": metadata}}


def _check_alone(pods: Pods, places: Places) -> None:
    given = (
        ("--cpu", pods.cpu),
        ("--memory", pods.memory),
        ("--gpu", pods.gpu),
        ("--image", pods.image),
        ("--no-manifest", pods.no_manifest),
        ("--node-selector", places.node_selector),
        ("--toleration", places.toleration),
    )
    both = [flag for flag, value in given if value]
    if both:
        raise typer.BadParameter(f"with -f the file says that: leave out {', '.join(both)}")


def _facts(manifest: Body) -> "ManifestFacts":
    from federation.domain.errors import Invalid
    from federation.domain.manifest import from_manifest

    try:
        return from_manifest(manifest)
    except Invalid as error:
        raise Failed(f"{error}" + (f"\n  at {error.pointer}" if error.pointer else "")) from error


# --- the values of flags ---------------------------------------------------------------------------------------------


def _rules(places: Places) -> Body:
    return {
        "strategy": places.strategy,
        "weights": [
            {"clusters": {"names": [cluster]}, "weight": _number(count, "--weight")}
            for cluster, count in _pairs(places.weight, "--weight").items()
        ],
        "clusters": {"names": places.cluster, "labels": {}, "exclude": []},
        "spread": [_spread(text) for text in places.spread],
        "partial": f"min {int(places.partial)}" if places.partial.isdecimal() else places.partial,
    }


def _spread(text: str) -> Body:
    by, *bounds = text.split(":")
    if not by or len(bounds) > 2:
        raise typer.BadParameter(f"not BY[:MIN[:MAX]]: {text!r}", param_hint="--spread")
    names = ("minGroups", "maxGroups")
    return {"by": by, **{name: _number(bound, "--spread") for name, bound in zip(names, bounds, strict=False)}}


def _number(text: str, flag: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise typer.BadParameter(f"not a number: {text!r}", param_hint=flag)
    return int(text)


def _pairs(texts: Iterable[str], flag: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"not KEY=VALUE: {text!r}", param_hint=flag)
        pairs[key] = value
    return pairs


def _tolerations(texts: Iterable[str]) -> list[Body]:
    return [_toleration(text) for text in texts]


def _toleration(text: str) -> Body:
    rest, _, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    if not key:
        raise typer.BadParameter(f"not KEY[=VALUE][:EFFECT]: {text!r}", param_hint="--toleration")
    operator: Body = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {**({} if key == "*" else {"key": key}), **operator, **({"effect": effect} if effect else {})}

"""Where objects of a kind stand in the API: fixed for what is carried by default, found by discovery for the rest."""

from typing import Final, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from adapters.kubernetes.client import ApiServer, Request
from federation.domain.errors import Invalid, NotFound, Unavailable
from federation.domain.member import ObjectKey
from federation.ports import ClusterFacts

DEPLOYMENT: Final = "apps/v1/Deployment"
STATEFUL_SET: Final = "apps/v1/StatefulSet"
JOB: Final = "batch/v1/Job"
CARRIED: Final = {DEPLOYMENT: "deployments", STATEFUL_SET: "statefulsets", JOB: "jobs"}

NODES: Final = "/api/v1/nodes"
PODS: Final = "/api/v1/pods"
NAMESPACES: Final = "/api/v1/namespaces"
REPLICA_SETS: Final = "/apis/apps/v1/replicasets"
AUTOSCALERS: Final = "/apis/autoscaling/v2/horizontalpodautoscalers"

T = TypeVar("T")

_MOST_APIS: Final = 1024
# What a kind must allow before a workload could be made of it; reviews and the like can only be created.
_NEEDED_VERBS: Final = {"create", "patch", "watch", "delete"}
_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class _Resource(Struct, frozen=True, rename="camel"):
    name: str
    kind: str
    namespaced: bool = False
    verbs: list[str] = []


class _ResourceList(Struct, frozen=True, rename="camel"):
    resources: list[_Resource] | None = None


class _ResponseKind(Struct, frozen=True, rename="camel"):
    kind: str = ""


class _Discovered(Struct, frozen=True, rename="camel"):
    scope: str = ""
    response_kind: _ResponseKind | None = None
    verbs: list[str] = []


class _Version(Struct, frozen=True, rename="camel"):
    version: str
    resources: list[_Discovered] | None = None


class _Metadata(Struct, frozen=True):
    name: str = ""


class _Group(Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    versions: list[_Version] | None = None


class _Groups(Struct, frozen=True):
    items: list[_Group] | None = None


class _ServerVersion(Struct, frozen=True, rename="camel"):
    git_version: str = ""


class Kinds:
    """The kinds that one API server knows."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._plurals: dict[str, str] = dict(CARRIED)

    async def path(self, key: ObjectKey) -> str:
        """Where that object stands; Invalid when the server has no such kind of namespaced object."""
        if key.api not in self._plurals:
            await self._discover(key.api)
        base = f"{group_path(key.api)}/namespaces/{escaped(key.namespace)}"
        return f"{base}/{self._plurals[key.api]}/{escaped(key.name)}"

    async def _discover(self, api: str) -> None:
        kind = api.rpartition("/")[2]
        try:
            body = await self._api.call(Request(path=group_path(api)))
        except NotFound as error:
            raise Invalid(f"the cluster has no {api}") from error
        for resource in decoded(body, _ResourceList).resources or ():
            if resource.kind == kind and resource.namespaced and "/" not in resource.name:
                self._plurals[api] = resource.name
                return
        raise Invalid(f"the cluster has no namespaced {api}")

    async def facts(self, labels: dict[str, str]) -> ClusterFacts:
        """Version and kinds as the server tells them."""
        version = decoded(await self._api.call(Request(path="/version")), _ServerVersion)
        kinds = await self._served()
        carried = [api for api in CARRIED if api in kinds]
        others = sorted(kinds - set(carried))[: _MOST_APIS - len(carried)]
        return ClusterFacts(
            kubernetes_version=version.git_version[:64], apis=tuple(sorted(carried + others)), labels=labels
        )

    async def _served(self) -> set[str]:
        """Every kind that a workload could be made of, by aggregated discovery; by the carried groups alone where there is none."""
        served: set[str] = set()
        for root in ("/api", "/apis"):
            groups = decoded(
                await self._api.call(Request(path=root, accept=f"{_AGGREGATED},application/json")), _Groups
            )
            for group in groups.items or ():
                served |= _kinds_of(group)
        return served or await self._probed()

    async def _probed(self) -> set[str]:
        served = set()
        for api in CARRIED:
            body = await self._api.call(Request(path=group_path(api)))
            kinds = {resource.kind for resource in decoded(body, _ResourceList).resources or ()}
            served |= {api} if api.rpartition("/")[2] in kinds else set()
        return served


def _kinds_of(group: _Group) -> set[str]:
    prefix = f"{group.metadata.name}/" if group.metadata.name else ""
    return {
        f"{prefix}{version.version}/{resource.response_kind.kind}"
        for version in group.versions or ()
        for resource in version.resources or ()
        if resource.response_kind is not None
        and resource.scope == "Namespaced"
        and set(resource.verbs) >= _NEEDED_VERBS
    }


def group_path(api: str) -> str:
    """`/apis/apps/v1` for `apps/v1/Deployment`, `/api/v1` for `v1/Service`."""
    version = api.rpartition("/")[0]
    parts = [escaped(part) for part in version.split("/")]
    return "/apis/" + "/".join(parts) if len(parts) == 2 else "/api/" + "/".join(parts)


def escaped(name: str) -> str:
    """*name* as one step of a path; Invalid for what could lead elsewhere."""
    if not name or name in (".", "..") or len(name) > 253:
        raise Invalid(f"not a name: {name[:64]!a}")
    return quote(name, safe="")


def decoded(body: bytes, kind: type[T]) -> T:
    """*body* as the fields of *kind*; an answer that makes no sense is no answer."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unavailable(f"the API server's answer makes no sense: {error}") from error

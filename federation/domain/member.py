"""What an agent sees in its cluster: nodes, pods, placed objects, and the changes that tell of them."""

from typing import Annotated

from msgspec import Meta, Struct

from federation.domain.events import Taint

PLACEMENT_LABEL = "federation.io/placement"
REVISION_LABEL = "federation.io/revision"
TEAM_LABEL = "federation.io/team"
VERSION_ANNOTATION = "federation.io/version"
GENERATION_ANNOTATION = "federation.io/generation"
WORKLOAD_ANNOTATION = "federation.io/workload"
FIELD_MANAGER = "federation"
SYSTEM_NAMESPACE = "federation-system"


class ObjectKey(Struct, frozen=True, order=True):
    """An object's place: `apps/v1/Deployment`, namespace, name."""

    api: Annotated[str, Meta(max_length=253)]
    namespace: str
    name: str


class MemberNode(Struct, frozen=True, kw_only=True):
    """A Node's fields that matter; quantities as Kubernetes writes them."""

    name: str
    allocatable: dict[str, str] = {}
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    used: dict[str, str] | None = None
    devices: dict[str, tuple[int, ...]] | None = None


class MemberPod(Struct, frozen=True, kw_only=True):
    """A Pod's fields that matter. *requests* are effective ones in base units (init containers, sidecars, overhead).

    *phase* is Kubernetes' own; *terminating* once it has a deletion timestamp; *unschedulable* as its scheduler says.
    """

    uid: str
    namespace: str
    name: str
    node: str = ""
    phase: str = "Pending"
    ready: bool = False
    terminating: bool = False
    unschedulable: str = ""
    requests: dict[str, int] = {}
    placement: str = ""
    revision: str = ""

    @property
    def terminal(self) -> bool:
        """Whether its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")


class MemberObject(Struct, frozen=True, kw_only=True):
    """A Deployment, StatefulSet or Job that bears a placement id (or, by `read`, any object of that name).

    *observed* says that its controllers, for a Deployment the ReplicaSets too, have seen this spec. *created* is
    what the controllers have made of *replicas*; what is missing was refused, with *refusal* as their words.
    """

    key: ObjectKey
    uid: str
    resource_version: str
    placement: str = ""
    workload: str = ""
    team: str = ""
    version: int = 0
    generation: int = 0
    revision: str = ""
    replicas: int = 0
    observed: bool = False
    terminating: bool = False
    succeeded: int = 0
    failed: int = 0
    condition: str = ""
    refusal: str = ""
    requests: dict[str, str] = {}
    autoscaler: tuple[int, int] | None = None
    owned_replicas: bool = True


class Relisted(Struct, frozen=True):
    """A listing of *kind* (`nodes`, `pods`, `objects`) begins: what it does not tell again is no more."""

    kind: str


class Listed(Struct, frozen=True):
    """The listing of *kind* is complete."""

    kind: str


class WatchLost(Struct, frozen=True):
    """*source* cannot be watched: what it has told may be out of date."""

    source: str


class WatchBack(Struct, frozen=True):
    """*source* is watched again."""

    source: str


class NodeChanged(Struct, frozen=True):
    """A node is there, or has changed."""

    node: MemberNode


class NodeDeleted(Struct, frozen=True):
    """A node is gone."""

    name: str


class PodChanged(Struct, frozen=True):
    """A pod is there, or has changed."""

    pod: MemberPod


class PodDeleted(Struct, frozen=True):
    """A pod is gone."""

    uid: str


class ObjectChanged(Struct, frozen=True):
    """A placed object is there, or has changed."""

    object: MemberObject


class ObjectDeleted(Struct, frozen=True):
    """A placed object is gone."""

    uid: str


Change = (
    Relisted
    | Listed
    | WatchLost
    | WatchBack
    | NodeChanged
    | NodeDeleted
    | PodChanged
    | PodDeleted
    | ObjectChanged
    | ObjectDeleted
)
